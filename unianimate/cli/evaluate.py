"""``unianimate evaluate``: generated videos against true ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unianimate.metrics import Networks


def evaluate(
    generated: Annotated[
        Path, typer.Argument(help="A video, a folder of pictures, or a folder of these.")
    ],
    truth: Annotated[Path, typer.Argument(help="The true ones, with the same names.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for table, JSON and a page of frames."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="tiktok or fashion (default: videos as they are).")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Compare the first so many of each video.")
    ] = None,
    poses: Annotated[
        Path | None,
        typer.Option(help="Poses of the true videos: a folder of NAME_pose.npz, or one .npz."),
    ] = None,
    found_poses: Annotated[
        Path | None, typer.Option(help="Poses found in the generated videos, likewise.")
    ] = None,
    lpips_vgg: Annotated[
        Path | None, typer.Option(help="VGG16's weights (.pth, .safetensors), for LPIPS.")
    ] = None,
    lpips_linear: Annotated[
        Path | None, typer.Option(help="LPIPS's linear layers (default: those of torchmetrics).")
    ] = None,
    fvd_network: Annotated[
        Path | None, typer.Option(help="I3D (TorchScript: i3d_torchscript.pt), for FVD.")
    ] = None,
    fid_vid_network: Annotated[
        Path | None, typer.Option(help="3-D ResNet-50 (TorchScript), for FID-VID.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where networks run: cpu or cuda.")] = "cpu",
    published: Annotated[
        bool, typer.Option("--published", help="Print the protocol's published figures too.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap intervals.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare generated videos with true ones, matched by name, by all metrics there are."""
    import json as json_module

    from unianimate.metrics import AS_GIVEN, PUBLISHED, evaluate_videos
    from unianimate.metrics.protocols import find_protocol
    from unianimate.metrics.report import expect_new_folder, to_json, to_text, write_report
    from unianimate.metrics.videos import load_poses, match_videos

    if output is not None:
        expect_new_folder(output)
    rules = AS_GIVEN if protocol is None else find_protocol(protocol)
    if published and protocol is None:
        raise ValueError("--published belongs to a protocol: name it with --protocol")
    names, made, real = match_videos(generated, truth, frames)
    done = evaluate_videos(
        made,
        real,
        poses=None if poses is None else load_poses(poses, names, frames),
        found=None if found_poses is None else load_poses(found_poses, names, frames),
        networks=_networks(lpips_vgg, lpips_linear, fvd_network, fid_vid_network, device),
        protocol=rules,
        names=names,
        seed=seed,
    )
    rows = PUBLISHED[rules.name] if published else ()
    if json:
        typer.echo(json_module.dumps(to_json(done, rows), allow_nan=False))
    else:
        typer.echo(to_text(done, rows))
        if rules.notes:
            typer.echo(f"\n{rules.notes}")
    if output is not None:
        # last: a full disk must not lose the figures
        write_report(output, done, made, real, rows)
        if not json:
            typer.echo(f"\n{output / 'index.html'}")


def _networks(
    lpips_vgg: Path | None,
    lpips_linear: Path | None,
    fvd_network: Path | None,
    fid_vid_network: Path | None,
    device: str,
) -> "Networks":
    import torch

    from unianimate.metrics import ClipNetwork, LPIPSNetwork, Networks

    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise ValueError(f"--device {device}: there is no such device; use cpu")

    def clips(path: Path | None, kind: Any) -> ClipNetwork | None:
        return None if path is None else ClipNetwork.load(path, kind, device=device)

    lpips = None
    if lpips_vgg is not None:
        lpips = LPIPSNetwork.load(lpips_vgg, lpips_linear, device=device)
    return Networks(
        lpips=lpips, fvd=clips(fvd_network, "fvd"), fid_vid=clips(fid_vid_network, "fid_vid")
    )
