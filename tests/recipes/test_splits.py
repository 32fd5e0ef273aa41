"""Splits from end to end: by groups, by folds, and given from run to run."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
from conftest import make_texts

from hf_finetune.errors import UserError
from hf_finetune.packaged import load_recipe, recipe_path


@pytest.fixture(scope="module")
def reviews(tmp_path_factory) -> str:
    """60 reviews by 15 authors, each of whom writes about everything."""
    file = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["text", "label", "author"])
        writer.writerows([text, label, f"author {i // 4}"] for i, (text, label) in enumerate(make_texts(60)))
    return str(file)


def run(checkpoints, reviews, output: Path, *extra: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``splits.parquet`` and ``predictions.parquet`` of a short run."""
    flags = ["--model_name_or_path", checkpoints("bert"), "--train_file", reviews, "--output_dir", str(output)]
    load_recipe(recipe_path("text-classification"))([*flags, "--num_train_epochs", "1", *extra])
    return pd.read_parquet(output / "splits.parquet"), pd.read_parquet(output / "predictions.parquet")


def test_a_run_by_groups_tests_authors_that_it_did_not_train_on(checkpoints, reviews, tmp_path):
    splits, predictions = run(checkpoints, reviews, tmp_path, "--group_column", "author", "--test_split", "0.2")
    assert splits.groupby("group")["split"].nunique().max() == 1
    sizes = splits["split"].value_counts()
    assert sizes.sum() == 60
    assert sizes["test"] == 12
    assert splits.loc[splits["split"] == "test", "id"].tolist() == predictions["id"].tolist()
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "3 of 15 groups of column 'author', stratified by label as far as whole groups allow (seed 42)" in card


@pytest.mark.usefixtures("training_alone")
def test_over_all_folds_every_row_is_tested_once(checkpoints, reviews, tmp_path):
    tested = []
    for fold in ("1", "2", "3"):
        flags = ["--num_folds", "3", "--fold", fold, "--group_column", "author"]
        splits, predictions = run(checkpoints, reviews, tmp_path / fold, *flags)
        assert splits.groupby("group")["split"].nunique().max() == 1
        tested += predictions["id"].tolist()
    assert sorted(tested, key=int) == [str(i) for i in range(60)]


@pytest.mark.usefixtures("training_alone")
def test_another_run_has_the_same_splits(checkpoints, reviews, tmp_path):
    splits, predictions = run(checkpoints, reviews, tmp_path / "first", "--num_folds", "4", "--fold", "3")
    again, repeated = run(checkpoints, reviews, tmp_path / "second", "--splits_file", str(tmp_path / "first"))
    pd.testing.assert_frame_equal(splits, again)
    pd.testing.assert_frame_equal(predictions, repeated)


@pytest.mark.usefixtures("training_alone")
def test_a_run_is_repeated_by_its_own_configuration(checkpoints, reviews, tmp_path):
    splits, _ = run(checkpoints, reviews, tmp_path / "first", "--group_column", "author", "--test_split", "0.3")
    main = load_recipe(recipe_path("text-classification"))
    main(["--config", str(tmp_path / "first" / "config.yaml"), "--output_dir", str(tmp_path / "second")])
    pd.testing.assert_frame_equal(splits, pd.read_parquet(tmp_path / "second" / "splits.parquet"))


@pytest.mark.usefixtures("training_alone")
def test_splits_of_other_rows_are_refused_before_a_folder_is_made(checkpoints, reviews, text_files, tmp_path):
    run(checkpoints, reviews, tmp_path / "first")
    with pytest.raises(UserError, match="the file has 60 rows of the train split, the data 64"):
        run(checkpoints, text_files["train"], tmp_path / "second", "--splits_file", str(tmp_path / "first"))
    assert not (tmp_path / "second").exists()


@pytest.mark.usefixtures("training_alone")
def test_a_run_goes_on_with_the_rows_that_it_began_with(checkpoints, reviews, tmp_path):
    run(checkpoints, reviews, tmp_path)
    resume = ["--resume_from_checkpoint", "auto"]
    run(checkpoints, reviews, tmp_path, *resume)
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(UserError, match="are not those that the run began with"):
        run(checkpoints, reviews, tmp_path, *resume, "--test_split", "0.1")
    assert (tmp_path / "config.yaml").read_bytes() == before
