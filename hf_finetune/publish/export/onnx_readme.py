"""README.md of an exported model: the comparison with the original, and code that runs it."""

from __future__ import annotations

from typing import Any

from hf_finetune.publish.export.comparison import Comparison
from hf_finetune.tasks.task import Input


def usage(input: Input, answers: str, columns: dict[str, Any] | None = None) -> str:
    """Return Python code that runs the files of an exported folder; ``answers`` prints predictions from ``logits``."""
    processor, imports, lines = input.onnx_code(columns or {})
    return "\n".join(
        [
            "import numpy as np",
            "import onnxruntime",
            *imports,
            f"from transformers import AutoConfig, {processor}",
            "",
            'folder = "."',
            "config = AutoConfig.from_pretrained(folder)",
            *lines,
            'session = onnxruntime.InferenceSession(f"{folder}/model.onnx")',
            "names = [node.name for node in session.get_inputs()]",
            'logits = session.run(["logits"], {name: inputs[name] for name in names})[0]',
            answers,
        ]
    )


def onnx_readme(found: Comparison, kind: str, code: str) -> str:
    """Return the README; ``kind`` names the exported model, e.g. ``ONNX int8``, and ``code`` is from :func:`usage`."""
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
