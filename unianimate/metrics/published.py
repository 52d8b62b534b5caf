"""Figures that papers published, as data, to print beside one's own.

TikTok and Fashion: Tables 1 and 2 of UniAnimate (arXiv 2406.01188). The names are those of
`METRICS`: their PSNR is DisCo's legacy one, their PSNR* is `psnr`.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedRow:
    """One method's figures as published, by the names of `METRICS`; what is absent was not given.

    Args:
        method: its name.
        values: ``l1_disco`` in units of 1e-4.
        source: where they were read.
    """

    method: str
    values: dict[str, float]
    source: str


_TIKTOK_METRICS = ("l1_disco", "psnr_disco_legacy", "psnr", "ssim_disco", "lpips_disco", "fvd")
_TIKTOK = {
    "DisCo": (3.78, 29.03, 16.55, 0.668, 0.292, 292.80),
    "MagicAnimate": (3.13, 29.16, None, 0.714, 0.239, 179.07),
    "Animate Anyone": (None, 29.56, None, 0.718, 0.285, 171.90),
    "Champ": (2.94, 29.91, None, 0.802, 0.234, 160.82),
    "UniAnimate": (2.66, 30.77, 20.58, 0.811, 0.231, 148.06),
}
_FASHION_METRICS = ("psnr_disco_legacy", "psnr", "ssim_disco", "lpips_disco", "fvd")
_FASHION = {
    "Animate Anyone": (38.49, None, 0.931, 0.044, 81.6),
    "UniAnimate": (37.92, 27.56, 0.940, 0.031, 68.1),
}


def _rows(
    table: Mapping[str, tuple[float | None, ...]], metrics: tuple[str, ...], source: str
) -> tuple[PublishedRow, ...]:
    return tuple(
        PublishedRow(
            method,
            {name: value for name, value in zip(metrics, values) if value is not None},
            source,
        )
        for method, values in table.items()
    )


PUBLISHED: dict[str, tuple[PublishedRow, ...]] = {
    "tiktok": _rows(_TIKTOK, _TIKTOK_METRICS, "UniAnimate, arXiv 2406.01188, Table 1"),
    "fashion": _rows(_FASHION, _FASHION_METRICS, "UniAnimate, arXiv 2406.01188, Table 2"),
}
