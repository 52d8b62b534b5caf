import struct

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from poses import random_pose

from unianimate.pose import PosePictures, draw_pose, write_pose_pictures


def test_a_folder_gives_back_what_was_drawn(tmp_path):
    pose = random_pose(3)
    written = write_pose_pictures(tmp_path / "poses", pose, pose[1:])
    assert [path.name for path in written.frames] == ["0000.jpg", "0001.jpg", "0002.jpg"]
    assert len(written) == 3
    drawn = draw_pose(pose)
    for index, picture in enumerate(written.read()):
        # JPEG halves the resolution of colours: hold the mean, 40 for another frame
        assert np.abs(picture.astype(int) - drawn[index]).mean() < 6
    assert np.abs(written.read_reference().astype(int) - drawn[1]).mean() < 6
    assert [path.name for path in tmp_path.iterdir()] == ["poses"]


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("10.png", "9.JPG", "ref_pose.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in PosePictures.open(tmp_path).frames] == ["9.JPG", "10.png"]


def test_a_full_folder_is_not_overwritten(tmp_path):
    (tmp_path / "keep.txt").touch()
    with pytest.raises(FileExistsError, match="is not empty; name another folder"):
        write_pose_pictures(tmp_path, random_pose(1), random_pose(1))


def test_strange_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no ref_pose\.jpg in it"):
        PosePictures.open(tmp_path)
    (tmp_path / "ref_pose.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"no pose pictures beside ref_pose\.jpg"):
        PosePictures.open(tmp_path)
    (tmp_path / "frame é 1.png").write_bytes(b"no picture")
    opened = PosePictures.open(tmp_path)
    with pytest.raises(ValueError, match="not a picture that can be read"):
        opened.read_reference()
    with pytest.raises(ValueError, match="not a picture that can be read"):
        list(opened.read())
    with pytest.raises(FileNotFoundError):
        PosePictures.open(tmp_path / "none")


def write_text_bomb(path):
    text = PngInfo()
    text.add_text("a", "x" * 2_000_000, zip=True)
    Image.new("RGB", (4, 4)).save(path, "PNG", pnginfo=text)


def write_pixel_bomb(path):
    header = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0xF0, 0, 0) + bytes(6)
    path.write_bytes(header + b"," + bytes(30))


def write_program(path):
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n")


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (write_text_bomb, "the picture is damaged: Decompressed data too large"),
        (write_pixel_bomb, "the picture has too many pixels: scale it down"),
        (write_program, "this is not a picture that can be read"),
    ],
)
def test_a_damaged_picture_is_refused_by_its_name(tmp_path, write, says):
    opened = write_pose_pictures(tmp_path / "poses", random_pose(1), random_pose(1))
    write(opened.frames[0])
    with pytest.raises(ValueError, match=rf"0000\.jpg: {says}"):
        opened.read_one(0)
