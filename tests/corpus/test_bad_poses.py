"""Pose files and folders of pose pictures that cannot drive anything."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

NO_POSES = "not a pose file"


class Exploit:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def arrays(frames: int = 2, **changed) -> dict:
    """The arrays of a good pose file, some changed; None leaves one out."""
    random = np.random.default_rng(0)
    good = {
        "bodies": random.uniform(0.2, 0.8, (frames, 20, 2)),
        "visible": np.ones((frames, 20), dtype=bool),
        "hands": random.uniform(0.2, 0.8, (frames, 2, 21, 2)),
        "faces": np.full((frames, 68, 2), -1.0),
        "width": 64,
        "height": 96,
        "fps": 12.0,
    }
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def npz(**changed) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays(**changed))
    return file.getvalue()


def with_value(name: str, value: float) -> bytes:
    array = arrays()[name].copy()
    array[1, ..., -1, 0] = value
    return npz(**{name: array})


def array_file(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(f"{name}.npy", content)
    return file.getvalue()


def claims(shape: str) -> bytes:
    """An array file that says it has this shape."""
    head = "{'descr': '<f8', 'fortran_order': False, 'shape': " + shape + ", }"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(64)


def bomb() -> bytes:
    """5 GB of zeros, by what the archive says of itself."""
    content = bytearray(archive(bodies=bytes(1000), width=b""))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(signature) + place
        content[at : at + 4] = (0xFFFFFF00).to_bytes(4, "little")
    return bytes(content)


POSE_FILES = {
    "empty": (lambda good: b"", NO_POSES),
    "text": (lambda good: b"keypoints: none", NO_POSES),
    "zeros": (lambda good: bytes(2000), NO_POSES),
    "zip signature alone": (lambda good: b"PK\x03\x04", NO_POSES),
    "half": (lambda good: good[: len(good) // 2], NO_POSES),
    "without its end": (lambda good: good[:-30], NO_POSES),
    "flipped byte": (lambda good: good[:100] + bytes([good[100] ^ 255]) + good[101:], NO_POSES),
    "one array": (lambda good: array_file(np.zeros(4)), "it holds one array"),
    "pickle": (lambda good: pickle.dumps(Exploit()), NO_POSES),
    "pickle in an array": (
        lambda good: archive(bodies=array_file(np.array([Exploit()], dtype=object))),
        NO_POSES,
    ),
    "empty archive": (lambda good: archive(), "it lacks bodies, visible"),
    "text in the archive": (lambda good: archive(bodies=b"no array"), NO_POSES),
    "impossible shape": (lambda good: archive(bodies=claims("(-1, 20, 2)")), NO_POSES),
    "more memory than there is": (
        lambda good: archive(bodies=claims("(9999999999999,)")),
        NO_POSES,
    ),
    "nonsense for a shape": (lambda good: archive(bodies=claims("(((")), NO_POSES),
    "zip bomb": (lambda good: bomb(), NO_POSES),
    "other arrays": (lambda good: archive(images=array_file(np.zeros(3))), "it lacks bodies"),
    "no size": (lambda good: npz(width=None), "it lacks width"),
    "no frames": (lambda good: npz(frames=0), "there are no frames"),
    "18 points": (
        lambda good: npz(bodies=np.zeros((2, 18, 2))),
        "bodies must have shape (2, 20, 2), got (2, 18, 2)",
    ),
    "frames that differ": (lambda good: npz(hands=np.zeros((3, 2, 21, 2))), "hands must have"),
    "a number for points": (lambda good: npz(bodies=np.float64(3)), "there are no frames"),
    "text for points": (lambda good: npz(bodies=np.array(["a", "b"])), "could not convert"),
    "nan": (lambda good: with_value("bodies", np.nan), "bodies has NaN or infinite"),
    "infinite": (lambda good: with_value("hands", np.inf), "hands has NaN or infinite"),
    "size 0": (lambda good: npz(width=0), "must be pixels, got 0 x 96"),
    "size below 0": (lambda good: npz(height=-5), "must be pixels, got 64 x -5"),
    "two sizes": (lambda good: npz(width=np.array([1, 2])), "p.npz: "),
    "nan for a size": (lambda good: npz(width=np.nan), "p.npz: "),
    "fps below 0": (lambda good: npz(fps=-1.0), "fps must be 0 or more"),
    "nan fps": (lambda good: npz(fps=np.nan), "fps must be 0 or more"),
    "nobody": (lambda good: npz(visible=np.zeros((2, 20), dtype=bool)), "no person is seen in it"),
}


@pytest.mark.parametrize("case", POSE_FILES)
def test_a_bad_pose_file_is_refused(here, animate_refused, case):
    make, says = POSE_FILES[case]
    (here / "p.npz").write_bytes(make((here / "dance.npz").read_bytes()))
    animate_refused(driving="p.npz", says=says)
    animate_refused("--reference-pose", "p.npz", says=says)


@pytest.mark.parametrize(
    ("name", "says"),
    [("none.npz", "none.npz: no such file"), ("dir.npz", "no ref_pose.jpg"), ("pipe.npz", "pipe")],
)
def test_what_is_no_pose_file_is_refused(here, animate_refused, name, says):
    (here / "dir.npz").mkdir()
    os.mkfifo(here / "pipe.npz")
    animate_refused(driving=name, says=says)


def write_picture(path, shape=(48, 32)):
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(path)


def remove_reference(folder):
    (folder / "ref_pose.jpg").unlink()


def remove_frames(folder):
    for path in folder.glob("00*.jpg"):
        path.unlink()


def spoil(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def replace_by(name, make):
    def change(folder):
        (folder / name).unlink()
        make(folder / name)

    return change


FOLDERS = {
    "empty": (lambda folder: (remove_reference(folder), remove_frames(folder)), "no ref_pose.jpg"),
    "no reference": (remove_reference, "there is no ref_pose.jpg in it"),
    "no frames": (remove_frames, "there are no pose pictures beside ref_pose.jpg"),
    "empty reference": (spoil("ref_pose.jpg", b""), "ref_pose.jpg: this is not a picture"),
    "text for the reference": (spoil("ref_pose.jpg", b"pose"), "this is not a picture"),
    "empty frame": (spoil("0002.jpg", b""), "0002.jpg: this is not a picture"),
    "text for a frame": (spoil("0001.jpg", b"pose"), "0001.jpg: this is not a picture"),
    "folder for a frame": (replace_by("0001.jpg", os.mkdir), "0001.jpg: is a directory"),
    "pipe for a frame": (replace_by("0001.jpg", os.mkfifo), "0001.jpg: this is not a file"),
    "broken link": (
        replace_by("0001.jpg", lambda path: path.symlink_to("gone.jpg")),
        "0001.jpg: no such file",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_bad_pose_folder_is_refused(here, good, animate_refused, case):
    change, says = FOLDERS[case]
    (here / "spoiled").mkdir()
    for path in (good / "poses").iterdir():
        (here / "spoiled" / path.name).write_bytes(path.read_bytes())
    change(here / "spoiled")
    animate_refused(driving="spoiled", says=says)


def test_a_truncated_pose_picture_is_refused(here, good, animate_refused):
    (here / "spoiled").mkdir()
    for path in (good / "poses").iterdir():
        (here / "spoiled" / path.name).write_bytes(path.read_bytes()[:-100])
    animate_refused(driving="spoiled", says="ref_pose.jpg: the picture is damaged")


def test_a_pose_of_the_photo_beside_a_pose_folder_is_refused(animate_refused):
    options = ("--reference-pose", "photo_pose.npz")
    animate_refused(*options, driving="poses", says="leave --reference-pose out")
    animate_refused("--no-align", driving="poses", says="aligned already; leave --no-align out")


@pytest.mark.parametrize("name", ["two\nlines", "100% *?[a]", "ünï ✓", " ", "a'b\"c"])
def test_folders_with_strange_names_are_named_in_one_line(here, animate_refused, name):
    (here / name).mkdir()
    animate_refused(driving=name, says="no ref_pose.jpg in it")


def test_nothing_ran(here):
    assert not (here / "pwned").exists()
