"""The options of a run, one dataclass per concern, and those of single commands, with what ``--help`` says of each.

``Config`` is everything that a run was asked to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal


def option(default: Any, help: str, *, common: str = "", **more: str) -> Any:
    """Return a field of options: its default, and what ``--help`` says of it.

    The short help shows the first sentence, if ``common`` is the input of the task or ``all``; ``more`` may hold ``metavar``.
    """
    return field(default=default, metadata={"help": help, "common": common, **more})


@dataclass(frozen=True)
class ModelConfig:
    """The checkpoint and its head."""

    model_name_or_path: str | None = option(
        None, "Hub id or local folder of a transformers or timm checkpoint.", common="all"
    )
    model_revision: str = option("main", "Branch, tag or commit of the checkpoint.")
    trust_remote_code: bool = option(False, "Run Python code of the checkpoint.")
    head_hidden_size: int | None = option(None, "Make the head an MLP with one hidden layer of this many units.")


@dataclass(frozen=True)
class DataConfig:
    """The data: sources, columns and splits."""

    dataset_name: str | None = option(
        None,
        "Hub id, folder, archive or shards of the data. A folder contains images or .txt files by class, with or "
        "without splits, or is a saved DatasetDict; an archive of images is .zip, .tar or .tar.gz; shards are "
        "WebDataset (x-{000..010}.tar).",
        common="all",
    )
    dataset_config_name: str | None = option(None, "Configuration of a Hub data set.")
    dataset_revision: str | None = option(None, "Branch, tag or commit of a Hub data set.")
    streaming: bool = option(
        False,
        "Read the training rows from disk or the Hub in every epoch. For data larger than the disk; files may be "
        "given by a pattern ('data/*.csv', 'part-{000..012}.tar').",
        common="all",
    )
    train_file: str | None = option(
        None,
        "CSV, TSV, JSON, JSONL, Parquet or Arrow file of training rows. A table of images has a column of paths.",
        common="all",
    )
    validation_file: str | None = option(None, "File of validation rows.", common="all")
    test_file: str | None = option(None, "File of test rows.", common="all")
    train_dir: str | None = option(
        None,
        "Folder with one sub-folder per class, or an archive of images. It contains images or .txt files.",
        common="all",
    )
    validation_dir: str | None = option(None, "Folder of validation rows.")
    test_dir: str | None = option(None, "Folder of test rows.")
    encoding: str | None = option(None, "Encoding of CSV, TSV, JSON and text files, e.g. cp1252 (default: detected).")
    delimiter: str | None = option(None, "Delimiter of CSV files: ',', ';', '|' or tab (default: detected).")
    text_column: str | None = option(None, "Column of the text (default: found by name and type).", common="text")
    text_columns: list[str] | None = option(
        None, "Columns that are joined to one text. Each keeps its name: 'title: …', 'body: …'.", common="text"
    )
    text_pair_column: str | None = option(None, "Column of a second text (default: found by the names of known pairs).")
    image_column: str | None = option(None, "Column of the image (default: found by name and type).", common="image")
    image_root: str | None = option(
        None, "Folder that paths in a table are relative to (default: its own).", common="image"
    )
    audio_column: str | None = option(
        None, "Column of the recording (default: found by name and type).", common="audio"
    )
    audio_root: str | None = option(
        None, "Folder of the paths in a table of recordings (default: its own).", common="audio"
    )
    label_column: str | None = option(None, "Column of the label (default: found by name and type).", common="all")
    label_columns: list[str] | None = option(
        None, "Several label columns: a 0/1 column per class, or a column per number."
    )
    label_delimiter: str | None = option(None, "Delimiter between the classes in the label column, e.g. ','.")
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] | None = option(
        None, "The kind of label (default: found from the training rows)."
    )
    validation_split: float | None = option(
        None,
        "Share of training rows held out if no validation rows are given. Stratified by class; default: 0.1, and 0.05 "
        "for 5,000 rows or more.",
        common="all",
    )
    test_split: float | None = option(
        None, "Share of the training rows held out for testing if no test rows are given (default: none)."
    )
    group_column: str | None = option(None, "Column of groups (patient, author): no group is in two splits.")
    time_column: str | None = option(None, "Column of ISO dates or Unix times: the latest rows are held out.")
    num_folds: int | None = option(None, "Divide the training rows into this many folds; --fold is the test split.")
    fold: int | None = option(None, "The fold that is the test split, from 1 to --num_folds.")
    slice_column: list[str] | None = option(
        None, "Columns (source, language, camera) for metrics of the held-out rows per value."
    )
    splits_file: str | None = option(None, "splits.parquet of another run, or its folder, to use the same splits.")
    max_train_samples: int | None = option(
        None, "Use the first N training rows only (of images, N at random).", common="all"
    )
    max_eval_samples: int | None = option(None, "Use the first N validation rows only (of images, N at random).")
    max_predict_samples: int | None = option(None, "Use the first N test rows only (of images, N at random).")
    on_bad_row: Literal["error", "skip"] = option(
        "error", "For a row without text or label: error stops the run, skip leaves it out and lists it."
    )
    on_bad_image: Literal["error", "skip"] = option(
        "error", "For an unreadable image: error stops the run, skip leaves it out and counts it."
    )
    on_bad_audio: Literal["error", "skip"] = option(
        "error", "For an unreadable recording: error stops the run, skip leaves it out and counts it."
    )

    def on_bad(self, column: str) -> str:
        """Return what is done with an unreadable file of an input: ``error`` or ``skip``."""
        return str(getattr(self, f"on_bad_{column}", "error"))


@dataclass(frozen=True)
class InputConfig:
    """How rows become inputs of the model."""

    max_length: int | None = option(
        None, "Longest text in tokens (default: the checkpoint's, 512 at most).", common="text"
    )
    long_text: Literal["truncate", "head_tail", "chunk"] = option(
        "truncate",
        "Longer texts: truncate, head_tail or chunk. truncate: cut at the end; head_tail: keep the first and the last "
        "tokens; chunk: average the predictions of overlapping chunks.",
        common="text",
    )
    max_seconds: float | None = option(
        None,
        "Longest recording that is read at once. Longer ones are read in chunks. The window of Whisper and AST is cut to it; "
        "by default to what nearly all training recordings need, 10 at most.",
        common="audio",
    )
    image_size: int | None = option(None, "Side of the square input image (default: the checkpoint's).", common="image")
    augmentation: Literal["auto", "none", "light", "randaug"] = option(
        "auto",
        "Random views: auto, none, light or randaug. none: the checkpoint's own preprocessing; light: crop, flip; "
        "randaug: light and RandAugment; auto: light if the backbone trains, none if it is frozen.",
        common="image",
    )
    rotation_degrees: float = option(0.0, "Random rotation of training images by up to this angle.")
    mixup: float = option(0.0, "Alpha of mixup (arXiv 1710.09412); 0 is off.")
    cutmix: float = option(0.0, "Alpha of CutMix (arXiv 1905.04899); 0 is off.")


@dataclass(frozen=True)
class CacheConfig:
    """Caches of activations and images."""

    activation_cache: Literal["auto", "on", "off"] = option(
        "auto",
        "Store the output of the frozen stages on disk and train the rest from there; auto measures whether this "
        "saves time.",
    )
    activation_cache_dir: str | None = option(
        None, "Folder of the activation cache (default: ~/.cache/hf-finetune/activations)."
    )
    activation_cache_max_gb: float | None = option(
        None, "Largest size of that folder; the least recently used are removed first (default: half the free disk)."
    )
    activation_views: int = option(
        0,
        "With random augmentation: cache the activations of this many views of every image, and use one of them per "
        "epoch (default: 0, new views are computed in every epoch).",
    )
    image_cache: Literal["auto", "ram", "disk", "off"] = option(
        "auto",
        "Decode every image once, to a size slightly above the model's, and cache it; auto chooses memory or disk by "
        "the free space.",
    )


@dataclass(frozen=True)
class StrategyConfig:
    """What is trained, in which order and at which learning rates."""

    strategy: str = option(
        "auto",
        "full, head, freeze:STAGE, lp_ft, gradual or lora. head: a linear probe; freeze:STAGE or freeze:DEPTH; lp_ft: "
        "head, then full; gradual: one more stage per phase; auto chooses, and prints why.",
        common="all",
    )
    layer_decay: float | None = option(
        None, "Factor between the learning rates of a stage and the one below it, e.g. 0.9."
    )
    head_learning_rate: float | None = option(None, "Learning rate of the head.")
    lora_r: int = option(16, "Rank of the LoRA matrices.")
    lora_alpha: int = option(32, "Scale of the LoRA update (divided by the rank).")
    lora_dropout: float = option(0.05, "Dropout in front of the LoRA matrices.")
    lora_target_modules: list[str] | None = option(
        None, "Layers that get LoRA: names or one regular expression (default: all-linear)."
    )
    merge_adapter: bool = option(False, "Merge the LoRA matrices into the weights and save an ordinary checkpoint.")


@dataclass(frozen=True)
class RunConfig:
    """Metric, loss, sampling and output of a run."""

    metric: str | None = option(
        None,
        "Metric that chooses the best epoch (default: the task's first). A built-in metric, or any metric of the Hub.",
        common="all",
    )
    early_stopping_patience: int | None = option(
        None, "Stop when the metric has not improved for N evaluations.", common="all"
    )
    class_weights: Literal["none", "balanced"] = option(
        "none",
        "balanced: weight each class by its inverse frequency. The frequencies are those of the training rows.",
        common="all",
    )
    balanced_sampling: bool = option(False, "Sample the rows of an epoch so that all classes are equally frequent.")
    empty_rows_every: int | None = option(
        None,
        "Read training rows in which there is no entity in one of N epochs. Default: 3 if they are the majority, else 1.",
    )
    focal_gamma: float = option(
        0.0, "Gamma of the focal loss (arXiv 1708.02002): easy rows weigh less; 0 is off, 2 is common."
    )
    logit_adjustment: float = option(
        0.0,
        "Tau of logit-adjusted training (arXiv 2007.07314): rare classes get a wider margin; 0 is off, 1 is common.",
    )
    license: str | None = option(None, "Licence for the model card: an identifier of the Hub such as apache-2.0.")
    create_pr: bool = option(False, "With --push_to_hub, open a pull request instead of a commit.")
    overwrite_output_dir: bool = option(False, "Remove the run that is in the output folder.", common="all")


CONCERNS: dict[str, type] = {
    "model": ModelConfig,
    "data": DataConfig,
    "inputs": InputConfig,
    "cache": CacheConfig,
    "strategy": StrategyConfig,
    "run": RunConfig,
}

# Never written to config.yaml, environment.json, a card or a log.
SECRETS = frozenset({"hub_token"})


@dataclass(frozen=True)
class Config:
    """Everything that a run was asked to do. It is never written to: ``dataclasses.replace`` makes another.

    ``training`` holds the ``TrainingArguments`` fields that were set; ``explicit`` the names of all keys that were.
    """

    model: ModelConfig
    data: DataConfig
    inputs: InputConfig
    cache: CacheConfig
    strategy: StrategyConfig
    run: RunConfig
    training: Mapping[str, Any]
    explicit: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Keep a copy of ``training`` that cannot be written to."""
        object.__setattr__(self, "training", MappingProxyType(dict(self.training)))

    @property
    def output_dir(self) -> Path:
        """Return the run folder."""
        return Path(self.training["output_dir"])

    def to_flat(self) -> dict[str, Any]:
        """Return all keys that have a value, as YAML holds them; secrets are left out."""
        parts = [asdict(getattr(self, concern)) for concern in CONCERNS]
        flat = {key: value for part in [*parts, self.training] for key, value in part.items()}
        return {key: value for key, value in flat.items() if value is not None and key not in SECRETS}


def without_secrets(argv: list[str]) -> list[str]:
    """Return a command line without the values of secret flags."""
    clean, hide = [], False
    for word in argv:
        flag, _, value = word.lstrip("-").replace("-", "_").partition("=")
        if hide:
            word = "***"
        elif flag in SECRETS and value:
            word = word.split("=", 1)[0] + "=***"
        hide = word.startswith("--") and flag in SECRETS and not value
        clean.append(word)
    return clean


# Help of fields of TrainingArguments whose meaning differs from transformers', or that most users need.
TRAINING_WORDS: dict[str, dict[str, str]] = {
    "output_dir": {"help": "Run folder (default: runs/DATA-CHECKPOINT).", "common": "all"},
    "num_train_epochs": {"help": "Passes over the training rows (default: chosen for the data).", "common": "all"},
    "learning_rate": {"help": "Peak learning rate (default: chosen for the model).", "common": "all"},
    "per_device_train_batch_size": {"help": "Batch size per device (default: chosen).", "common": "all"},
    "bf16": {"help": "Train in bfloat16 (default: if the hardware supports it).", "common": "all"},
    "seed": {"help": "Seed of all random generators.", "common": "all"},
    "resume_from_checkpoint": {
        "help": "auto: resume from the last checkpoint of this run. Or the path of one of its checkpoints.",
        "common": "all",
    },
    "push_to_hub": {"help": "Push the finished run to the Hub.", "common": "all"},
    "hub_model_id": {"help": "Repository: NAMESPACE/NAME, or NAME in your own namespace.", "common": "all"},
    "hub_private_repo": {
        "help": "Make the repository private, or public (default: the Hub's setting). An existing one must match."
    },
    "hub_revision": {"help": "Branch to push to, created if needed (default: main)."},
    "hub_token": {"help": "Token of the Hub. HF_TOKEN is safer, because process lists do not show it."},
    "report_to": {"help": "Trackers: none, all, or names such as tensorboard, wandb, trackio."},
}


@dataclass(frozen=True)
class TrainOptions:
    """How ``hf-finetune train`` starts the recipe."""

    accelerate_config: str | None = option(
        None,
        "Start the recipe through accelerate launch. A packaged configuration (cpu, multi_gpu, …) or the path of one.",
        metavar="NAME|PATH",
        common="all",
    )
    num_processes: int | None = option(None, "Processes to start, with --accelerate_config.", metavar="N", common="all")
    seeds: str | None = option(
        None, "Train once for each seed, and say how far results spread.", metavar="N,N,…", common="all"
    )


@dataclass(frozen=True)
class CheckOptions:
    """What ``hf-finetune check`` refuses."""

    strict: bool = option(False, "Exit with status 2 where there are warnings, too.", common="all")


@dataclass(frozen=True)
class EvaluateOptions:
    """Where ``hf-finetune evaluate`` writes."""

    output_dir: str | None = option(None, "Where the figures go (default: RUN/evaluations/NAME).")


@dataclass(frozen=True)
class PredictOptions:
    """What ``hf-finetune predict`` writes."""

    output: str = option("predictions.csv", "CSV, JSONL or Parquet file.", metavar="FILE")
    top_k: int | None = option(None, "Also write the K most probable classes and their probabilities.", metavar="K")
    batch_size: int = option(64, "Rows at once.", metavar="N")


@dataclass(frozen=True)
class PushOptions:
    """What ``hf-finetune push`` sends."""

    adapter_only: bool = option(False, "Push an adapter as it is (default).")
    merged: bool = option(False, "Push an adapter folded into its base model, as a whole model.")
    commit_message: str | None = option(None, "First line of the commit.")
