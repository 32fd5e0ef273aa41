"""Token classification: ours, and ``run_ner.py`` of transformers with its defaults, on WNUT-17.

    python benchmarks/entities.py --shared FOLDER

Speed: an epoch of ours, without evaluation and checkpoints; the peer over some steps, from the end of the first one, and
scaled to an epoch of the same rows. Ours reads a third of the rows without an entity in an epoch. With ``--full``, each
side is trained to the end with its own defaults, once with each seed; these runs give the seconds of an epoch, and F1 on
the test rows. Entities of ours are those of ``pipeline()``, those of the peer are of the words as they are given.
"""

from __future__ import annotations

from measure import paired
from measure.workloads import Side, Workload, tweets

PEER_ROWS, PEER_STEPS = 8, 120  # per step, and steps that are timed
FEW = {"max_eval_samples": 32, "max_predict_samples": 32}
TRAINED = 3394  # rows of an epoch


def main() -> None:
    parser = paired.parser(__doc__)
    parser.add_argument(
        "--full", action="store_true", help="also train both to the end and compare F1 on the test rows"
    )
    flags = parser.parse_args()
    if flags.shared is None:
        parser.error("--shared is needed: the demo has no data for this task")
    rows = 64 if flags.quick else TRAINED
    work = tweets(flags.shared, "full", **(FEW | {"max_train_samples": rows} if flags.quick or not flags.full else {}))
    repeats = 1 if flags.quick else flags.repeats
    runs: dict[str, list[paired.Run]] = {"peer": [], "ours": []}
    table = []
    if flags.full:
        for seed in range(repeats):
            both = paired.alternate(sides(work, seed), 1)
            runs = {side: [*runs[side], *both[side]] for side in runs}
            [one], [other] = both["peer"], both["ours"]
            seconds = [one["seconds"], other["seconds"], one["seconds"] / other["seconds"]]
            low, high = other["f1_interval"]
            scores = [f"{one['f1']:.3f}", f"{other['f1']:.3f}", f"{low:.3f} to {high:.3f}"]
            table.append([f"to the end, seed {seed}", rows, *seconds, *scores])
        peer, ours = (epochs(runs[side]) for side in ("peer", "ours"))
    else:
        nothing_else = {"eval_strategy": "no", "save_strategy": "no", "num_train_epochs": 1}
        short = {
            "peer": work.peer(max_steps=2 if flags.quick else PEER_STEPS),
            "ours": work.ours(strategy="auto", **nothing_else),
        }
        runs = paired.alternate(short, repeats)
        peer = [seconds * rows / PEER_ROWS for seconds in paired.values(runs["peer"], "step_seconds")]
        ours = [sum(run["epoch_seconds"]) for run in runs["ours"]]
    table.append(["an epoch", rows, paired.median(peer), paired.median(ours), paired.ratio(peer, ours), "", "", ""])
    columns = ["run", "rows", "peer s", "ours s", "peer/ours", "F1 peer", "F1 ours", "95 % interval"]
    paired.publish(__file__, flags, f"Token classification: {work.name}", columns, table, runs)


def sides(work: Workload, seed: int) -> dict[str, Side]:
    """Return both sides, trained to the end with their own defaults; the first one alternates with the seed."""
    both = {"peer": work.peer(judge=True, seed=seed), "ours": work.ours(strategy="auto", seed=seed)}
    return {side: both[side] for side in paired.order(list(both), seed)}


def epochs(runs: list[paired.Run]) -> list[float]:
    """Return the mean seconds of an epoch of each run, without evaluation and checkpoints."""
    return [sum(run["epoch_seconds"]) / len(run["epoch_seconds"]) for run in runs]


if __name__ == "__main__":
    main()
