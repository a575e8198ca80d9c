# SPDX-License-Identifier: Apache-2.0
"""Serving the page: on this machine, without telemetry or anything fetched from elsewhere."""

import importlib.util
import os
import tempfile
import threading
import warnings
from pathlib import Path

from espnet_objsoup.transcription.model import ModelChoice

_INSTALL = "pip install 'espnet-objsoup[demo]'"
# Gradio's own settings; environment variables because it reads some of them when it is imported.
_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SSR_MODE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_LARGEST_UPLOAD = "1gb"


def check_installed() -> None:
    """See that Gradio is there.

    Raises:
        RuntimeError: with the command that installs it.
    """
    if importlib.util.find_spec("gradio") is None:
        raise RuntimeError(f"expected Gradio for the page, found it is not installed: {_INSTALL}")


def serve(choice: ModelChoice, title: str, host: str, port: int) -> None:
    """Load a model and serve its page until Ctrl-C.

    Args:
        choice: the model.
        title: name of the model.
        host: address to listen at.
        port: likewise.

    Raises:
        RuntimeError: if Gradio is not installed, or the address cannot be used.
        InferenceError: if the model cannot be loaded.
    """
    check_installed()
    os.environ.update(_SETTINGS)
    with tempfile.TemporaryDirectory(prefix="objsoup_demo_") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        with warnings.catch_warnings():
            # pydub looks for ffmpeg, which is not used here.
            warnings.filterwarnings("ignore", message=".*ffmpeg.*")
            import gradio as gr

        from espnet_objsoup.demo.answers import Answerer
        from espnet_objsoup.demo.page import build_page

        speech2text = choice.load()
        page = build_page(Answerer(speech2text, choice.has_ctc), choice.objectives, title)
        try:
            page.queue(api_open=False).launch(
                server_name=host,
                server_port=port,
                share=False,
                inbrowser=False,
                ssr_mode=False,
                mcp_server=False,
                prevent_thread_lock=True,
                show_error=True,
                quiet=True,
                footer_links=[],
                max_file_size=_LARGEST_UPLOAD,
                allowed_paths=[],
                # Names of fonts that every system has: none is fetched.
                theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            )
        except OSError as err:
            raise RuntimeError(
                f"expected to listen at {host}, port {port}, found it cannot be used ({err}); "
                "choose another --port or --host"
            ) from err
        print(f"http://{host}:{page.server_port} (Ctrl-C ends)", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def model_title(model: str) -> str:
    """Name of a model on the page, of `--model`."""
    path = Path(model)
    return path.resolve().stem if path.exists() else model
