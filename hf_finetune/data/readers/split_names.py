"""Which split is which: train, validation and test by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hf_finetune.console import say_and_note
from hf_finetune.errors import UserError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
STANDARD = {alias: split for split, aliases in SPLIT_NAMES.items() for alias in aliases}


def find_splits(names: Iterable[str], where: str, notes: list[str] | None = None) -> dict[str, str]:
    """Return the given name of each split that there is, by standard name.

    ``validation_matched`` is the validation split where nothing is called ``validation``, as in MNLI: its rows are of the
    training rows' sources. Names of which none is clearly meant are not used.

    Args:
        names: what the splits are called.
        where: what has them, for messages.
        notes: gets a sentence for each name that is not used; each is said, too. None: other names are no splits.

    Raises:
        UserError: two names mean the same split.
    """
    found: dict[str, str] = {}
    similar: dict[str, list[str]] = {}
    for name in names:
        split = STANDARD.get(name.lower())
        start = STANDARD.get(re.split(r"[^a-z]", name.lower())[0])
        if split and split in found:
            raise UserError(
                f"{found[split]!r} and {name!r} are both names of the {split} split",
                where=where,
                fix=f"keep one of them, or join their rows into one {split} split.",
            )
        if split:
            found[split] = name
        elif start:
            similar.setdefault(start, []).append(name)
    if notes is None:
        return found
    for split, several in similar.items():
        matched = [name for name in several if name.lower().endswith("_matched")]
        if split not in found and split != "train" and (len(several) == 1 or len(matched) == 1):
            found[split] = (matched or several)[0]
            say_and_note(f"The {split} split is {found[split]!r} of {where}.", notes)
    unused = [name for name in names if name not in found.values()]
    if unused:
        start, verb = ("The splits", "are") if len(unused) > 1 else ("The split", "is")
        say_and_note(
            f"{start} {', '.join(map(repr, unused))} of {where} {verb} not used; to use such rows, save them to a file and name it with "
            "--validation_file or --test_file (and the training rows with --train_file), or judge the finished run on them "
            "with hf-finetune evaluate RUN --test_file FILE.",
            notes,
        )
    return {split: found[split] for split in SPLIT_NAMES if split in found}
