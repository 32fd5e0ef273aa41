"""An image on the page of ``serve``: dropped, pasted or chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_finetune.data.images.decode import decode_fault
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def components(gradio: Any, columns: dict[str, list[str]] | None) -> tuple[list[Any], list[Any]]:
    """Return the component that takes an image, and the events that ask for its answer.

    Args:
        gradio: the library, within a page.
        columns: standard name → the columns that the model was trained on; an image needs none of them.
    """
    image = gradio.Image(label="image", height=300, sources=["upload", "clipboard"])
    # The file as it was dropped: predict opens, turns and converts it, and Gradio does not.
    image.preprocess = lambda dropped: dropped and dropped.path
    return [image], [image.change]


def row_of(values: tuple[Any, ...], columns: dict[str, list[str]] | None) -> Dataset | None:
    """Return the row of the image with this path; None where there is none.

    Raises:
        UserError: it cannot be read, or is a decompression bomb.
    """
    from datasets import Dataset, Features, Image, Value

    [path] = values
    if not path:
        return None
    cell = {"bytes": None, "path": path}
    fault = decode_fault(cell)
    if fault:
        raise UserError(f"this image cannot be read ({fault})", fix="give another one.")
    features = Features({"id": Value("string"), "image": Image(decode=False)})
    return Dataset.from_dict({"id": ["0"], "image": [cell]}, features=features)
