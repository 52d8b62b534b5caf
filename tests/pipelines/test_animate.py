import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run
from PIL import Image
from small_run import photo, random_pose, small_model

from unianimate.data import fit_picture, probe_video, read_video
from unianimate.models import UniAnimate
from unianimate.models.devices import default_dtype
from unianimate.pipelines import AnimatePipeline, Chain, Window
from unianimate.pose import (
    DrawnPoses,
    FolderPoses,
    PosePictures,
    PoseSequence,
    align_pose,
    write_pose_pictures,
)
from unianimate_kernels import _packed


@pytest.fixture(scope="module")
def model() -> UniAnimate:
    return small_model()


@pytest.fixture
def pipeline(model) -> AnimatePipeline:
    return AnimatePipeline(model)


@pytest.fixture
def poses() -> DrawnPoses:
    reference = random_pose(1, 1)
    return DrawnPoses(align_pose(random_pose(9, 2), reference), reference)


@pytest.mark.parametrize("long", ["window", "chain", "single"])
def test_every_way_makes_every_frame_at_the_models_size(pipeline, poses, long):
    steps = []
    video = pipeline(photo(), poses, long=long, progress=lambda *step: steps.append(step))
    assert video.shape == (9, 48, 32, 3)
    assert video.dtype == np.uint8
    assert video.std() > 5
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))


def test_the_same_seed_gives_the_same_bits(pipeline, poses):
    a, b, c = (pipeline(photo(), poses, num_frames=3, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(a, b)
    assert (a != c).mean() > 0.1


def test_guidance_in_one_batch_or_two_passes_agree(pipeline, poses):
    options = {"num_frames": 6, "guidance_scale": 2.5}
    one, two = (pipeline(photo(), poses, low_memory=m, **options) for m in (False, True))
    assert np.abs(one.astype(int) - two).max() <= 1


@pytest.mark.parametrize("low", [False, True])
def test_weights_stay_packed_for_a_segment_unless_memory_is_low(pipeline, poses, low):
    kept = []

    def progress(*_):
        kept.append(len(_packed.kept.entries))

    pipeline(photo(), poses, num_frames=3, low_memory=low, progress=progress)
    assert len(set(kept)) == 1 and (kept[0] > 0) is not low
    assert not _packed.kept.entries


def test_the_poses_drive_the_video(pipeline, poses):
    other = DrawnPoses(align_pose(random_pose(9, 5), poses.reference_pose), poses.reference_pose)
    a, b = (pipeline(photo(), p, num_frames=4) for p in (poses, other))
    assert (a != b).any()


def test_a_short_video_is_the_same_by_window_and_start_of_chain(pipeline, poses):
    # no first frame, one window: only the place of the offset noise differs
    a, b = (pipeline(photo(), poses, num_frames=4, long=long) for long in (Window(4, 1), Chain(4)))
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - b).mean() < 40


@pytest.mark.parametrize("frames", [2, 4, 5, 7, 8, 9])
def test_a_chain_makes_each_frame_once(pipeline, poses, frames):
    assert len(pipeline(photo(), poses, num_frames=frames, long="chain")) == frames


def test_segments_of_a_chain_start_from_the_last_picture(model, poses):
    pipeline = AnimatePipeline(model)
    given = []
    encode = model.unet.encode_conditions

    def spy(*args, first_frame=None, pose=None, **kwargs):
        if pose is not None:
            given.append(None if first_frame is None else first_frame.clone())
        return encode(*args, first_frame=first_frame, pose=pose, **kwargs)

    model.unet.encode_conditions = spy
    try:
        video = pipeline(photo(), poses, num_frames=7, long="chain")
    finally:
        del model.unet.encode_conditions
    assert given[0] is None
    picture = (given[1][0] * 255).byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(picture, video[3])


def test_a_process_to_which_no_frame_comes_has_none(pipeline, poses, monkeypatch):
    # the first of several processes gets them all
    monkeypatch.setattr(AnimatePipeline, "stream", lambda *args, **options: iter(()))
    assert pipeline(photo(), poses).shape == (0, 0, 0, 3)


def test_windows_are_encoded_once_as_far_as_they_are_kept(pipeline, poses, monkeypatch):
    encoded = []
    encode = type(pipeline.model.unet).encode_conditions

    def counted(unet, *args, **given):
        encoded.append(given.get("pose") is not None)
        return encode(unet, *args, **given)

    monkeypatch.setattr(type(pipeline.model.unet), "encode_conditions", counted)
    monkeypatch.setattr("unianimate.pipelines.animate._KEPT_WINDOWS", 2)
    windows = len(Window(3, 1).segments(poses.num_frames)[0].windows)
    assert windows > 2
    options = {"long": Window(3, 1), "num_inference_steps": 2, "guidance_scale": 1.0}
    pipeline(photo(), poses, **options)
    assert sum(encoded) == windows + (windows - 2)


def test_frames_come_as_a_stream(pipeline, poses):
    stream = pipeline.stream(photo(), poses, long="chain")
    assert next(stream).shape == (48, 32, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 40}, "width and height must be multiples of 16 for this model, got 40 x 48"),
        ({"long": "forever"}, "long must be window, chain or single, got 'forever'"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"num_frames": -3, "long": "chain"}, "num_frames must be at least 1, got -3"),
        ({"num_inference_steps": 0}, "got 0"),
        ({"fit": "zoom"}, "fit must be stretch, pad or crop, got 'zoom'"),
    ],
)
def test_bad_requests_are_refused(pipeline, poses, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(photo(), poses, **options)


@pytest.fixture
def files(tmp_path: Path, model: UniAnimate) -> Path:
    model.save_pretrained(tmp_path / "model")
    photo().save(tmp_path / "photo.png")
    random_pose(5, 2).save(tmp_path / "dance.npz")
    random_pose(1, 1).save(tmp_path / "photo_pose.npz")
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys, files):
    def call(driving, output, *options):
        arguments = (files / "photo.png", files / driving, "-o", files / output)
        return run(monkeypatch, capsys, "animate", *arguments, "--model", files / "model", *options)

    return call


def test_pipeline_and_command_shift_timesteps_as_the_model_says(files, command, monkeypatch):
    config = json.loads((files / "model" / "config.json").read_text())
    config["timestep_shift"] = 5.0
    (files / "model" / "config.json").write_text(json.dumps(config))
    pipeline = AnimatePipeline.from_pretrained(files / "model")
    assert pipeline.scheduler.timestep_shift == 5.0
    used = []

    def stream(pipeline, *args, **options):
        used.append(getattr(pipeline.scheduler, "timestep_shift", None))
        return iter([np.zeros((48, 32, 3), np.uint8)])

    monkeypatch.setattr(AnimatePipeline, "stream", stream)
    assert (
        command("dance.npz", "a.mp4")[0] == command("dance.npz", "b.mp4", "--scheduler", "dpm++")[0]
    )
    assert used == [5.0, None]


def test_the_command_makes_a_video_of_a_pose_file(files, command):
    status, out, _ = command("dance.npz", "out.mp4", "--json")
    summary = json.loads(out)
    assert (status, summary["frames"], summary["fps"]) == (0, 5, 12)
    info = probe_video(files / "out.mp4")
    assert (info.width, info.height, info.fps) == (32, 48, 12)
    assert len(list(read_video(files / "out.mp4"))) == 5


def test_the_command_takes_a_pose_folder_and_every_second_frame(files, command):
    reference = PoseSequence.load(files / "photo_pose.npz")
    write_pose_pictures(files / "poses", random_pose(6, 2), reference)
    assert FolderPoses(PosePictures.open(files / "poses"), 2).num_frames == 3
    status, out, err = command("poses", "out", "--every", "2", "--quiet")
    assert (status, err) == (0, "")
    assert "3 frames" in out
    assert len(list((files / "out").iterdir())) == 3


def test_without_a_reference_pose_the_command_says_what_helps(files, command, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(files))
    (files / "photo_pose.npz").unlink()
    status, _, err = command("dance.npz", "out.mp4")
    assert status == 2
    for hint in ("--reference-pose", "photo_pose.npz", "yolox_l.onnx"):
        assert hint in err
    assert not (files / "out.mp4").exists()


def test_side_by_side_shows_photo_pose_and_result(files, command):
    options = ("--frames", "2", "--steps", "1", "--guidance", "1", "--fit", "crop")
    assert command("dance.npz", "alone", *options)[0] == 0
    status, out, _ = command("dance.npz", "columns", *options, "--side-by-side", "--json")
    summary = json.loads(out)
    assert (status, summary["width"], summary["height"]) == (0, 96, 48)
    alone, columns = (
        [np.asarray(Image.open(path)) for path in sorted((files / name).iterdir())]
        for name in ("alone", "columns")
    )
    reference = PoseSequence.load(files / "photo_pose.npz")
    poses = DrawnPoses(align_pose(PoseSequence.load(files / "dance.npz"), reference), reference)
    for number, frame in enumerate(columns):
        seen, pose, result = np.split(frame, 3, axis=1)
        np.testing.assert_array_equal(seen, np.asarray(fit_picture(photo(), 32, 48, "crop")))
        drawn = fit_picture(Image.fromarray(poses.read([number])[0]), 32, 48)
        np.testing.assert_array_equal(pose, np.asarray(drawn))
        np.testing.assert_array_equal(result, alone[number])


def test_a_log_says_what_is_decided(files, command):
    log = logging.getLogger("unianimate")
    handlers, level = log.handlers[:], log.level
    try:
        options = ("--frames", "1", "--steps", "1", "--guidance", "1", "-v", "--quiet")
        _, _, err = command("dance.npz", "out.gif", *options)
    finally:
        log.handlers, log.level = handlers, level
    dtype = default_dtype(torch.device("cpu"))
    for said in ("pose of the photo: ", "photo_pose.npz", "model: ", f"{dtype} on cpu"):
        assert said in err


@pytest.mark.parametrize("given", ["photo.png", "dance.npz"])
def test_an_input_is_not_written_over(files, command, given):
    before = (files / given).read_bytes()
    status, _, err = command("dance.npz", given)
    assert (status, err.count("\n")) == (2, 1)
    assert f"{given}: this is an input; name another output" in err
    assert (files / given).read_bytes() == before


def test_a_wrong_output_is_refused_before_anything_is_computed(command):
    status, _, err = command("dance.npz", "out.avi")
    assert (status, err.count("\n")) == (2, 1)
    assert "cannot write '.avi'" in err
