"""What matplotlib does not draw in most tests: rendering a figure takes longer than training the tiny models here."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="1pt" height="1pt" viewBox="0 0 1 1"></svg>\n'
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class Sketch:
    """A figure, and everything that is asked of it: takes every call and draws nothing; saving it writes one pixel."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Sketch:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Sketch:
        return self

    def savefig(self, target: Any, *, format: str = "png", **_: Any) -> None:
        if format == "svg":
            target.write(SVG)
        else:
            Path(target).write_bytes(PNG + Path(target).name.encode())  # no two are the same file


class Figures:
    """Decides whether the figures of this process are drawn."""

    def __init__(self) -> None:
        import matplotlib.figure

        self.drawn = matplotlib.figure.Figure

    def switch(self, *, drawing: bool) -> None:
        import matplotlib.figure

        matplotlib.figure.Figure = self.drawn if drawing else Sketch  # type: ignore[assignment, misc]
