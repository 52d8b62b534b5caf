import numpy as np
import pytest
from PIL import Image

from unianimate.data import fit_picture, open_picture, pictures


def photo(width: int = 40, height: int = 60) -> Image.Image:
    array = np.zeros((height, width, 3), dtype=np.uint8)
    array[: height // 2] = (200, 30, 40)
    array[height // 2 :, : width // 2] = (30, 160, 60)
    return Image.fromarray(array)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA", "LA", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    photo().convert(mode).save(path)
    opened = open_picture(path)
    assert (opened.mode, opened.size) == ("RGB", (40, 60))
    if mode in ("RGB", "RGBA", "CMYK"):
        assert np.abs(np.asarray(opened).astype(int) - np.asarray(photo())).max() <= 2


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 40 * 60).reshape(60, 40).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    opened = np.asarray(open_picture(tmp_path / "deep.png"))
    assert np.abs(opened[..., 0].astype(int) - values / 257).max() <= 1


@pytest.mark.parametrize(
    ("kind", "white", "brightest"),
    [
        ("uint16", 65535, 1),
        ("uint16", 65535, 0.003),
        ("float32", 1, 1),
        ("float32", 1, 0.003),
        ("float32", 255, 1),
        ("float32", 65535, 1),
    ],
)
def test_deep_pictures_keep_their_brightness(tmp_path, kind, white, brightest):
    values = (np.linspace(0, brightest, 40 * 60).reshape(60, 40) * white).astype(kind)
    Image.fromarray(values).save(tmp_path / "deep.tif")
    opened = np.asarray(open_picture(tmp_path / "deep.tif"))
    assert np.abs(opened[..., 0].astype(int) - values * (255 / white)).max() <= 1


def test_alpha_lies_over_white(tmp_path):
    picture = photo().convert("RGBA")
    picture.putalpha(0)
    picture.save(tmp_path / "clear.png")
    assert (np.asarray(open_picture(tmp_path / "clear.png")) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo().save(tmp_path / "photo.png", exif=exif)
    size = open_picture(tmp_path / "photo.png").size
    assert size == ((40, 60) if orientation <= 4 else (60, 40))


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_fitting_gives_the_size(fit):
    assert fit_picture(photo(), 64, 64, fit).size == (64, 64)


def test_pad_keeps_all_and_crop_cuts():
    wide = Image.fromarray(np.tile(np.uint8([[[255, 0, 0]]]), (20, 80, 1)))
    wide.paste((0, 0, 255), (30, 0, 50, 20))
    padded, cropped = (np.asarray(fit_picture(wide, 40, 40, f)) for f in ("pad", "crop"))
    assert (padded[..., 2] > 128).mean() < 0.2
    assert (cropped[..., 2] > 128).mean() > 0.8
    with pytest.raises(ValueError, match="fit must be stretch, pad or crop, got 'zoom'"):
        fit_picture(wide, 4, 4, "zoom")
    with pytest.raises(ValueError, match="must be pixels, got 0 x 4"):
        fit_picture(wide, 0, 4)


def test_files_that_are_no_pictures_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    for content in (b"", b"no picture", b"\x89PNG\r\n\x1a\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"photo\.png: "):
            open_picture(path)
    photo().save(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"photo\.png: the picture is damaged"):
        open_picture(path)
    photo().save(path)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"more than 1,000 pixels: scale the picture down"):
        open_picture(path)
    with pytest.raises(FileNotFoundError):
        open_picture(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError):
        open_picture(tmp_path)
