import csv
import json
from dataclasses import replace

import pytest
from PIL import Image

from benchmarks.compare import changes, describe_changes, noise
from benchmarks.publish import publish
from benchmarks.records import Record, Results
from benchmarks.report import ceilings_of, crossings, summary, targets_of, write_report
from benchmarks.targets import CPU, GPU_CEILINGS, baselines_of

MACHINE = {
    "device": "ACME",
    "type": "cpu",
    "threads": 2,
    "instructions": "AVX2",
    "python": "3.11",
    "versions": {"torch": "2.13"},
    "commit": "abc",
    "date": "2026-01-02",
}
LIMITS = {"copy": [[2**20, 4e9]], "matmul": {"float32": 1e11}, "exps": 1e9}


def op(form: str, seconds: float, group: str = "geglu, tiny") -> Record:
    return Record(
        section="ops",
        group=group,
        form=form,
        seconds=seconds,
        low=0.98 * seconds,
        high=1.02 * seconds,
        rounds=5,
        bound_seconds=0.5,
        bound_by="bytes",
        extra={"op": "geglu", "direction": "forward"},
    )


def block(form: str, frames: int, seconds: float | None) -> Record:
    return Record(
        section="blocks",
        group=f"temporal mixer F={frames}",
        form=form,
        seconds=seconds,
        low=seconds,
        high=seconds,
        frames=frames,
        peak_bytes=None if seconds is None else 2**20 * frames,
        note="" if seconds is not None else "out of memory",
        extra={"mode": "inference", "dim": 320, "size": "6x4", "dtype": "float32"},
    )


def results(*records: Record) -> Results:
    return Results(MACHINE, LIMITS, list(records))


EXAMPLE = results(
    op("native", 1.0),
    op("reference", 3.0),
    *(block("transformer", frames, 1e-3 * frames**2) for frames in (16, 32, 64)),
    *(block("mamba", frames, 3e-2 * frames) for frames in (16, 32, 64)),
    block("mamba2", 16, None),
)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    EXAMPLE.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == EXAMPLE
    rows = json.loads((tmp_path / "results.json").read_text())["records"]
    assert rows[0]["fraction"] == 0.5


def test_the_report_has_every_figure_and_its_plots(tmp_path):
    write_report(EXAMPLE, tmp_path)
    report = (tmp_path / "README.md").read_text()
    assert "| reference | 3.00 s | 2.94 s - 3.06 s | 3.00 | - | - | 17% (bytes) |  |" in report
    assert "| mamba2 | - | - | - | F = 16 | - | - | out of memory |" in report
    at = "| 320 channels, 6x4, inference, float32"
    assert f"{at} | mamba | 32 | 30 at F = 16, 30 at F = 64 |" in report
    assert f"{at} | transformer | - | 16 at F = 16, 64 at F = 64 |" in report
    assert "want of time" not in report
    assert "4.0 GB/s at 1 MiB" in report
    for plot in ("memory", "throughput", "roofline"):
        assert f"({plot}.png)" in report
        with Image.open(tmp_path / f"{plot}.png") as picture:
            assert picture.width > 400
        assert "<svg" in (tmp_path / f"{plot}.svg").read_text()
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(EXAMPLE.records)
    assert rows[1]["seconds"] == "3.0" and rows[2]["dim"] == "320"


def test_the_summary_says_where_mamba_does_not_win(tmp_path):
    text = summary(EXAMPLE, "results/acme")
    assert "`mamba` from F = 32 at 320 channels, 6x4, float32" in text
    assert "`mamba2` at no length measured at 320 channels, 6x4, float32" in text
    held = "Memory held between ops at F = 64 in inference, times that of attention: "
    assert held + "`mamba` 1.0 at 320 channels, 6x4, float32." in text
    assert "2026-01-02" in text and "(results/acme/memory.png)" in text
    assert ("320 channels, 6x4, inference, float32", "mamba", 32) in crossings(EXAMPLE)


def test_what_there_was_no_time_for_is_named(tmp_path):
    missed = ["bench_unet[compiled]", *(f"bench_geglu[{i}]" for i in range(9))]
    write_report(replace(EXAMPLE, missed=missed), tmp_path)
    report = (tmp_path / "README.md").read_text()
    assert report.endswith("- `bench_unet[compiled]`\n- `bench_geglu`: 9 cases\n")
    assert Results.load(tmp_path / "results.json").missed == missed


def test_targets_are_ratios_of_figures_that_were_taken():
    target = CPU[0]
    taken = results(op("reference", 12.0, target.group), op("native", 2.0, target.group))
    assert targets_of(taken) == [(target, 6.0)]
    assert targets_of(EXAMPLE) == []
    assert "forward: reference / native | 6.0x | 5.0x |" in summary(taken, "x")


def test_a_ratio_of_calls_in_turn_goes_before_one_of_two_figures():
    target = CPU[0]
    native = replace(op("native", 2.0, target.group), ratios={"reference": 5.5})
    taken = results(op("reference", 12.0, target.group), native)
    assert targets_of(taken) == [(target, 5.5)]


def test_a_ceiling_is_of_a_figure_that_was_taken(tmp_path):
    seconds, peak = GPU_CEILINGS
    ours = replace(op("unianimate", 0.295, seconds.group), section="unet", peak_bytes=9 * 10**9)
    taken = results(ours)
    taken = replace(taken, machine={**taken.machine, "type": "cuda"})
    assert ceilings_of(taken) == [(seconds, 0.295), (peak, 9e9)]
    assert ceilings_of(EXAMPLE) == []
    write_report(taken, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "unianimate | 295 ms | at most 300 ms | reached |" in text
    assert "unianimate | 9.00 GB | at most 8.00 GB | **missed** |" in text
    assert "unianimate | 295 ms | 300 ms |" in summary(taken, "x")


def test_forms_are_called_in_turn_where_their_times_are_compared():
    selective_scan = CPU[0].group
    assert baselines_of(selective_scan, "native") == ["reference", "materialising"]
    assert baselines_of(selective_scan, "reference") == []
    unet = next(target for target in CPU if target.of == "peak_bytes").group
    assert baselines_of(unet, "unianimate") == ["official layout"]


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(2.0, "2.00x slower"), (0.5, "2.00x faster"), (1.04, None), (1.0, None)],
)
def test_only_changes_beyond_noise_are_told(seconds, says):
    found = changes(results(op("native", 1.0)), results(op("native", seconds)))
    assert [str(change).split(":")[0] for change in found] == ([] if says is None else [says])


def test_noise_is_how_far_figures_are_apart_that_no_change_of_ours_touches():
    def run(factor, native):
        others = [op("torch", 1 + factor * i / 100, f"geglu {i}") for i in range(21)]
        return results(op("native", native), *others)

    still, old, new = run(0, 1.0), run(1, 1.0), run(0, 1.15)
    assert noise(still, still) == 1
    assert noise(old, new) == pytest.approx(1.18, abs=0.005)
    assert changes(old, new) == []  # by 1.15, which torch's are apart by, too
    assert [change.record.form for change in changes(old, run(0, 1.25))] == ["native"]
    # too few to tell
    assert noise(results(op("torch", 1.0)), results(op("torch", 2.0))) == 1


@pytest.mark.parametrize(
    ("form", "ours"),
    [
        *((form, True) for form in ("native", "triton", "unianimate, compiled", "mamba2")),
        *((form, True) for form in ("mamba, shared dynamics", "native, free decays")),
        *((form, False) for form in ("torch", "reference", "SDPA, rearranged", "mamba_ssm")),
        *((form, False) for form in ("official layout", "transformer, official layout")),
    ],
)
def test_what_is_ours(form, ours):
    assert op(form, 1.0).ours == ours
    assert replace(op(form, 1.0), section="pipeline").ours


def test_a_change_within_the_quartiles_is_noise():
    noisy = replace(op("native", 1.5), low=0.9, high=2.0)
    assert changes(results(op("native", 1.0)), results(noisy)) == []


def test_a_single_call_is_noisy_and_a_lost_figure_is_told():
    def once(seconds):
        return replace(op("native", seconds), low=seconds, high=seconds, rounds=1)

    assert changes(results(once(1.0)), results(once(1.15))) == []
    assert str(changes(results(once(1.0)), results(once(1.5)))[0]).startswith("1.50x slower")
    had, lost = results(block("mamba", 16, 1.0)), results(block("mamba", 16, None))
    assert "no figure any more (out of memory): mamba" in describe_changes(had, lost)
    assert "a figure now (out of memory): mamba" in describe_changes(lost, had)


def test_memory_is_compared_too_and_new_figures_are_counted():
    old, new = block("mamba", 16, 1.0), replace(block("mamba", 16, 1.0), peak_bytes=2**22)
    text = describe_changes(results(old), results(new, op("native", 1.0)))
    assert "4.00x less memory: mamba" in text
    assert "0 earlier, 1 now" in text


def test_the_readme_keeps_what_is_around_the_markers():
    readme = "a\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nz\n"
    assert publish("new\n", readme) == "a\n<!-- benchmarks -->\n\nnew\n\n<!-- /benchmarks -->\nz\n"
    with pytest.raises(ValueError, match="must hold"):
        publish("new", "nothing here")
