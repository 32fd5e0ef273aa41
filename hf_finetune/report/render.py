"""Pages that a browser shows without a network: one look, everything from data escaped, written whole or not at all."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any


def render(template: Path, **values: Any) -> str:
    """The text of a page. Its template may include ``page.css.j2``, and files beside itself."""
    return _environment(template.parent).get_template(template.name).render(values)


@cache  # an environment keeps what it compiled
def _environment(folder: Path) -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(path: Path, text: str) -> None:
    """Write a page whole or not at all; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    # Half of a surrogate pair, which JSON can hold, cannot be written.
    partial.write_text(text, encoding="utf-8", errors="replace")
    partial.replace(path)
