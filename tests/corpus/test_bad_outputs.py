"""Places that cannot be written to, and settings that make no video."""

import errno
import os

import pytest

from unianimate.pipelines import Checkpoint


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("out.avi", "cannot write '.avi'; use .mp4, .webm, .gif or a folder"),
        ("photo_pose", "this exists and is no folder"),
        ("none/out.mp4", "there is no folder none; make it, or choose another"),
        ("photo.png/out.mp4", "there is no folder photo.png"),
        ("poses", "this folder exists; name another or remove it"),
        ("x" * 300 + ".mp4", "file name too long"),
        ("/proc/out.mp4", "/proc"),
        ("two\nlines.avi", "cannot write '.avi'"),
        ("folder.mp4", "this folder exists"),
        ("/dev/null", "/dev/null: this exists and is no folder"),
        (".", "this folder exists"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(here, animate_refused, name, says):
    (here / "folder.mp4").mkdir()
    (here / "photo_pose").touch()
    animate_refused(output=name, says=says)


@pytest.mark.parametrize(
    ("spoiled", "options", "says"),
    [
        ({"output": "out.avi"}, [], "cannot write '.avi'"),
        ({"output": "none/out.mp4"}, [], "there is no folder none"),
        ({"model": "none"}, [], "no model 'none'"),
        ({}, ["--scheduler", "euler"], "must be one of ddim, dpm++, got 'euler'"),
        ({}, ["--fps", "0"], "fps must be positive, got 0"),
    ],
)
def test_what_is_wrong_is_refused_before_poses_are_found(
    animate_refused, monkeypatch, spoiled, options, says
):
    monkeypatch.setattr("unianimate.pose.DWPose.__call__", lambda *_, **__: pytest.fail("too late"))
    animate_refused(*options, driving="dance.mp4", **spoiled, says=says)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(here, animate_refused):
    (here / "locked").mkdir(mode=0o500)
    animate_refused(output="locked/out.mp4", says="nothing may be written to locked")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_photo_is_refused(here, animate_refused):
    (here / "p.png").write_bytes((here / "photo.png").read_bytes())
    (here / "p.png").chmod(0)
    animate_refused(photo="p.png", says="p.png: permission denied; check its permissions")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--width", "40"], "width and height must be multiples of 16 for this model, got 40 x 48"),
        (["--height", "0"], "must be multiples of 16"),
        (["--width", "-32"], "must be multiples of 16"),
        (["--width", "wide"], "--width"),
        (["--frames", "0"], "Invalid value for '--frames'"),
        (["--every", "0"], "Invalid value for '--every'"),
        (["--steps", "0"], "Invalid value for '--steps'"),
        (["--steps", "5000"], "num_inference_steps must be 1 to 1000, got 5000"),
        (["--guidance", "nan"], "guidance_scale must be a number, got nan"),
        (["--guidance", "inf"], "guidance_scale must be a number, got inf"),
        (["--fps", "0"], "fps must be positive, got 0"),
        (["--fps", "-8"], "fps must be positive, got -8"),
        (["--fps", "nan"], "fps must be positive, got nan"),
        (["--fps", "inf"], "fps must be"),
        (["--seed", "-1"], "seed"),
        (["--seed", str(2**70)], "seed"),
        (["--long", "forever"], "long must be window, chain or single, got 'forever'"),
        (["--fit", "zoom"], "fit must be stretch, pad or crop, got 'zoom'"),
        (["--colour", "red"], "No such option: --colour"),
    ],
)
def test_settings_that_make_no_video_are_refused(animate_refused, options, says):
    animate_refused(*options, says=says)


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.mp4")


@pytest.mark.parametrize("method", ["open", "save", "keep_frame"])
def test_a_disk_that_is_full_leaves_nothing_behind(animate_refused, monkeypatch, method):
    monkeypatch.setattr(Checkpoint, method, full)
    animate_refused("--frames", "2", "--steps", "1", says="no space left on device")


@pytest.mark.parametrize("suffix", ["mp4", "webm", "gif"])
def test_a_disk_that_fills_while_the_video_is_written_leaves_nothing_behind(
    animate_refused, monkeypatch, suffix
):
    from unianimate.data import VideoWriter

    monkeypatch.setattr(VideoWriter, "_finish", full)
    options = ("--frames", "1", "--steps", "1", "--guidance", "1")
    animate_refused(*options, output=f"out.{suffix}", says="no space left on device")
