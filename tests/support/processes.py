"""Run the command line in real processes that start at once: the imports are done before."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

# all that a command imports, most of it when it is used
_PRELOADED = [
    *("unianimate.cli.app", "unianimate.pipelines.animate", "unianimate.data", "av", "cv2"),
    *("diffusers.models.autoencoders.autoencoder_kl", "transformers.models.clip.modeling_clip"),
    "rich.progress",
]


def _command(folder: Path, arguments: tuple[str, ...], max_file_size: int | None) -> None:
    os.chdir(folder)
    if max_file_size is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_size, max_file_size))
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    # a shell lets its background ignore SIGINT, and children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["unianimate", *arguments]
    import torch

    from unianimate.cli.app import main

    torch.set_num_threads(1)
    main()


def start(
    folder: Path, *arguments: object, max_file_size: int | None = None
) -> multiprocessing.Process:
    """Start a command in a folder, which gets the files ``out`` and ``err``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(
        target=_command, args=(folder, tuple(map(str, arguments)), max_file_size)
    )
    process.start()
    return process
