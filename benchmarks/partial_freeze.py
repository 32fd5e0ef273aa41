"""Seconds per epoch with most of the backbone frozen: ours, ours without the activation cache, and a plain Trainer.

    python benchmarks/partial_freeze.py
    python benchmarks/partial_freeze.py --shared FOLDER    # texts of SST-2 instead of the demo's

The same callback on all sides times an epoch from its first batch to its last step, from the second epoch on. Filling the
cache, evaluation and checkpoints are not included. Ours trains on images without random views, which the cache requires. The
plain Trainer crops and flips images at random and pads texts to 128 tokens, as the example scripts do.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from measure import paired
from measure.workloads import Workload, partly_frozen

ROWS, FEW = {"images": 64, "texts": 320}, {"images": 16, "texts": 48}


def main() -> None:
    flags = paired.parser(__doc__).parse_args()
    with TemporaryDirectory() as scratch:
        workloads = partly_frozen(flags.shared, Path(scratch), **(FEW if flags.quick else ROWS))
        runs = {work.name: measure(work, 1 if flags.quick else flags.repeats) for work in workloads}
    columns = ["frozen", "plain Trainer s", "ours uncached s", "ours s", "plain/ours", "uncached/ours", "disk MB"]
    columns += ["first epoch s"]
    gpu = any(paired.on_gpu(sides) for sides in runs.values())
    rows = [row(name, sides) for name, sides in runs.items()]
    if gpu:
        columns.append("rows/s")
        rows = [[*cells, runs[cells[0]]["ours"][0]["rows"] / cells[3]] for cells in rows]
    title = "Most of the backbone frozen: seconds per epoch, from the second epoch on"
    paired.publish(__file__, flags, title, columns, rows, runs)


def measure(work: Workload, repeats: int) -> dict[str, list[paired.Run]]:
    """Run the three sides of a workload."""
    still = {"augmentation": "none"} if work.task == "image-classification" else {}
    runs = paired.alternate(
        {
            f"{work.name}: plain": work.peer(num_train_epochs=2),
            f"{work.name}: uncached": work.ours(num_train_epochs=2, activation_cache="off", **still),
            f"{work.name}: ours": work.ours(num_train_epochs=4, activation_cache="on", **still),
        },
        repeats,
    )
    paired.require_equal(runs, "trainable")
    return {name.rpartition(": ")[2]: side for name, side in runs.items()}


def row(name: str, runs: dict[str, list[paired.Run]]) -> list[str | float]:
    """Return the row of the table: medians, and ratios within the pairs."""
    plain, uncached, ours = (paired.steady_epochs(runs[side]) for side in ("plain", "uncached", "ours"))
    return [
        name,
        *map(paired.median, (plain, uncached, ours)),
        paired.ratio(plain, ours),
        paired.ratio(uncached, ours),
        paired.median_of(runs["ours"], "disk_mb"),
        paired.median([run["seconds"] - sum(run["epoch_seconds"][1:]) for run in runs["ours"]]),
    ]


if __name__ == "__main__":
    main()
