"""Run folders with the files that the report reads, of every kind of label, made without training anything."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import yaml

EVIL = "<script>alert('x')</script> & \"quoted\""
LONG = "Donaudampfschifffahrtsgesellschaftskapitaen" * 4
RIGHT_TO_LEFT = "שלום עולם, זה טקסט מימין לשמאל"

BANKING = [
    f"{verb}_{thing}"
    for verb in ("declined", "pending", "reverted", "unrecognised", "wrong_amount_of", "lost_or_stolen", "why_verify")
    for thing in (
        "card_payment", "cash_withdrawal", "top_up", "transfer_into_account", "direct_debit", "exchange_rate",
        "virtual_card", "atm_support", "refund_not_showing_up", "apple_pay_or_google_pay", "passcode",
    )
]  # fmt: skip


def make_run(folder: Path, kind: str) -> Path:
    """A run folder: ``text`` (2 classes), ``image`` (6), ``many`` (77), ``several`` (labels a row) or ``numbers``."""
    folder.mkdir(parents=True)
    evaluation = KINDS[kind]()
    contents = {
        "evaluation.json": evaluation,
        "metrics.json": {"test": {"accuracy": 0.9}, "timing": TIMING},
        "history.json": history(evaluation["headline"]["metric"]),
        "environment.json": ENVIRONMENT,
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    return folder


CONFIG = {
    "model_name_or_path": "google-bert/bert-base-uncased",
    "train_file": "/home/ann/secret data/reviews.csv",
    "strategy": "lp_ft",
    "num_train_epochs": 3,
    "learning_rate": 2e-5,
    "output_dir": "/home/ann/runs/reviews",
}
ENVIRONMENT = {
    "python": "3.11.9",
    "platform": "Linux-6.1-x86_64",
    "versions": {"hf-finetune": "0.1.0", "torch": "2.11.0", "transformers": "5.17.0"},
    "hardware": {"cpus": 8, "gpus": ["NVIDIA L4"], "threads": 8},
    "processes": 1,
    "git_revision": None,
    "command": ["/home/ann/.venv/bin/hf-finetune", "train", "text-classification", "--train_file",
                "/home/ann/secret data/reviews.csv"],
}  # fmt: skip
TIMING = {
    "train_head_seconds": 12.5,
    "train_full_seconds": 340.0,
    "train_seconds": 352.5,
    "evaluate_seconds": 8.25,
    "peak_memory_bytes": 3_400_000_000,
    "trainable_parameters": 109_483_778.0,
    "parameters": 109_483_778.0,
    "processes": 1.0,
}
CHECK = {
    "title": "Check of reviews.csv",
    "findings": [
        {"code": "leak-exact", "severity": "warning", "message": f"2 test rows stand in train too, as {EVIL}",
         "where": "test, text", "rows": ["3", "5"], "fix": "remove them from one of the splits."},
        {"code": "imbalanced", "severity": "info", "message": "the largest class has 20 times the rows of the smallest",
         "where": "train", "rows": [], "fix": ""},
    ],
    "sections": {},
}  # fmt: skip


def history(metric: str) -> list[dict]:
    """Five epochs of a head and three of everything, as the Trainer logs them."""
    entries = []
    for phase, epochs, rate in (("head", 5, 1e-3), ("full", 3, 2e-5)):
        for epoch in range(1, epochs + 1):
            done = epoch / epochs
            loss = (0.7 if phase == "head" else 0.4) * (1.3 - done)
            entries.append({"phase": phase, "epoch": float(epoch), "step": 40 * epoch, "loss": loss, "grad_norm": 1.1,
                            "learning_rate": rate * (1.05 - done), "learning_rate_head": 5 * rate * (1.05 - done),
                            "rows_per_second": 900 - 40 * epoch if phase == "head" else 210 + 5 * epoch})  # fmt: skip
            entries.append({"phase": phase, "epoch": float(epoch), "step": 40 * epoch, "eval_loss": loss + 0.05,
                            f"eval_{metric}": 0.9 - 0.5 * loss, "eval_runtime": 1.0,
                            "eval_samples_per_second": 500.0})  # fmt: skip
        entries.append({"phase": phase, "epoch": float(epochs), "step": 40 * epochs, "train_runtime": 10.0,
                        "train_samples_per_second": 400.0, "train_loss": 0.5})  # fmt: skip
    return entries


def _strategy(stages: int = 14) -> list[dict]:
    names = ["embeddings", *(f"block {i}" for i in range(1, stages - 1)), "head"]
    size = {"embeddings": 23_837_184, "head": 592_130}
    head = [
        {"stage": n, "parameters": size.get(n, 7_087_872), "trainable": size[n] if n == "head" else 0,
         "learning_rate": 1e-3 if n == "head" else None}
        for n in names
    ]  # fmt: skip
    full = [
        {"stage": n, "parameters": size.get(n, 7_087_872), "trainable": size.get(n, 7_087_872),
         "learning_rate": 2e-5 * 0.9 ** (stages - i)}
        for i, n in enumerate(names)
    ]  # fmt: skip
    return [
        {"phase": "head", "epochs": 5, "learning_rate": 1e-3, "head_learning_rate": 1e-3, "stages": head},
        {"phase": "full", "epochs": 3.0, "learning_rate": 2e-5, "head_learning_rate": 1e-4, "stages": full},
    ]


def image(seed: int) -> str:
    """A thumbnail as a data URI."""
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((128, 96)).save(file, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _classes(labels: list[str], rows: int, *, task: str, right: float) -> dict:
    """The evaluation of a run with one class a row; the classes stand in a ring, and neighbours are taken for each other."""
    random = np.random.default_rng(7)
    count = len(labels)
    true = random.integers(0, count, rows)
    wrong = random.random(rows) > right
    predicted = np.where(wrong, (true + random.choice([1, 1, 1, 2, 3], rows)) % count, true)
    matrix = np.zeros((count, count), dtype=int)
    np.add.at(matrix, (true, predicted), 1)
    off = matrix - np.diag(np.diag(matrix))
    pairs = [
        {"label": labels[i], "prediction": labels[j], "rows": int(off[i, j]), "share": off[i, j] / matrix[i].sum()}
        for i, j in sorted(zip(*np.nonzero(off), strict=True), key=lambda ij: -off[ij])[:8]
    ]
    precision, recall = (np.diag(matrix) / np.maximum(matrix.sum(axis), 1) for axis in (0, 1))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    value = float(np.mean(true == predicted))
    images = task == "image-classification"
    examples = [
        {"id": f"test/{labels[true[i]]}/{i}.jpg" if images else str(i), "label": labels[true[i]],
         "prediction": labels[predicted[i]], "probability": 0.99 - n / 50, "loss": 5.2 - n / 3,
         "text": None if images else (EVIL, LONG, RIGHT_TO_LEFT, "Two hours that I will not get back.\nNever.")[n % 4],
         "image": image(n) if images else None}
        for n, i in enumerate(np.flatnonzero(wrong)[:8])
    ]  # fmt: skip
    bins = np.linspace(0.55, 0.99, 10)
    return {
        "task": task, "problem": None, "labels": labels, "judged": "test", "rows": rows,
        "checkpoint": "google-bert/bert-base-uncased", "source": "reviews.csv",
        "headline": {
            "metric": "accuracy", "value": value, "interval": [value - 0.021, value + 0.019],
            "floor": {"name": "majority_accuracy", "value": float(np.bincount(true).max() / rows)},
            "baseline": {"name": "tf-idf and logistic regression", "value": value - 0.06,
                         "interval": [value - 0.09, value - 0.03], "difference": 0.06,
                         "difference_interval": [0.031, 0.088]},
            "verdict": "The model is better than the baseline, by more than chance explains.",
        },
        "metrics": [
            {"name": "accuracy", "value": value, "interval": [value - 0.021, value + 0.019], "baseline": value - 0.06},
            {"name": "f1_macro", "value": float(f1.mean()), "interval": [0.7, 0.8], "baseline": 0.69},
            {"name": "loss", "value": 0.412345, "interval": None, "baseline": None},
        ],
        "per_label": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": float(s)}
            for name, p, r, f, s in zip(labels, precision, recall, f1, matrix.sum(1), strict=True)
        },
        "confusion": {"matrix": matrix.tolist(), "pairs": pairs},
        "calibration": {
            "temperature": 1.731,
            "before": {"ece": 0.0912, "brier": 0.2101, "curve": [
                {"confidence": float(b), "accuracy": float(b - 0.09), "rows": 40} for b in bins]},
            "after": {"ece": 0.0213, "brier": 0.1902, "curve": [
                {"confidence": float(b - 0.08), "accuracy": float(b - 0.085 + 0.02 * np.sin(9 * b)), "rows": 40}
                for b in bins]},
        },
        "numbers": None, "top_losses": examples,
        "label_errors": [
            {"id": each["id"], "label": each["label"], "suggested": each["prediction"], "margin": 0.71,
             "text": each["text"], "image": each["image"]} for each in examples[:3]
        ],
        "slices": [{"column": "source", "values": [
            {"value": name, "rows": 100 + n, "metrics": {"accuracy": 0.9 - n / 20, "f1_macro": 0.88},
             "intervals": {"accuracy": [0.85 - n / 20, 0.94 - n / 20]}} for n, name in enumerate(("web", LONG, EVIL))]}],
        "data": {
            "splits": {
                "train": {"rows": rows * 8, "counts": {name: 8 * int(n) for name, n in zip(labels, matrix.sum(1), strict=True)}},
                "validation": {"rows": rows, "counts": {name: int(n) for name, n in zip(labels, matrix.sum(1), strict=True)}},
                "test": {"rows": rows, "counts": {name: int(n) for name, n in zip(labels, matrix.sum(1), strict=True)}},
            },
            "notes": ["A stratified tenth of the training rows is the validation split.",
                      "/home/ann/secret data/reviews.csv has 3 rows twice."],
            "skipped": 3,
        },
        "strategy": _strategy(),
    }  # fmt: skip


def _several() -> dict:
    labels = ["anger", "joy", EVIL, LONG, RIGHT_TO_LEFT, "surprise"]
    base = _classes(labels, 300, task="text-classification", right=0.8)
    examples = [
        each | {"label": [labels[0], labels[1]], "prediction": [], "probability": []} for each in base["top_losses"]
    ]
    return base | {
        "problem": "multi_label_classification", "confusion": None, "calibration": None, "label_errors": [],
        "top_losses": examples,
        "headline": base["headline"] | {"metric": "average_precision", "baseline": None,
                                        "floor": {"name": "majority_f1_micro", "value": 0.3}},
        "per_label": {name: figures | {"threshold": 0.35} for name, figures in base["per_label"].items()},
    }  # fmt: skip


def _numbers() -> dict:
    random = np.random.default_rng(3)
    true = random.gamma(3.0, 90.0, 600)
    found = true + random.normal(0, 40, 600)
    base = _classes(["price"], 600, task="text-classification", right=1.0)
    return base | {
        "problem": "regression", "confusion": None, "calibration": None, "label_errors": [], "slices": [],
        "headline": {"metric": "rmse", "value": 40.3, "interval": [38.1, 42.7],
                     "floor": {"name": "mean_rmse", "value": 155.2}, "baseline": None,
                     "verdict": "The model is better than always answering the mean, by more than chance explains."},
        "metrics": [{"name": "rmse", "value": 40.3, "interval": [38.1, 42.7], "baseline": None},
                    {"name": "mse", "value": 1624.1, "interval": None, "baseline": None},
                    {"name": "r2", "value": 0.9312, "interval": [0.92, 0.94], "baseline": None}],
        "per_label": {"price": {"rmse": 40.3, "mae": 31.9, "r2": 0.9312}},
        "numbers": [{"name": "price", "labels": true.tolist(), "predictions": found.tolist()}],
        "top_losses": [{"id": str(i), "label": float(true[i]), "prediction": float(found[i]), "probability": None,
                        "loss": 9001.0, "text": EVIL, "image": None} for i in range(4)],
        "data": {"splits": {"train": {"rows": 4800, "counts": None}, "test": {"rows": 600, "counts": None}},
                 "notes": [], "skipped": 0},
    }  # fmt: skip


KINDS = {
    "text": lambda: _classes([EVIL, "good"], 420, task="text-classification", right=0.88),
    "image": lambda: _classes(
        ["buildings", "forest", "glacier", "mountain", "a rather long name of a class", "street"],
        600, task="image-classification", right=0.8),
    "many": lambda: _classes(BANKING, 3000, task="text-classification", right=0.85),
    "several": _several,
    "numbers": _numbers,
}  # fmt: skip
