"""The workloads: data and checkpoints of the demo or of a shared folder, and models with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hf_finetune.demo import image_checkpoint, image_data, text_checkpoint, text_data
from hf_finetune.files import cache_dir
from measure.paired import run_side

PEERS = {
    "text-classification": "peers:trainer_texts",
    "image-classification": "peers:trainer_images",
    "token-classification": "peers:trainer_words",
    "audio-classification": "peers:trainer_recordings",
}

Side = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Workload:
    """A model, its rows, and a strategy.

    Args:
        name: name in the table.
        task: ``text-classification`` or ``image-classification``.
        strategy: ``--strategy``.
        flags: model, data and number of rows, as command-line flags.
    """

    name: str
    task: str
    strategy: str
    flags: dict[str, Any]

    def ours(self, **more: Any) -> Side:
        """Return our side, with more flags."""
        return "sides:ours", {"task": self.task, "strategy": self.strategy, **self.flags, **more}

    def peer(self, *, judge: bool = False, **settings: Any) -> Side:
        """Return the plain Trainer, with more ``TrainingArguments``; ``judge`` adds its accuracy on the test rows."""
        return PEERS[self.task], {"strategy": self.strategy, "settings": settings, "judge": judge, **self.flags}


def photographs(shared: Path | None, strategy: str, **samples: int) -> Workload:
    """Return Flowers-12 with MobileNetV1 from the shared folder, or the demo's solar cells with EfficientNet-Lite0."""
    if shared:
        flags = {
            "model_name_or_path": str(shared / "models" / "mobilenet_v1_075_224"),
            "dataset_name": str(shared / "data" / "flowers12"),
        }
        name = "Flowers-12, MobileNetV1 0.75"
    else:
        cache = cache_dir()
        flags = {"model_name_or_path": str(image_checkpoint(cache)), "dataset_name": str(image_data(cache))}
        name = "solar cells, EfficientNet-Lite0"
    return Workload(name, "image-classification", strategy, flags | samples)


def film_reviews(shared: Path | None, strategy: str, **samples: int) -> Workload:
    """Return SST-2 from the shared folder or the demo's film reviews, with the demo's MiniLM."""
    cache = cache_dir()
    if shared:
        flags = {"dataset_name": str(shared / "data" / "sst2")}
        name = "SST-2, MiniLM-L6"
    else:
        flags = {f"{split}_file": str(path) for split, path in text_data(cache).items()}
        name = "Rotten Tomatoes, MiniLM-L6"
    model = {"model_name_or_path": str(text_checkpoint(cache))}
    return Workload(name, "text-classification", strategy, model | flags | samples)


def tweets(shared: Path, strategy: str, **samples: int) -> Workload:
    """Return WNUT-17 from the shared folder, with the demo's MiniLM."""
    files = {
        f"{split}_file": str(shared / "data" / "wnut17" / f"{split}.jsonl") for split in ("train", "validation", "test")
    }
    flags = {"model_name_or_path": str(text_checkpoint(cache_dir())), **files, **samples}
    return Workload("WNUT-17, MiniLM-L6", "token-classification", strategy, flags)


def spoken_digits(shared: Path, strategy: str, folder: Path, rows: dict[str, int] | None = None) -> Workload:
    """Return the spoken digits of FSDD with Whisper tiny.en: four speakers in training, one in each other split.

    Args:
        shared: see :func:`film_reviews`.
        strategy: ``--strategy``.
        folder: where the tables of the splits are written.
        rows: split → rows, drawn at random; None for all.
    """
    data = shared / "data" / "fsdd"
    table = pd.read_csv(data / "metadata.csv")
    flags = {"model_name_or_path": str(shared / "models" / "whisper_tiny_en"), "audio_root": str(data)}
    for split, part in table.groupby("split_speaker"):
        drawn = part.sample(rows[split] if rows else len(part), random_state=0)
        flags[f"{split}_file"] = str(folder / f"{split}.csv")
        drawn[["file", "label", "speaker"]].to_csv(flags[f"{split}_file"], index=False)
    return Workload(
        "spoken digits, Whisper tiny.en", "audio-classification", strategy, flags | {"label_column": "label"}
    )


def partly_frozen(shared: Path | None, folder: Path, *, images: int, texts: int) -> list[Workload]:
    """Return four models with most blocks frozen: MiniLM 4 of 6, BERT 10 of 12, ResNet-50 through layer3, ViT-S/16 10 of 12.

    Args:
        shared: see :func:`film_reviews`.
        folder: where models and images are written.
        images: training rows of the vision models.
        texts: training rows of the text encoders.
    """
    data, bert = folder / "images", folder / "bert"
    run_side("models:make_images", folder=str(data), train=images, validation=8)
    samples = {"max_train_samples": texts, "max_eval_samples": 16, "max_predict_samples": 16}
    reviews = film_reviews(shared, "freeze:4", **samples)
    run_side("models:bert_small", folder=str(bert), tokenizer=reviews.flags["model_name_or_path"])
    workloads = [
        Workload("MiniLM-L6, 4 of 6 blocks", reviews.task, "freeze:4", reviews.flags),
        Workload(
            "BERT 12 x 384, 10 of 12 blocks",
            reviews.task,
            "freeze:10",
            reviews.flags | {"model_name_or_path": str(bert)},
        ),
    ]
    for name, maker, strategy in (
        ("ResNet-50 through layer3", "resnet50", "freeze:layer3"),
        ("ViT-S/16, 10 of 12 blocks", "vit_small", "freeze:10"),
    ):
        run_side(f"models:{maker}", folder=str(folder / maker))
        flags = {"model_name_or_path": str(folder / maker), "dataset_name": str(data)}
        workloads.append(Workload(name, "image-classification", strategy, flags))
    return workloads
