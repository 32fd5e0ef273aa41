"""Sentences and tables on standard output, printed by the main process only."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger("hf_finetune")


def is_main_process() -> bool:
    """Return whether this process prints and writes files, by the environment that ``accelerate launch`` sets."""
    return int(os.environ.get("RANK", "0")) == 0


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    from rich.console import Console

    return Console().is_terminal


@contextmanager
def without_bars(library: Any) -> Iterator[None]:
    """Hide a library's progress bars, which break ours and fill a redirected file; ``library`` is its module ``logging``."""
    shown = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bar()


def say(sentence: str) -> None:
    """Print a sentence on the main process, and write it into the run's log."""
    if is_main_process():
        from rich.console import Console

        Console(highlight=False, soft_wrap=True).print(sentence, markup=False, emoji=False)
        logger.info(sentence)


def say_and_note(sentence: str, notes: list[str]) -> None:
    """Print a sentence, and append it to ``notes``, which the model card shows."""
    say(sentence)
    notes.append(sentence)


def warn_and_note(sentence: str, notes: list[str]) -> None:
    """Print a sentence as a warning, and append it to ``notes``."""
    say(f"Warning: {sentence}")
    notes.append(sentence)


def first_few(items: Iterable[object], most: int = 5) -> str:
    """Return the first items in one line: ``1, 2, 3, 4, 5, …``."""
    shown = [str(item) for item in items]
    return ", ".join(shown[:most]) + (", …" if len(shown) > most else "")


def byte_size(count: int) -> str:
    """Return a number of bytes in words: ``1.2 GB``, ``340 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on the main process; columns of numbers are right-aligned."""
    if not is_main_process():
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[str(cell) for cell in row] for row in rows]
    table = Table(title=Text(title), title_justify="left")
    for index, column in enumerate(columns):
        numeric = all(_is_number(row[index]) for row in cells)
        table.add_column(Text(column), justify="right" if numeric else "left")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False, width=None if is_terminal() else 140).print(table)
    logger.info("%s | %s", title, " ; ".join(", ".join(row) for row in cells))


def _is_number(text: str) -> bool:
    return (
        text.strip() in {"", "-", "–"} or text.replace(",", "").replace(".", "").replace("%", "").strip("-e ").isdigit()
    )
