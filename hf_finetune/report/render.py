"""Self-contained HTML pages: rendered from templates with escaping, and written atomically."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from hf_finetune.files import write_text


def render(template: Path, **values: Any) -> str:
    """Return the text of a page. The template may include ``page.css.j2`` and files of its own folder."""
    return _environment(template.parent).get_template(template.name).render(values)


@cache  # an environment keeps its compiled templates
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
    """Write a page atomically; create its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text, errors="replace")  # JSON can contain half of a surrogate pair, which UTF-8 cannot encode
