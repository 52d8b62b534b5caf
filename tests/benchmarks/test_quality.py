"""The harness of the quality tables on a tiny model with random weights."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.quality import __main__ as quality
from benchmarks.quality.bars import through_autoencoder
from benchmarks.quality.compare import WithoutReferencePose
from benchmarks.quality.models import Named, held_out
from benchmarks.quality.publish import publish_findings
from benchmarks.quality.rows import Figure, copies, judge
from examples.separate_reference import with_two_networks
from unianimate.metrics import psnr
from unianimate.models import PRESETS, UniAnimate
from unianimate.pipelines import AnimatePipeline
from unianimate.training.cases import puppet_cases
from unianimate.training.puppet_test import PuppetTest


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a model, another one, and one of two networks."""
    torch.manual_seed(0)
    home = tmp_path_factory.mktemp("models")
    config = replace(PRESETS["test"], steps=2)
    model = UniAnimate(config)
    two = with_two_networks(model, 32, (32, 32))
    for name, one in (("one", model), ("other", UniAnimate(config)), ("two", two)):
        one.save_pretrained(home / name / "model")
    return [str(home / name / "model") for name in ("one", "other", "two")]


def run(tmp_path, *arguments, count=1):
    """Run a command; return its results and its page."""
    quality.main([*arguments, "-o", str(tmp_path), "--count", str(count)])
    folder = tmp_path / arguments[0]
    page = (folder / "table.md").read_text()
    for picture in folder.glob("*.png"):
        assert f"({picture.name})" in page
    return json.loads((folder / "results.json").read_text()), page


def test_bars_compare_with_copies_and_with_other_poses(tmp_path, folders):
    results, page = run(tmp_path, "bars", folders[0], count=2)
    labels = [row["label"] for row in results["rows"]]
    assert labels == [
        "copying the reference",
        "the same with another clip's poses",
        "guidance 1",
        "guidance 2.5 (shipped)",
        "the true frames through the autoencoder",
    ]
    for label in labels:
        assert f"| {label} " in page
    cases = puppet_cases(PuppetTest(2, 4, 32, 48))
    copied = [psnr(case.copy, case.truth).mean() for case in cases]
    assert results["rows"][0]["measures"]["psnr"]["per_video"] == pytest.approx(copied)
    assert {"device", "commit", "date", "versions"} <= set(results["machine"])
    assert {p.stem for p in (tmp_path / "bars").glob("*.png")} == {"best", "median", "worst"}
    # a sheet of three rows: poses, made and true frames
    with Image.open(tmp_path / "bars" / "best.png") as sheet:
        assert sheet.height == 3 * 160


# diffusers calls numpy on tensors in a way that numpy 2 announces the end of
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_sweep_measures_what_its_tables_say(tmp_path, folders, monkeypatch):
    module = sys.modules["benchmarks.quality.sweep"]
    for name, value in (("GUIDANCE", (1.0,)), ("STEPS", (2, 3)), ("CURVE", (3, 4)), ("MANY", 6)):
        monkeypatch.setattr(module, name, value)
    results, page = run(tmp_path, "sweep", folders[0])
    assert len(results["rows"]) == 2 * 2 + 2 * 2 + 2
    far = {(d["sampler"], d["steps"], d["to_6_steps_of"]): d for d in results["distances"]}
    assert far["ddim", 6, "ddim"]["mean"] == 0 and far["dpm++", 6, "dpm++"]["mean"] == 0
    assert far["ddim", 3, "ddim"]["mean"] > 0
    assert "2 steps" in page and "| dpm++ " in page


def test_long_videos_are_judged_by_segments(tmp_path, folders):
    results, page = run(tmp_path, "long", folders[0], "--frames", "8", count=2)
    by_segment = results["psnr_by_puppet_and_segment"]
    assert set(by_segment) == {"window", "chain", "single", "copying the reference"}
    cases = puppet_cases(PuppetTest(2, 8, 32, 48))
    wanted = [psnr(c.copy, c.truth).reshape(2, 4).mean(axis=1) for c in cases]
    np.testing.assert_allclose(by_segment["copying the reference"], wanted)
    off = results["colours_by_puppet_segment_and_channel"]["copying the reference"]["mean"]
    case = cases[1]
    wanted = case.copy[4:].mean(axis=(0, 1, 2)) - case.truth[4:].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(off[1][1], wanted, atol=1e-3)
    assert "| 4 to 7 " in page


def test_a_length_that_has_no_segments_is_refused(tmp_path, folders):
    with pytest.raises(SystemExit, match="--frames must be at least two segments of 4, got 6"):
        run(tmp_path, "long", folders[0], "--frames", "6")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(sys.modules["benchmarks.quality.models"], "_SECONDS", 0.01)


def test_models_are_compared_with_their_costs(tmp_path, folders, hurried):
    results, page = run(tmp_path, "mixers", *folders[:2])
    assert set(results["costs"]) == {"one", "other"}
    assert results["costs"]["one"]["parameters"] == results["costs"]["other"]["parameters"]
    assert results["costs"]["one"]["peak_mib"] > 0
    assert "one above other" in page


def test_models_of_one_name_are_refused(tmp_path, folders):
    with pytest.raises(SystemExit, match="two models are called alike"):
        run(tmp_path, "mixers", folders[0], folders[0])


def test_a_separate_reference_network_has_its_row(tmp_path, folders, hurried):
    results, page = run(tmp_path, "separate", folders[0], f"two networks={folders[2]}")
    assert results["costs"]["two networks"]["parameters"] > results["costs"]["one"]["parameters"]
    assert "| two networks " in page


def test_the_reference_pose_is_left_out(tmp_path, folders):
    results, _ = run(tmp_path, "reference", folders[0], folders[1])
    assert [row["label"] for row in results["rows"]][1:] == [
        "with the reference's pose",
        "the same weights without it",
        "trained without it",
    ]
    case = puppet_cases(PuppetTest(1, 4, 32, 48))[0]
    blind = WithoutReferencePose(case.poses)
    assert not blind.reference().any() and blind.reference().shape == case.poses.reference().shape
    np.testing.assert_array_equal(blind.read([2])[0], case.poses.read([2])[0])


def test_other_poses_drive_and_the_true_video_judges(folders):
    pipeline = AnimatePipeline.from_pretrained(folders[0])
    right, wrong = held_out(pipeline, 2), held_out(pipeline, 2, other_poses=True)
    np.testing.assert_array_equal(right[1].truth, wrong[1].truth)
    np.testing.assert_array_equal(right[1].joints.bodies, wrong[1].joints.bodies)
    assert not np.array_equal(right[1].poses.read([0])[0], wrong[1].poses.read([0])[0])


def test_the_autoencoder_gives_frames_back_at_their_size(folders):
    pipeline = AnimatePipeline.from_pretrained(folders[0])
    video = held_out(pipeline, 1)[0].truth
    back = through_autoencoder(pipeline.model, video)
    assert back.shape == video.shape and back.dtype == np.uint8


def test_gains_are_paired():
    cases = puppet_cases(PuppetTest(3, 2, 32, 48))
    base = copies(cases)
    better = judge("half way", cases, [case.copy // 2 + case.truth // 2 for case in cases])
    gains = better.gains(base)
    assert (gains > 3).all()
    figure = Figure.of(gains)
    assert figure.mean == pytest.approx(gains.mean())
    assert gains.min() <= figure.interval[0] <= figure.mean <= figure.interval[1] <= gains.max()
    assert Figure.of([1.0]).text() == "1.00"


def test_findings_go_between_their_markers(tmp_path):
    (tmp_path / "found" / "bars").mkdir(parents=True)
    (tmp_path / "found" / "bars" / "table.md").write_text("new\n\n![Best](best.png)\n")
    Image.new("RGB", (2, 2)).save(tmp_path / "found" / "bars" / "best.png")
    page = tmp_path / "docs" / "small.md"
    page.parent.mkdir()
    page.write_text("a\n<!-- quality: bars -->\nold\n<!-- /quality: bars -->\nz\n")
    assert publish_findings(tmp_path / "found", page) == ["bars"]
    wanted = "new\n\n![Best](assets/small/bars-best.png)"
    assert page.read_text() == (
        f"a\n<!-- quality: bars -->\n\n{wanted}\n\n<!-- /quality: bars -->\nz\n"
    )
    assert (tmp_path / "docs" / "assets" / "small" / "bars-best.png").is_file()
    page.write_text("nothing")
    with pytest.raises(ValueError, match=r"small\.md must hold <!-- quality: bars -->"):
        publish_findings(tmp_path / "found", page)
    with pytest.raises(ValueError, match="holds no findings"):
        publish_findings(tmp_path / "docs", page)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("run/small/model", "small"), ("small", "small"), ("a b=run/small/model", "a b")],
)
def test_models_have_labels(text, wanted):
    assert Named.of(text).label == wanted


def test_a_place_that_cannot_be_written_to_is_found_before_the_work(tmp_path):
    (tmp_path / "bars").write_text("in the way")
    with pytest.raises(SystemExit, match=r"quality: .*bars"):
        quality.main(["bars", str(tmp_path / "nowhere"), "-o", str(tmp_path)])


def test_a_model_that_is_not_there_is_named_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"quality: .*nowhere"):
        quality.main(["bars", str(tmp_path / "nowhere"), "-o", str(tmp_path)])
