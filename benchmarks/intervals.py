"""How often 95 % intervals contain the true value, on data sets sampled from populations whose true metrics are known.

    python benchmarks/intervals.py                                   # about ten minutes on one core
    python benchmarks/intervals.py --rows 50 --simulations 2000

True values are computed from 500,000 rows. The populations are difficult ones: four classes, the rarest of 5 %; three labels
of 10 to 40 % of the rows; regression with occasional large errors (Student's t with 6 degrees of freedom); groups of five
rows that tend to be correct or wrong together; a model that is correct on 98 % of the rows; two models that share most of
their mistakes.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_finetune.console import show_table
from hf_finetune.evaluation.intervals import difference, intervals
from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.files import write_json
from hf_finetune.tasks.outputs import MultiLabel, Output, Regression, SingleLabel

TRUTH_ROWS, IN_GROUP = 500_000, 5
CLASSES, LABELS, NUMBERS = SingleLabel(list("abcd")), MultiLabel(list("abc")), Regression(["x"])


@dataclass
class Sample:
    """Rows and the metrics computed on them; ``other`` holds the logits of a second model, for differences."""

    output: Output
    metrics: tuple[str, ...]
    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    other: np.ndarray | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20, 100, 500, 2000], help="rows of a data set")
    parser.add_argument("--simulations", type=int, default=600, help="data sets of each size (600)")
    parser.add_argument("--quick", action="store_true", help="a tiny run, to test the script")
    flags = parser.parse_args()
    sizes, simulations = ([20], 20) if flags.quick else (flags.rows, flags.simulations)
    table = []
    for name, draw in POPULATIONS.items():
        truth = values(draw(np.random.default_rng(0), TRUTH_ROWS))
        shares = {rows: coverage(draw, truth, rows, simulations) for rows in sizes}
        table += [[name, metric, f"{truth[metric]:.3f}", *(shares[rows][metric] for rows in sizes)] for metric in truth]
    columns = ["population", "metric", "truth", *(f"{rows:,} rows" for rows in sizes)]
    show_table(f"Intervals that contain the true value, % of {simulations:,} (nominal: 95)", columns, table)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    rows_of = [dict(zip(columns, row, strict=True)) for row in table]
    write_json(results / f"intervals{'-quick' if flags.quick else ''}.json", rows_of)


def coverage(
    draw: Callable[[np.random.Generator, int], Sample], truth: dict[str, float], rows: int, simulations: int
) -> dict[str, str]:
    """Return the % of intervals of each metric that contain the true value; data sets without an interval do not count."""
    held = defaultdict(list)
    for index in range(simulations):
        for metric, (low, high) in ends(draw(np.random.default_rng([rows, index]), rows), index).items():
            held[metric].append(low <= truth[metric] <= high)
    return {metric: f"{100 * np.mean(held[metric]):.1f}" if held[metric] else "-" for metric in truth}


def values(sample: Sample) -> dict[str, float]:
    """Return the metrics, or their differences, on these rows."""
    found = metrics_of(sample.output, sample.logits, sample.labels)
    if sample.other is not None:
        others = metrics_of(sample.output, sample.other, sample.labels)
        return {f"difference of {name}": found[name] - others[name] for name in sample.metrics}
    return {name: found[name] for name in sample.metrics}


def ends(sample: Sample, seed: int) -> dict[str, tuple[float, float]]:
    """Return the ends of the intervals of these metrics or differences."""
    if sample.other is not None:
        models = [sample.output.statistics(logits, sample.labels) for logits in (sample.logits, sample.other)]
        found = {name: difference(sample.output, *models, metric=name, seed=seed) for name in sample.metrics}
        return {f"difference of {name}": (d.low, d.high) for name, d in found.items() if d}
    drawn = intervals(sample.output, sample.output.statistics(sample.logits, sample.labels), sample.groups, seed=seed)
    return {name: (drawn[name][0], drawn[name][1]) for name in sample.metrics if name in drawn}


def four_classes(random: np.random.Generator, rows: int) -> Sample:
    labels = random.choice(4, rows, p=[0.55, 0.25, 0.15, 0.05])
    logits = random.normal(size=(rows, 4)) + 1.6 * np.eye(4)[labels]
    return Sample(CLASSES, ("accuracy", "f1_macro", "balanced_accuracy", "auroc", "loss"), logits, labels)


def nearly_perfect(random: np.random.Generator, rows: int) -> Sample:
    labels = random.integers(0, 2, rows)
    right = random.random(rows) < 0.98
    return Sample(
        SingleLabel(["a", "b"]), ("accuracy", "f1_macro"), np.eye(2)[np.where(right, labels, 1 - labels)], labels
    )


def in_groups(random: np.random.Generator, rows: int, known: bool = True) -> Sample:
    groups = np.arange(rows) // IN_GROUP
    labels = random.integers(0, 2, rows)
    sure = 1 + 1.5 * random.normal(size=groups.max() + 1)[groups] + random.normal(size=rows)
    return Sample(
        SingleLabel(["a", "b"]), ("accuracy",), sure[:, None] * np.eye(2)[labels], labels, groups if known else None
    )


def groups_unknown(random: np.random.Generator, rows: int) -> Sample:
    return in_groups(random, rows, known=False)


def three_labels(random: np.random.Generator, rows: int) -> Sample:
    labels = (random.random((rows, 3)) < [0.4, 0.2, 0.1]).astype(float)
    logits = random.normal(size=(rows, 3)) + 2 * labels - 1.2
    return Sample(LABELS, ("average_precision", "f1_micro", "f1_macro"), logits, labels)


def numbers(random: np.random.Generator, rows: int) -> Sample:
    labels = random.normal(size=(rows, 1))
    logits = 0.7 * labels + 0.5 * random.standard_t(6, size=(rows, 1))
    return Sample(NUMBERS, ("rmse", "mae", "r2", "pearson", "spearman"), logits, labels)


def two_models(random: np.random.Generator, rows: int) -> Sample:
    first = four_classes(random, rows)
    other = first.logits + 0.6 * random.normal(size=(rows, 4))
    return Sample(CLASSES, ("accuracy",), first.logits, first.labels, other=other)


POPULATIONS = {
    "four classes": four_classes,
    "98 % right": nearly_perfect,
    "groups of five": in_groups,
    "groups of five, unknown": groups_unknown,
    "three labels a row": three_labels,
    "numbers": numbers,
    "two models": two_models,
}


if __name__ == "__main__":
    main()
