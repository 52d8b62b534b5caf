import pytest
import torch
from golden import golden_weights, load_golden

from unianimate.models.checkpoints import vae_from_official
from unianimate.models.checkpoints.files import CheckpointError
from unianimate.models.configs import packaged_config
from unianimate.models.presets import PRESETS
from unianimate.models.vae import VAE

GOLDEN, NOTES = load_golden("vae_small")
CONFIG = {**packaged_config("vae"), "block_out_channels": [32, 64, 128, 128]}
# float32 convolutions of 2000 terms and more, 60 layers deep
TOLERANCE = {"atol": 3e-5, "rtol": 0.0}


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def vae():
    vae = VAE(CONFIG)
    weights = golden_weights(NOTES["state_dict"], NOTES["key_prefix"])
    vae.model.load_state_dict(vae_from_official(weights))
    return vae.eval()


@pytest.fixture(scope="module")
def video():
    frames = torch.rand(2, 3, 5, 32, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return frames.contiguous(memory_format=torch.channels_last_3d)


def test_encoding_and_decoding_equal_the_official_ones(vae):
    mean = vae.encode(GOLDEN["input.x"], mean=True)
    torch.testing.assert_close(mean, GOLDEN["output.mode_scaled"], **TOLERANCE)
    decoded = vae.decode(GOLDEN["input.z"] * vae.scaling_factor)
    torch.testing.assert_close(decoded, GOLDEN["output.decode"], **TOLERANCE)


def test_the_posterior_equals_the_official_one(vae):
    posterior = vae.model.encode(GOLDEN["input.x"]).latent_dist
    for name, got in (
        ("moments", posterior.parameters),
        ("mean", posterior.mean),
        ("logvar", posterior.logvar),
        ("std", posterior.std),
    ):
        torch.testing.assert_close(got, GOLDEN[f"output.{name}"], **TOLERANCE)
    drawn = vae.scaling_factor * (posterior.mean + posterior.std * GOLDEN["input.eps"])
    torch.testing.assert_close(drawn, GOLDEN["output.sample_scaled"], **TOLERANCE)


def test_encode_draws_from_the_posterior_with_the_generator(vae):
    latents = vae.encode(GOLDEN["input.x"], generator=torch.Generator().manual_seed(5))
    noise = torch.randn(GOLDEN["output.std"].shape, generator=torch.Generator().manual_seed(5))
    want = GOLDEN["output.mode_scaled"] + 0.18215 * GOLDEN["output.std"] * noise
    torch.testing.assert_close(latents, want, **TOLERANCE)


@pytest.mark.parametrize("chunk_size", [1, 3, 16])
def test_pieces_and_streams_equal_the_whole(vae, video, chunk_size):
    whole = vae.encode(video, generator=torch.Generator().manual_seed(1), chunk_size=10)
    assert whole.shape == (2, 4, 5, 4, 2)
    assert whole.is_contiguous(memory_format=torch.channels_last_3d)
    pieces = vae.encode(video, generator=torch.Generator().manual_seed(1), chunk_size=chunk_size)
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=0)
    stream = vae.encode_stream(
        iter(video[0].unbind(1)),
        generator=torch.Generator().manual_seed(1),
        chunk_size=chunk_size,
    )
    torch.testing.assert_close(torch.stack(list(stream), 1), whole[0], atol=1e-5, rtol=0)

    pictures = vae.decode(whole, chunk_size=10)
    assert pictures.shape == video.shape
    assert pictures.is_contiguous(memory_format=torch.channels_last_3d)
    again = vae.decode(whole, chunk_size=chunk_size)
    torch.testing.assert_close(again, pictures, **TOLERANCE)
    stream = vae.decode_stream(iter(whole[0].unbind(1)), chunk_size=chunk_size)
    torch.testing.assert_close(torch.stack(list(stream), 1), pictures[0], **TOLERANCE)


def test_streams_take_no_more_frames_than_they_need(vae, video):
    taken = []

    def frames():
        for i, frame in enumerate(video[0].unbind(1)):
            taken.append(i)
            yield frame

    stream = vae.encode_stream(frames(), mean=True, chunk_size=2)
    assert taken == []
    next(stream)
    assert taken == [0, 1]


def test_video_equals_its_pictures(vae, video):
    whole = vae.encode(video, mean=True)
    alone = vae.encode(video[:, :, 3], mean=True)
    torch.testing.assert_close(whole[:, :, 3], alone, atol=1e-5, rtol=0)


def test_folded_pictures_are_the_channels_of_one_location(video):
    """Space to depth by hand, then the model itself."""
    torch.manual_seed(0)
    fold = 4
    config = {**PRESETS["small"].vae, **dict.fromkeys(("in_channels", "out_channels"), 3 * fold**2)}
    folded = VAE(config).eval()
    x = video[:, :, 0]
    squares = x.unflatten(3, (-1, fold)).unflatten(2, (-1, fold))
    channels = squares.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    mean = folded.model.encode(channels).latent_dist.mean
    latents = folded.encode(x, mean=True)
    assert folded.downscale == fold and latents.shape == (2, 16, 8, 4)
    torch.testing.assert_close(latents, mean * folded.scaling_factor)
    decoded = folded.model.decode(mean).sample.unflatten(1, (3, fold, fold))
    pictures = decoded.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)
    torch.testing.assert_close(folded.decode(latents), pictures)


def test_half_precision_answers_in_the_dtype_given(vae, video):
    half = VAE(CONFIG)
    half.load_state_dict(vae.state_dict())
    half.to(torch.bfloat16)
    latents = half.encode(video[:, :, :1], mean=True)
    assert latents.dtype == torch.float32
    want = vae.encode(video[:, :, :1], mean=True)
    assert (latents - want).abs().max() < 0.05 * want.abs().max()


def test_a_folder_reads_back_and_serves_diffusers(vae, tmp_path):
    from diffusers import AutoencoderKL

    vae.save_pretrained(tmp_path)
    again = VAE.from_pretrained(tmp_path)
    assert torch.equal(again.decode(GOLDEN["input.z"]), vae.decode(GOLDEN["input.z"]))
    peer = AutoencoderKL.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    state = vae.model.state_dict()
    assert all(torch.equal(state[name], x) for name, x in peer.state_dict().items())
    assert VAE.from_pretrained(tmp_path, dtype=torch.float16).model.dtype == torch.float16


def test_a_folder_that_does_not_fit_is_refused(vae, tmp_path):
    vae.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("128", "64"))
    with pytest.raises(CheckpointError, match=r"does not fit the model: .*wanted \(64,"):
        VAE.from_pretrained(tmp_path)


def test_a_folder_is_written_over_itself(vae, tmp_path):
    vae.save_pretrained(tmp_path)
    again = VAE.from_pretrained(tmp_path)  # its weights are mapped from the file
    again.save_pretrained(tmp_path)
    state = VAE.from_pretrained(tmp_path).model.state_dict()
    assert all(torch.equal(state[name], x) for name, x in vae.model.state_dict().items())
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    before = file.read_bytes()
    broken = VAE.from_pretrained(tmp_path)
    broken.model.encoder.conv_in.weight = torch.nn.Parameter(
        torch.full_like(broken.model.encoder.conv_in.weight, torch.nan)
    )
    with pytest.raises(CheckpointError, match="not finite"):
        broken.save_pretrained(tmp_path)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", file.name]


@pytest.mark.parametrize("changed", [{"act_fn": "relu"}, {"shift_factor": 0.1}])
def test_what_it_does_not_compute_is_refused(vae, changed):
    with pytest.raises(ValueError, match=f"VAE: {next(iter(changed))} must be"):
        VAE({**vae.config, **changed})


def test_errors(vae):
    with pytest.raises(ValueError, match=r"VAE.encode: pictures must be \(B, 3, H, W\)"):
        vae.encode(torch.zeros(1, 4, 16, 16))
    with pytest.raises(ValueError, match="multiples of 8, got 12x16"):
        vae.encode(torch.zeros(1, 3, 12, 16))
    with pytest.raises(ValueError, match=r"VAE.decode: latents must be \(B, 4, h, w\)"):
        vae.decode(torch.zeros(4, 2, 2))
    with pytest.raises(ValueError, match="chunk_size must be 1 or more"):
        vae.decode(torch.zeros(1, 4, 2, 2), chunk_size=0)
