"""Accuracy with default settings: ours, a constant prediction, and a cheap baseline for each data set.

    python benchmarks/accuracy.py                 # the demo's two data sets
    python benchmarks/accuracy.py --shared FOLDER --only sst2 flowers12

Each row is one run of the ordinary recipe with its defaults. For single-label texts the baseline is computed here: tf-idf
(1, 2) and logistic regression on the same training rows. Other baselines are quoted from the data set's own page: a linear
probe for images, the cosine of the tf-idf vectors for text pairs, and tf-idf with logistic regression and a threshold of
0.2 for multi-label texts. Seconds are those of the whole run, including model loading and evaluation.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from hf_finetune.console import show_table
from hf_finetune.demo import image_checkpoint, image_data, text_checkpoint, text_data
from hf_finetune.files import cache_dir, write_json
from hf_finetune.packaged import fine_tune

TEXTS = {"sst2": {"max_train_samples": 2000}, "tweeteval_emotion": {}, "banking77": {}}
PAIR = {"text_column": "sentence1", "text_pair_column": "sentence2"}
# Flags, metric, and the baseline quoted on the data set's page.
OTHER_TEXTS = {
    "mrpc": (PAIR, "accuracy", 0.716),
    "stsb": (PAIR | {"label_column": "score"}, "pearson", 0.720),
    "goemotions": ({}, "f1_micro", 0.551),
}
FLOORS = ("majority_accuracy", "majority_f1_micro", "mean_rmse")
IMAGES = {"flowers12": 0.967, "trashnet": 0.817, "cifar10_6k": None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder with data/ and models/ for the larger table")
    parser.add_argument("--only", nargs="+", help="only these data sets")
    parser.add_argument("--seed", type=int, default=42)
    known = parser.parse_args()
    jobs = shared_jobs(known.shared) if known.shared else demo_jobs()
    rows = [measure(seed=known.seed, **job) for job in jobs if not known.only or job["data"] in known.only]
    show_table(
        "Accuracy on the test rows with default settings",
        ("data", "backbone", "train rows", "metric", "floor", "baseline", "ours", "macro F1", "seconds"),
        [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row.values()] for row in rows],
    )
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    write_json(results / "accuracy.json", rows)


def demo_jobs() -> list[dict[str, Any]]:
    """Return the jobs on the packaged data sets and checkpoints."""
    cache = cache_dir()
    files = {f"{split}_file": str(path) for split, path in text_data(cache).items()}
    return [
        {"data": "rotten-tomatoes", "task": "text-classification", "model": text_checkpoint(cache), "flags": files},
        {
            "data": "solar-cells",
            "task": "image-classification",
            "model": image_checkpoint(cache),
            "flags": {"dataset_name": str(image_data(cache))},
        },
    ]


def shared_jobs(root: Path) -> list[dict[str, Any]]:
    """Return the jobs on the data sets of a folder; images with both backbones."""
    cache = cache_dir()
    texts = [
        {
            "data": name,
            "task": "text-classification",
            "model": text_checkpoint(cache),
            "flags": {"dataset_name": str(root / "data" / name), **flags},
        }
        for name, flags in TEXTS.items()
    ]
    texts += [
        {
            "data": name,
            "task": "text-classification",
            "model": text_checkpoint(cache),
            "flags": {"dataset_name": str(root / "data" / name), **flags},
            "metric": metric,
            "quoted": baseline,
        }
        for name, (flags, metric, baseline) in OTHER_TEXTS.items()
    ]
    return texts + [
        {
            "data": name,
            "task": "image-classification",
            "model": model,
            "flags": {"dataset_name": str(root / "data" / name)},
            "quoted": probe if model.name.startswith("mobilenet") else None,
        }
        for name, probe in IMAGES.items()
        for model in (root / "models" / "mobilenet_v1_075_224", image_checkpoint(cache))
    ]


def measure(
    data: str,
    task: str,
    model: Path,
    flags: dict[str, Any],
    seed: int,
    metric: str = "accuracy",
    quoted: float | None = None,
) -> dict[str, Any]:
    """Run the recipe once and return its row of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        options = {"model_name_or_path": str(model), "output_dir": f"{scratch}/run", "disable_tqdm": True, "seed": seed}
        metrics = fine_tune(task, **options, **flags)
        seconds = time.perf_counter() - began
    own = task == "text-classification" and quoted is None
    baseline, rows = text_baseline(flags) if own else (quoted, flags.get("max_train_samples"))
    test = metrics["test"]
    floor = next(test[name] for name in FLOORS if name in test)
    return {
        "data": data,
        "backbone": model.name,
        "train_rows": "" if rows is None else rows,
        "metric": metric,
        "floor": floor if metric != "pearson" else 0.0,
        "baseline": "" if baseline is None else baseline,
        "ours": test[metric],
        "f1_macro": test.get("f1_macro", ""),
        "seconds": round(seconds),
    }


def text_baseline(flags: dict[str, Any]) -> tuple[float, int]:
    """Return the test accuracy of tf-idf and logistic regression, and the number of training rows."""
    import pandas as pd
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    folder = flags.get("dataset_name")
    files = [flags.get("train_file", f"{folder}/train.csv"), flags.get("test_file", f"{folder}/test.csv")]
    train, test = (pd.read_csv(file, keep_default_na=False) for file in files)
    train = train[: flags.get("max_train_samples", len(train))]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    return float(model.fit(train["text"], train["label"]).score(test["text"], test["label"])), len(train)


if __name__ == "__main__":
    main()
