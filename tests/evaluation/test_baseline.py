"""The cheap baseline is a linear model on cheap features of the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from hf_finetune.config import parse
from hf_finetune.data import load_splits
from hf_finetune.evaluation import baseline as module
from hf_finetune.evaluation.baseline import make_baseline
from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.tasks import get_task
from hf_finetune.tasks.outputs import SingleLabel

TEXT, IMAGE = get_task("text-classification"), get_task("image-classification")


def configured(model, *flags):
    return parse(["--model_name_or_path", model, "--per_device_eval_batch_size", "8", *flags])


def of_files(files, *splits):
    flags = [word for split in splits for word in (f"--{split}_file", files[split])]
    config = configured("none", *flags)
    return config, load_splits(config.data, get_task("text-classification"))


def in_memory(**splits):
    config = configured("none", "--train_file", "a.csv")
    rows = DatasetDict({name: Dataset.from_dict(columns) for name, columns in splits.items()})
    return config, load_splits(config.data, get_task("text-classification"), rows)


def test_texts_are_tf_idf_and_logistic_regression(text_files):
    config, splits = of_files(text_files, "train", "test")
    splits.validation = None
    found = make_baseline(config, TEXT, splits, "test")
    assert found.name == "tf-idf and logistic regression"
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b").fit(splits.train["text"][:])
    model = LogisticRegression(C=1.0, max_iter=300, tol=1e-3)
    model.fit(vectorizer.transform(splits.train["text"][:]), splits.train["label"][:])
    expected = model.predict_log_proba(vectorizer.transform(splits.test["text"][:]))
    assert found.raw == pytest.approx(expected, abs=1e-6)
    assert metrics_of(found.output, found.raw, np.asarray(splits.test["label"][:]))["accuracy"] > 0.9


def test_the_strength_is_the_better_one_on_the_validation_rows(text_files, monkeypatch):
    config, splits = of_files(text_files, "train", "validation", "test")
    tried = []
    fit = SingleLabel.fit_linear
    monkeypatch.setattr(SingleLabel, "fit_linear", lambda *args: tried.append(args[3]) or fit(*args))
    found = make_baseline(config, TEXT, splits, "test")
    assert tried == [1.0, 10.0]
    labels = np.asarray(splits.validation["label"][:])
    alone = {}
    for strength in tried:
        monkeypatch.setattr(SingleLabel, "fit_linear", lambda *args, s=strength: fit(*args[:3], s))
        each = make_baseline(config, TEXT, splits, "validation")
        alone[strength] = metrics_of(each.output, each.raw, labels)["loss"], make_baseline(config, TEXT, splits, "test")
    best = min(alone.values(), key=lambda pair: pair[0])[1]
    assert found.raw == pytest.approx(best.raw)


def test_a_class_without_training_rows_is_never_answered():
    config, splits = in_memory(
        train={"text": ["a b", "b c", "c d", "d e"] * 3, "label": ["x", "y", "x", "y"] * 3},
        test={"text": ["a", "c"], "label": ["x", "y"]},
    )
    splits.output = SingleLabel(["x", "y", "never"])
    splits.validation = None
    found = make_baseline(config, TEXT, splits, "test")
    assert found.raw.shape == (2, 3)
    assert (found.raw[:, 2] < -20).all()


def test_pairs_bring_their_cosine():
    words = [f"word{i}" for i in range(40)]
    random = np.random.default_rng(0)
    first = [" ".join(random.choice(words, 5)) for _ in range(200)]
    same = random.random(200) < 0.5
    second = [text if s else " ".join(random.choice(words, 5)) for text, s in zip(first, same, strict=True)]
    columns = {"sentence1": first, "sentence2": second, "score": same.astype(float) * 4 + random.normal(0, 0.1, 200)}
    half = {name: values[:100] for name, values in columns.items()}
    config, splits = in_memory(train=half, test={name: values[100:] for name, values in columns.items()})
    splits.validation = None
    found = make_baseline(config, TEXT, splits, "test")
    assert found.name == "tf-idf and ridge regression"
    assert metrics_of(found.output, found.raw, np.asarray(splits.test["label"][:]))["pearson"] > 0.8


def test_several_classes_get_thresholds_of_their_own():
    rows = {"text": ["red", "blue", "red blue", "green"] * 10, "label": [["r"], ["b"], ["r", "b"], []] * 10}
    config, splits = in_memory(train=rows, validation=rows, test=rows)
    found = make_baseline(config, TEXT, splits, "test")
    assert len(found.output.thresholds) == 2
    assert metrics_of(found.output, found.raw, np.asarray(splits.test["label"][:]))["f1_micro"] == 1.0


@pytest.mark.parametrize("model", ["resnet", "timm-resnet"])
def test_images_are_a_linear_probe_of_the_untouched_backbone(model, checkpoints, image_folder, capsys):
    import torch

    config = configured(
        checkpoints(model), "--dataset_name", image_folder, "--activation_cache", "off", "--bf16", "false"
    )
    splits = load_splits(config.data, get_task("image-classification"))
    found = make_baseline(config, IMAGE, splits, "test")
    assert found.name == "logistic regression on the untouched backbone"
    assert found.raw.shape == (13, 3)
    assert metrics_of(found.output, found.raw, np.asarray(splits.test["label"][:]))["accuracy"] > 0.8
    # The features are what the checkpoint's own pooling gives.
    checkpoint = IMAGE.load_model(config, splits.output)
    rows = IMAGE.input.encode(splits.test, checkpoint.processor)
    pixels = torch.stack([torch.as_tensor(rows[i]["pixel_values"]) for i in range(13)])
    network = checkpoint.model
    with torch.no_grad():
        pooled = (
            network.resnet(pixels).pooler_output.flatten(1)
            if model == "resnet"
            else network.timm_model.forward_head(network.timm_model.forward_features(pixels), pre_logits=True)
        )
    parts = {name: split for name, split in splits.items() if name != "validation"}
    features = module._backbone_features(config, IMAGE, splits, parts)
    train = module._backbone_features(config, IMAGE, splits, {"train": splits.train})["train"]
    assert np.allclose(train.mean(axis=0), 0, atol=1e-4)
    expected, got = pooled.numpy(), features["test"]
    assert np.corrcoef(expected.ravel() - expected.mean(), (got * expected.std(axis=0)).ravel())[0, 1] > 0.5
    correlations = [
        np.corrcoef(expected[:, i], got[:, i])[0, 1] for i in range(got.shape[1]) if expected[:, i].std() > 1e-6
    ]
    assert min(correlations) > 0.999


def test_many_rows_are_drawn_and_it_is_said(text_files, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 20)
    config, splits = of_files(text_files, "train", "test")
    assert (
        make_baseline(config, TEXT, splits, "test").name.endswith("on 20 of the 64 training rows")
        or len(splits.train) != 64
    )


def test_there_is_none_where_nothing_can_be_learnt(capsys):
    config, splits = in_memory(
        train={"text": ["!", "?"] * 4, "label": ["x", "y"] * 4}, test={"text": ["!"], "label": ["x"]}
    )
    assert make_baseline(config, TEXT, splits, "test") is None
    assert "No baseline: the texts contain no words." in capsys.readouterr().out
