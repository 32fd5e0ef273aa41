"""Time and memory per row with 1, 4 and 16 times as many rows.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --shared FOLDER

A linear probe with the activation cache on texts and on images, and full fine-tuning on texts, each with three sizes of
the same data. Time is training time per row and epoch, without evaluation and checkpoints. Memory is the peak of the
process; the last column is the memory that each additional row needs.
"""

from __future__ import annotations

from typing import Any

from measure import paired
from measure.workloads import Workload, film_reviews, photographs

FACTORS = (1, 4, 16)


def main() -> None:
    flags = paired.parser(__doc__).parse_args()
    base = {"images": 12, "texts": 16} if flags.quick else {"images": 40, "texts": 60}
    runs: dict[str, dict[str, list[paired.Run]]] = {}
    rows = []
    for name, work, count, settings in (
        ("linear probe", photographs(flags.shared, "head"), base["images"], {"activation_cache": "on"}),
        ("linear probe", film_reviews(flags.shared, "head"), base["texts"], {"activation_cache": "on"}),
        ("full", film_reviews(flags.shared, "full"), base["texts"], {}),
    ):
        epochs = 3 if name == "linear probe" else 1
        title = f"{name}: {work.name}"
        sizes = [factor * count for factor in FACTORS]
        sides = {f"{title}, {size} rows": shortened(work, size, epochs, settings) for size in sizes}
        found = paired.alternate(sides, 1 if flags.quick else flags.repeats, bare=True)
        runs[title] = dict(zip(map(str, sizes), found.values(), strict=True))
        rows += table(title, epochs, runs[title])
    columns = ["workload", "rows", "train s", "ms per row and epoch", "x that of the fewest rows", "peak MB"]
    columns += ["kB per added row"]
    if any(paired.on_gpu(sides) for sides in runs.values()):
        columns.append("rows/s")
        rows = [[*cells, 1000 / cells[3]] for cells in rows]
    paired.publish(__file__, flags, "Rows x 1, x 4, x 16", columns, rows, runs)


def shortened(work: Workload, rows: int, epochs: int, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return our side with this number of training rows and few others."""
    few = {"max_train_samples": rows, "max_eval_samples": 16, "max_predict_samples": 16}
    return work.ours(num_train_epochs=epochs, eval_strategy="no", save_strategy="no", **few, **settings)


def table(name: str, epochs: int, runs: dict[str, list[paired.Run]]) -> list[list[Any]]:
    """Return one row per size."""
    cells: list[list[Any]] = []
    fewest = next(iter(runs))
    for size, side in runs.items():
        rows, seconds, peak = int(size), paired.values(side, "seconds"), paired.median_of(side, "peak_mb")
        share = [one / rows for one in seconds]
        first = [one / int(fewest) for one in paired.values(runs[fewest], "seconds")]
        added = (peak - cells[-1][5]) * 1024 / (rows - cells[-1][1]) if cells else ""
        by_row = 1000 * paired.median(share) / epochs
        cells.append([name, rows, paired.median(seconds), by_row, paired.ratio(share, first), peak, added])
    return cells


if __name__ == "__main__":
    main()
