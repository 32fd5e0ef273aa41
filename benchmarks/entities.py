"""Token classification: ours, and ``run_ner.py`` of transformers with its defaults, on WNUT-17.

    python benchmarks/entities.py --shared FOLDER

Speed: an epoch of ours, without evaluation and checkpoints; the peer over some steps, from the end of the first one, and
scaled to an epoch of the same rows. F1, with ``--full``: each side is trained to the end with its own defaults, once with
each seed, and judged on the test rows; entities of ours are those of ``pipeline()``, those of the peer are of the words as
they are given.
"""

from __future__ import annotations

from measure import paired
from measure.workloads import tweets

PEER_ROWS = 8  # per step
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
    few = {"max_train_samples": rows, "max_eval_samples": 32, "max_predict_samples": 32}
    work = tweets(flags.shared, "full", **few)
    nothing_else = {"eval_strategy": "no", "save_strategy": "no", "num_train_epochs": 1}
    sides = {"peer": work.peer(max_steps=2 if flags.quick else 120), "ours": work.ours(strategy="auto", **nothing_else)}
    runs = paired.alternate(sides, 1 if flags.quick else flags.repeats)
    peer = [seconds * rows / PEER_ROWS for seconds in paired.values(runs["peer"], "step_seconds")]
    ours = [sum(run["epoch_seconds"]) for run in runs["ours"]]
    columns = ["run", "rows", "peer s", "ours s", "peer/ours", "F1 peer", "F1 ours", "95 % interval"]
    table = [["an epoch", rows, paired.median(peer), paired.median(ours), paired.ratio(peer, ours), "", "", ""]]
    for seed in range(len(peer)) if flags.full else ():
        whole = work if flags.quick else tweets(flags.shared, "full")
        both = {"peer": whole.peer(judge=True, seed=seed), "ours": whole.ours(strategy="auto", seed=seed)}
        [one], [other] = paired.alternate(both, 1).values()
        runs |= {f"peer, seed {seed}": [one], f"ours, seed {seed}": [other]}
        seconds = [one["seconds"], other["seconds"], one["seconds"] / other["seconds"]]
        low, high = other["f1_interval"]
        scores = [f"{one['f1']:.3f}", f"{other['f1']:.3f}", f"{low:.3f} to {high:.3f}"]
        table.append([f"to the end, seed {seed}", rows, *seconds, *scores])
    paired.publish(__file__, flags, f"Token classification: {work.name}", columns, table, runs)


if __name__ == "__main__":
    main()
