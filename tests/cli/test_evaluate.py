import json

import numpy as np
import pytest
from command import run

from unianimate.data import Puppet, VideoWriter


@pytest.fixture
def folders(tmp_path):
    """Three true videos with poses, and copies of their first frames in another size."""
    for name in ("made", "real", "poses"):
        (tmp_path / name).mkdir()
    for index in range(3):
        video, poses = Puppet(index, held_out=True).render(4, 64, 48)
        poses.save(tmp_path / "poses" / f"{index}.npz")
        copies = np.repeat(video[:1, ::2, ::2], 4, axis=0)
        for folder, frames in (("made", copies), ("real", video)):
            with VideoWriter(tmp_path / folder / str(index), 8) as writer:
                for frame in frames:
                    writer.write(frame)
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys):
    return lambda *arguments: run(monkeypatch, capsys, "evaluate", *arguments)


def test_tables_report_and_published_rows(folders, command):
    status, out, _ = command(
        *(folders / "made", folders / "real", "--poses", folders / "poses"),
        *("--protocol", "tiktok", "--published", "--frames", 2, "-o", folders / "report"),
    )
    assert status == 0
    assert "3 videos, 6 frames, 256 x 256 pixels, protocol tiktok" in out
    assert "pose error" in out
    assert "UniAnimate (published)" in out
    assert "VGG16 were not given" in out
    assert "10 videos is not public" in out
    assert (folders / "report" / "index.html").is_file()


def test_json_of_two_videos(folders, command):
    status, out, _ = command(folders / "made" / "1", folders / "real" / "1", "--json")
    assert status == 0
    data = json.loads(out)
    assert data["videos"] == [{"name": "1", "frames": 4, "width": 48, "height": 64}]
    assert 10 < data["measures"]["psnr"]["mean"] < 40
    assert data["measures"]["psnr"]["interval"] is None
    assert "poses of the true videos" in data["missing"]["pose_error"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--protocol", "tok"], "there is no protocol 'tok': choose tiktok or fashion"),
        (["--published"], "name it with --protocol"),
        (["--frames", "5"], "wanted 5 frames, there are 4"),
        (["--lpips-vgg", "none.pth"], "none.pth: no such file"),
        (["--fvd-network", "none.pt"], "none.pt: no such file"),
        (["--device", "abacus"], "there is no such device"),
        (["--poses", "none.npz"], "3 videos need a folder"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_no_report(folders, command, arguments, says):
    report = folders / "report"
    status, out, err = command(folders / "made", folders / "real", "-o", report, *arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1
    assert not report.exists()


def test_a_full_folder_is_refused_before_anything_is_read(folders, command):
    status, _, err = command(folders / "none", folders / "real", "-o", folders / "poses")
    assert status == 2
    assert "name another folder" in err


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_read(
    folders, command, monkeypatch
):
    (folders / "file").write_text("no folder")
    arguments = (folders / "none", folders / "real", "-o")
    status, _, err = command(*arguments, folders / "file" / "new" / "report")
    assert status == 2
    assert f"{folders / 'file'} is not a folder; name another place" in err
    # asked by name: the superuser may write everywhere
    monkeypatch.setattr("os.access", lambda path, mode: path != folders)
    status, _, err = command(*arguments, folders / "new" / "report")
    assert status == 2
    assert f"nothing may be written to {folders}; name another place" in err
    assert not (folders / "new").exists()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_figures_are_printed_before_the_report_is_written(folders, command, monkeypatch, options):
    def write_report(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("unianimate.metrics.report.write_report", write_report)
    status, out, err = command(
        folders / "made", folders / "real", "-o", folders / "report", *options
    )
    assert (status, err) == (2, "unianimate: no space left\n")
    assert "psnr" in out.lower()
    assert "index.html" not in out
