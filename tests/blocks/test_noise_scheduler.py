import math

import pytest
import torch
from golden import load_golden
from torch import Tensor

from unianimate.blocks.noise_scheduler import NoiseScheduler
from unianimate.blocks.unified_noise import UnifiedNoise

GOLDEN, NOTES = load_golden("diffusion")
X0, NOISE, START = GOLDEN["input.x0"], GOLDEN["input.noise"], GOLDEN["noise.init_long"]
TOLERANCE = {"atol": 2e-6, "rtol": 0.0}


def fake_model(x: Tensor, t: int | Tensor, *, conditional: bool = True) -> Tensor:
    """The network of the golden file, whose formula diffusion.json tells."""
    frame = torch.arange(x.shape[2]).float().view(1, 1, -1, 1, 1)
    out = 0.1 * x + 0.01 * (t / 1000) + 0.05 * torch.cos(0.7 * frame)
    if conditional:
        pose = GOLDEN["input.dwpose"]
        channel = torch.tensor([1.0, -0.5, 0.25, 2.0]).view(1, 4, 1, 1, 1)
        out = out + 0.2 * channel * pose[:, :, 1:].mean((1, 3, 4)).view(1, 1, -1, 1, 1)
        out = out + 0.3 * pose[:, :, 0].mean() + 0.15 * GOLDEN["input.randomref"]
        out = out + 0.02 * GOLDEN["input.image"].mean()
    return out


def guided(x: Tensor, t: int | Tensor, scale: float = 2.5) -> Tensor:
    unconditional = fake_model(x, t, conditional=False)
    return unconditional + scale * (fake_model(x, t) - unconditional)


@pytest.fixture
def scheduler() -> NoiseScheduler:
    scheduler = NoiseScheduler()
    scheduler.set_timesteps(NOTES["ddim_timesteps"])
    return scheduler


@pytest.mark.parametrize("t", NOTES["q_t"])
def test_forward_process_and_velocity(scheduler, t):
    noised = scheduler.add_noise(X0, NOISE, t)
    torch.testing.assert_close(noised, GOLDEN[f"q_sample.t{t}"], **TOLERANCE)
    velocity = scheduler.get_velocity(X0, NOISE, t)
    loss = (fake_model(noised, t) - velocity).square().mean().reshape(1)
    torch.testing.assert_close(loss, GOLDEN[f"loss.t{t}"], **TOLERANCE)
    if t == 999:
        torch.testing.assert_close(velocity, GOLDEN["loss.target_v.t999"], **TOLERANCE)


def test_start_noise(scheduler):
    reference = GOLDEN["input.randomref"]
    given = {"noise": NOISE, "offset": GOLDEN["input.offset_noise"]}
    prior = UnifiedNoise(scheduler, offset_strength=0)(
        START.shape, reference_latents=reference[:, :, 0], noise=NOISE
    )
    long = UnifiedNoise(scheduler)(START.shape, reference_latents=reference[:, :, 0], **given)
    short = UnifiedNoise(scheduler, offset_inside=True)(
        START.shape, reference_latents=reference, **given
    )
    torch.testing.assert_close(prior, GOLDEN["noise.prior"], **TOLERANCE)
    torch.testing.assert_close(long, START, **TOLERANCE)
    torch.testing.assert_close(short, GOLDEN["noise.init_short"], **TOLERANCE)
    assert long.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("k", range(5))
def test_single_steps_of_the_official_trajectory(scheduler, k):
    t, sample = scheduler.timesteps[k], [START, *GOLDEN["plain.traj"]][k]
    prev_sample, x0 = scheduler.step(guided(sample, t), t, sample)
    torch.testing.assert_close(prev_sample, GOLDEN["plain.traj"][k], **TOLERANCE)
    torch.testing.assert_close(x0, GOLDEN["plain.x0"][k], **TOLERANCE)


@pytest.mark.parametrize(
    "name, model, options",
    [
        ("out", guided, {}),
        ("noguide", fake_model, {}),
        ("clamp1", guided, {"clamp": 1.0}),
        ("percentile", guided, {"percentile": 0.995}),
    ],
)
def test_trajectories_of_single_steps(scheduler, name, model, options):
    sample = START
    for t in scheduler.timesteps.tolist():
        sample = scheduler.step(model(sample, t), t, sample, **options).prev_sample
    torch.testing.assert_close(sample, GOLDEN[f"plain.{name}"], **TOLERANCE)


def test_step_with_noise(scheduler):
    t = scheduler.timesteps[1]
    got = scheduler.step(guided(START, t), t, START, eta=0.5, variance_noise=NOISE).prev_sample
    torch.testing.assert_close(got, GOLDEN["plain.eta0.5_onestep"], **TOLERANCE)


def test_posterior(scheduler):
    t = scheduler.timesteps[0]
    x0 = scheduler.step(guided(START, t), t, START).pred_original_sample
    mean, variance, log_variance = scheduler.posterior(x0, START, t)
    torch.testing.assert_close(mean, GOLDEN["plain.p_mean"], **TOLERANCE)
    torch.testing.assert_close(variance.flatten(), GOLDEN["plain.p_var"], **TOLERANCE)
    torch.testing.assert_close(log_variance.flatten(), GOLDEN["plain.p_logvar"], **TOLERANCE)
    assert variance.shape == (1, 1, 1, 1, 1)


@pytest.mark.parametrize("n", [20, 30, 50])
def test_equal_to_diffusers(n):
    from diffusers import DDIMScheduler

    peer = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        timestep_spacing="leading",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )
    peer.set_timesteps(n)
    ours = NoiseScheduler()
    ours.set_timesteps(n)
    assert (ours.alphas_cumprod - peer.alphas_cumprod).abs().max() < 1e-6
    # diffusers leaves the first of the 31 steps out
    peer.timesteps = ours.timesteps
    a = b = START
    for t in ours.timesteps:
        a = ours.step(guided(a, t), t, a).prev_sample
        b = peer.step(guided(b, t), t, b).prev_sample
    torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


@pytest.mark.parametrize("n", [3, 9, 27, 36, 101, 251, 334, 1000])
def test_pure_noise_is_a_finite_start(n):
    scheduler = NoiseScheduler()
    scheduler.set_timesteps(n)
    assert scheduler.timesteps[0] == 999
    v = guided(START, 999)
    plain = scheduler.step(v, 999, START, eta=1.0, variance_noise=NOISE)
    clamped = scheduler.step(v, 999, START, clamp=1.0)
    assert torch.equal(plain.pred_original_sample, -v)
    assert plain.prev_sample.isfinite().all()
    # at t = 999 the sample is the noise, whether the clean sample is clipped or not
    t = max(999 - 1000 // n, 0)
    want = scheduler.add_noise(-v.clamp(-1, 1), START, t)
    torch.testing.assert_close(clamped.prev_sample, want, **TOLERANCE)


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("spacing", ["official", "trailing"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_perfect_network_leads_back_to_the_clean_sample(kind, spacing, shift):
    scheduler = NoiseScheduler(
        rescale_betas_zero_snr=kind != "epsilon",
        prediction_type=kind,
        timestep_spacing=spacing,
        timestep_shift=shift,
    )
    scheduler.set_timesteps(12)
    sample = scheduler.add_noise(X0, NOISE, scheduler.timesteps[0])
    for t in scheduler.timesteps:
        velocity = scheduler.get_velocity(X0, NOISE, t)
        output = {"v_prediction": velocity, "epsilon": NOISE, "sample": X0}[kind]
        sample, x0 = scheduler.step(output, t, sample)
        torch.testing.assert_close(x0, X0, atol=2e-4, rtol=0)
    torch.testing.assert_close(sample, scheduler.add_noise(X0, NOISE, 0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("spacing", ["official", "trailing"])
@pytest.mark.parametrize("shift", [0.5, 3.0, 10.0])
@pytest.mark.parametrize("n", [1, 7, 20, 250])
def test_shifted_timesteps_lie_where_there_is_more_noise(spacing, shift, n):
    plain, shifted = (
        NoiseScheduler(timestep_spacing=spacing, timestep_shift=s) for s in (1.0, shift)
    )
    for scheduler in (plain, shifted):
        scheduler.set_timesteps(n)
    share = plain.timesteps.double() / 1000
    wanted = (1000 * shift * share / (1 + (shift - 1) * share)).round().clamp(max=999)
    assert shifted.timesteps.tolist() == sorted(set(wanted.long().tolist()), reverse=True)
    # every step arrives where the next one starts, and the last at the least noise
    arrivals = shifted._previous[shifted.timesteps]
    assert torch.equal(arrivals, torch.cat([shifted.timesteps[1:], torch.zeros(1, dtype=int)]))


def test_a_timestep_per_item_equals_one_item_at_a_time(scheduler):
    sample, output = torch.randn(3, 4, 2, 5, 3), torch.randn(3, 4, 2, 5, 3)
    t = torch.tensor([801, 1, 401])
    options = {"eta": 0.7, "variance_noise": torch.randn(3, 4, 2, 5, 3)}
    together = scheduler.step(output, t, sample, **options)
    for i, ti in enumerate(t.tolist()):
        own = {**options, "variance_noise": options["variance_noise"][i : i + 1]}
        alone = scheduler.step(output[i : i + 1], ti, sample[i : i + 1], **own)
        assert torch.equal(alone.prev_sample, together.prev_sample[i : i + 1])
        assert torch.equal(
            scheduler.add_noise(sample, output, t)[i : i + 1],
            scheduler.add_noise(sample[i : i + 1], output[i : i + 1], ti),
        )


def test_half_precision_is_computed_in_float32_and_keeps_dtype_and_layout(scheduler):
    sample = START.to(torch.bfloat16).contiguous(memory_format=torch.channels_last_3d)
    output = guided(START, 801).to(torch.bfloat16)
    got = scheduler.step(output, 801, sample)
    want = scheduler.step(output.float(), 801, sample.float())
    assert got.prev_sample.dtype == torch.bfloat16
    assert torch.equal(got.prev_sample, want.prev_sample.to(torch.bfloat16))
    assert got.prev_sample.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_generator_draws_the_same_noise_again(scheduler):
    def draw() -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return scheduler.step(START, 801, START, eta=1.0, generator=generator).prev_sample

    assert torch.equal(draw(), draw())
    assert not torch.equal(draw(), scheduler.step(START, 801, START).prev_sample)


def test_unified_noise_draws_noise_then_offset():
    shape = (2, 4, 3, 5, 6)
    noise = UnifiedNoise(NoiseScheduler())(shape, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(shape, generator=generator)
    offset = torch.randn(2, 4, 3, 1, 1, generator=generator)
    torch.testing.assert_close(noise, z + 0.1 * offset, atol=1e-6, rtol=0)
    pure = UnifiedNoise(NoiseScheduler(), offset_strength=0)
    assert torch.equal(pure(shape, generator=torch.Generator().manual_seed(1)), z)


def test_pure_noise_at_a_timestep_without_signal_forgets_the_reference(scheduler):
    reference = 100 * torch.randn(1, 4, 4, 3)
    given = {"noise": NOISE, "offset": GOLDEN["input.offset_noise"]}
    for inside in (False, True):
        unified = UnifiedNoise(scheduler, prior_timestep=999, offset_inside=inside)
        with_reference = unified(START.shape, reference_latents=reference, **given)
        assert torch.equal(with_reference, unified(START.shape, **given))


def test_errors_say_what_to_do(scheduler):
    fresh = NoiseScheduler()
    for call in (lambda: fresh.timesteps, lambda: fresh.step(NOISE, 1, NOISE)):
        with pytest.raises(ValueError, match="call set_timesteps"):
            call()
    with pytest.raises(ValueError, match="1 to 1000, got 0"):
        fresh.set_timesteps(0)
    with pytest.raises(ValueError, match="timesteps are 0 to 999, got -1"):
        scheduler.add_noise(X0, NOISE, -1)
    with pytest.raises(ValueError, match="clamp or percentile"):
        scheduler.step(NOISE, 1, NOISE, clamp=1.0, percentile=0.9)
    with pytest.raises(ValueError, match="percentile must be in"):
        scheduler.step(NOISE, 1, NOISE, percentile=1.5)
    with pytest.raises(ValueError, match="generator or variance_noise"):
        scheduler.step(NOISE, 1, NOISE, generator=torch.Generator(), variance_noise=NOISE)
    with pytest.raises(ValueError, match="eta must be"):
        scheduler.step(NOISE, 1, NOISE, eta=math.nan)
    with pytest.raises(ValueError, match="prediction_type must be one of"):
        NoiseScheduler(prediction_type="velocity")
    with pytest.raises(ValueError, match="timestep_spacing must be one of"):
        NoiseScheduler(timestep_spacing="leading")
    for shift in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="timestep_shift must be positive"):
            NoiseScheduler(timestep_shift=shift)
    epsilon = NoiseScheduler(prediction_type="epsilon")
    epsilon.set_timesteps(3)
    with pytest.raises(ValueError, match="999 is pure noise"):
        epsilon.step(NOISE, 999, NOISE)
    with pytest.raises(ValueError, match="prior_timestep must be 0 to 999"):
        UnifiedNoise(scheduler, prior_timestep=1000)
    with pytest.raises(ValueError, match=r"noise must be \(1, 4, 20, 4, 3\)"):
        UnifiedNoise(scheduler)(tuple(START.shape), noise=NOISE[:, :3])
    with pytest.raises(ValueError, match="reference_latents must be"):
        UnifiedNoise(scheduler)(tuple(START.shape), reference_latents=torch.zeros(1, 4, 4, 4))
