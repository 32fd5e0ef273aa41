"""Audit the rows before training."""

from __future__ import annotations

from datasets import Dataset

from hf_finetune.console import first_few, show_table, warn_and_note
from hf_finetune.data.protocols import RowInput, RowTask
from hf_finetune.data.rows.bad_rows import find_unreadable, list_skipped, refuse_unreadable
from hf_finetune.data.rows.duplicates import add_duplicates, find_duplicates, keyed_rows
from hf_finetune.data.rows.finding import Section
from hf_finetune.data.splits.splits import Splits
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError


def audit(splits: Splits, task: RowTask, on_bad_image: str = "error") -> Splits:
    """Return the splits without skipped rows, after decoding every image once and comparing the inputs.

    This is the quick part of ``hf-finetune check``. Errors stop the run. Rows that are in two splits, and equal inputs with
    different labels, are printed and noted for the model card.

    Raises:
        UserError: an unreadable image (unless ``on_bad_image`` is ``"skip"``), a split without usable rows, or training
            rows that are all equal.
    """
    rows = task.input.rows
    for name, split in splits.items():
        if not isinstance(split, Stream):  # the images of a stream are checked when they are read
            setattr(splits, name, audit_files(split, rows, f"{name} split", on_bad_image, splits))
    if not isinstance(splits.train, Stream):
        section = Section("Duplicates", "duplicates")
        add_duplicates(section, splits, find_duplicates(keyed_rows(splits, rows)))
        for found in section.findings:
            if found.severity == "error":
                raise UserError(found.message, where=found.where, fix=found.fix)
            warn_and_note(f"{found.message}: {found.rows[0]}.", splits.notes)
    for note in splits.output.notes(splits):
        warn_and_note(note, splits.notes)
    show_table("Data", *splits.output.summary(splits))
    return splits


def audit_files(
    split: Dataset, rows: RowInput, where: str, on_bad_image: str = "error", splits: Splits | None = None
) -> Dataset:
    """Return the clean rows whose files can be decoded, or all rows if inputs are not files; the same in all processes.

    ``where`` names the rows, e.g. ``train split``; ``splits`` gets a note on skipped images, and the list of them.

    Raises:
        UserError: an image cannot be read and must not be skipped, or no image can be read.
    """
    bad = find_unreadable(split, rows) if rows.cell.stays_a_file else {}
    if not bad:
        return split
    if on_bad_image == "error":
        refuse_unreadable(split, bad, rows, where)
    kept = [row for row in range(len(split)) if row not in bad]
    if not kept:
        raise UserError(f"no {rows.cell.column} can be read", where=where, fix="check the files.")
    skipped = list_skipped(split, where.removesuffix(" split"), bad)
    # Ids are relative paths, so the model card gets no absolute ones.
    shown = first_few(row["id"] for row in skipped)
    note = f"{len(bad)} unreadable {rows.cell.called} of the {where} are skipped: {shown}"
    warn_and_note(note, splits.notes if splits else [])
    if splits:
        splits.skipped += skipped
    return split.select(kept)
