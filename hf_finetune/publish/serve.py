"""A page in the browser that asks a fine-tuned model: texts are typed, images dropped, probabilities shown as bars."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hf_finetune.data.images.decode import decode_fault
from hf_finetune.data.rows.unlabelled import text_rows
from hf_finetune.errors import UserError
from hf_finetune.evaluation.prediction.labeller import Labeller
from hf_finetune.tasks.outputs import Answer

SHOWN = 10  # classes that are shown, the most probable first
MAX_FILE_SIZE = "20mb"
KEEP_SECONDS = 600  # so long a dropped image stays on disk at most

# Everything is escaped: names of classes are the user's.
TEMPLATE = """\
<div class="answer" role="status">
<p class="prediction">{{ answer.prediction or "no class reaches its threshold" }}</p>
{% for bar in answer.bars %}
<div class="row{{ ' chosen' if bar.chosen }}"><span class="name">{{ bar.name }}</span>
<span class="value">{{ "%.1f" % (100 * bar.value) }} %</span>
<span class="rail"><span class="fill" style="width: {{ "%.1f" % (100 * bar.value) }}%"></span>
{%- if bar.threshold is not none %}<span class="threshold" style="left: {{ "%.1f" % (100 * bar.threshold) }}%"
 title="answered from {{ "%.1f" % (100 * bar.threshold) }} % on"></span>{% endif %}</span></div>
{% endfor %}
{% if answer.more %}<p class="note">{{ answer.more }} other classes are less probable.</p>{% endif %}
{% if answer.bars and answer.bars[0].threshold is not none %}
<p class="note">The line across a bar is the threshold from which on a class is answered.</p>{% endif %}
</div>
"""
CSS = """
.gradio-container { max-width: 720px !important; margin: 0 auto !important; }
.answer { font-size: 1rem; line-height: 1.5; }
.answer .prediction { font-size: 1.5rem; font-weight: 600; margin: 0 0 .75rem; overflow-wrap: anywhere; }
.answer .row { display: grid; grid-template-columns: 1fr auto; gap: .1rem .75rem; margin-bottom: .6rem; }
.answer .name { overflow-wrap: anywhere; min-width: 0; }
.answer .chosen .name, .answer .chosen .value { font-weight: 600; }
.answer .value { font-variant-numeric: tabular-nums; }
.answer .rail { grid-column: 1 / -1; position: relative; height: .5rem; border-radius: .25rem;
  background: var(--border-color-primary); }
.answer .fill { display: block; height: 100%; border-radius: .25rem; background: var(--body-text-color-subdued); }
.answer .chosen .fill { background: var(--color-accent); }
.answer .threshold { position: absolute; top: -.2rem; width: 2px; height: .9rem; background: var(--body-text-color); }
.answer .note { color: var(--body-text-color-subdued); font-size: .875rem; margin: .5rem 0 0; }
"""


def text_boxes(labeller: Labeller) -> dict[str, str]:
    """The user's name of each text → ``text`` or ``text_pair``: a box each. Empty for images."""
    if labeller.task.input.name == "image":
        return {}
    columns = labeller.input_columns or {"text": ["text"]}
    return {name: standard for standard, names in columns.items() for name in names}


def answer_texts(labeller: Labeller, texts: dict[str, str]) -> Answer | None:
    """What ``predict`` says of a row with these cells; None where there is no text."""
    import pyarrow as pa

    if not any(text.strip() for text in texts.values()):
        return None
    return _answer(labeller, text_rows(pa.table({name: [text] for name, text in texts.items()}), text_boxes(labeller)))


def answer_image(labeller: Labeller, path: str) -> Answer:
    """What ``predict`` says of an image.

    Raises:
        UserError: it cannot be read, or is a decompression bomb.
    """
    from datasets import Dataset, Features, Image, Value

    cell = {"bytes": None, "path": path}
    features = Features({"id": Value("string"), "image": Image(decode=False)})
    fault = decode_fault(cell)
    if fault:
        raise UserError(f"this image cannot be read ({fault})", fix="give another one.")
    return _answer(labeller, Dataset.from_dict({"id": ["0"], "image": [cell]}, features=features))


def _answer(labeller: Labeller, rows: Any) -> Answer:
    raw = labeller.predict(labeller.encode(rows), batch_size=64, progress=lambda share: None)
    return labeller.output.answer(raw[0], SHOWN)


def render(answer: Answer | None) -> str:
    """HTML of an answer; empty for none."""
    from jinja2 import Environment

    return Environment(autoescape=True).from_string(TEMPLATE).render(answer=answer) if answer else ""


def build_page(labeller: Labeller, name: str) -> Any:
    """The page as Gradio's ``Blocks``.

    Args:
        labeller: the model.
        name: what it is called.

    Raises:
        UserError: Gradio is not installed.
    """
    gradio = import_gradio()
    boxes = text_boxes(labeller)

    def say_texts(*texts: str) -> str:
        return render(answer_texts(labeller, dict(zip(boxes, texts, strict=True))))

    def say_image(path: str | None) -> str:
        try:
            return render(answer_image(labeller, path) if path else None)
        except UserError as error:
            raise gradio.Error(error.what, print_exception=False) from error

    title = f"{name}: {labeller.task.name.replace('-', ' ')}"
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(60, KEEP_SECONDS)) as page:
        gradio.HTML(render_title(title), padding=False)
        if boxes:
            inputs = [gradio.Textbox(label=box, lines=3, max_lines=20) for box in boxes]
            button = gradio.Button("Predict", variant="primary")
        else:
            # The file as it was dropped: predict opens, turns and converts it, and Gradio does not.
            inputs = [gradio.Image(label="image", height=300, sources=["upload", "clipboard"])]
            inputs[0].preprocess = lambda dropped: dropped and dropped.path
        shown = gradio.HTML(label="answer")
        fn: Callable[..., str] = say_texts if boxes else say_image
        events = [button.click, *(box.submit for box in inputs)] if boxes else [inputs[0].change]
        for event in events:
            event(fn, inputs, shown, api_visibility="private", show_progress="minimal")
    return page


def render_title(title: str) -> str:
    """The heading of the page."""
    from jinja2 import Environment

    return Environment(autoescape=True).from_string("<h1>{{ title }}</h1>").render(title=title)


def import_gradio() -> Any:
    """Gradio, which asks nothing of the network.

    Raises:
        UserError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported: it asks for newer versions then
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            f"the page needs Gradio ({error})", where="hf-finetune serve", fix="run pip install 'hf-finetune[serve]'."
        ) from error
    return gradio


def refuse_address(host: str, port: int) -> None:
    """Whether the page can be there, before a model is loaded.

    Raises:
        UserError: no such port or address, or it is taken.
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
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(labeller: Labeller, name: str, host: str, port: int, ready: Callable[[str], Any]) -> None:
    """Show the page until the process is interrupted; what was dropped on it is removed then.

    Args:
        labeller: the model.
        name: what it is called.
        host, port: where the page is.
        ready: told the address once the page is there.
    """
    import threading

    with tempfile.TemporaryDirectory(prefix="hf-finetune-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(uploads))
        page = build_page(labeller, name)
        gradio = import_gradio()
        theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        options = {
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
        try:
            _, address, _ = page.launch(server_name=host, server_port=port, theme=theme, css=CSS, **options)
        except OSError as error:  # somebody took the port while the model was loaded
            raise _no_place(host, port, error) from error
        try:
            ready(address)
            threading.Event().wait()
        finally:
            page.close(verbose=False)
