# SPDX-License-Identifier: Apache-2.0
"""Serving the page: on this machine, without telemetry or anything fetched from elsewhere."""

import importlib.util
import os
import signal
import socket
import sys
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


def check_address(host: str, port: int) -> None:
    """See before a model is loaded that the page can be served there.

    Raises:
        RuntimeError: saying why not.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as err:
        raise RuntimeError(
            f"expected to listen at {host}, port {port}, found it cannot be used "
            f"({err.strerror or err}); choose another --port or --host"
        ) from err


def serve(choice: ModelChoice, title: str, host: str, port: int) -> None:
    """Load a model and serve its page until Ctrl-C.

    Args:
        choice: the model.
        title: name of the model.
        host: address to listen at.
        port: likewise.

    Raises:
        OSError: if the address cannot be used.
        InferenceError: if the model cannot be loaded.
    """
    os.environ.update(_SETTINGS)
    # Ends as Ctrl-C does, so that uploads are deleted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
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
        print(f"http://{host}:{page.server_port} (Ctrl-C ends)", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def model_title(model: str) -> str:
    """Name of a model on the page, of `--model`."""
    path = Path(model)
    return path.resolve().stem if path.exists() else model
