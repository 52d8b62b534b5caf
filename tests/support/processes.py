"""Run commands and functions in real processes that start at once: the imports are done before."""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
# all that a command or a training run imports, most of it when it is used
_PRELOADED = [
    *("unianimate.cli.app", "unianimate.pipelines.animate", "unianimate.data", "av", "cv2"),
    *("diffusers.models.autoencoders.autoencoder_kl", "transformers.models.clip.modeling_clip"),
    *("rich.progress", "unianimate.training.run", "accelerate", "torch.utils.tensorboard"),
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
    from unianimate.cli.app import main

    main()


def _of_one_thread(
    function: Callable[..., Any], arguments: tuple[Any, ...], environment: dict[str, str]
) -> None:
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    function(*arguments)


def begin(
    function: Callable[..., Any], *arguments: Any, **environment: str
) -> multiprocessing.Process:
    """Start a function of a module that can be imported, with more in its environment."""
    _CONTEXT.set_forkserver_preload(_PRELOADED)
    process = _CONTEXT.Process(target=_of_one_thread, args=(function, arguments, environment))
    process.start()
    return process


def in_two_processes(function: Callable[..., Any], *arguments: Any, **environment: str) -> None:
    """Run a function in two processes that find each other, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # what torchrun sets
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    running = [
        begin(function, *arguments, **environment, RANK=rank, LOCAL_RANK=rank)
        for rank in ("0", "1")
    ]
    for process in running:
        process.join(timeout=600)
        process.kill()  # one that waits for the other would wait for ever
    assert [process.exitcode for process in running] == [0, 0]


def start(
    folder: Path, *arguments: object, max_file_size: int | None = None
) -> multiprocessing.Process:
    """Start a command in a folder, which gets the files ``out`` and ``err``."""
    return begin(_command, folder, tuple(map(str, arguments)), max_file_size)
