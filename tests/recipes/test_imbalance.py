"""Rare classes: each remedy finds them while plain training still answers the common class for everything."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from conftest import FILLER, NEGATIVE, POSITIVE

from hf_finetune.packaged import load_recipe, recipe_path


def uneven_texts(counts: tuple[int, int], seed: int) -> list[tuple[str, str]]:
    """Sentences with one telling word, so many of the common and of the rare class."""
    random = np.random.default_rng(seed)
    rows = []
    for label, telling, count in (("common", POSITIVE, counts[0]), ("rare", NEGATIVE, counts[1])):
        for _ in range(count):
            words = [*random.choice(FILLER, size=4), random.choice(telling)]
            rows.append((" ".join(random.permutation(words)), label))
    return [rows[i] for i in random.permutation(len(rows))]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    """One row in eight is rare in training; in the test split every second one."""
    folder = tmp_path_factory.mktemp("rare")
    flags = []
    for seed, (split, counts) in enumerate({"train": (280, 40), "validation": (40, 40), "test": (50, 50)}.items()):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *uneven_texts(counts, seed)])
        flags += [f"--{split}_file", str(folder / f"{split}.csv")]
    return flags


@pytest.fixture(scope="module")
def train(files, checkpoints, tmp_path_factory):
    """Run with some flags: the recall of the rare class on the test rows, and the model card."""

    def run(*flags: str) -> tuple[float, str]:
        output = tmp_path_factory.mktemp("run") / "run"
        fixed = ["--num_train_epochs", "7", "--per_device_train_batch_size", "16", "--learning_rate", "1e-3"]
        fixed += ["--seed", "1", "--eval_strategy", "no", "--model_name_or_path", checkpoints("bert-without-dropout")]
        fixed += ["--output_dir", str(output)]
        metrics = load_recipe(recipe_path("text-classification"))([*files, *fixed, *flags])
        return metrics["test_per_class"]["rare/recall"], (output / "README.md").read_text(encoding="utf-8")

    return run


@pytest.fixture(scope="module")
def plain(train) -> float:
    recall, card = train()
    assert "Against imbalance" not in card
    return recall


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        pytest.param(["--class_weights", "balanced"], "class weights by inverse frequency", marks=pytest.mark.slow),
        (["--balanced_sampling"], "balanced sampling of classes"),
        pytest.param(["--focal_gamma", "3"], "focal loss with gamma 3 (arXiv 1708.02002)", marks=pytest.mark.slow),
        (["--logit_adjustment", "1"], "logit adjustment with tau 1 (arXiv 2007.07314)"),
        pytest.param(
            ["--balanced_sampling", "--focal_gamma", "2"],
            "balanced sampling of classes, focal loss with gamma 2 (arXiv 1708.02002)",
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_more_of_the_rare_class_is_found(flags, named, plain, train):
    recall, card = train(*flags)
    assert recall > plain + 0.3
    assert f"Against imbalance: {named}. " in card
