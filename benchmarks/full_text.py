"""Full fine-tuning on texts: ours, the transformers example scripts with their defaults, and a loop without a Trainer.

    python benchmarks/full_text.py
    python benchmarks/full_text.py --shared FOLDER    # SST-2, its first 2,000 rows

Ours is one epoch of the ordinary recipe with ``--strategy full`` (texts batched by length, bf16 if the hardware supports
it), without evaluation and checkpoints. The peer pads to 128 tokens and uses 32 rows per step in float32, as
run_glue.py and run_classification.py do. It is timed over a few steps, from the end of the first one, and scaled to an
epoch of the same rows. The ideal is a bare PyTorch loop over our batches, created beforehand, in our precision.
"""

from __future__ import annotations

from measure import paired
from measure.workloads import Workload, film_reviews

PEER_ROWS = 32  # per step


def main() -> None:
    parser = paired.parser(__doc__)
    parser.add_argument("--full", action="store_true", help="also train both to the end and compare test accuracy")
    flags = parser.parse_args()
    steps = 2 if flags.quick else 16
    few = {"max_eval_samples": 32, "max_predict_samples": 32}
    work = film_reviews(flags.shared, "full", max_train_samples=64 if flags.quick else 2000, **few)
    nothing_else = {"eval_strategy": "no", "save_strategy": "no", "num_train_epochs": 1}
    sides = {
        "peer": work.peer(max_steps=steps),
        "ours": work.ours(**nothing_else),
        "ideal": ("bounds:bare_loop", {**work.flags, "strategy": "full", **nothing_else}),
    }
    runs = paired.alternate(sides, 1 if flags.quick else flags.repeats)
    trained = runs["ideal"][0]["rows"]
    peer = [seconds * trained / PEER_ROWS for seconds in paired.values(runs["peer"], "step_seconds")]
    ours = [sum(run["epoch_seconds"]) for run in runs["ours"]]
    ideal = paired.values(runs["ideal"], "seconds")
    columns = ["rows", "peer s", "ours s", "ideal s", "peer/ours", "ideal/ours"]
    cells = [trained, *map(paired.median, (peer, ours, ideal)), paired.ratio(peer, ours), paired.ratio(ideal, ours)]
    if paired.on_gpu(runs):
        columns.append("tokens/s")
        cells.append(runs["ideal"][0]["tokens"] / paired.median(ours))
    if flags.full:
        columns += ["accuracy ours", "accuracy peer"]
        runs |= to_the_end(work, quick=flags.quick)
        cells += [runs["ours, whole"][0]["accuracy"], runs["peer, whole"][0]["accuracy"]]
    title = f"Full fine-tuning, one epoch: {work.name}; peer scaled from {steps} steps"
    paired.publish(__file__, flags, title, columns, [cells], runs)


def to_the_end(work: Workload, *, quick: bool) -> dict[str, list[paired.Run]]:
    """Run both sides once with their own epochs and learning rates, evaluated on all test rows."""
    limits = ("max_eval_samples", "max_predict_samples")
    flags = {key: value for key, value in work.flags.items() if quick or key not in limits}
    whole = Workload(work.name, work.task, work.strategy, flags)
    example = whole.peer(judge=True, num_train_epochs=3, learning_rate=2e-5)
    return paired.alternate({"peer, whole": example, "ours, whole": whole.ours()}, 1)


if __name__ == "__main__":
    main()
