"""Convert the three official files into a model folder, and a UNet back.

Tensors go from file to file one at a time: the sources are mapped into memory and closed one after
the other, so the peak is little more than the largest file.
"""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unianimate.models.checkpoints.clip import (
    image_encoder_from_official,
    text_encoder_from_official,
)
from unianimate.models.checkpoints.files import (
    CheckpointError,
    check_fits,
    file_checksum,
    only_tensors,
    read_checkpoint,
    write_safetensors,
)
from unianimate.models.checkpoints.unet import unet_from_official, unet_to_official
from unianimate.models.checkpoints.vae import vae_from_official
from unianimate.models.config import UniAnimateConfig
from unianimate.models.configs import packaged_config
from unianimate.models.image_encoder import ImageEncoder
from unianimate.models.presets import PRESETS
from unianimate.models.text_encoder import build_text_encoder, empty_text_embeds
from unianimate.models.unet3d import UNet3D
from unianimate.models.vae import VAE

# called with the bytes done, the bytes in all, and what is being done
Progress = Callable[[int, int, str], None]

_VAE_PREFIX = "first_stage_model."
# a key that tells a file, and its official name
_SIGNATURES = {
    "clip": ("visual.conv1.weight", "open_clip_pytorch_model.bin"),
    "vae": (f"{_VAE_PREFIX}encoder.conv_in.weight", "v2-1_512-ema-pruned.ckpt"),
    "unet": ("input_blocks.0.0.weight", "unianimate_16f_32f_non_ema_223000.pth"),
}
OFFICIAL_FILES = tuple(file for _, file in _SIGNATURES.values())


@dataclass(frozen=True)
class Conversion:
    """What was written: the folder or file, and the number of parameters of each part."""

    path: Path
    parameters: dict[str, int]


@dataclass(frozen=True)
class _Output:
    """A file to write, below the model folder."""

    part: str
    path: str
    state: dict[str, Tensor]
    config: Mapping[str, Any] | None = None

    @property
    def size(self) -> int:
        return sum(x.numel() * x.element_size() for x in self.state.values())

    @property
    def parameters(self) -> int:
        return sum(x.numel() for x in self.state.values())


def convert_from_official(
    sources: Iterable[str | Path],
    folder: str | Path,
    *,
    config: UniAnimateConfig | None = None,
    text_encoder: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Turn the three official files into a model folder.

    Every key is accounted for and every name and shape compared with the model before anything is
    written; every file written is read again and compared. The folder appears when it is complete.

    Args:
        sources: The three files in any order (they are told apart by what they hold), or the folder
            that holds them under their official names.
        folder: The model folder to make; must not exist, or be empty.
        config: The model that the files must fit; None is the published one.
        text_encoder: The configuration of the text tower, with one layer less than published;
            None is the published one.
        progress: Is told how far the conversion is.

    Raises:
        CheckpointError: If a file is missing, truncated, holds code or is the wrong one, if the
            folder exists, or the disk is too small. The message is one line.
    """
    config = PRESETS["unianimate-v1"] if config is None else config
    text = packaged_config("text_encoder") if text_encoder is None else text_encoder
    clip, vae, unet = _recognised(_files(sources))
    outputs = [*_plan_clip(*clip, config, text), _plan_vae(*vae, config), _plan_unet(*unet, config)]
    del clip, vae, unet
    counts = {output.part: output.parameters for output in outputs}
    total, done = sum(output.size for output in outputs), 0
    with _beside(Path(folder), total) as partial:
        partial.mkdir()
        (partial / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n")
        while outputs:
            # a source is unmapped when the last output made of it is dropped here
            output = outputs.pop(0)

            def report(size: int, part: str = output.part) -> None:
                nonlocal done
                done += size
                if progress is not None:
                    progress(done, total, part)

            _write(partial, output, report)
    return Conversion(Path(folder), counts)


def convert_to_official(
    folder: str | Path, file: str | Path, *, progress: Progress | None = None
) -> Conversion:
    """Turn the UNet of a model folder into a checkpoint that the official code loads.

    The VAE and the image encoder are those of their publishers and have no way back.

    Args:
        folder: A model folder, or the UNet's safetensors file itself.
        file: The checkpoint to write; must not exist.
        progress: Is told how far the conversion is.

    Raises:
        CheckpointError: If the UNet is missing, has no official form, or the file exists.
    """
    source, target = Path(folder), Path(file)
    if source.is_dir():
        source = source / "unet" / "model.safetensors"
    state = only_tensors(source, read_checkpoint(source))
    try:
        official = unet_to_official(state)
    except ValueError as error:
        raise CheckpointError(
            f"{source}: only a UNet with the official temporal transformers has an official form; "
            f"{error}"
        ) from error
    size = sum(x.numel() * x.element_size() for x in official.values())
    with _beside(target, size) as partial:
        if progress is not None:
            progress(0, size, "unet")
        torch.save({"state_dict": official}, partial)
        with zipfile.ZipFile(partial) as archive:
            if archive.testzip() is not None:
                raise CheckpointError(f"{target}: was not written correctly; check the disk")
        if progress is not None:
            progress(size, size, "unet")
    return Conversion(target, {"unet": sum(x.numel() for x in official.values())})


def _files(sources: Iterable[str | Path]) -> list[Path]:
    """Return the files given, a folder standing for the official files in it."""
    files: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            files += [source / name for name in OFFICIAL_FILES if (source / name).exists()]
        else:
            files.append(source)
    return files


def _recognised(files: list[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """Read the three files, tell them apart and return them in the order of `_SIGNATURES`."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in files:
        content = read_checkpoint(path)
        inner = content.get("state_dict", content)
        state = inner if isinstance(inner, dict) else content
        kind = next((k for k, (key, _) in _SIGNATURES.items() if key in state), None)
        if kind is None:
            raise CheckpointError(
                f"{path}: none of the three official files; wanted {', '.join(OFFICIAL_FILES)}"
            )
        if kind in found:
            raise CheckpointError(f"{path}: is a second {kind} file, beside {found[kind][0]}")
        found[kind] = (path, state)
    missing = [f"{kind} ({file})" for kind, (_, file) in _SIGNATURES.items() if kind not in found]
    if missing:
        raise CheckpointError(f"convert: no file given for {', '.join(missing)}")
    return [found[kind] for kind in _SIGNATURES]


def _plan_clip(
    path: Path, state: dict[str, Any], config: UniAnimateConfig, text_config: Mapping[str, Any]
) -> list[_Output]:
    """Plan the image encoder, and the hidden states that the text tower makes of no text."""
    with torch.device("meta"):
        image_encoder = ImageEncoder(config.image_encoder)
        text_encoder = build_text_encoder(text_config)
    vision = _renamed(path, image_encoder_from_official, state, image_encoder.model)
    text = _renamed(path, text_encoder_from_official, state, text_encoder)
    text_encoder.load_state_dict(text, assign=True)
    empty = {"text_embeds": empty_text_embeds(text_encoder.eval()).float()}
    return [
        _Output("image_encoder", "image_encoder/model.safetensors", vision, image_encoder.config),
        _Output("empty_text", "empty_text.safetensors", empty),
    ]


def _plan_vae(path: Path, state: dict[str, Any], config: UniAnimateConfig) -> _Output:
    own = {k.split(_VAE_PREFIX, 1)[1]: x for k, x in state.items() if _VAE_PREFIX in k}
    with torch.device("meta"):
        vae = VAE(config.vae)
    converted = _renamed(path, vae_from_official, own, vae.model)
    return _Output("vae", "vae/diffusion_pytorch_model.safetensors", converted, vae.config)


def _plan_unet(path: Path, state: dict[str, Any], config: UniAnimateConfig) -> _Output:
    with torch.device("meta"):
        unet = UNet3D(config.unet)
    return _Output(
        "unet", "unet/model.safetensors", _renamed(path, unet_from_official, state, unet)
    )


def _renamed(
    path: Path,
    key_map: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
    state: Mapping[str, Any],
    module: nn.Module,
) -> dict[str, Tensor]:
    """Apply a key map and compare the result with the module that will load it."""
    tensors = only_tensors(path, state)
    try:
        converted = key_map(tensors)
    except ValueError as error:
        raise CheckpointError(f"{path}: not the official file; {error}") from error
    check_fits(str(path), converted, module)
    return converted


def _write(folder: Path, output: _Output, on_bytes: Callable[[int], None]) -> None:
    """Write one file and its configuration, and compare the bytes on the disk."""
    path = folder / output.path
    path.parent.mkdir(exist_ok=True)
    if output.config is not None:
        text = json.dumps(dict(output.config), indent=2) + "\n"
        (path.parent / "config.json").write_text(text)
    if write_safetensors(path, output.state, on_bytes) != file_checksum(path):
        raise CheckpointError(f"{output.path}: was not written correctly; check the disk")


@contextmanager
def _beside(target: Path, size: int) -> Iterator[Path]:
    """Yield a path to write to; it becomes `target` at the end, or vanishes on an error."""
    target = target.absolute()
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()
    if target.exists():
        raise CheckpointError(f"{target}: exists already; remove it or choose another place")
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise CheckpointError(
            f"{target.parent}: {size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; "
            "choose another place"
        )
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield temporary / target.name
        (temporary / target.name).replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
