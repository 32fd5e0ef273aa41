"""Full fine-tuning on JPEGs of 500 × 375 and 4000 × 3000: ours against transformers' run_image_classification.py.

    python benchmarks/full_image.py                        # ResNet-50 with random weights
    python benchmarks/full_image.py --model FOLDER --rows 200 --epochs 6

The peer is a plain Trainer with that script's defaults: float32, 8 rows per step, RandomResizedCrop and horizontal flip,
and images that are decoded at every access. The images are generated: smooth noise with grain, JPEG quality 90. Seconds per
epoch are those of all epochs, including decoding, divided by their number; evaluation and checkpoints are off. The column
"waiting %" is the fraction of our training time in which the model waits for a batch, including the first epoch and its
decoding.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measure import paired

SIZES = {"500 × 375": (500, 375), "4000 × 3000": (4000, 3000)}
GOALS = {"500 × 375": 3.0, "4000 × 3000": 6.0}


def main() -> None:
    parser = paired.parser(__doc__)
    parser.add_argument("--model", type=Path, help="folder of an image checkpoint (default: ResNet-50, random weights)")
    parser.add_argument("--rows", type=int, default=32, help="training images (default: 32)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of a run (default: 3)")
    flags = parser.parse_args()
    if flags.quick:
        flags.rows, flags.epochs, flags.repeats = 8, 1, 1
    with TemporaryDirectory() as scratch:
        model = flags.model or Path(scratch, "resnet50")
        if not flags.model:
            paired.run_side("models:resnet50", folder=str(model))
        runs = {name: measure(flags, str(model), scratch, name) for name in SIZES}
    columns = ["images", "rows", "example s", "ours s", "ratio", "goal", "images/s", "waiting %", "device"]
    rows = [row(name, flags, sides) for name, sides in runs.items()]
    paired.publish(__file__, flags, "Full fine-tuning on photographs: seconds of an epoch", columns, rows, runs)


def measure(flags: Any, model: str, scratch: str, name: str) -> dict[str, list[paired.Run]]:
    """Run both sides on images of one size."""
    width, height = SIZES[name]
    folder = str(Path(scratch, name))
    paired.run_side(
        "photographs:make_photographs", folder=folder, width=width, height=height, train=flags.rows, validation=4
    )
    data = {"model_name_or_path": model, "dataset_name": folder}
    settings = {"num_train_epochs": flags.epochs, "eval_strategy": "no", "save_strategy": "no"}
    peer = {"strategy": "full", "settings": settings, "judge": False, **data}
    ours = {"strategy": "full", **settings, **data}
    runs = paired.alternate(
        {f"{name}: example": ("peers:trainer_images", peer), f"{name}: ours": ("photographs:ours", ours)},
        flags.repeats,
    )
    paired.require_equal(runs, "trainable")
    return {side.rpartition(": ")[2]: found for side, found in runs.items()}


def row(name: str, flags: Any, runs: dict[str, list[paired.Run]]) -> list[Any]:
    """Return the row of the table: medians, and the ratio within the pairs."""
    example, ours = ([sum(run["epoch_seconds"]) / flags.epochs for run in runs[side]] for side in ("example", "ours"))
    waiting = [100 * run["wait_seconds"] / sum(run["epoch_seconds"]) for run in runs["ours"]]
    seconds = paired.median(ours)
    return [
        name,
        flags.rows,
        paired.median(example),
        seconds,
        paired.ratio(example, ours),
        GOALS[name],
        flags.rows / seconds,
        paired.median(waiting),
        runs["ours"][0]["device"],
    ]


if __name__ == "__main__":
    main()
