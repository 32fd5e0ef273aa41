"""The files of a run that are pushed, without local paths, user names and tokens in them, or the push is refused."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from hf_finetune.errors import UserError
from hf_finetune.evaluation.run_folder import read_json
from hf_finetune.files import is_on_hub, public_name
from hf_finetune.publish.card import FIGURES, pipeline_code
from hf_finetune.publish.hub.destination import Destination
from hf_finetune.report import report_page
from hf_finetune.tasks import get_task

# The run's configuration is YAML, so it does not overwrite the model's config.json.
BESIDE_THE_MODEL = ("README.md", "metrics.json", "config.yaml", "report.html")
ORIGINS = ("base_model_name_or_path", "_name_or_path", "name_or_path")
MERGE_TOLERANCE = 1e-3  # of the largest logit: merging rounds each weight once
PATH_KEY = re.compile(r"(.*_(file|dir|root|path)|dataset_name|output_dir|resume_from_checkpoint|deepspeed)$")
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}\b")


@dataclass(frozen=True)
class Private:
    """What must not be published of a run.

    A folder at the top of the file system (``/root``) counts only where a path below it is named, because it may also be a
    word of a vocabulary.
    """

    folders: Mapping[str, str]  # folder or file → what it is
    given: frozenset[str]  # relative paths that the user gave: removed from pages, but no reason to refuse
    token: str | None


def find_private(run: Path, settings: Mapping[str, Any], token: str | None) -> Private:
    """Return the run folder, the home folder, and the local paths in ``settings``, the content of ``config.yaml``.

    Without ``token`` it is ``HF_TOKEN`` or that of ``hf auth login``.
    """
    from huggingface_hub import get_token

    user = os.environ.get("USER") or os.environ.get("LOGNAME") or os.environ.get("USERNAME")
    folders = {f"{root}{user}": "the user's name" for root in ("/home/", "/Users/", "C:\\Users\\") if user}
    folders[str(Path.home())] = "the home folder"
    given = set()
    for key, value in settings.items():
        if isinstance(value, str) and PATH_KEY.fullmatch(key) and not is_on_hub(value):
            given.add(value)
            path = Path(value).expanduser().absolute()
            folders |= {str(path): f"the path of --{key}", str(path.resolve()): f"the path of --{key}"}
            if len(path.parent.parts) > 2:
                folders[str(path.parent)] = f"the folder of --{key}"
    folders |= {str(run.absolute()): "the run folder", str(run.resolve()): "the run folder"}
    folders.pop("/", None)
    return Private(folders, frozenset(path for path in given if not Path(path).is_absolute()), token or get_token())


def find_leak(text: str, private: Private) -> str | None:
    """Return what a text would publish, such as "the home folder"; None if it has nothing private."""
    if (private.token and private.token in text) or TOKEN.search(text):
        return "a token of the Hub"
    innermost_first = sorted(private.folders, key=len, reverse=True)
    return next((private.folders[folder] for folder in innermost_first if _pattern(folder).search(text)), None)


def remove_private(text: str, private: Private) -> str:
    """Return the text with private folders removed from paths; a folder itself is reduced to its last part."""
    for folder in sorted(private.folders.keys() | private.given, key=len, reverse=True):
        text = _pattern(folder).sub(lambda found: "" if found["below"] else Path(folder).name, text)  # noqa: B023
    return text


def refuse_leaks(files: Mapping[str, str], private: Private) -> None:
    """Raise a ``UserError`` for the first text with something private in it; ``files`` is name → text."""
    for name, text in files.items():
        what = find_leak(text, private)
        if what is not None:
            raise UserError(
                f"this file would publish {what}",
                where=name,
                fix="remove it from the file in the run folder, or rename the label or column that it comes from.",
            )


def _pattern(folder: str) -> re.Pattern[str]:
    """Return a pattern for a folder as text, JSON, HTML or URL; the group ``below`` is the separator before its content."""
    forms = {folder, json.dumps(folder)[1:-1], html.escape(folder), quote(folder)}
    names = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    below = r"(?P<below>(?:/|\\{1,2})(?=\w))"
    shallow = Path(folder).is_absolute() and len(Path(folder).parts) <= 2
    end = "" if shallow else r"|(?![\w-])"
    return re.compile(rf"(?:(?<![\w./\\-])|(?<=file://))(?:{names})(?:{below}{end})")


def _run_files(run: Path, model: Path) -> dict[str, Path]:
    """Return name in the repository → file: the model, and the card, metrics, configuration, report and figures of the run."""
    for name in ("model/config.json", "README.md", "metrics.json"):
        if not (run / name).is_file():
            what = f"this is not a finished run; {name} is missing"
            fix = "give the output folder of a finished run, which contains model/."
            raise UserError(what, where=str(run), fix=fix)
    files = {path.relative_to(model).as_posix(): path for path in sorted(model.rglob("*")) if path.is_file()}
    files |= {name: run / name for name in BESIDE_THE_MODEL if (run / name).is_file()}
    return files | {f"{FIGURES}/{path.name}": path for path in sorted((run / FIGURES).glob("*.png"))}


def files_to_push(run: Path, to: Destination, model: Path | None = None) -> dict[str, Path | bytes]:
    """Return name in the repository → file, or its content where something private was removed.

    Raises:
        UserError: the run is not finished, or a file would publish a local path, a user name or a token.
    """
    settings = run_settings(run)
    private = find_private(run, settings, to.hub_token)
    pushed: dict[str, Path | bytes] = {}
    texts = {}
    for name, path in _run_files(run, model or run / "model").items():
        text = _text(path)
        if text is None:
            pushed[name] = path
            continue
        # The report is drawn again, without rows of the user's data.
        seen = report_page(run, public=True) if name == "report.html" else text
        texts[name] = _public(name, seen, settings, to, private, run)
        pushed[name] = path if texts[name] == text else texts[name].encode()
    # Its keys LABEL/f1 would look like paths.
    texts["metrics.json"] = re.sub(r'/\w+"(?=\s*:)', '"', texts["metrics.json"])
    refuse_leaks(texts, private)
    return pushed


def final_card(run: Path, to: Destination) -> bytes:
    """Return the card to push with the full name of the repository, which is known only after the checks."""
    settings = run_settings(run)
    private = find_private(run, settings, to.hub_token)
    text = (run / "README.md").read_text(encoding="utf-8")
    return _public("README.md", text, settings, to, private, run).encode()


def run_settings(run: Path) -> dict[str, Any]:
    """Return the content of a run's ``config.yaml``; empty if there is none."""
    path = run / "config.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _public(name: str, text: str, settings: dict[str, Any], to: Destination, private: Private, run: Path) -> str:
    """Return the public version of a text file."""
    if name == "config.yaml":
        public = {k: public_name(v) if PATH_KEY.fullmatch(k) and isinstance(v, str) else v for k, v in settings.items()}
        # Unwrapped lines: a path that is wrapped at a space would not be found.
        lines = yaml.safe_dump(public, sort_keys=False, allow_unicode=True, width=float("inf"))
        return lines if public != settings else text
    if name == "README.md":
        return remove_private(_public_card(text, settings, to, run), private)
    if name == "report.html":
        return remove_private(text, private)
    return _public_origin(text) if name.endswith("config.json") else text


def _public_card(text: str, settings: dict[str, Any], to: Destination, run: Path) -> str:
    """Return the card with the repository's name in its code, and, for a merged adapter, code that loads the full model."""
    if to.merged:
        text = re.sub(r"^library_name: peft$", "library_name: transformers", text, count=1, flags=re.MULTILINE)
        if task := re.search(r"^pipeline_tag: (\S+)$", text, re.MULTILINE):
            call = read_json(run / "evaluation.json", {}).get("call", {})
            code = pipeline_code(task[1], to.hub_model_id, get_task(task[1]).input.usage_sample({}), call)
            text = re.sub(r"^```python\nfrom peft .*?^```", lambda _: code, text, flags=re.MULTILINE | re.DOTALL)
    trained_as = settings.get("hub_model_id") or Path(str(settings.get("output_dir", ""))).name
    named = re.compile(rf'(["\']){re.escape(trained_as)}\1')
    return re.sub(
        r"^```python\n.*?^```",
        lambda code: named.sub(rf"\g<1>{to.hub_model_id}\1", code[0]),
        text,
        flags=re.MULTILINE | re.DOTALL,
    )


def _public_origin(text: str) -> str:
    """Return a configuration in which local paths of the base checkpoint are reduced to their last part."""
    content = json.loads(text)
    named = {key: content[key] for key in ORIGINS if isinstance(content, dict) and isinstance(content.get(key), str)}
    public = {key: public_name(value) for key, value in named.items()}
    return json.dumps(content | public, indent=2, ensure_ascii=False) + "\n" if public != named else text


def _text(path: Path) -> str | None:
    """Return the content of a UTF-8 file; None for a binary one, of which only the beginning is read."""
    with path.open("rb") as file:
        if b"\0" in file.read(4096):
            return None
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None


@contextmanager
def merged_model(run: Path) -> Iterator[Path]:
    """Yield a temporary folder with the adapter of a run merged into its base, and the processor.

    Raises:
        UserError: the run has no adapter, its base cannot be loaded, or the merged model predicts differently.
    """
    import torch

    from hf_finetune.evaluation.prediction.labeller import load_labeller
    from hf_finetune.models import load_artifact

    adapter = run / "model"
    if not (adapter / "adapter_config.json").exists():
        fix = "remove the flag: the model is already complete."
        raise UserError("the run has no adapter to merge", where="--merged", fix=fix)
    labeller = load_labeller(str(run))
    inputs = labeller.task.input.probe(labeller.model, labeller.processor)

    def logits(model: Any) -> torch.Tensor:
        with torch.inference_mode():
            return torch.as_tensor(model.eval()(**inputs).logits)

    wanted = logits(labeller.model)
    with tempfile.TemporaryDirectory(prefix="hf-finetune-merged-") as name:
        folder = Path(name)
        for path in adapter.iterdir():
            if not path.name.startswith("adapter_") and path.suffix != ".safetensors":
                shutil.copy2(path, folder)
        labeller.model.merge_and_unload().save_pretrained(folder)
        difference = float((wanted - logits(load_artifact(folder, labeller.task.auto_class))).abs().max())
        if not difference <= MERGE_TOLERANCE * max(1.0, float(wanted.abs().max())):
            what = f"the merged model's logits differ from the adapter's by {difference:.2g}"
            raise UserError(what, where="--merged", fix="push the adapter as it is, without --merged.")
        yield folder
