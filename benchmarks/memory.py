"""Peak memory of the processes of the other scripts: ours against the plain Trainer.

    python benchmarks/memory.py
    python benchmarks/memory.py --shared FOLDER

Each cell is the peak resident memory of a process in MB, from start to end and including Python and the libraries:
model, data, training, and on our side the final evaluation and the model card. Each side uses its default batch size: for
images 32 (ours) and 8 (peer), for texts 16 and 32. The last row is a process that only imports the libraries.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measure import paired
from measure.workloads import Workload, film_reviews, partly_frozen, photographs


def main() -> None:
    flags = paired.parser(__doc__).parse_args()
    with TemporaryDirectory() as scratch:
        workloads = jobs(flags, Path(scratch))
        repeats = 1 if flags.quick else flags.repeats
        runs = {work.name: measure(work, settings, repeats) for work, settings in workloads}
    runs["libraries alone"] = paired.alternate(
        {"plain": ("peers:nothing", {}), "ours": ("sides:nothing", {})}, repeats, bare=True
    )
    keys = ["peak_mb"]
    columns = ["workload", "plain Trainer MB", "ours MB", "ours/plain"]
    if any(paired.on_gpu(sides) for name, sides in runs.items()):
        keys.append("peak_gpu_mb")
        columns += ["plain Trainer GPU MB", "ours GPU MB", "ours/plain on the GPU"]
    rows = [[name, *(cell for key in keys for cell in compare(sides, key))] for name, sides in runs.items()]
    paired.publish(__file__, flags, "Peak memory of the process", columns, rows, runs)


def jobs(flags: Any, folder: Path) -> list[tuple[Workload, dict[str, Any]]]:
    """Return the workloads of the other scripts with fewer rows, each with the flags that only ours needs."""
    few = {"max_train_samples": 24 if flags.quick else 96, "max_eval_samples": 32, "max_predict_samples": 32}
    probe, tuned, read = (
        photographs(flags.shared, "head", **few),
        photographs(flags.shared, "full", **few),
        film_reviews(flags.shared, "full", **few),
    )
    found = [
        (Workload(f"linear probe: {probe.name}", probe.task, "head", probe.flags), {"activation_cache": "on"}),
        (Workload(f"full: {tuned.name}", tuned.task, "full", tuned.flags), {}),
        (
            Workload(f"full, ours 8 rows a step too: {tuned.name}", tuned.task, "full", tuned.flags),
            {"per_device_train_batch_size": 8},
        ),
        (Workload(f"full: {read.name}", read.task, "full", read.flags), {}),
    ]
    for work in partly_frozen(flags.shared, folder, images=16 if flags.quick else 32, texts=48 if flags.quick else 96):
        still = {"augmentation": "none"} if work.task == "image-classification" else {}
        found.append((work, {"activation_cache": "on", **still}))
    return found


def measure(work: Workload, settings: dict[str, Any], repeats: int) -> dict[str, list[paired.Run]]:
    """Run one epoch of both sides."""
    sides = {"plain": work.peer(num_train_epochs=1), "ours": work.ours(num_train_epochs=1, **settings)}
    named = {f"{work.name}: {name}": side for name, side in sides.items()}
    return {name.rpartition(": ")[2]: runs for name, runs in paired.alternate(named, repeats, bare=True).items()}


def compare(runs: dict[str, list[paired.Run]], key: str) -> list[float]:
    """Return both peaks and their ratio."""
    plain, ours = (paired.values(runs[side], key) for side in ("plain", "ours"))
    return [paired.median(plain), paired.median(ours), paired.ratio(ours, plain)]


if __name__ == "__main__":
    main()
