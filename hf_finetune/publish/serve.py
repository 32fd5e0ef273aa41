"""A browser page for trying a fine-tuned model: enter a text, drop an image or record a sound, and see the prediction."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from hf_finetune.errors import UserError
from hf_finetune.evaluation.prediction.labeller import Labeller
from hf_finetune.report.render import render as render_template
from hf_finetune.tasks.outputs import Answer

SHOWN = 10  # most probable classes to show
MAX_FILE_SIZE = "20mb"
KEEP_SECONDS = 600  # longest time that an uploaded image stays on disk

PAGE = Path(__file__).parent / "page"  # template of an answer and style of the page


# Options of Gradio's ``launch``: nothing is shared, documented or loaded from elsewhere.
LAUNCH: dict[str, Any] = {
    "share": False,
    "quiet": True,
    "inbrowser": False,
    "prevent_thread_lock": True,
    "show_error": True,
    "max_file_size": MAX_FILE_SIZE,
    "footer_links": [],
    "ssr_mode": False,
    "pwa": False,
    "mcp_server": False,
    "enable_monitoring": False,
    "app_kwargs": {"docs_url": None, "redoc_url": None, "openapi_url": None},
}


def answer(labeller: Labeller, values: tuple[Any, ...]) -> Answer | None:
    """Return the prediction for the values of the components; None if they are empty.

    Raises:
        UserError: the row cannot be read.
    """
    rows = labeller.task.input.row_of(values, labeller.input_columns)
    if rows is None:
        return None
    raw = labeller.predict(labeller.encode(rows), batch_size=64, progress=lambda share: None)
    return labeller.output.answer(raw[0], SHOWN)


def render(answer: Answer | None) -> str:
    """Return an answer as HTML; an empty text for None."""
    return render_template(PAGE / "answer.html.j2", answer=answer) if answer else ""


def import_gradio() -> Any:
    """Import Gradio without its network requests.

    Raises:
        UserError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which looks for newer versions
    try:
        import gradio
    except ImportError as error:
        what = f"the page needs Gradio ({error})"
        raise UserError(what, where="hf-finetune serve", fix="run pip install 'hf-finetune[serve]'.") from error
    return gradio


def refuse_address(host: str, port: int) -> None:
    """Check that the page can use an address, before a model is loaded.

    Raises:
        UserError: no such port or address, or it is in use.
    """
    if not 0 < port < 65536:
        raise UserError(f"there is no port {port}", where="--port", fix="give a number from 1 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise _no_place(host, port, error) from error


def _no_place(host: str, port: int, error: OSError) -> UserError:
    return UserError(
        f"the page cannot be at port {port} of {host} ({error.strerror or error})",
        where="hf-finetune serve",
        fix=f"give another port, --port {port % 65535 + 1}, or another address with --host.",
    )


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached only from this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(labeller: Labeller, name: str, host: str, port: int, ready: Callable[[str], Any]) -> None:
    """Serve the page of a model until the process is interrupted, and then remove uploaded files.

    ``name`` is the model's in the title; ``ready`` is called with the URL when the page is there.
    """
    with tempfile.TemporaryDirectory(prefix="hf-finetune-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        page, default = _build_page(labeller, name), import_gradio().themes.Default
        theme = default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        css = (PAGE / "serve.css").read_text(encoding="utf-8")
        try:
            _, address, _ = page.launch(server_name=host, server_port=port, theme=theme, css=css, **LAUNCH)
        except OSError as error:  # the port was taken while the model was loaded
            raise _no_place(host, port, error) from error
        try:
            ready(address)
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def _build_page(labeller: Labeller, name: str) -> Any:
    """Return the page as Gradio's ``Blocks``."""
    gradio = import_gradio()

    def say(*values: Any) -> str:
        try:
            return render(answer(labeller, values))
        except UserError as error:
            raise gradio.Error(error.what, print_exception=False) from error

    title = f"{name}: {labeller.task.name.replace('-', ' ')}"
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(60, KEEP_SECONDS)) as page:
        gradio.HTML(f"<h1>{escape(title)}</h1>", padding=False)
        inputs, events = labeller.task.input.components(gradio, labeller.input_columns)
        shown = gradio.HTML(label="answer")
        for event in events:
            event(say, inputs, shown, api_visibility="private", show_progress="minimal")
    return page
