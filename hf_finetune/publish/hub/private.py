"""Local paths, user names and tokens are removed from the files that are pushed, or the push is refused."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hf_finetune.errors import UserError

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
        if isinstance(value, str) and PATH_KEY.fullmatch(key) and is_local(value):
            given.add(value)
            path = Path(value).expanduser().absolute()
            folders |= {str(path): f"the path of --{key}", str(path.resolve()): f"the path of --{key}"}
            if len(path.parent.parts) > 2:
                folders[str(path.parent)] = f"the folder of --{key}"
    folders |= {str(run.absolute()): "the run folder", str(run.resolve()): "the run folder"}
    folders.pop("/", None)
    return Private(folders, frozenset(path for path in given if not Path(path).is_absolute()), token or get_token())


def is_local(name: str) -> bool:
    """Return whether a value that may be a path or a Hub id is a path."""
    return name.startswith(("/", ".", "~")) or "\\" in name or name.count("/") > 1 or Path(name).exists()


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
