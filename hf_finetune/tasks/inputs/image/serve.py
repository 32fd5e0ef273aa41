"""The component for an image on the page of ``serve``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_finetune.data.images.decode import decode_fault
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def components(gradio: Any, columns: dict[str, list[str]] | None) -> tuple[list[Any], list[Any]]:
    """Return the component for an image, and the events that trigger a prediction."""
    image = gradio.Image(label="image", height=300, sources=["upload", "clipboard"])
    # Pass the original file: predict opens, rotates and converts it.
    image.preprocess = lambda dropped: dropped and dropped.path
    return [image], [image.change]


def row_of(values: tuple[Any, ...], columns: dict[str, list[str]] | None) -> Dataset | None:
    """Return the row of an uploaded image; None without an image.

    Raises:
        UserError: the image cannot be read, or is a decompression bomb.
    """
    from datasets import Dataset, Features, Image, Value

    [path] = values
    if not path:
        return None
    cell = {"bytes": None, "path": path}
    fault = decode_fault(cell)
    if fault:
        raise UserError(f"this image cannot be read ({fault})", fix="choose another one.")
    features = Features({"id": Value("string"), "image": Image(decode=False)})
    return Dataset.from_dict({"id": ["0"], "image": [cell]}, features=features)
