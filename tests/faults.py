"""Planted faults: put each fault into a copy of this tree, and run the tests that should catch it.

    python tests/faults.py [--only WORDS] [--list]

Run it after changes to the tests. The exit status is 0 if every fault is caught, else 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Fault:
    """A fault: replaces the text ``old``, which occurs once in ``file`` of the package, by ``new``; ``tests`` should fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


FAULTS = [
    Fault(
        "bound on --test_split dropped",
        "config/checks.py",
        '"test_split": (0.0, 0.9)',
        '"test_split": (0.0, 9.0)',
        "tests/config",
    ),
    Fault(
        "YAML wins over the command line",
        "config/parse.py",
        "    given.update(flags)",
        "    given = flags | given",
        "tests/config",
    ),
    Fault(
        "token not taken out of the saved configuration",
        "config/options.py",
        'SECRETS = frozenset({"hub_token"})',
        "SECRETS: frozenset[str] = frozenset()",
        "tests/config tests/test_security.py",
    ),
    Fault(
        "label names in plain, not natural order",
        "data/rows/labels.py",
        "else sorted(found, key=natural_key)",
        "else sorted(found)",
        "tests/data/rows tests/data/test_load.py",
    ),
    Fault(
        "label ids swapped",
        "data/rows/labels.py",
        "    ids = {name: index for index, name in enumerate(names)}\n    spelled",
        "    ids = {name: len(names) - 1 - index for index, name in enumerate(names)}\n    spelled",
        "tests/data/rows tests/data/test_load.py",
    ),
    Fault(
        "a small class holds no row out",
        "data/splits/folds.py",
        "min(max(1, round(share * len(rows))), len(rows) - 1)",
        "min(round(share * len(rows)), len(rows) - 1)",
        "tests/data/splits",
    ),
    Fault(
        "division by time is one moment late",
        "data/splits/folds.py",
        "return times >= moments[1:]",
        "return times > moments[1:]",
        "tests/data/splits",
    ),
    Fault(
        "a group stays on both sides of a split",
        "data/splits/folds.py",
        "    return chosen[groups]",
        "    return chosen[np.roll(groups, 1)]",
        "tests/data/splits",
    ),
    Fault(
        "an archive member may lead out of the folder",
        "data/readers/archives.py",
        "        if parts is None:\n            raise",
        "        if parts is None and False:\n            raise",
        "tests/data/readers/test_archives.py tests/test_security.py",
    ),
    Fault(
        "the bound on unpacked bytes counts the last chunk only",
        "data/readers/archives.py",
        "self.bytes += len(chunk)",
        "self.bytes = len(chunk)",
        "tests/data/readers/test_archives.py tests/test_security.py",
    ),
    Fault(
        "a cell that a spreadsheet runs as a formula is not escaped",
        "evaluation/prediction/answer_files.py",
        'value.startswith(("=", "+", "-", "@", "\\t", "\\r"))',
        'value.startswith(("=",))',
        "tests/evaluation/prediction tests/test_security.py",
    ),
    Fault(
        "EXIF orientation ignored",
        "data/images/decode.py",
        "        found = image.getexif().get(ExifTags.Base.Orientation, 1)",
        "        found = 1",
        "tests/data/images",
    ),
    Fault(
        "dropout and BatchNorm of frozen stages stay in training mode",
        "strategies/freeze.py",
        "hold = frozen and (index not in alive or isinstance(module, nn.modules.batchnorm._NormBase))",
        "hold = False",
        "tests/strategies",
    ),
    Fault(
        "weight decay on biases and norms",
        "strategies/freeze.py",
        "weight_decay if key[1] else 0.0",
        "weight_decay",
        "tests/strategies",
    ),
    Fault(
        "layer-wise decay off by one",
        "strategies/phases.py",
        "self.layer_decay ** (len(stages) - 1 - index)",
        "self.layer_decay ** (len(stages) - index)",
        "tests/strategies",
    ),
    Fault(
        "freeze:STAGE freezes one stage less",
        "strategies/phases.py",
        "find_stage(stages, frozen) + 1",
        "find_stage(stages, frozen)",
        "tests/strategies",
    ),
    Fault(
        "sign of the standardisation",
        "tasks/outputs/losses.py",
        "(labels.float() - _tensor(self.mean",
        "(labels.float() + _tensor(self.mean",
        "tests/tasks/outputs",
    ),
    Fault(
        "accumulated batches are averaged each by itself",
        "tasks/outputs/losses.py",
        "        return total / (self.count(labels) if num_items_in_batch is None else num_items_in_batch)",
        "        return total / self.count(labels)",
        "tests/tasks/outputs",
    ),
    Fault(
        "sign of the logit adjustment",
        "tasks/outputs/losses.py",
        "    return tau * np.log(counts / counts.sum())",
        "    return -tau * np.log(counts / counts.sum())",
        "tests/tasks/outputs",
    ),
    Fault(
        "weights are no part of the name of cached activations",
        "activations/fingerprint.py",
        "            digest.update(tensor.reshape(-1).view(torch.uint8).numpy())",
        "            pass",
        "tests/activations",
    ),
    Fault(
        "cached rows in the wrong order",
        "activations/fill.py",
        "        back = np.argsort(order)",
        "        back = order",
        "tests/activations",
    ),
    Fault(
        "gathered rows in the wrong place",
        "evaluation/prediction/labeller.py",
        "for _, values in parts])[np.argsort(indices)]",
        "for _, values in parts])",
        "tests/evaluation",
    ),
    Fault(
        "chunks of texts are not averaged",
        "tasks/outputs/logits.py",
        "(total / np.bincount(own)[:, None])",
        "(total / np.bincount(own).max())",
        "tests/evaluation",
    ),
    Fault(
        "ties count whole in AUROC of resamples",
        "tasks/outputs/ranking.py",
        "(hit * (below + tied / 2))",
        "(hit * (below + tied))",
        "tests/tasks/outputs tests/evaluation",
    ),
    Fault(
        "intervals half as wide as they say",
        "evaluation/intervals.py",
        "    tail = float(norm.cdf(-_deviations(units)))",
        "    tail = float(norm.cdf(-_deviations(units) / 2))",
        "tests/evaluation",
    ),
    Fault(
        "calibration error not weighed by rows",
        "tasks/outputs/calibration.py",
        'abs(point["confidence"] - point["accuracy"]) * point["rows"]',
        'abs(point["confidence"] - point["accuracy"])',
        "tests/tasks/outputs",
    ),
    Fault(
        "a threshold cuts between equal probabilities",
        "tasks/outputs/multi_label.py",
        "np.append(ranked[1:] < ranked[:-1], True)",
        "np.ones(len(ranked), dtype=bool)",
        "tests/tasks/outputs",
    ),
    Fault(
        "predicted numbers lack their mean",
        "tasks/outputs/regression.py",
        "np.array(self.std or 1.0) + np.array(self.mean or 0.0)",
        "np.array(self.std or 1.0)",
        "tests/tasks/outputs tests/evaluation",
    ),
    Fault(
        "label cells break the table of the card",
        "publish/card.py",
        '.replace("|", "\\\\|")',
        "",
        "tests/publish/test_card.py tests/test_security.py",
    ),
    Fault(
        "pages do not escape cells",
        "report/render.py",
        "autoescape=True",
        "autoescape=False",
        "tests/report tests/checks/test_command.py",
    ),
    Fault(
        "verify allows a million times the tolerance",
        "publish/verify/differences.py",
        "    if largest > tolerance:",
        "    if largest > 1e6 * tolerance:",
        "tests/publish/verify/test_verify.py",
    ),
    Fault(
        "resume takes the oldest checkpoint",
        "training/resume.py",
        "    return str(max(whole,",
        "    return str(min(whole,",
        "tests/training",
    ),
    Fault(
        "an interrupted run writes no checkpoint",
        "training/callbacks.py",
        "            control.should_save = True",
        "            control.should_save = False",
        "tests/recipes/test_resume.py",
    ),
    Fault(
        "a folder of the user's is published",
        "publish/hub/contents.py",
        "        if what is not None:\n            raise",
        "        if what is not None and False:\n            raise",
        "tests/publish/hub",
    ),
    Fault(
        "an unreadable row shifts the predictions behind it",
        "evaluation/prediction/predict_file.py",
        "if begin + row not in bad]",
        "if row not in bad]",
        "tests/evaluation/prediction",
    ),
]


def plant(fault: Fault, tree: Path) -> None:
    """Put a fault into a copy of the tree.

    Raises:
        SystemExit: the old text does not occur exactly once, because the code has changed: update the fault.
    """
    path = tree / "hf_finetune" / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise SystemExit(f"{fault.name}: {fault.file} holds the text {text.count(fault.old)} times: {fault.old!r}")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def run_tests(fault: Fault, tree: Path) -> str | None:
    """Return the first test that fails, None if all pass.

    Raises:
        SystemExit: the tests could not be run.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "--no-header",
        "-p",
        "no:cacheprovider",
        *fault.tests.split(),
    ]
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{fault.name}: pytest ended with status {done.returncode}\n{done.stdout[-2000:]}")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (failed or ["a test fails"])[0] if done.returncode else None


def main() -> int:
    """Plant each fault, and print which ones are caught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="faults whose name or file holds these words")
    parser.add_argument("--list", action="store_true", help="check that every fault can be planted, and list them")
    asked = parser.parse_args()
    missed = 0
    faults = [fault for fault in FAULTS if (asked.only or "") in f"{fault.name} {fault.file}"]
    for fault in faults:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            tree = Path(folder, "tree")
            subprocess.run(["git", "-C", str(HERE), "worktree", "add", "--quiet", "--detach", str(tree)], check=True)
            try:
                plant(fault, tree)
                began = time.perf_counter()
                caught = "planted, not tried" if asked.list else run_tests(fault, tree)
            finally:
                subprocess.run(["git", "-C", str(HERE), "worktree", "remove", "--force", str(tree)], check=True)
        missed += caught is None
        seconds = time.perf_counter() - began
        print(
            f"{'MISSED' if caught is None else 'caught'} | {fault.name} | {caught or ''} | {seconds:.0f} s", flush=True
        )
    print(
        f"{len(faults)} faults can be planted"
        if asked.list
        else f"{len(faults) - missed} of {len(faults)} faults caught"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
