"""The peers: a plain ``transformers.Trainer`` with the defaults of the transformers example scripts, in float32.

Images follow ``run_image_classification.py`` (random crops and flips of images that are decoded at every access,
8 rows per step). Recordings follow ``run_audio_classification.py`` (features of at most 20 seconds, computed at every
access, 8 rows per step). Words follow ``run_ner.py`` (padded to the longest text of a batch of 8). Texts follow ``run_glue.py``
and ``run_classification.py`` (padded to 128 tokens, 32 rows per step, as in the README of the examples). Rows and frozen
parameters are the same as on our side.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
from datasets import Image
from torchvision.transforms import (
    CenterCrop,
    Compose,
    Lambda,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)
from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)

from hf_finetune.data.audio.decode import open_audio
from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.models import read_stages
from hf_finetune.strategies.phases import Rates, make_phases
from measure.rows import read
from measure.sides import install_clock, now

MOST_SECONDS = 20  # of a recording


def trainer_images(strategy: str, settings: dict[str, Any], judge: bool, **flags: Any) -> dict[str, Any]:
    """Fine-tune on images as ``run_image_classification.py`` does.

    Args:
        strategy: which parameters get no gradient, as ``--strategy`` of ours.
        settings: ``TrainingArguments`` in addition to the example's.
        judge: whether the trained model is evaluated on the test rows.
        flags: model and data, as for ours.
    """
    _, splits = read("image-classification", flags)
    name = flags["model_name_or_path"]
    processor = AutoImageProcessor.from_pretrained(name)
    model = AutoModelForImageClassification.from_pretrained(
        name, num_labels=len(splits.output.names), ignore_mismatched_sizes=True
    )
    random_views, plain_views = example_transforms(processor)
    train, validation, test = (
        None if rows is None else with_views(rows, views)
        for rows, views in (
            (splits.train, random_views),
            (splits.validation, plain_views),
            (splits.test, plain_views),
        )
    )

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        pixels = torch.stack([row["pixel_values"] for row in rows])
        return {"pixel_values": pixels, "labels": torch.tensor([row["label"] for row in rows])}

    settings = {"per_device_train_batch_size": 8, "remove_unused_columns": False} | settings
    return fit(model, strategy, train, validation, test if judge else None, collate, settings)


def trainer_texts(strategy: str, settings: dict[str, Any], judge: bool, **flags: Any) -> dict[str, Any]:
    """Fine-tune on texts as ``run_glue.py`` does; arguments as in :func:`trainer_images`."""
    _, splits = read("text-classification", flags)
    name = flags["model_name_or_path"]
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=len(splits.output.names))

    def tokenize(rows: dict[str, list[Any]]) -> Any:
        return tokenizer(rows["text"], padding="max_length", max_length=128, truncation=True)

    train, validation, test = (
        None if rows is None else rows.map(tokenize, batched=True)
        for rows in (splits.train, splits.validation, splits.test)
    )
    settings = {"per_device_train_batch_size": 32} | settings
    return fit(model, strategy, train, validation, test if judge else None, None, settings)


def trainer_words(strategy: str, settings: dict[str, Any], judge: bool, **flags: Any) -> dict[str, Any]:
    """Fine-tune on words as ``run_ner.py`` does; arguments as in :func:`trainer_images`. ``f1`` is that of the entities."""
    _, splits = read("token-classification", flags)
    output, name = splits.output, flags["model_name_or_path"]
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForTokenClassification.from_pretrained(name, num_labels=len(output.names))

    def places(text: str) -> np.ndarray:
        ends = np.cumsum([len(word) + 1 for word in text.split(" ")]) - 1
        return np.stack([np.concatenate([[0], ends[:-1] + 1]), ends], axis=1)

    def align(rows: dict[str, list[Any]]) -> Any:
        tokens = tokenizer([text.split(" ") for text in rows["text"]], truncation=True, is_split_into_words=True)
        tokens["labels"] = []
        for number, text in enumerate(rows["text"]):
            tags = output.tags_of(places(text), np.array(rows["label"][number], dtype=int).reshape(-1, 3))
            words = tokens.word_ids(number)
            first = [word is not None and word != before for word, before in zip(words, [None, *words], strict=False)]
            tokens["labels"].append([int(tags[w]) if own else -100 for w, own in zip(words, first, strict=True)])
        return tokens

    train, validation, test = (
        None if rows is None else rows.map(align, batched=True, remove_columns=rows.column_names)
        for rows in (splits.train, splits.validation, splits.test)
    )
    collate = DataCollatorForTokenClassification(tokenizer)

    def score(scored: Any) -> dict[str, float]:
        raw, truth = output.gather(scored.predictions, scored.label_ids, None)
        return metrics_of(output, raw, truth)

    settings = {"per_device_train_batch_size": 8} | settings
    return fit(model, strategy, train, validation, test if judge else None, collate, settings, score)


def trainer_recordings(strategy: str, settings: dict[str, Any], judge: bool, **flags: Any) -> dict[str, Any]:
    """Fine-tune on recordings as ``run_audio_classification.py`` does; arguments as in :func:`trainer_images`."""
    _, splits = read("audio-classification", flags)
    name = flags["model_name_or_path"]
    extractor = AutoFeatureExtractor.from_pretrained(name)
    model = AutoModelForAudioClassification.from_pretrained(name, num_labels=len(splits.output.names))
    if hasattr(model, "freeze_feature_encoder"):
        model.freeze_feature_encoder()
    rate = extractor.sampling_rate

    def features(rows: dict[str, list[Any]]) -> dict[str, Any]:
        samples = [open_audio(cell, rate)[: MOST_SECONDS * rate] for cell in rows["audio"]]
        return dict(extractor(samples, sampling_rate=rate)) | {"labels": rows["label"]}

    train, validation, test = (
        None if rows is None else rows.with_transform(features)
        for rows in (splits.train, splits.validation, splits.test)
    )
    settings = {"per_device_train_batch_size": 8, "remove_unused_columns": False} | settings
    return fit(model, strategy, train, validation, test if judge else None, None, settings)


def fit(
    model: Any,
    strategy: str,
    train: Any,
    validation: Any,
    test: Any,
    collate: Any,
    settings: dict[str, Any],
    score: Any = None,
) -> dict[str, Any]:
    """Train, and time each epoch and step and, in ``seconds``, all of ``train()``; ``score`` replaces the accuracy."""
    freeze(model, strategy)
    clock = install_clock()
    with tempfile.TemporaryDirectory() as scratch:
        quiet = {"report_to": "none", "disable_tqdm": True}
        trainer = Trainer(
            model=model,
            args=TrainingArguments(output_dir=scratch, **quiet, **settings),
            train_dataset=train,
            eval_dataset=validation,
            data_collator=collate,
            compute_metrics=score or accuracy,
        )
        began = now()
        trainer.train()
        seconds = now() - began
        scores = trainer.evaluate(test) if test is not None else {}
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return clock.figures() | {
        "seconds": seconds,
        "trainable": trainable,
        "accuracy": scores.get("eval_accuracy"),
        "f1": scores.get("eval_f1"),
    }


def freeze(model: Any, strategy: str) -> None:
    """Set ``requires_grad = False`` on what our strategy freezes, and nothing else, as most scripts do."""
    stages = read_stages(model)
    (phase,) = make_phases(strategy, stages, Rates(*[1.0] * len(Rates.__dataclass_fields__)))
    frozen = {name for stage in stages if stage.name not in phase.trains for name in stage.parameters}
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad = False


def example_transforms(processor: Any) -> tuple[Any, Any]:
    """Return the training and evaluation transforms of ``run_image_classification.py``."""
    if hasattr(processor, "train_transforms"):  # timm's
        return processor.train_transforms, processor.val_transforms
    size = processor.size
    side = size["shortest_edge"] if "shortest_edge" in size else (size["height"], size["width"])
    mean, deviation = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    scale = Normalize(mean, deviation) if mean and deviation else Lambda(lambda pixels: pixels)
    return (
        Compose([RandomResizedCrop(side), RandomHorizontalFlip(), ToTensor(), scale]),
        Compose([Resize(side), CenterCrop(side), ToTensor(), scale]),
    )


def with_views(rows: Any, views: Any) -> Any:
    """Return the rows, decoded and transformed at every access."""

    def transform(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        batch["pixel_values"] = [views(image.convert("RGB")) for image in batch["image"]]
        return batch

    return rows.cast_column("image", Image()).with_transform(transform)


def accuracy(scored: Any) -> dict[str, float]:
    """Return the accuracy."""
    logits = scored.predictions[0] if isinstance(scored.predictions, tuple) else scored.predictions
    return {"accuracy": float((np.argmax(logits, axis=1) == scored.label_ids).mean())}


def nothing() -> dict[str, Any]:
    """Do nothing: the memory of the imports of the peer."""
    return {}
