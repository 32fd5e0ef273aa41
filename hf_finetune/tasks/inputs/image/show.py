"""How images are shown: thumbnails on pages, the upload of ``serve``, and examples for cards and exported models."""

from __future__ import annotations

import base64
import io
from typing import Any

from datasets import Dataset, Image

from hf_finetune.data.images.decode import decode_fault, open_reduced
from hf_finetune.tasks.inputs.files import row_of_file

EDGE = 160  # pixels on the longer side of a thumbnail
# One of the images that the Hub's own pages show.
SAMPLE_IMAGE = "https://huggingface.co/datasets/mishig/sample_images/resolve/main/tiger.jpg"


def preview(row: dict[str, Any]) -> dict[str, str | None]:
    image = open_reduced(row["image"], EDGE)
    image.thumbnail((EDGE, EDGE))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return {"text": None, "image": "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()}


def components(gradio: Any, columns: dict[str, list[str]] | None) -> tuple[list[Any], list[Any]]:
    image = gradio.Image(label="image", height=300, sources=["upload", "clipboard"])
    # Pass the original file: predict opens, rotates and converts it.
    image.preprocess = lambda dropped: dropped and dropped.path
    return [image], [image.change]


def row_of(values: tuple[Any, ...], columns: dict[str, list[str]] | None) -> Dataset | None:
    [path] = values
    return row_of_file(path, "image", Image(decode=False), "image", decode_fault) if path else None


def widget(inputs: dict[str, str]) -> list[dict[str, str]] | None:
    return [{"src": SAMPLE_IMAGE, "example_title": "Tiger"}]


def usage_sample(inputs: dict[str, str]) -> str:
    return '"image.jpg"'


def onnx_code(columns: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    code = [
        "processor = AutoImageProcessor.from_pretrained(folder)",
        'inputs = processor(images=[Image.open("image.jpg").convert("RGB")], return_tensors="np")',
    ]
    return "AutoImageProcessor", ["from PIL import Image"], code
