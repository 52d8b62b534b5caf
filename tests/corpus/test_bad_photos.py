"""Photos that cannot be animated."""

import os
import struct
import zlib

import pytest


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG file of these chunks, with right checksums."""
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def header(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF0, 0, 0) + bytes(6)


BOMB = png(header(60000, 60000), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
DAMAGED, NO_PICTURE, TOO_MANY = "is damaged", "not a picture", "scale the picture down"

# name of the file, what makes it out of the good photo, what the refusal says
PHOTOS = {
    "empty": ("p.png", lambda good: b"", NO_PICTURE),
    "one byte": ("p.png", lambda good: good[:1], NO_PICTURE),
    "signature alone": ("p.png", lambda good: good[:8], NO_PICTURE),
    "header alone": ("p.png", lambda good: good[:33], NO_PICTURE),
    "half a png": ("p.png", lambda good: good[: len(good) // 2], DAMAGED),
    "wrong checksum": ("p.png", lambda good: good[:45] + b"\0\0\0\0" + good[49:], DAMAGED),
    "no pixels": ("p.png", lambda good: png(header(0, 0), (b"IEND", b"")), NO_PICTURE),
    "no picture data": ("p.png", lambda good: png(header(4, 4), (b"IEND", b"")), DAMAGED),
    "pixel bomb": ("p.png", lambda good: BOMB, TOO_MANY),
    "smaller pixel bomb": (
        "p.png",
        lambda good: png(header(12000, 12000), (b"IDAT", b"")),
        DAMAGED,
    ),
    "gif bomb": ("p.gif", lambda good: gif(65535, 65535) + b"," + bytes(30), TOO_MANY),
    "text bomb": (
        "p.png",
        lambda good: png(
            header(4, 4), (b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))), (b"IDAT", b"")
        ),
        DAMAGED,
    ),
    "text": ("p.png", lambda good: b"<html>404 not found</html>", NO_PICTURE),
    "svg": ("p.svg", lambda good: b'<svg xmlns="http://www.w3.org/2000/svg"/>', NO_PICTURE),
    "postscript": (
        "p.eps",
        lambda good: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n",
        NO_PICTURE,
    ),
    "zeros": ("p.jpg", lambda good: bytes(5000), NO_PICTURE),
    "webp header": ("p.webp", lambda good: b"RIFF\x10\0\0\0WEBPVP8 ", DAMAGED),
    "tiff without pages": ("p.tif", lambda good: b"II*\0\x08\0\0\0\0\0\0\0\0\0", NO_PICTURE),
}


@pytest.mark.parametrize("case", PHOTOS)
def test_a_bad_photo_is_refused(here, animate_refused, case):
    name, make, says = PHOTOS[case]
    (here / name).write_bytes(make((here / "photo.png").read_bytes()))
    animate_refused(photo=name, says=says)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_truncated_jpeg_is_refused(here, animate_refused, share):
    data = (here / "photo.jpg").read_bytes()
    (here / "p.jpg").write_bytes(data[: int(share * len(data))])
    animate_refused(photo="p.jpg", says="p.jpg: ")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.png", "none.png: no such file or directory; check the name"),
        ("poses", "poses: is a directory; wanted a file"),
        ("dance.mp4", NO_PICTURE),
        ("dance.npz", NO_PICTURE),
        ("model/unet/model.safetensors", NO_PICTURE),
        ("photo.png/photo.png", "not a directory; wanted a folder on the way to it"),
        ("x" * 300 + ".png", "file name too long"),
        ("", "wanted a file"),
        ("-.png", "no such file"),
        ("two\nlines.png", "no such file"),
        ("http://localhost/photo.png", "no such file"),
    ],
)
def test_what_is_no_photo_is_refused(animate_refused, name, says):
    animate_refused(photo=name, says=says)


def test_a_link_to_itself_is_refused(here, animate_refused):
    (here / "loop.png").symlink_to("loop.png")
    animate_refused(photo="loop.png", says="symbolic links")


def test_a_pipe_or_a_device_is_refused_not_waited_for(here, animate_refused):
    os.mkfifo(here / "pipe.png")
    animate_refused(photo="pipe.png", says="pipe.png: this is not a file")
    animate_refused(photo="/dev/zero", says="/dev/zero: this is not a file")


@pytest.mark.parametrize("case", ["half a png", "pixel bomb", "text"])
def test_a_bad_reference_picture_for_the_pose_is_refused(here, animate_refused, case):
    name, make, says = PHOTOS[case]
    (here / name).write_bytes(make((here / "photo.png").read_bytes()))
    animate_refused("--reference-pose", name, says=says)
