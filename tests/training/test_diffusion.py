"""What the network is asked for, and with what weight."""

import pytest
import torch
from tiny_run import tiny
from torch import nn

from unianimate.data.clips import ClipDataset, ClipRequest
from unianimate.models import PRESETS, UniAnimate
from unianimate.training.batch import TrainingClips, collate
from unianimate.training.diffusion import DiffusionTask, Draws
from unianimate.training.vae import encode_posterior
from unianimate.training.videos import open_videos, with_latents

SIZE = 2


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return UniAnimate(PRESETS["test"]).eval()


@pytest.fixture(scope="module")
def clips(tmp_path_factory, model):
    cache = tmp_path_factory.mktemp("diffusion") / "cache"
    videos = with_latents(open_videos(tiny(cache).data, 32, 48), model.vae)
    return TrainingClips(ClipDataset(videos, 0, (1,)))


@pytest.fixture(scope="module")
def batch(clips):
    return collate([clips[ClipRequest(number, 2)] for number in range(SIZE)])


class Asked(nn.Module):
    """A network that notes what it was asked and answers the same number everywhere."""

    def __init__(self, unet, answer):
        super().__init__()
        self.unet, self.gradient_checkpointing, self.before = [unet], False, []
        self.bias = nn.Parameter(torch.tensor(answer))

    def encode_conditions(self, *args, **kwargs):
        self.given = kwargs
        return self.unet[0].encode_conditions(*args, **kwargs)

    def forward(self, sample, t, conditions):
        self.before.append((sample, t, torch.is_grad_enabled()))
        self.sample, self.t, self.conditions = sample, t, conditions
        return self.bias.expand_as(sample)


def ask(model, batch, *, answer=0.0, **settings):
    """Run a task with an empty network; return what it tells, and the network."""
    whole = UniAnimate.__new__(UniAnimate)
    nn.Module.__init__(whole)
    whole.unet, whole.vae = Asked(model.unet, answer), model.vae
    whole.image_encoder, whole.text_embeds = model.image_encoder, model.text_embeds
    task = DiffusionTask(whole, tiny(diffusion__train=r"['unet\.']", **settings))
    return task(batch), whole.unet


def clean(batch, seed=0):
    """Return the latents that the task draws, (B, C, F, h, w)."""
    from unianimate.training.draws import generator_of

    rows = []
    for row, number in enumerate(batch.numbers.tolist()):
        mean, std = (x[row] for x in batch.latents)
        noise = torch.randn(mean.shape, generator=generator_of(seed, 1, 1, number))
        rows.append((mean + std * noise)[:-1].transpose(0, 1))
    return torch.stack(rows)


def signal(t):
    """Return the share of the clean latents at timesteps (B,), to multiply them by, float64."""
    alpha = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    alpha = (1 - alpha).cumprod(0).sqrt()
    # zero terminal SNR (arXiv 2305.08891, algorithm 1)
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return alpha[t].view(-1, 1, 1, 1, 1)


def test_the_network_gets_noised_latents_and_is_asked_for_their_velocity(model, batch):
    told, asked = ask(model, batch)
    a = signal(asked.t)
    x0 = clean(batch)
    noise = Draws(range(SIZE), tiny()).noise(x0.shape, 0.1)
    torch.testing.assert_close(asked.sample.double(), a * x0 + (1 - a * a).sqrt() * noise)
    velocity = a * noise - (1 - a * a).sqrt() * x0
    assert told["loss"].item() == pytest.approx(velocity.square().mean().item(), rel=1e-5)
    assert told["error"].item() == pytest.approx(told["loss"].item())


def test_an_own_estimate_is_noised_and_asked_for_the_truth(model, batch):
    answer = 0.3
    told, asked = ask(model, batch, answer=answer, diffusion__scheduled_sampling=1.0)
    (first, last, learnt), _ = asked.before
    noise = Draws(range(SIZE), tiny()).noise(first.shape, 0.1)
    assert torch.equal(first, noise) and last.tolist() == [999] * SIZE and not learnt
    a = signal(asked.t)
    estimate = -answer  # of what is clean, by a velocity in pure noise
    noised = a * estimate + (1 - a * a).sqrt() * noise
    torch.testing.assert_close(asked.sample.double(), noised)
    clean_again = a * noised - (1 - a * a).sqrt() * answer
    wanted = (clean_again - clean(batch)).square().mean().item()
    assert told["loss"].item() == pytest.approx(wanted, rel=1e-5)
    told["loss"].backward()
    assert asked.bias.grad.abs() > 0


def test_pictures_are_decoded_again_in_backward_where_that_saves_memory(batch):
    torch.manual_seed(0)
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = UniAnimate(PRESETS["test"])
        nn.init.normal_(model.unet.conv_out.weight, std=0.1)
        settings = {"diffusion__pixel_weight": 20.0, "gradient_checkpointing": recompute}
        task = DiffusionTask(model, tiny(diffusion__train=r"['unet\.']", **settings))
        task(batch)["loss"].backward()
        gradients.append(model.unet.conv_out.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_decoded_pictures_are_compared_with_the_clip(model, batch, own):
    settings = {"answer": 0.3, "diffusion__scheduled_sampling": own}
    plain, _ = ask(model, batch, **settings)
    told, asked = ask(model, batch, diffusion__pixel_weight=20.0, **settings)
    a = signal(asked.t).float()
    decoded = model.vae.decode(a * asked.sample - (1 - a * a).sqrt() * 0.3)
    pictures = batch.pictures.frames.movedim(-1, 1).float() / 127.5 - 1
    wanted = (decoded - pictures).square().mean().item()
    assert (told["loss"] - plain["loss"]).item() == pytest.approx(20 * wanted, rel=1e-4)
    assert told["pixel_error"].item() == pytest.approx(wanted, rel=1e-4)
    name = "own_error" if own else "error"
    assert told[name].item() == pytest.approx(plain[name].item())
    told["loss"].backward()
    assert all(p.grad is None for p in model.vae.parameters())


def test_the_decoder_learns_beside_the_network_and_what_encodes_does_not(batch):
    model = UniAnimate(PRESETS["test"])
    settings = {"diffusion__train": r"['unet\.', 'vae\.model\.decoder']"}
    task = DiffusionTask(model, tiny(diffusion__pixel_weight=20.0, **settings))
    task(batch)["loss"].backward()
    parts = model.vae.model
    assert all(p.grad.abs().sum() > 0 for p in parts.decoder.conv_out.parameters())
    assert all(
        p.grad is None for part in (parts.encoder, parts.quant_conv) for p in part.parameters()
    )
    with pytest.raises(ValueError, match=r"set diffusion\.pixel_weight"):
        DiffusionTask(model, tiny(**settings))
    for part in ("encoder", "quant_conv"):
        settings = {"diffusion__train": rf"['vae\.model\.{part}']", "diffusion__pixel_weight": 20.0}
        with pytest.raises(ValueError, match="what encodes is not trained beside the network"):
            DiffusionTask(model, tiny(**settings))


def test_as_many_steps_start_from_own_estimates_as_are_asked_for(model):
    share = sum(Draws([2 * step], tiny()).chance(0.75) for step in range(200)) / 200
    assert 0.65 < share < 0.85
    # all processes of a step choose alike
    for step in range(20):
        one, other = (Draws([2 * step + row], tiny(batch_size=2)) for row in (0, 1))
        assert one.chance(0.5) == other.chance(0.5)


def test_offset_noise_is_constant_over_a_frame_and_channel(model):
    shape = torch.Size([1, 3, 2, 4, 4])
    plain = Draws([0], tiny()).noise(shape, 0.0)
    shifted = Draws([0], tiny()).noise(shape, 0.5) - plain
    torch.testing.assert_close(shifted, shifted[..., :1, :1].expand(shape))
    assert shifted[..., 0, 0].unique().numel() == 6


def test_min_snr_weighs_timesteps(model, batch):
    plain, asked = ask(model, batch)
    weighed, _ = ask(model, batch, diffusion__snr_gamma=5.0)
    from unianimate.blocks import NoiseScheduler

    scheduler = NoiseScheduler()
    a = scheduler.alphas_cumprod[asked.t]
    x0 = clean(batch)
    noise = Draws(range(SIZE), tiny()).noise(x0.shape, 0.1)
    error = scheduler.get_velocity(x0, noise, asked.t).square().mean((1, 2, 3, 4)).double()
    weight = torch.minimum(a, 5 * (1 - a))  # min(SNR, 5) / (SNR + 1), with SNR = a / (1 - a)
    assert weighed["loss"].item() == pytest.approx((weight * error).mean().item(), rel=1e-4)
    assert weighed["error"].item() == pytest.approx(plain["error"].item())


def test_conditions_are_the_clip_s_pictures_and_are_dropped_as_drawn(model, batch):
    settings = {"diffusion__drop": 0.0, "diffusion__drop_all": 0.0, "diffusion__first_frame": 1.0}
    _, asked = ask(model, batch, **settings)
    pictures = batch.pictures
    wanted = pictures.frames[:, 0].movedim(-1, 1).float() / 255
    torch.testing.assert_close(asked.given["first_frame"], wanted)
    pose = pictures.poses.movedim(-1, 1).float() / 255
    torch.testing.assert_close(asked.given["pose"], pose)
    assert asked.conditions.first_frame.abs().amax() > 0 and asked.conditions.pose_kept.all()
    _, asked = ask(model, batch, **settings | {"diffusion__first_frame": 0.0})
    assert asked.conditions.first_frame.abs().amax() == 0
    _, asked = ask(model, batch, **settings | {"diffusion__drop_all": 1.0})
    assert not asked.conditions.pose_kept.any() and asked.conditions.image.abs().amax() == 0
    assert asked.conditions.reference.abs().amax() > 0
    lost = settings | {"diffusion__drop_all": 1.0, "diffusion__drop_reference": True}
    _, asked = ask(model, batch, **lost)
    assert asked.conditions.reference.abs().amax() == 0


def test_a_noisy_first_frame_stays_a_picture(model, batch):
    clear, noisy = (
        ask(model, batch, diffusion__first_frame_noise=strength)[1].given["first_frame"]
        for strength in (0.0, 0.3)
    )
    assert not torch.equal(clear, noisy)
    assert noisy.min() >= 0 and noisy.max() <= 1


def test_latents_of_the_cache_are_those_of_the_pictures(model, batch):
    seen = torch.cat([batch.pictures.frames, batch.pictures.reference[:, None]], 1)
    mean, std = encode_posterior(model.vae, seen.flatten(0, 1))
    cached, _ = ask(model, batch)
    encoded, _ = ask(model, batch._replace(latents=None))
    assert encoded["loss"].item() == pytest.approx(cached["loss"].item(), rel=2e-3)
    torch.testing.assert_close(batch.latents.mean.flatten(0, 1), mean, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(batch.latents.std.flatten(0, 1), std, rtol=2e-3, atol=2e-3)


def test_only_the_named_parts_get_gradients():
    model = UniAnimate(PRESETS["test"])
    task = DiffusionTask(model, tiny(diffusion__train=r"['unet\..*temporal', 'text_embeds']"))
    names = {name for name, p in task.named_parameters() if p.requires_grad}
    assert "model.text_embeds" in names
    assert any("resnet.temporal_conv" in name for name in names)
    assert any("pose_encoder.temporal" in name for name in names)
    assert not any(part in name for name in names for part in ("spatial", "vae", "image_encoder"))
    with pytest.raises(ValueError, match=r"diffusion\.train: no parameter has a name like 'unt'"):
        DiffusionTask(model, tiny(diffusion__train="['unt']"))
    with pytest.raises(ValueError, match=r"diffusion\.train: names no part"):
        DiffusionTask(model, tiny(diffusion__train="[]"))


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_gradients_reach_all_that_is_trained(batch, own):
    torch.manual_seed(0)
    model = UniAnimate(PRESETS["test"])
    # what is zero at first stops the gradient of what comes before it
    nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    settings = {"diffusion__drop": 0.0, "diffusion__drop_all": 0.0, "diffusion__first_frame": 1.0}
    settings["diffusion__scheduled_sampling"] = own
    train = r"['unet\.', 'image_encoder\.', 'text_embeds']"
    task = DiffusionTask(model, tiny(diffusion__train=train, **settings))
    task(batch)["loss"].backward()
    without = [n for n, p in task.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_the_pose_of_the_reference_is_left_out(model, batch):
    told, blind = (
        ask(model, batch, diffusion__reference_pose=whether)[1].given["reference_pose"]
        for whether in (True, False)
    )
    assert told.any() and not blind.any() and told.shape == blind.shape
