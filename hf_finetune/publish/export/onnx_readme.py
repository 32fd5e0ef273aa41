"""README.md of an exported model: what it is, how near it is to the original, and code that runs it."""

from __future__ import annotations

from typing import Any

from hf_finetune.publish.export.comparison import Comparison

_TEXT = """\
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer({texts}, truncation=True, padding=True, return_tensors="np")"""
_IMAGE = """\
processor = AutoImageProcessor.from_pretrained(folder)
inputs = processor(images=[Image.open("image.jpg").convert("RGB")], return_tensors="np")"""


def usage(kind: str, answers: str, *, pairs: bool = False) -> str:
    """Python code that runs the files of an exported folder.

    Args:
        kind: ``"text"`` or ``"image"``.
        answers: code from ``logits`` to printed answers.
        pairs: whether a row is two texts.
    """
    auto = "AutoTokenizer" if kind == "text" else "AutoImageProcessor"
    texts = '["Some text."], ["Another."]' if pairs else '["Some text.", "Another."]'
    return "\n".join(
        [
            "import numpy as np",
            "import onnxruntime",
            *(["from PIL import Image"] if kind == "image" else []),
            f"from transformers import AutoConfig, {auto}",
            "",
            'folder = "."',
            "config = AutoConfig.from_pretrained(folder)",
            _TEXT.format(texts=texts) if kind == "text" else _IMAGE,
            'session = onnxruntime.InferenceSession(f"{folder}/model.onnx")',
            "names = [node.name for node in session.get_inputs()]",
            'logits = session.run(["logits"], {name: inputs[name] for name in names})[0]',
            answers,
        ]
    )


def onnx_readme(found: Comparison, kind: str, code: str) -> str:
    """The page.

    Args:
        found: the figures.
        kind: what the exported model is called.
        code: what :func:`usage` gave.
    """
    figures: dict[str, Any] = {"torch": found.torch, kind: found.onnx}
    lines = [f"| | {found.metric} | MB | ms a row |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {f[found.metric]:.4f} | {f['bytes'] / 1e6:.2f} | {f['milliseconds']:.2f} |"
        for name, f in figures.items()
    ]
    sections = [
        f"# {kind}",
        f"`model.onnx` was compared with the original on {found.rows} rows that it was not trained on. The largest difference "
        f"of a logit is {found.largest_difference:.2g}, the largest logit {found.largest_logit:.3g}.",
        "\n".join(lines),
        "## Use",
        f"```python\n{code}\n```",
    ]
    return "\n\n".join(sections) + "\n"
