"""The page on checks names every finding that there is, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEBAB = re.compile(r"[a-z]+(-[a-z0-9]+)+")


def codes_in_the_source() -> set[str]:
    found = set()
    files = [f"checks/{name}.py" for name in ("run", "duplicates", "label_noise")]
    files += ["data/rows/duplicates.py", "tasks/inputs/text/checks.py", "tasks/inputs/image/checks.py"]
    files += [f"tasks/outputs/{name}.py" for name in ("class_counts", "multi_label", "regression", "single_label")]
    for name in files:
        for node in ast.walk(ast.parse((ROOT / "hf_finetune" / name).read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and KEBAB.fullmatch(node.value):
                found.add(node.value)
    return found | {"leak-exact", "leak-near", "imbalanced"}


def test_every_finding_is_documented():
    page = (ROOT / "docs/check.md").read_text("utf-8").split("\n## Findings\n")[1].split("\n## ")[0]
    assert (
        set(re.findall(r"^\| `([\w-]+)` \| (?:error|warning|info)", page, flags=re.MULTILINE)) == codes_in_the_source()
    )


def test_the_limits_on_the_page_are_those_of_the_code():
    from hf_finetune.checks import duplicates, label_noise
    from hf_finetune.tasks.inputs.image import checks as images
    from hf_finetune.tasks.inputs.text import checks as texts
    from hf_finetune.tasks.inputs.text import near
    from hf_finetune.tasks.outputs import class_counts

    page = (ROOT / "docs/check.md").read_text("utf-8")
    for number in (duplicates.MOST_NEAR, label_noise.MOST_ROWS, texts.MOST_TOKENISED, images.MOST_IMAGES):
        assert f"{number:,}" in page
    assert f"fewer than {class_counts.FEW_ROWS} training rows" in page
    assert f"{near.PERMUTATIONS} permutations in {near.BANDS} bands" in page
    assert f"share {near.SIMILAR:.0%} of their runs" in page
