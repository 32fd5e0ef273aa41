"""Example images and code for the model card and the README of an exported model."""

from __future__ import annotations

from typing import Any

# One of the images that the Hub's own pages show.
SAMPLE_IMAGE = "https://huggingface.co/datasets/mishig/sample_images/resolve/main/tiger.jpg"


def widget(inputs: dict[str, str]) -> list[dict[str, str]] | None:
    """Return examples for the widget on the Hub, never rows of the user's data."""
    return [{"src": SAMPLE_IMAGE, "example_title": "Tiger"}]


def usage_sample(inputs: dict[str, str]) -> str:
    """Return the arguments of a call of the pipeline as code."""
    return '"image.jpg"'


def onnx_code(columns: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    """Return the class of the processor, imports, and lines of code that make ``inputs`` for an exported model."""
    return (
        "AutoImageProcessor",
        ["from PIL import Image"],
        [
            "processor = AutoImageProcessor.from_pretrained(folder)",
            'inputs = processor(images=[Image.open("image.jpg").convert("RGB")], return_tensors="np")',
        ],
    )
