"""What is pushed of a run, as anybody may see it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import get_token

from hf_finetune.errors import UserError
from hf_finetune.files import public_name
from hf_finetune.publish.card_figures import FOLDER as FIGURES
from hf_finetune.publish.hub.destination import Destination
from hf_finetune.publish.hub.private import PATH_KEY, Private, private_of, refuse_leaks, taken_out
from hf_finetune.report import report_page

# The model's own config.json keeps its name; the run's configuration is YAML, so they do not meet.
BESIDE_THE_MODEL = ("README.md", "metrics.json", "config.yaml", "report.html")
ORIGINS = ("base_model_name_or_path", "_name_or_path", "name_or_path")


def run_files(run: Path, model: Path | None = None) -> dict[str, Path]:
    """Name in the repository → file: those of ``model/`` at the top, and card, metrics, settings and report beside them.

    Args:
        run: the run folder.
        model: another folder to take the model from.

    Raises:
        UserError: the folder holds no finished run.
    """
    model = model or run / "model"
    missing = [name for name in ("model/config.json", "README.md", "metrics.json") if not (run / name).is_file()]
    if missing:
        raise UserError(
            f"this is no finished run; {missing[0]} is not there",
            where=str(run),
            fix="name the folder that a run left behind, the one that holds model/.",
        )
    files = {path.relative_to(model).as_posix(): path for path in sorted(model.rglob("*")) if path.is_file()}
    files |= {name: run / name for name in BESIDE_THE_MODEL if (run / name).is_file()}
    return files | {f"{FIGURES}/{path.name}": path for path in sorted((run / FIGURES).glob("*.png"))}


def contents(run: Path, to: Destination, model: Path | None = None) -> dict[str, Path | bytes]:
    """Name in the repository → the file, or its content where something private was taken out of it.

    Raises:
        UserError: no finished run, or a file that would publish a local path, a user name or a token.
    """
    settings = run_settings(run)
    private = private_of(run, settings, to.hub_token or get_token())
    pushed: dict[str, Path | bytes] = {}
    texts = {}
    for name, path in run_files(run, model).items():
        text = _text(path)
        if text is None:
            pushed[name] = path
            continue
        # The report is made anew: without rows of the user's data, which are nobody else's.
        seen = report_page(run, public=True) if name == "report.html" else text
        texts[name] = _public(name, seen, settings, to, private)
        pushed[name] = path if texts[name] == text else texts[name].encode()
    # A label and its figure make one key there, LABEL/f1, which only looks like a path.
    texts["metrics.json"] = re.sub(r'/\w+"(?=\s*:)', '"', texts["metrics.json"])
    refuse_leaks(texts, private)
    return pushed


def named_card(run: Path, to: Destination) -> bytes:
    """The card as it is pushed, once the repository's whole name is known; the rest of :func:`contents` stays as it is."""
    settings = run_settings(run)
    private = private_of(run, settings, to.hub_token or get_token())
    return _public("README.md", (run / "README.md").read_text(encoding="utf-8"), settings, to, private).encode()


def run_settings(run: Path) -> dict[str, Any]:
    """The content of a run's ``config.yaml``; empty where there is none."""
    path = run / "config.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def public_card(text: str, settings: dict[str, Any], to: Destination) -> str:
    """The card with the repository's name in its code; of a merged adapter, with the code that loads a whole model."""
    trained_as = settings.get("hub_model_id") or Path(str(settings.get("output_dir", ""))).name
    if to.merged:
        text = re.sub(r"^library_name: peft$", "library_name: transformers", text, count=1, flags=re.MULTILINE)
        task = re.search(r"^pipeline_tag: (\S+)$", text, re.MULTILINE)
        use = _merged_use(task[1] if task else "text-classification", to.hub_model_id)
        text = re.sub(r"^```python\nfrom peft .*?^```", lambda _: use, text, flags=re.MULTILINE | re.DOTALL)
    named = re.compile(rf'(["\']){re.escape(trained_as)}\1')
    return re.sub(
        r"^```python\n.*?^```",
        lambda block: named.sub(lambda quoted: f"{quoted[1]}{to.hub_model_id}{quoted[1]}", block[0]),
        text,
        flags=re.MULTILINE | re.DOTALL,
    )


def _merged_use(task: str, repo: str) -> str:
    sample = '"image.jpg"' if task.startswith("image") else '"Some text.", truncation=True'
    return (
        f'```python\nfrom transformers import pipeline\n\nclassify = pipeline("{task}", model="{repo}")\n'
        f"print(classify({sample}))\n```"
    )


def _public(name: str, text: str, settings: dict[str, Any], to: Destination, private: Private) -> str:
    """A text file as it is pushed."""
    if name == "config.yaml":
        public = {k: public_name(v) if PATH_KEY.fullmatch(k) and isinstance(v, str) else v for k, v in settings.items()}
        # In one line each: a path that is broken at a space would not be found in it.
        lines = yaml.safe_dump(public, sort_keys=False, allow_unicode=True, width=float("inf"))
        return lines if public != settings else text
    if name == "README.md":
        return taken_out(public_card(text, settings, to), private)
    if name == "report.html":
        return taken_out(text, private)
    if name.endswith("config.json"):
        return _public_origin(text)
    return text


def _public_origin(text: str) -> str:
    """A configuration that names the checkpoint which it came from, without the folder where that stood."""
    content = json.loads(text)
    named = {key: content[key] for key in ORIGINS if isinstance(content, dict) and isinstance(content.get(key), str)}
    public = {key: public_name(value) for key, value in named.items()}
    return json.dumps(content | public, indent=2, ensure_ascii=False) + "\n" if public != named else text


def _text(path: Path) -> str | None:
    """The content of a text file; None of one that is no UTF-8, of which only the beginning is read."""
    with path.open("rb") as file:
        if b"\0" in file.read(4096):
            return None
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
