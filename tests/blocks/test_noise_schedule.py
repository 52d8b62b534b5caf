import pytest
import torch
from golden import load_golden

from unianimate.blocks.noise_schedule import (
    noise_tables,
    previous_timesteps,
    rescale_zero_terminal_snr,
    sampling_timesteps,
    scaled_linear_betas,
)

TABLES, _ = load_golden("diffusion_tables")
BETAS = scaled_linear_betas(1000, 0.00085, 0.012)


@pytest.mark.parametrize(
    "name, betas", [("plain", BETAS), ("zsnr", rescale_zero_terminal_snr(BETAS))]
)
def test_tables_equal_the_official_ones_bit_for_bit(name, betas):
    for field, table in noise_tables(betas)._asdict().items():
        assert table.dtype == torch.float64
        assert torch.equal(table, TABLES[f"{name}.{field}"]), field


def test_zero_terminal_snr_ends_in_pure_noise_and_keeps_the_first_value():
    tables = noise_tables(rescale_zero_terminal_snr(BETAS))
    assert tables.betas[-1] == 1 and tables.alphas_cumprod[-1] == 0
    assert tables.alphas_cumprod[0].item() == pytest.approx(1 - 0.00085, abs=1e-15)
    assert torch.isinf(tables.sqrt_recip_alphas_cumprod[-1])
    assert tables.alphas_cumprod.diff().max() < 0


@pytest.mark.parametrize("n", [1, 5, 10, 20, 25, 30, 40, 50, 100, 333, 1000])
def test_official_timesteps(n):
    assert torch.equal(sampling_timesteps(n, 1000, "official"), TABLES[f"steps.{n}"])


def test_official_steps_go_back_by_the_stride_and_end_at_zero():
    previous = previous_timesteps(30, 1000, "official")
    assert [previous[t].item() for t in (991, 958, 34, 1, 0)] == [958, 925, 1, 0, 0]
    # the clamped first step of n = 333 keeps the stride, as the official sampler does
    assert previous_timesteps(333, 1000, "official")[999] == 996


@pytest.mark.parametrize("n", [1, 7, 20, 30, 1000])
def test_trailing_timesteps_start_at_the_end_and_lead_into_each_other(n):
    steps = sampling_timesteps(n, 1000, "trailing")
    previous = previous_timesteps(n, 1000, "trailing")
    assert len(steps) == n and steps[0] == 999 and steps.dtype == torch.int64
    assert torch.equal(previous[steps[:-1]], steps[1:])
    assert previous[steps[-1]] == 0


@pytest.mark.parametrize(
    "n, start, end", [(1, 0.1, 0.2), (10, 0.0, 0.2), (10, 0.3, 0.2), (10, 0.1, 1.0)]
)
def test_impossible_betas_are_refused(n, start, end):
    with pytest.raises(ValueError, match="scaled_linear_betas: wanted"):
        scaled_linear_betas(n, start, end)
