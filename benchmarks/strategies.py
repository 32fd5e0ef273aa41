"""The table behind ``--strategy auto``: test accuracy and seconds of each strategy on several data sets, over three seeds.

    python benchmarks/strategies.py                                    # the demo's two data sets, few rows
    python benchmarks/strategies.py --shared FOLDER --markdown         # the table of docs/strategies.md

Each cell is the ordinary recipe with its defaults and ``--strategy``, on the first training rows of the data set (for
images, a random sample with a fixed seed). The seed changes the initial weights of the head, the order of the rows and the
random views; the held-out rows stay the same. Seconds are training time, including evaluations and checkpoints. Each
strategy and seed starts with an empty activation cache.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean, median
from typing import Any

from hf_finetune.console import show_table
from hf_finetune.demo import image_checkpoint, image_data, text_checkpoint, text_data
from hf_finetune.files import cache_dir, write_json
from hf_finetune.packaged import fine_tune

STRATEGIES = ("head", "lp_ft", "gradual", "lora", "full")
IMAGES = ("flowers12", "trashnet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder with data/ and models/ for the larger table")
    parser.add_argument("--only", nargs="+", help="only these data sets")
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--markdown", action="store_true", help="also print the table as Markdown")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch and few rows, to test the script")
    known = parser.parse_args()
    every = shared_jobs(known.shared) if known.shared else demo_jobs()
    jobs = [job for job in every if not known.only or job["data"] in known.only]
    if known.quick:
        jobs = [job | {"flags": job["flags"] | QUICK} for job in jobs]
    seeds = known.seeds[:1] if known.quick else known.seeds
    runs = [
        {"data": job["data"], "strategy": strategy, "seed": seed, **measure(strategy=strategy, seed=seed, **job)}
        for job in jobs
        for seed in seeds
        for strategy in known.strategies
    ]
    table = summary(runs)
    columns = ("data", "strategy", "accuracy", "lowest", "highest", "validation", "seconds")
    show_table(f"Strategies over {len(seeds)} seeds: mean accuracy on the test rows, median seconds", columns, table)
    if known.markdown:
        print("\n".join("| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *table]))
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    write_json(results / "strategies.json", runs)


QUICK = {"num_train_epochs": 1, "max_train_samples": 48, "max_eval_samples": 16, "max_predict_samples": 16}


def demo_jobs() -> list[dict[str, Any]]:
    """Return the jobs on 400 rows of each packaged data set."""
    cache = cache_dir()
    files = {f"{split}_file": str(path) for split, path in text_data(cache).items()}
    few = {"max_train_samples": 400, "max_predict_samples": 400}
    images = {"dataset_name": str(image_data(cache)), "image_size": 128}
    return [
        {
            "data": "rotten-tomatoes",
            "task": "text-classification",
            "model": text_checkpoint(cache),
            "flags": files | few,
        },
        {
            "data": "solar-cells",
            "task": "image-classification",
            "model": image_checkpoint(cache),
            "flags": images | few,
        },
    ]


def shared_jobs(root: Path) -> list[dict[str, Any]]:
    """Return the jobs on small data sets of a folder; images at 128 pixels."""
    mobilenet = root / "models" / "mobilenet_v1_075_224"
    bert = text_checkpoint(cache_dir())
    sizes = {"flowers12": (60, 240), "trashnet": (240,), "sst2": (100, 400), "tweeteval_emotion": (600,)}
    few = {"max_eval_samples": 300, "max_predict_samples": 1000}
    return [
        {
            "data": f"{name}, {rows} rows",
            "task": "image-classification" if name in IMAGES else "text-classification",
            "model": mobilenet if name in IMAGES else bert,
            "flags": {
                "dataset_name": str(root / "data" / name),
                "max_train_samples": rows,
                **few,
                **({"image_size": 128} if name in IMAGES else {}),
            },
        }
        for name, counts in sizes.items()
        for rows in counts
    ]


def measure(data: str, task: str, model: Path, flags: dict[str, Any], strategy: str, seed: int) -> dict[str, float]:
    """Run the recipe once; return the accuracy on test and validation rows, and the seconds of training."""
    with tempfile.TemporaryDirectory() as scratch:
        metrics = fine_tune(
            task,
            model_name_or_path=str(model),
            output_dir=f"{scratch}/run",
            activation_cache_dir=f"{scratch}/activations",
            strategy=strategy,
            seed=seed,
            disable_tqdm=True,
            merge_adapter=True,
            **flags,
        )
    return {
        "accuracy": metrics["test"]["accuracy"],
        "validation": metrics["validation"]["accuracy"],
        "seconds": metrics["timing"]["train_seconds"],
    }


def summary(runs: list[dict[str, Any]]) -> list[list[str]]:
    """Return one row per data set and strategy."""
    table = []
    for data, strategy in dict.fromkeys((run["data"], run["strategy"]) for run in runs):
        cell = [run for run in runs if (run["data"], run["strategy"]) == (data, strategy)]
        scores = [run["accuracy"] for run in cell]
        figures = (mean(scores), min(scores), max(scores), mean(run["validation"] for run in cell))
        table.append([data, strategy, *(f"{x:.3f}" for x in figures), f"{median(run['seconds'] for run in cell):.0f}"])
    return table


if __name__ == "__main__":
    main()
