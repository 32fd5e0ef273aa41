"""Nothing private is published: what may not stand in a pushed file, and what is done where it does."""

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
    """What may not be published of a run.

    Args:
        folders: each folder and file → what it is. One at the top of the file system (``/root``) counts only where a
            path below it is named: it may be an ordinary word of a vocabulary.
        given: paths as the user gave them, from where the command was run; taken out of pages, and no reason to refuse.
        token: the token that pushes.
    """

    folders: Mapping[str, str]
    given: frozenset[str]
    token: str | None


def private_of(run: Path, settings: Mapping[str, Any], token: str | None) -> Private:
    """The run's folder, the home folder, and whatever local paths the run's settings name.

    Args:
        run: the run folder.
        settings: the content of its ``config.yaml``.
        token: the token that pushes.
    """
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
    return Private(folders, frozenset(path for path in given if not Path(path).is_absolute()), token or None)


def is_local(name: str) -> bool:
    """Whether a name that stands where a path may stand is one, and no Hub id."""
    return name.startswith(("/", ".", "~")) or "\\" in name or name.count("/") > 1 or Path(name).exists()


def leak(text: str, private: Private) -> str | None:
    """What of the private stands in a text; None where nothing does."""
    if (private.token and private.token in text) or TOKEN.search(text):
        return "a token of the Hub"
    innermost_first = sorted(private.folders, key=len, reverse=True)
    return next((private.folders[folder] for folder in innermost_first if _pattern(folder).search(text)), None)


def taken_out(text: str, private: Private) -> str:
    """The text with private folders taken off the paths that it names; of a folder itself the last part stays."""
    for folder in sorted(private.folders.keys() | private.given, key=len, reverse=True):
        text = _pattern(folder).sub(lambda found: "" if found["below"] else Path(folder).name, text)  # noqa: B023
    return text


def refuse_leaks(files: Mapping[str, str], private: Private) -> None:
    """Refuse to publish texts that name something private.

    Args:
        files: name in the repository → text.

    Raises:
        UserError: the first that does, and what it names.
    """
    for name, text in files.items():
        what = leak(text, private)
        if what is not None:
            raise UserError(
                f"this file would publish {what}",
                where=name,
                fix="take it out of the file in the run folder, or rename the label or column that brought it there.",
            )


def _pattern(folder: str) -> re.Pattern[str]:
    """Finds a folder however JSON, HTML and addresses write it; the group ``below`` is the separator to what is in it."""
    forms = {folder, json.dumps(folder)[1:-1], html.escape(folder), quote(folder)}
    names = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    below = r"(?P<below>(?:/|\\{1,2})(?=\w))"
    shallow = Path(folder).is_absolute() and len(Path(folder).parts) <= 2
    end = "" if shallow else r"|(?![\w-])"
    return re.compile(rf"(?:(?<![\w./\\-])|(?<=file://))(?:{names})(?:{below}{end})")
