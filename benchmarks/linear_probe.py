"""A linear probe of 1 to 30 epochs: ours, a plain Trainer with a frozen backbone, and one inference pass.

    python benchmarks/linear_probe.py                    # the demo's solar cells and EfficientNet-Lite0
    python benchmarks/linear_probe.py --shared FOLDER    # Flowers-12 and MobileNetV1

Ours is the ordinary recipe with ``--strategy head``: seconds of training, with an empty activation cache at the start and
evaluation after each epoch. The peer is ``Trainer.train()`` on the same rows with the defaults of
run_image_classification.py, evaluation after each epoch and no gradient for the backbone. The floor is one inference pass
over training and validation rows, already decoded and preprocessed in memory, in the precision of ours.
"""

from __future__ import annotations

from measure import paired
from measure.workloads import photographs

MEASURED = (1, 5)  # epochs that the peer really trains; other lengths are extrapolated


def main() -> None:
    parser = paired.parser(__doc__)
    parser.add_argument("--full", action="store_true", help="run the peer for each number of epochs")
    flags = parser.parse_args()
    measured = (1, 2) if flags.quick else MEASURED
    lengths = (1, 2, 3) if flags.quick else (1, 5, 10, 30)
    true = lengths if flags.full else measured
    probe = photographs(flags.shared, "head", **sizes(flags))
    sides = {"floor": ("bounds:inference_pass", probe.flags)}
    for epochs in lengths:
        if epochs in true:
            sides[f"peer {epochs}"] = probe.peer(num_train_epochs=epochs, eval_strategy="epoch")
        sides[f"ours {epochs}"] = probe.ours(num_train_epochs=epochs)
    runs = paired.alternate(sides, 1 if flags.quick else flags.repeats)
    paired.require_equal({name: side for name, side in runs.items() if name != "floor"}, "trainable")
    columns = ["epochs", "peer s", "ours s", "floor s", "decoding and floor s", "ours/floor", "peer/ours"]
    rows = []
    for epochs in lengths:
        ours, floor = paired.values(runs[f"ours {epochs}"], "seconds"), paired.values(runs["floor"], "seconds")
        peer = peer_seconds(runs, epochs, measured)
        decoded = [run["seconds"] + run["decode_seconds"] for run in runs["floor"]]
        cells = [epochs, *map(paired.median, (peer, ours, floor, decoded))]
        rows.append([*cells, paired.ratio(ours, floor), paired.ratio(peer, ours)])
        if paired.on_gpu(runs):
            rows[-1].append(runs["floor"][0]["rows"] * epochs / paired.median(ours))
    columns += ["images/s"] * paired.on_gpu(runs)
    guessed = [str(epochs) for epochs in lengths if epochs not in true]
    note = f"; peer at {', '.join(guessed)} extrapolated from {measured[0]} and {measured[1]}" if guessed else ""
    paired.publish(__file__, flags, f"Linear probe: {probe.name}{note}", columns, rows, runs)


def sizes(flags) -> dict[str, int]:
    """Return the number of rows of each split. The test rows are not part of the timing."""
    if flags.quick:
        return {"max_train_samples": 24, "max_eval_samples": 8, "max_predict_samples": 8}
    few = {"max_predict_samples": 32}
    return few if flags.shared else few | {"max_train_samples": 400, "max_eval_samples": 80}


def peer_seconds(runs: dict[str, list[paired.Run]], epochs: int, measured: tuple[int, int]) -> list[float]:
    """Return the seconds of the peer in each pair: measured, or extrapolated from the two lengths that were."""
    if f"peer {epochs}" in runs:
        return paired.values(runs[f"peer {epochs}"], "seconds")
    short, long = (paired.values(runs[f"peer {count}"], "seconds") for count in measured)
    return [
        later + (epochs - measured[1]) * (later - first) / (measured[1] - measured[0])
        for first, later in zip(short, long, strict=True)
    ]


if __name__ == "__main__":
    main()
