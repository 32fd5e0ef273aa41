"""The model card: valid metadata, the run's own figures, images that are there, and code that runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from hf_finetune.packaged import load_recipe, recipe_path

pytestmark = pytest.mark.drawing


@pytest.fixture(scope="module")
def text_run(checkpoints, text_files, tmp_path_factory):
    """A run with a licence, whose labels would spoil a table of Markdown."""
    import csv

    root = tmp_path_factory.mktemp("card")
    names = {"positive": "good | <b>very</b>", "negative": "bad"}
    data = []
    for split, path in text_files.items():
        with Path(path).open(encoding="utf-8") as file:
            rows = [[row["text"], names[row["label"]]] for row in csv.DictReader(file)]
        with (root / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["text", "label"], *rows])
        data += [f"--{split}_file", str(root / f"{split}.csv")]
    main = load_recipe(recipe_path("text-classification"))
    flags = ["--num_train_epochs", "1", "--license", "apache-2.0", "--output_dir", str(root / "films")]
    main(["--model_name_or_path", checkpoints("bert"), *data, *flags])
    return root / "films"


def test_metadata_are_those_of_the_hub(text_run):
    card = ModelCard((text_run / "README.md").read_text(encoding="utf-8")).data
    assert card.license == "apache-2.0"
    assert card.pipeline_tag == "text-classification"
    assert card.widget == [{"text": "Two hours well spent: I would recommend it to anybody."}]
    metrics = json.loads((text_run / "metrics.json").read_text())
    found = {result.metric_name: result.metric_value for result in card.eval_results}
    assert found["accuracy"] == pytest.approx(metrics["test"]["accuracy"], abs=1e-4)


def test_the_card_says_what_metrics_json_says(text_run):
    text = (text_run / "README.md").read_text(encoding="utf-8")
    metrics = json.loads((text_run / "metrics.json").read_text())
    cells = [cell.strip() for cell in re.search(r"^\| accuracy \|(.*)\|$", text, flags=re.MULTILINE)[1].split("|")]
    low, high = metrics["test_intervals"]["accuracy"]
    values = metrics["test"]["accuracy"], metrics["baseline"]["accuracy"]
    assert cells == [f"{values[0]:.4f}", f"{low:.4f} to {high:.4f}", f"{values[1]:.4f}"]
    about = json.loads((text_run / "evaluation.json").read_text())
    assert about["headline"]["verdict"] in text
    assert f"{metrics['calibration']['ece']:.4f}" in text
    assert f"{metrics['timing']['parameters']:,.0f} weights were trained in" in text


def test_names_from_the_data_do_not_break_the_tables(text_run):
    text = (text_run / "README.md").read_text(encoding="utf-8")
    assert "<b>" not in text.split("---", 2)[2]
    row = next(line for line in text.splitlines() if line.startswith("| good"))
    assert row.startswith("| good \\| &lt;b>very&lt;/b> |")
    assert len(re.findall(r"(?<!\\)\|", row)) == 6


def test_its_images_are_there(text_run):
    text = (text_run / "README.md").read_text(encoding="utf-8")
    named = {path: words for words, path in re.findall(r"!\[(.+?)\]\((.+?)\)", text)}
    assert named.keys() == {"figures/confusion_matrix.png", "figures/reliability.png"}
    for path in named:
        with Image.open(text_run / path) as image:
            assert min(image.size) > 300
            assert len(image.convert("L").getcolors(256)) > 10, "something is drawn"


def test_the_code_of_the_card_runs(text_run, monkeypatch, capsys):
    text = (text_run / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert 'model="films"' in code
    monkeypatch.chdir(text_run.parent)
    exec(code.replace('model="films"', 'model="films/model"'), {})
    (answer,) = eval(capsys.readouterr().out.strip().splitlines()[-1])
    assert answer["label"] in ("good | <b>very</b>", "bad")
    assert 0.5 <= answer["score"] <= 1


def test_no_folder_of_the_users_is_in_it(text_run):
    text = (text_run / "README.md").read_text(encoding="utf-8")
    assert str(text_run.parent) not in text
    assert "/tmp" not in text
