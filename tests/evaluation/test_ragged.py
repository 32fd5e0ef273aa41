"""An output whose rows differ in length goes through everything that evaluates, with nothing changed there.

``Tags`` is a small output for this test alone: one tag a token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_finetune.data import Splits
from hf_finetune.data.rows.duplicates import add_conflicts, find_duplicates, keyed_rows
from hf_finetune.data.rows.finding import Section
from hf_finetune.evaluation.baseline import Baseline, make_baseline
from hf_finetune.evaluation.compare_runs import compare_runs, read_answers
from hf_finetune.evaluation.intervals import difference, intervals
from hf_finetune.evaluation.judge import Judged, judge
from hf_finetune.evaluation.metrics import metric_function, metrics_of, score_rows
from hf_finetune.evaluation.prediction.labeller import predict_rows
from hf_finetune.evaluation.results import score, write_results
from hf_finetune.tasks.inputs import text
from hf_finetune.tasks.outputs.output import Floor, Output

TAGS = ["O", "PER", "LOC"]


def ragged(rows) -> np.ndarray:
    """An object array of shape (rows,) that holds an array for each row."""
    found = np.empty(len(rows), dtype=object)
    for index, row in enumerate(rows):
        found[index] = np.asarray(row)
    return found


@dataclass(frozen=True)
class TagStatistics:
    """Of each row the tokens, those that are right, those with a tag, those that are answered with one, and hits; (rows, 5)."""

    counts: np.ndarray
    losses: np.ndarray
    class_rows = None

    def __len__(self):
        return len(self.counts)

    def __getitem__(self, rows):
        return TagStatistics(self.counts[rows], self.losses[rows])

    @property
    def size(self):
        return len(self.counts)


@dataclass(frozen=True)
class Tags(Output):
    """Raw outputs hold an array of shape (tokens, tags) for each row, truth one of shape (tokens,)."""

    names: list[str]

    NAME = "tags"
    METRICS: ClassVar[dict[str, bool]] = {"f1": True, "token_accuracy": True, "loss": False}
    SHARES = frozenset({"f1", "token_accuracy"})
    CLASS_MEANS = frozenset()
    FLOOR = Floor("majority", "token_accuracy", "token accuracy of always answering the most frequent tag")
    HAS_CLASSES, ONE_CLASS = True, False

    @classmethod
    def restore(cls, name, names, tuned):
        return cls(names)

    def truth_of(self, split):
        return ragged(split["label"][:])

    def describe(self):
        return f"{len(self.names)} tags"

    def spell(self, label):
        return " ".join(self.names[tag] for tag in label)

    def predict(self, model, inputs):
        lengths = inputs["lengths"].tolist()
        return [row[:length].numpy() for row, length in zip(model(inputs["values"]), lengths, strict=True)]

    def pool(self, raw, rows):
        raise NotImplementedError

    def gather(self, predictions, labels, rows):
        kept = [row >= 0 for row in labels]
        return ragged([p[k] for p, k in zip(predictions, kept, strict=True)]), ragged(
            [t[k] for t, k in zip(labels, kept, strict=True)]
        )

    def read_raw(self, cells):
        return ragged([np.stack(list(cell)) for cell in cells])

    def statistics(self, raw, truth):
        counts = [
            (len(t), (a == t).sum(), (t > 0).sum(), (a > 0).sum(), ((a == t) & (t > 0)).sum())
            for a, t in zip(self.decide(raw), truth, strict=True)
        ]
        return TagStatistics(np.array(counts, dtype=float), self.row_losses(raw, truth))

    def score(self, statistics, weights):
        tokens, right, true, answered, hits = (weights @ statistics.counts).T
        with np.errstate(invalid="ignore", divide="ignore"):
            f1 = 2 * hits / (true + answered)
        return {"f1": f1, "token_accuracy": right / tokens, "loss": weights @ statistics.losses / weights.sum(axis=1)}

    def per_label(self, statistics):
        return {}

    def row_losses(self, raw, truth):
        def loss(logits, tags):
            logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            return -logs[np.arange(len(tags)), tags].mean()

        return np.array([loss(r.astype(float), t) for r, t in zip(raw, truth, strict=True)])

    def wrong(self, raw, truth):
        return np.array([(a != t).any() for a, t in zip(self.decide(raw), truth, strict=True)])

    def constant(self, truth):
        return ragged([np.tile([9.0, 0.0, 0.0], (len(row), 1)) for row in truth])

    def label_errors(self, raw, truth):
        return None

    def own_baseline(self, train):
        counts = {}
        for row in train:
            for token, tag in zip(row["text"].split(), row["label"], strict=True):
                counts.setdefault(token, np.zeros(3))[tag] += 1
        unknown = np.array([1.0, 0.0, 0.0])
        return "the most frequent tag of each word", lambda split: ragged(
            [np.stack([counts.get(token, unknown) for token in text.split()]) for text in split["text"][:]]
        )

    def sections(self, raw, truth):
        return {}

    def tuned(self):
        return {}

    def decide(self, raw):
        return ragged([row.argmax(axis=1) for row in raw])

    def answers(self, raw):
        return {"prediction": self.truth(self.decide(raw))}

    def truth(self, truth):
        return [[self.names[tag] for tag in row] for row in truth]

    def read_truth(self, cells):
        return ragged([[self.names.index(tag) for tag in cell] for cell in cells])

    def in_order(self, names, raw, truth):
        order = [self.names.index(name) for name in names]
        tags = np.argsort(order)
        return replace(self, names=names), ragged([r[:, order] for r in raw]), ragged([tags[t] for t in truth])


OUTPUT = Tags(TAGS)


def judged(seed=0, rows=60, right=0.8, equal_lengths=False, **columns):
    """Rows of 1 to 9 tokens; ``right`` is the share of tokens whose logits favour their tag."""
    random = np.random.default_rng(7)
    lengths = np.full(rows, 4) if equal_lengths else random.integers(1, 10, rows)
    truth = ragged([random.choice(3, n, p=[0.6, 0.2, 0.2]) for n in lengths])
    own = np.random.default_rng(seed)
    raw = ragged(
        [
            3 * np.eye(3)[np.where(own.random(len(t)) < right, t, (t + 1) % 3)] + own.normal(size=(len(t), 3))
            for t in truth
        ]
    )
    split = Dataset.from_dict(
        {
            "id": [f"r{i}" for i in range(rows)],
            "text": [" ".join(["token"] * n) + str(i) for i, n in enumerate(lengths)],
            "label": [row.tolist() for row in truth],
        }
        | columns
    )
    return Judged(split, OUTPUT, raw, truth, text)


def test_a_model_gives_an_array_for_each_row():
    lengths = [3, 1, 4, 2, 5]
    rows = [{"values": torch.full((5, 3), float(i)), "length": n} for i, n in enumerate(lengths)]

    def collate(batch):
        return {
            "values": torch.stack([row["values"] for row in batch]),
            "lengths": torch.tensor([row["length"] for row in batch]),
        }

    raw = predict_rows(torch.nn.Identity(), rows, collate, 2, predict=OUTPUT.predict, pool=OUTPUT.pool)
    assert (raw.dtype, raw.shape) == (object, (5,))
    assert [row.shape for row in raw] == [(n, 3) for n in lengths]
    assert [row[0, 0] for row in raw] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("equal_lengths", [False, True])
def test_judge_intervals_slices_and_baseline(equal_lengths):
    answers = judged(
        equal_lengths=equal_lengths, **{"slice: source": ["web", "book"] * 30, "group": list("abcdef") * 10}
    )
    simple = judged(seed=1, right=0.5, equal_lengths=equal_lengths)
    found = judge(answers, score(answers), "f1", Baseline("simple", OUTPUT, simple.raw))
    value = found["headline"]["value"]
    low, high = found["headline"]["interval"]
    assert low < value < high
    assert found["headline"]["baseline"]["difference_interval"][0] > 0
    assert "beats the baseline, simple" in found["headline"]["verdict"]
    assert found["headline"]["floor"] == {"name": "majority_f1", "value": 0.0}
    (sliced,) = found["slices"]
    web = next(each for each in sliced["values"] if each["value"] == "web")
    rows = np.arange(0, 60, 2)
    assert web["metrics"] == pytest.approx(metrics_of(OUTPUT, answers.raw[rows], answers.truth[rows]))
    assert web["intervals"]["token_accuracy"][0] < web["metrics"]["token_accuracy"]
    worst = found["top_losses"][0]
    assert isinstance(worst["prediction"], list)
    assert worst["label"] != worst["prediction"]


def test_groups_and_pairs():
    one, other = judged(), judged(seed=1, right=0.6)
    groups = np.repeat(np.arange(6), 10)
    alone, grouped = (intervals(OUTPUT, one.statistics, each)["f1"] for each in (None, groups))
    assert alone != grouped
    gap = difference(OUTPUT, one.statistics, other.statistics, metric="f1")
    assert gap.value == pytest.approx(
        score_rows(OUTPUT, one.statistics)["f1"] - metrics_of(OUTPUT, other.raw, other.truth)["f1"]
    )
    assert 0 < gap.low < gap.high


def test_the_trainer_gets_metrics_of_padded_rows():
    answers = judged(rows=5)
    width = max(map(len, answers.truth))
    predictions = np.stack([np.pad(row, ((0, width - len(row)), (0, 0))) for row in answers.raw])
    labels = np.stack([np.pad(row, (0, width - len(row)), constant_values=-100) for row in answers.truth])
    found = metric_function(OUTPUT)(SimpleNamespace(predictions=predictions, label_ids=labels))
    expected = metrics_of(OUTPUT, answers.raw, answers.truth)
    assert found == pytest.approx({name: expected[name] for name in ("f1", "token_accuracy")})


def test_runs_are_written_read_back_and_compared(tmp_path, monkeypatch):
    about = {"task": "tagging", "problem": "tags", "labels": TAGS, "columns": {"text": ["text"]}}
    monkeypatch.setattr("hf_finetune.evaluation.compare_runs.get_task", lambda name: SimpleNamespace(outputs=Tags))
    for name, seed in (("a", 0), ("b", 1)):
        answers = judged(seed=seed, right=0.9 - 0.3 * seed)
        (tmp_path / name).mkdir()
        results = write_results(tmp_path / name, {"test": answers}, "f1", about, {}, 0.0)
        assert results.metrics["test_intervals"]["f1"]
        again = read_answers(tmp_path / name)
        assert all(np.array_equal(*pair) for pair in zip(again.raw, answers.raw, strict=True))
        assert all(np.array_equal(*pair) for pair in zip(again.truth, answers.truth, strict=True))
        assert json.loads((tmp_path / name / "evaluation.json").read_text())["headline"]["metric"] == "f1"
    (found,) = compare_runs([tmp_path / "a", tmp_path / "b"])["comparisons"]
    assert found["difference"]["value"] < 0
    assert "a is better than b" in found["verdict"]
    assert "mcnemar" not in found


def test_an_output_may_have_a_baseline_of_its_own():
    train = Dataset.from_dict(
        {"id": ["0", "1", "2"], "text": ["anna met bob", "bob slept", "he slept"], "label": [[1, 0, 1], [1, 0], [0, 0]]}
    )
    test = Dataset.from_dict({"id": ["0"], "text": ["bob met carl there"], "label": [[1, 0, 1, 0]]})
    found = make_baseline(None, None, Splits(train, None, test, OUTPUT, "here"), "test")
    assert found.name == "the most frequent tag of each word"
    assert found.output.answers(found.raw)["prediction"] == [["PER", "O", "O", "O"]]


def test_equal_texts_with_different_tags_are_found():
    rows = Dataset.from_dict({"id": ["0", "1", "2"], "text": ["x y", "x y", "x y"], "label": [[0, 1], [0, 1], [0, 2]]})
    splits = Splits(rows, None, None, OUTPUT, "here")
    duplicates = find_duplicates(keyed_rows(splits, text.rows))
    assert duplicates["label"].nunique() == 2
    section = Section("", "")
    add_conflicts(section, splits, duplicates, "labels-conflict", "inputs")
    assert section.findings[0].message == "1 inputs occur with different labels"
    assert [row.count(" = ") for row in section.findings[0].rows] == [2]
