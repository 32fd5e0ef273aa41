"""An input that the package does not know goes from rows to a report and a prediction: what it needs stands in this file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

from hf_finetune.checks import check_data, check_model
from hf_finetune.config import parse
from hf_finetune.data import audit, load_splits
from hf_finetune.data.protocols import RowInput
from hf_finetune.data.readers.cell import Cell
from hf_finetune.data.rows.finding import Section
from hf_finetune.data.rows.unlabelled import open_unlabelled
from hf_finetune.evaluation.prediction.labeller import Labeller
from hf_finetune.evaluation.results import evaluate
from hf_finetune.models import load_artifact
from hf_finetune.publish import verify, write_model_card
from hf_finetune.report import write_report
from hf_finetune.strategies import make_plan
from hf_finetune.strategies.defaults import Default, choose_strategy, common_defaults
from hf_finetune.tasks.outputs import CLASSES_OR_NUMBERS
from hf_finetune.tasks.task import Task
from hf_finetune.training import start_run, train

LENGTH, LEVELS = 6, 20


class Quantiser:
    """The processor: numbers between 0 and 1 become ids of levels."""

    def __init__(self, levels: int = LEVELS) -> None:
        self.levels = levels

    def __call__(self, rows) -> list[list[int]]:
        return np.clip(np.asarray(rows) * self.levels, 0, self.levels - 1).astype(int).tolist()

    def save_pretrained(self, folder) -> None:
        (Path(folder) / "quantiser.json").write_text(json.dumps({"levels": self.levels}))


class NumberRows(RowInput):
    """Fixed-length lists of numbers, in a column called ``numbers``."""

    cell = Cell("numbers", "lists", "numbers.json", frozenset, None, False, ("numbers",), lambda *_: None)
    block_rows = most_judging = 100

    def find_columns(self, split, config, taken):
        return {"numbers": "numbers"}

    def describe(self, inputs):
        return "column of numbers"

    def refuse_other_types(self, split, inputs, where):
        return None

    def clean(self, split, inputs, where):
        return split.select_columns(["numbers"])

    def standard(self, block, inputs):
        return block.select(["numbers"])

    def filled(self, inputs):
        return {"numbers": ["numbers"]}

    def unlabelled(self, split, config, trained, where):
        return split, {"numbers": "numbers"}

    def unreadable(self, split, rows):
        return []

    def lengths(self, block):
        return None

    def row_keys(self, splits):
        return {name: np.array([hash(tuple(row)) for row in split["numbers"]]) for name, split in splits.items()}


def encode(split, processor, views=None, image_cache=None):
    ids = processor(split["numbers"][:])
    columns = {"input_ids": ids, "attention_mask": np.ones_like(ids).tolist()}
    return Dataset.from_dict(columns | ({"labels": split["label"][:]} if "label" in split.column_names else {}))


def collator(processor):
    return lambda rows: {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def keep_row(folder, row, cells, processor):
    return {"input": cells["numbers"], "facts": {"ids": processor([cells["numbers"]])[0]}}


def inspect(splits, config):
    section = Section("Numbers", "numbers")
    return SimpleNamespace(
        section=section,
        splits=splits,
        comparable=lambda rows: rows,
        near=lambda rows: np.zeros((0, 2), dtype=int),
        add_processor=lambda processor: section.sentences.append(f"{processor.levels} levels are told apart."),
    )


NUMBERS = SimpleNamespace(
    name="numbers",
    rows=NumberRows(),
    decodes=False,
    piece_rows=100,
    processor_name="feature_extractor",
    call_options=lambda processor: {},
    facts=SimpleNamespace(__file__="", processor_facts=vars, input_facts=dict, pipeline_input=list),
    baseline_name="means and {linear}",
    checkpoint_name=str,
    load_processor=lambda name, **options: Quantiser(),
    prepare=lambda checkpoint, inputs, rows: None,
    encode=encode,
    collator=collator,
    views=lambda inputs, tunes_backbone: None,
    shortened=lambda: SimpleNamespace(add=lambda encoded: None, say=lambda name, processor: None),
    fingerprint=lambda encoded, processor: hashlib.sha256(str(encoded["input_ids"][:]).encode()).hexdigest(),
    describe_processor=lambda processor: str(vars(processor)),
    content_hash=lambda split: None,
    preview=lambda row: {"text": ", ".join(f"{number:.2f}" for number in row["numbers"]), "image": None},
    baseline_features=lambda parts, backbone: {name: np.array(split["numbers"][:]) for name, split in parts.items()},
    odd_rows=lambda rows: [0],
    keep_row=keep_row,
    widget=lambda inputs: None,
    usage_sample=lambda inputs: "[0.5, 0.1]",
    why_column=lambda config, own, number: "the only column of numbers",
    inspect=inspect,
)


def defaults(facts):
    strategy = choose_strategy(facts, Default("full", "the model is small"))
    return common_defaults(facts, strategy.value, 16) | {"strategy": strategy}


TASK = Task("number-classification", "AutoModelForSequenceClassification", NUMBERS, CLASSES_OR_NUMBERS, defaults)


@pytest.fixture(scope="module")
def data() -> DatasetDict:
    random = np.random.default_rng(0)
    parts = {}
    for name, rows in (("train", 160), ("validation", 40), ("test", 40)):
        labels = random.integers(0, 2, rows)
        numbers = random.uniform(0, 0.6, (rows, LENGTH)) + 0.4 * labels[:, None] * (np.arange(LENGTH) % 2)
        parts[name] = Dataset.from_dict({"numbers": numbers.tolist(), "label": [("low", "high")[i] for i in labels]})
    return DatasetDict(parts)


def flags(checkpoints, folder) -> list[str]:
    return [
        "--model_name_or_path", checkpoints("bert"), "--dataset_name", "in-memory", "--output_dir", str(folder),
        "--num_train_epochs", "4", "--learning_rate", "3e-3", "--bf16", "false", "--seed", "1",
    ]  # fmt: skip


def test_rows_of_numbers_are_trained_on_judged_shown_and_predicted(data, checkpoints, tmp_path):
    config = start_run(parse(flags(checkpoints, tmp_path / "run")), data)
    splits = audit(load_splits(config.data, TASK, data), TASK)
    checkpoint = TASK.load_model(config, splits.output, splits.train)
    config, plan = make_plan(config, TASK, checkpoint, splits)
    timing = train(config, TASK, splits, checkpoint, plan)
    results = evaluate(config, TASK, splits, plan, timing)
    assert results.metrics["test"]["accuracy"] > 0.9
    assert results.details["headline"]["baseline"]["name"] == "means and logistic regression"
    write_report(config.output_dir)
    verify(config, TASK, splits, checkpoint)
    write_model_card(config, TASK, splits, plan, results)
    assert {"report.html", "README.md", "metrics.json", "predictions.parquet"} <= {
        path.name for path in config.output_dir.iterdir()
    }
    kept = json.loads((config.output_dir / "verify" / "sample.json").read_text())
    assert kept["rows"][0]["input"] == data["test"]["numbers"][0]

    file = tmp_path / "new.parquet"
    data["test"].remove_columns("label").to_parquet(file)
    given = open_unlabelled(str(file), NUMBERS.rows, config.data)
    [piece] = given.pieces(100)
    model = load_artifact(config.output_dir / "model", TASK.auto_class)
    labeller = Labeller(TASK, model, NUMBERS.load_processor(""), TASK.outputs.of_model(model.config))
    answers = labeller.output.answers(labeller.predict(labeller.encode(piece), 16))["prediction"]
    assert np.mean(np.array(answers) == np.array(data["test"]["label"][:])) == results.metrics["test"]["accuracy"]


def test_rows_of_numbers_are_checked(data, checkpoints, tmp_path):
    config = start_run(parse(flags(checkpoints, tmp_path / "run")), data)
    sections, inspection = check_data(config, TASK, load_splits(config.data, TASK, data))
    sections += check_model(config, TASK, inspection, None)
    by_key = {section.key: section for section in sections}
    assert by_key["columns"].facts["columns"][0] == {
        "column": "numbers",
        "holds": "numbers",
        "why": "the only column of numbers",
    }
    assert by_key["numbers"].sentences == ["20 levels are told apart."]
    assert not [finding for section in sections for finding in section.findings if finding.severity == "error"]
