"""``unianimate web``: a page in the browser, served to this machine only."""

from pathlib import Path
from typing import Annotated

import typer


def web(
    model: Annotated[
        str | None, typer.Option(help="Model folder or name (default: unianimate-v1 or small).")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="To listen at (default: the first free one from 7860)"),
    ] = None,
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="Less memory, slower, the same result.")
    ] = False,
) -> None:
    """Serve a web page to animate photos, on this machine only and without any external request."""
    import os
    import tempfile

    from unianimate.models.folders import model_folder

    from .inputs import default_model

    folder = default_model() if model is None else model_folder(model)
    with tempfile.TemporaryDirectory(prefix="unianimate-") as scratch:
        # read when gradio is imported: nothing is sent, and what is uploaded goes with the page
        quiet = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
        os.environ.update(quiet, GRADIO_TEMP_DIR=f"{scratch}/served")
        try:
            from .page import build_page, serve
        except ModuleNotFoundError as error:
            raise ImportError(
                f"the web page needs {error.name}: pip install 'unianimate[demo]'"
            ) from error
        from unianimate.pipelines import AnimatePipeline

        pipeline = AnimatePipeline.from_pretrained(folder, offload=low_memory)
        page = build_page(pipeline, Path(scratch), low_memory=low_memory)
        url = serve(page, port)
        typer.echo(f"{url}: {folder.name} is ready; Ctrl-C ends it")
        page.block_thread()
