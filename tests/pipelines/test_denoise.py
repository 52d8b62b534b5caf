import pytest
import torch
from golden import load_golden

from unianimate.blocks.noise_scheduler import NoiseScheduler
from unianimate.pipelines import denoise, make_scheduler, plan_windows

GOLDEN, NOTES = load_golden("diffusion")
START = GOLDEN["noise.init_long"]
TOLERANCE = {"atol": 5e-6, "rtol": 0.0}


def network(guided: bool = True, first_frame: bool = False):
    """The network of the golden file, whose formula diffusion.json tells, on a window."""

    def predict(latents, timestep, frames):
        index = list(frames)
        place = torch.arange(len(index)).float().view(1, 1, -1, 1, 1)
        base = 0.1 * latents + 0.01 * (timestep / 1000) + 0.05 * torch.cos(0.7 * place)
        pose = GOLDEN["input.dwpose"]
        channel = torch.tensor([1.0, -0.5, 0.25, 2.0]).view(1, 4, 1, 1, 1)
        of_frame = pose[:, :, 1:][:, :, index].mean((1, 3, 4)).view(1, 1, -1, 1, 1)
        out = base + 0.2 * channel * of_frame + 0.3 * pose[:, :, 0].mean()
        out = out + 0.02 * GOLDEN["input.image"].mean()
        if first_frame:
            picture = GOLDEN["input.local_image"][:, :, index].mean((1, 3, 4))
            out = out - 0.1 * picture.view(1, 1, -1, 1, 1)
        else:
            out = out + 0.15 * GOLDEN["input.randomref"][:, :, index]
        return out, base if guided else None

    return predict


@pytest.fixture
def scheduler():
    scheduler = NoiseScheduler()
    scheduler.set_timesteps(NOTES["ddim_timesteps"])
    return scheduler


def test_the_plain_loop_equals_the_official_one(scheduler):
    steps = []
    result = denoise(
        network(), START, scheduler, callback=lambda n, t, x: steps.append((n, int(t), x.clone()))
    )
    torch.testing.assert_close(result, GOLDEN["plain.out"], **TOLERANCE)
    assert [t for _, t, _ in steps] == GOLDEN["plain.steps"].tolist()
    for number, _, latents in steps:
        torch.testing.assert_close(latents, GOLDEN["plain.traj"][number], **TOLERANCE)


def test_no_unconditional_prediction_means_no_guidance(scheduler):
    result = denoise(network(guided=False), START, scheduler, guidance_scale=7.0)
    torch.testing.assert_close(result, GOLDEN["plain.noguide"], **TOLERANCE)
    one = denoise(network(), START, scheduler, guidance_scale=1.0)
    torch.testing.assert_close(one, GOLDEN["plain.noguide"], **TOLERANCE)


@pytest.mark.parametrize("overlap", NOTES["overlaps"])
def test_windows_equal_the_official_long_sampler(scheduler, overlap):
    windows = plan_windows(NOTES["F"], NOTES["context_size"], overlap, NOTES["context_stride"])
    assert [list(w) for w in windows] == NOTES["windows"][f"overlap{overlap}"]
    result = denoise(network(), START, scheduler, windows=windows)
    torch.testing.assert_close(result, GOLDEN[f"long.overlap{overlap}"], **TOLERANCE)


def test_windows_with_a_first_frame_equal_the_official_long_sampler(scheduler):
    windows = plan_windows(NOTES["F"], NOTES["context_size"], NOTES["overlaps"][0])
    result = denoise(network(first_frame=True), START, scheduler, windows=windows)
    torch.testing.assert_close(result, GOLDEN["long.local_image"], **TOLERANCE)


def test_the_same_seed_gives_the_same_bits(scheduler):
    runs = [
        denoise(network(), START, scheduler, eta=0.5, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    ]
    assert torch.equal(*runs)
    assert not torch.equal(runs[0], denoise(network(), START, scheduler))


def test_frames_that_a_window_holds_twice_are_averaged_too(scheduler):
    frames = 18
    windows = plan_windows(frames, 16, 4, stride=2)
    assert any(len(set(window)) < len(window) for window in windows)
    start = torch.zeros(1, 1, frames, 1, 1)

    def ones(latents, timestep, window):
        return torch.ones_like(latents), None

    torch.testing.assert_close(
        denoise(ones, start, scheduler, windows=windows), denoise(ones, start, scheduler)
    )


def test_frames_outside_all_windows_are_refused(scheduler):
    with pytest.raises(ValueError, match=r"no window has the frames \[8, 9, 10"):
        denoise(network(), START, scheduler, windows=[tuple(range(8))])


class PointNetwork:
    """Knows the clean video: its velocity is exact everywhere, so any solver must find it."""

    def __init__(self, clean):
        self.clean, self.tables = clean, NoiseScheduler()

    def __call__(self, latents, timestep, frames):
        alpha, clean = self.tables.alphas_cumprod[int(timestep)], self.clean[:, :, list(frames)]
        noise = (latents - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        return (alpha.sqrt() * noise - (1 - alpha).sqrt() * clean).float(), None


# diffusers calls numpy on tensors in a way that numpy 2 announces the end of
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DDIMScheduler", {"clip_sample": False}),
        ("DPMSolverMultistepScheduler", {}),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("UniPCMultistepScheduler", {}),
        ("EulerDiscreteScheduler", {}),
        ("EulerAncestralDiscreteScheduler", {}),
        ("LCMScheduler", {"clip_sample": False}),
    ],
)
def test_any_diffusers_scheduler_can_be_passed_in(name, options):
    import diffusers

    scheduler = getattr(diffusers, name)(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        **options,
    )
    scheduler.set_timesteps(15)
    clean = GOLDEN["input.x0"]
    start = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    windows = plan_windows(clean.shape[2], 5, 2)
    generator = torch.Generator().manual_seed(1)
    result = denoise(PointNetwork(clean), start, scheduler, windows=windows, generator=generator)
    # 15 does not divide 1000: DDIM ends at timestep 0, where a noise of sqrt(beta_0) is left
    torch.testing.assert_close(result, clean, atol=5 * 0.00085**0.5, rtol=0)
    if name != "DDIMScheduler":
        with pytest.raises(ValueError, match=f"{name} has no eta"):
            denoise(PointNetwork(clean), start, scheduler, eta=0.3)


def gaussian_network(mean: float, deviation: float):
    """The best network for pixels from N(mean, deviation^2), and where its exact flow leads."""
    tables = NoiseScheduler()

    def predict(latents, timestep, frames):
        alpha = tables.alphas_cumprod[int(timestep)]
        centred = latents.double() - alpha.sqrt() * mean
        variance = alpha * deviation**2 + 1 - alpha
        clean = mean + deviation**2 * alpha.sqrt() * centred / variance
        noise = (latents - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        return (alpha.sqrt() * noise - (1 - alpha).sqrt() * clean).float(), None

    return predict, lambda start: mean + deviation * start


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("deviation", [0.1, 0.3, 0.7, 1.3])
@pytest.mark.parametrize("steps", [10, 15, 25])
def test_dpm_solver_needs_half_the_steps(steps, deviation):
    start = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    predict, flow = gaussian_network(0.4, deviation)
    errors = {}
    for name, n in (("dpm++", steps), ("ddim", 2 * steps)):
        scheduler = make_scheduler(name)
        scheduler.set_timesteps(n)
        errors[name] = float((denoise(predict, start, scheduler) - flow(start)).square().mean())
    assert errors["dpm++"] < errors["ddim"]


def test_a_scheduler_without_that_name_is_refused():
    with pytest.raises(ValueError, match=r"must be one of ddim, dpm\+\+, got 'euler'"):
        make_scheduler("euler")
