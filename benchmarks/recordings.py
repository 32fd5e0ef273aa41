"""Audio classification: ours, and ``run_audio_classification.py`` of transformers with its defaults, on spoken digits.

    python benchmarks/recordings.py --shared FOLDER

Speed: an epoch of ours, without evaluation and checkpoints; the peer over some steps, from the end of the first one, and
scaled to an epoch of the same rows. With ``--full``, ours is trained with each of three seeds, with a frozen encoder and in
full, and judged on a speaker whom it never heard. The peer would take hours; with ``--peer``, both sides are trained to the
end on a tenth of the rows.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from measure import paired
from measure.workloads import Workload, spoken_digits

PEER_ROWS, PEER_STEPS = 8, 5
TRAINED = 2000  # rows of an epoch
TENTH = {"train": 200, "validation": 50, "test": 100}
QUICK = {"train": 40, "validation": 20, "test": 20}


def main() -> None:
    parser = paired.parser(__doc__)
    parser.add_argument("--full", action="store_true", help="also train to the end and compare accuracies on test rows")
    parser.add_argument("--peer", action="store_true", help="also train both sides to the end on a tenth of the rows")
    flags = parser.parse_args()
    if flags.shared is None:
        parser.error("--shared is needed: the demo has no data for this task")
    repeats = 1 if flags.quick else flags.repeats
    with tempfile.TemporaryDirectory() as scratch:
        digits = partial(spoken_digits, flags.shared, folder=Path(scratch))
        work = digits("full", rows=QUICK if flags.quick else None)
        runs, table = _epochs(
            work, QUICK["train"] if flags.quick else TRAINED, 2 if flags.quick else PEER_STEPS, repeats
        )
        if flags.full:
            for strategy in ("head", "full"):
                whole = digits(strategy, rows=QUICK if flags.quick else None)
                sides = {f"{strategy}, seed {seed}": whole.ours(seed=seed) for seed in range(repeats)}
                ended = paired.alternate(sides, 1)
                runs |= ended
                table += [[name, table[0][1], "", *_ended(run), ""] for name, [run] in ended.items()]
        if flags.peer:
            sizes = QUICK if flags.quick else TENTH
            part = digits("full", rows=sizes)
            both = paired.alternate({"peer, tenth": part.peer(judge=True), "ours, tenth": part.ours()}, 1)
            runs |= both
            [one], [other] = both.values()
            seconds = [one["seconds"], other["seconds"], one["seconds"] / other["seconds"]]
            table.append(["to the end", sizes["train"], *seconds, other["accuracy"], one["accuracy"]])
    columns = ["run", "rows", "peer s", "ours s", "peer/ours", "accuracy of ours", "of the peer"]
    paired.publish(__file__, flags, f"Audio classification: {work.name}", columns, table, runs)


def _epochs(work: Workload, rows: int, steps: int, repeats: int) -> tuple[dict[str, list[paired.Run]], list[list[Any]]]:
    """Return the runs and the row of the table on the seconds of an epoch."""
    nothing_else = {"eval_strategy": "no", "save_strategy": "no", "num_train_epochs": 1}
    runs = paired.alternate({"peer": work.peer(max_steps=steps), "ours": work.ours(**nothing_else)}, repeats)
    peer = [seconds * rows / PEER_ROWS for seconds in paired.values(runs["peer"], "step_seconds")]
    ours = [sum(run["epoch_seconds"]) for run in runs["ours"]]
    return runs, [["an epoch", rows, paired.median(peer), paired.median(ours), paired.ratio(peer, ours), "", ""]]


def _ended(run: paired.Run) -> list[object]:
    """Return the cells of a run of ours: seconds, no ratio, and the accuracy with its interval."""
    low, high = run["accuracy_interval"]
    return [run["seconds"], "", f"{run['accuracy']:.3f} ({low:.3f} to {high:.3f}); baseline {run['baseline']:.3f}"]


if __name__ == "__main__":
    main()
