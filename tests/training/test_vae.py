import pytest
import torch
from tiny_run import curve, run, tiny
from torch.nn import functional as F

from unianimate.data.clips import ClipDataset, ClipRequest
from unianimate.models import PRESETS, VAE, UniAnimate
from unianimate.training.batch import TrainingClips, collate
from unianimate.training.config import VAEConfig
from unianimate.training.draws import generator_of
from unianimate.training.run_folder import RunFolder
from unianimate.training.vae import VAETask, encode_posterior, from_pictures, whiten
from unianimate.training.videos import open_videos


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return VAE(PRESETS["test"].vae).eval()


@pytest.fixture
def batch(cache):
    clips = TrainingClips(ClipDataset(open_videos(tiny(cache).data, 32, 48), 0, (1,)))
    return collate([clips[ClipRequest(number, 1)] for number in range(3)])


def test_whitened_latents_have_unit_variance_and_decode_to_the_same_pictures(vae, batch):
    pictures = batch.pictures.frames.flatten(0, 1)
    x = from_pictures(pictures)
    with torch.no_grad():
        old = vae.model.encode(x).latent_dist
        before = vae.model.decode(old.mean).sample
        whiten(vae, pictures)
        new = vae.model.encode(x).latent_dist
        torch.testing.assert_close(vae.model.decode(new.mean).sample, before, rtol=1e-4, atol=1e-4)
    latents = encode_posterior(vae, pictures).mean.movedim(1, 0).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(latents.std(1), torch.ones(4), rtol=0, atol=1e-4)
    # the spread of the posterior is measured by the same rule
    scale = old.mean.movedim(1, 0).flatten(1).std(1).view(1, -1, 1, 1)
    torch.testing.assert_close(new.std * scale, old.std, rtol=1e-3, atol=1e-6)


def test_the_posterior_does_not_depend_on_how_many_are_encoded_at_once(vae, batch):
    pictures = batch.pictures.frames.flatten(0, 1)
    for ours, theirs in zip(
        encode_posterior(vae, pictures, chunk_size=2), encode_posterior(vae, pictures), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_loss_is_squared_error_and_a_little_divergence(vae, batch):
    config = VAEConfig(kl_weight=0.25, latent_noise=0.1)
    told = VAETask(vae, config, seed=3)(batch)
    x = from_pictures(batch.pictures.frames.flatten(0, 1))
    with torch.no_grad():
        posterior = vae.model.encode(x).latent_dist
        noise = torch.cat(
            [
                torch.randn(1, *posterior.mean.shape[1:], generator=generator_of(3, n))
                for n in range(3)
            ]
        )
        y = vae.model.decode(posterior.mean + (posterior.std + 0.1) * noise).sample
        error = F.mse_loss(y, x)
        variance = posterior.std.square()
        kl = 0.5 * (posterior.mean.square() + variance - 1 - variance.log()).mean()
    assert told["loss"].item() == pytest.approx((error + 0.25 * kl).item(), rel=1e-5)
    assert told["divergence"].item() == pytest.approx(kl.item(), rel=1e-5)
    # the range of pictures is 2
    assert told["psnr"].item() == pytest.approx((10 * torch.log10(4 / error)).item(), rel=1e-5)


def test_a_decoder_trained_alone_leaves_the_latents_as_they_are(tmp_path, cache):
    settings = {"stage": "vae", "data__frames": "[1]", "steps": 2, "optimizer__ema": 0}
    run(tmp_path / "all", tiny(cache, **settings))
    model = tmp_path / "all" / "model"
    train = r"['decoder\.', 'post_quant_conv\.']"
    run(tmp_path / "decoder", tiny(cache, model=model, vae__train=train, **settings))
    before, after = (
        UniAnimate.from_pretrained(path, device="cpu", dtype=torch.float32).vae.state_dict()
        for path in (model, tmp_path / "decoder" / "model")
    )
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}
    assert [line["step"] for line in curve(tmp_path / "decoder")] == [1, 2]
    assert RunFolder(tmp_path / "decoder").last().averages == {}


def test_a_name_that_no_part_has_is_an_error(vae):
    with pytest.raises(ValueError, match=r"vae\.train: no parameter has a name like 'decodr'"):
        VAETask(vae, VAEConfig(train=("decodr",)), 0)
