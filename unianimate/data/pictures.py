"""Open any photo as upright 8-bit RGB, and fit it to a size."""

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from unianimate.files import expect_file

Fit = Literal["stretch", "pad", "crop"]

# decompressed, such a picture takes 450 MB; a photo has a tenth of that
MAX_PIXELS = 150_000_000


def open_picture(path: str | Path) -> Image.Image:
    """Open a photo: upright by its EXIF orientation, alpha over white, 8-bit RGB.

    Takes what Pillow reads: also 16-bit, CMYK, palette and grey pictures.

    Raises:
        ValueError: not a picture, damaged, or more than `MAX_PIXELS`.
        OSError: the file cannot be read.
    """
    expect_file(path)
    try:
        with warnings.catch_warnings():
            # our own limit below is the stricter one
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                if opened.format == "EPS":  # a program, which Pillow hands to Ghostscript
                    raise UnidentifiedImageError
                too_many = opened.width * opened.height > MAX_PIXELS
                if not too_many:
                    opened.load()
                    return _to_rgb(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: this is not a picture that can be read") from None
    except Image.DecompressionBombError:
        too_many = True
    except Exception as error:  # Pillow raises many kinds for damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path}: the picture is damaged: {error}") from error
    raise ValueError(
        f"{path}: the picture has more than {MAX_PIXELS:,} pixels: scale the picture down"
    )


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        largest = values.max(initial=0)
        # I;16 says how deep it is; I and F do not, and hold 8 or 16 bits, and F also 0 to 1
        top = 65535 if picture.mode.startswith("I;16") or largest > 255 else 255
        if picture.mode == "F" and largest <= 1:
            top = 1
        grey = np.clip(values * (255 / top) + 0.5, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if picture.has_transparency_data:
        with_alpha = picture.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return picture.convert("RGB")


def fit_picture(picture: Image.Image, width: int, height: int, fit: Fit = "stretch") -> Image.Image:
    """Resize to exactly width x height.

    Args:
        picture: any mode.
        width: in pixels.
        height: in pixels.
        fit: "stretch" ignores the aspect ratio, as the official system does; "pad" keeps all of
            the picture, the rest filled with its mean border colour; "crop" fills the frame and
            cuts the sides off.

    Raises:
        ValueError: another word for ``fit``, or a size below one pixel.
    """
    if width < 1 or height < 1:
        raise ValueError(f"fit_picture: width and height must be pixels, got {width} x {height}")
    size = (width, height)
    if fit == "stretch":
        return picture.resize(size, Image.Resampling.BILINEAR)
    if fit == "crop":
        return ImageOps.fit(picture, size, Image.Resampling.BILINEAR)
    if fit == "pad":
        return ImageOps.pad(picture, size, Image.Resampling.BILINEAR, color=_border_colour(picture))
    raise ValueError(f"fit_picture: fit must be stretch, pad or crop, got {fit!r}")


def _border_colour(picture: Image.Image) -> tuple[int, int, int]:
    rgb = np.asarray(picture.convert("RGB"))
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    red, green, blue = (round(float(value)) for value in border.mean(axis=0))
    return red, green, blue
