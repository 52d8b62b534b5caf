import numpy as np
import pytest
import torch
from golden import golden_weights, load_golden
from PIL import Image

from unianimate.models.checkpoints import image_encoder_from_official, text_encoder_from_official
from unianimate.models.image_encoder import ImageEncoder
from unianimate.models.text_encoder import (
    build_text_encoder,
    empty_prompt_ids,
    empty_text_embeds,
)

GOLDEN, NOTES = load_golden("clip_small")
VISION = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "projection_dim": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
    "hidden_act": "gelu",
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 128,
    "projection_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
TOLERANCE = {"atol": 1e-5, "rtol": 0.0}


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def weights():
    return golden_weights(NOTES["state_dict"], NOTES["key_prefix"])


@pytest.fixture(scope="module")
def encoder(weights):
    encoder = ImageEncoder(VISION)
    encoder.model.load_state_dict(image_encoder_from_official(weights))
    return encoder.eval()


def test_image_features_equal_the_official_ones(encoder):
    tokens = encoder(GOLDEN["input.image"])
    assert tokens.shape == (2, 1, 48)
    torch.testing.assert_close(tokens[:, 0], GOLDEN["output.image"], **TOLERANCE)


def test_preprocessing_equals_the_official_one():
    golden, _ = load_golden("data")
    with torch.device("meta"):
        encoder = ImageEncoder({**VISION, "image_size": 224})
    photo = golden["input.ref"].numpy()
    pixels = encoder.preprocess(photo)
    assert pixels.shape == (1, 3, 224, 224) and pixels.device.type == "cpu"
    torch.testing.assert_close(pixels[0, :, ::3, ::3], golden["output.vit"], atol=1e-6, rtol=0)
    assert torch.equal(encoder.preprocess(Image.fromarray(photo)), pixels)
    assert torch.equal(encoder.preprocess(golden["input.ref"]), pixels)
    both = encoder.preprocess([photo, Image.fromarray(photo).convert("RGBA")])
    assert torch.equal(both, pixels.expand(2, -1, -1, -1))


def test_photos_become_tokens(encoder):
    photo = np.random.default_rng(0).integers(0, 256, (90, 61, 3), dtype=np.uint8)
    tokens = encoder.encode([photo, photo[::-1]])
    assert tokens.shape == (2, 1, 48)
    torch.testing.assert_close(tokens[:1], encoder.encode(photo), **TOLERANCE)
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3


def test_patch_tokens_are_local_and_differentiable(weights):
    encoder = ImageEncoder({**VISION, "num_hidden_layers": 0}, tokens="patches")
    pixels = GOLDEN["input.image"].clone()
    changed = pixels.clone()
    changed[:, :, 14:28, 28:42] += 1
    difference = (encoder(changed) - encoder(pixels)).abs().amax((0, 2))
    # without attention only the patch in row 1, column 2 of 4 x 4 changes
    assert encoder(pixels).shape == (2, 16, 48)
    assert difference.nonzero().flatten().tolist() == [6]
    with torch.enable_grad():
        encoder(pixels).square().mean().backward()
    assert encoder.model.visual_projection.weight.grad.abs().max() > 0


def test_projected_and_patch_tokens_share_norm_and_projection(encoder):
    patches = ImageEncoder(VISION, tokens="patches")
    patches.load_state_dict(encoder.state_dict())
    hidden = patches.model.vision_model(pixel_values=GOLDEN["input.image"]).last_hidden_state
    everything = patches.model.visual_projection(patches.model.vision_model.post_layernorm(hidden))
    torch.testing.assert_close(everything[:, 0], GOLDEN["output.image"], **TOLERANCE)
    torch.testing.assert_close(everything[:, 1:], patches(GOLDEN["input.image"]), **TOLERANCE)


def test_a_folder_reads_back_and_serves_transformers(encoder, tmp_path):
    from transformers import CLIPVisionModelWithProjection

    encoder.save_pretrained(tmp_path)
    again = ImageEncoder.from_pretrained(tmp_path)
    assert torch.equal(again(GOLDEN["input.image"]), encoder(GOLDEN["input.image"]))
    peer = CLIPVisionModelWithProjection.from_pretrained(tmp_path, local_files_only=True)
    state = encoder.model.state_dict()
    assert all(torch.equal(state[name], x) for name, x in peer.state_dict().items())
    half = ImageEncoder.from_pretrained(tmp_path, tokens="patches", dtype=torch.bfloat16)
    assert half(GOLDEN["input.image"]).dtype == torch.bfloat16


def test_errors(encoder):
    with pytest.raises(TypeError, match="photos must be PIL or uint8, got float32"):
        encoder.preprocess(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"a photo must be \(H, W, 3\), got \(3, 4, 4\)"):
        encoder.preprocess(np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="tokens must be 'projected' or 'patches', got 'all'"):
        ImageEncoder(VISION, tokens="all")


def test_text_states_equal_the_official_ones(weights):
    text_encoder = build_text_encoder(TEXT)
    text_encoder.load_state_dict(text_encoder_from_official(weights))
    assert torch.equal(empty_prompt_ids(), GOLDEN["input.tokens0"])
    empty = empty_text_embeds(text_encoder.eval())
    torch.testing.assert_close(empty, GOLDEN["output.text0"], **TOLERANCE)
    for i in (0, 1):
        output = text_encoder(input_ids=GOLDEN[f"input.tokens{i}"])
        torch.testing.assert_close(output.last_hidden_state, GOLDEN[f"output.text{i}"], **TOLERANCE)
        torch.testing.assert_close(
            output.text_embeds, GOLDEN[f"output.text{i}_pooled"], **TOLERANCE
        )
