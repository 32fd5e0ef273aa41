"""Suspicious labels: planted mistakes come first, clean labels give few, and what cannot be judged is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from hf_finetune.checks import label_noise
from hf_finetune.checks.label_noise import backbone_features, check_label_noise, find_suspicious
from hf_finetune.config import parse
from hf_finetune.data.splits.splits import Splits
from hf_finetune.tasks import image_classification, text_classification
from hf_finetune.tasks.outputs import Regression, SingleLabel


def clusters(rows: int, classes: int = 3, seed: int = 0):
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    centres = random.normal(size=(classes, 16)) * 4
    return centres[labels] + random.normal(size=(rows, 16)), labels


def test_planted_mistakes_are_found_with_their_class():
    features, labels = clusters(300)
    wrong = labels.copy()
    planted = [5, 50, 100, 200, 299]
    wrong[planted] = (labels[planted] + 1) % 3
    found = find_suspicious(features, wrong)
    assert sorted(found.rows[:5].tolist()) == planted
    assert found.suggested[:5].tolist() == labels[found.rows[:5]].tolist()
    assert len(found.rows) <= 8
    assert (np.diff(found.margin) <= 0).all()


def test_clean_labels_are_left_alone():
    found = find_suspicious(*clusters(300, seed=1))
    assert len(found.rows) <= 3
    assert found.accuracy > 0.97


@pytest.mark.parametrize(
    ("planted", "accuracy", "severity"), [(3, 0.97, "info"), (20, 0.8, "warning"), (20, 0.6, "info")]
)
def test_many_suspicious_rows_are_a_warning_if_the_classifier_is_good(planted, accuracy, severity):
    splits = text_splits(["x"] * 100, [0, 1] * 50)
    found = label_noise.Suspicion(np.arange(planted), np.ones(planted, dtype=int), np.ones(planted), accuracy)
    section = label_noise.Section("", "")
    label_noise._report(section, splits, found, splits.train)
    assert [finding.severity for finding in section.findings] == [severity]


def text_splits(words: list[str], labels: list[int]) -> Splits:
    rows = {"id": [f"r{i}" for i in range(len(words))], "text": words, "label": labels}
    return Splits(Dataset.from_dict(rows), None, None, SingleLabel(["up", "down"]), "here")


def run(splits, checkpoints):
    config = parse(["--model_name_or_path", checkpoints("bert"), "--dataset_name", "x"])
    checkpoint = text_classification.TASK.load_model(config, splits.output)
    before = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}
    encode = lambda split: text_classification.TASK.input.encode(split, checkpoint.processor)  # noqa: E731
    section = check_label_noise(
        splits, checkpoint, encode, text_classification.TASK.input.collator(checkpoint.processor), 8
    )
    assert all((before[name] == value).all() for name, value in checkpoint.model.state_dict().items())
    assert not any(module._forward_hooks for module in checkpoint.model.modules())
    return section


def test_a_mislabelled_text_is_named(checkpoints):
    words = ["good good good", "bad bad bad"] * 40
    labels = [0, 1] * 40
    labels[10] = 1
    section = run(text_splits(words, labels), checkpoints)
    (finding,) = section.findings
    assert (finding.severity, finding.rows) == ("info", ["r10 (down, looks like up)"])
    assert section.facts["rows"] == 80
    assert section.facts["out_of_fold_accuracy"] == pytest.approx(79 / 80)


def test_where_features_say_nothing_no_label_is_suspected(checkpoints):
    random = np.random.default_rng(0)
    section = run(text_splits(["the film"] * 80, random.integers(0, 2, 80).tolist()), checkpoints)
    assert section.findings == []
    assert "too little is learnt to suspect a label" in section.sentences[-1]


@pytest.mark.parametrize("rows", [10, 49])
def test_few_rows_are_not_judged(rows, checkpoints):
    section = run(text_splits([f"the film {i}" for i in range(rows)], [i % 2 for i in range(rows)]), checkpoints)
    assert section.findings == []
    assert section.sentences == ["Not looked for: 50 training rows of two classes with 5 rows each are needed."]


def test_numbers_are_not_judged():
    rows = Dataset.from_dict({"id": ["0"], "text": ["x"], "label": [[1.0]]})
    splits = Splits(rows, None, None, Regression(["y"]), "here")
    section = check_label_noise(splits, None, None, None, 8)
    assert section.sentences == ["Not looked for: rows have no single class."]


def test_of_many_rows_some_of_each_class_are_drawn(monkeypatch):
    monkeypatch.setattr(label_noise, "MOST_ROWS", 100)
    labels = np.array([0] * 900 + [1] * 90 + [2] * 7 + [3] * 4)
    splits = text_splits(["x"] * len(labels), labels.tolist())
    splits.output = SingleLabel(["a", "b", "c", "d"])
    section = label_noise.Section("", "")
    drawn = label_noise._usable(section, splits.output.names, labels)
    assert np.bincount(labels[drawn], minlength=4).tolist() == [90, 9, 5, 0]
    assert section.sentences == ["1 classes with fewer than 5 training rows are left out."]


@pytest.mark.parametrize(("name", "width"), [("resnet", 16), ("vit", 32), ("timm-vit", 64), ("mobilenet", 256)])
def test_features_of_images_are_a_vector_a_row(name, width, checkpoints, image_folder):
    from hf_finetune.data.readers.cell import IMAGE
    from hf_finetune.data.readers.folder import open_classes

    rows = open_classes(Path(image_folder, "validation"), IMAGE).keep()
    config = parse(["--model_name_or_path", checkpoints(name), "--dataset_name", "x"])
    checkpoint = image_classification.TASK.load_model(config, SingleLabel(["a", "b", "c"]))
    inputs = image_classification.TASK.input.encode(rows, checkpoint.processor)
    collate = image_classification.TASK.input.collator(checkpoint.processor)
    one, other = (backbone_features(checkpoint, inputs, collate, size) for size in (5, 12))
    assert one.shape == (12, width)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert np.ptp(one, axis=0).max() > 0
