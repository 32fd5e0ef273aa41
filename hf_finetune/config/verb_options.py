"""The flags that only some commands have, and those of a run that other commands take over."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainOptions:
    """How ``hf-finetune train`` starts the recipe."""

    accelerate_config: str | None = field(
        default=None,
        metadata={
            "help": "Start the recipe through accelerate launch. A packaged configuration (cpu, multi_gpu, …) or the path "
            "of one.",
            "metavar": "NAME|PATH",
            "common": "all",
        },
    )
    num_processes: int | None = field(
        default=None,
        metadata={"help": "Processes to start, with --accelerate_config.", "metavar": "N", "common": "all"},
    )
    seeds: str | None = field(
        default=None,
        metadata={
            "help": "Train once for each seed, and say how far results spread.",
            "metavar": "N,N,…",
            "common": "all",
        },
    )


@dataclass(frozen=True)
class CheckOptions:
    """What ``hf-finetune check`` refuses."""

    strict: bool = field(
        default=False, metadata={"help": "Exit with status 2 where there are warnings, too.", "common": "all"}
    )


@dataclass(frozen=True)
class EvaluateOptions:
    """Where ``hf-finetune evaluate`` writes."""

    output_dir: str | None = field(
        default=None, metadata={"help": "Where the figures go (default: RUN/evaluations/NAME)."}
    )


@dataclass(frozen=True)
class PredictOptions:
    """What ``hf-finetune predict`` writes."""

    output: str = field(default="predictions.csv", metadata={"help": "CSV, JSONL or Parquet file.", "metavar": "FILE"})
    top_k: int | None = field(
        default=None,
        metadata={"help": "Also write the K most probable classes and their probabilities.", "metavar": "K"},
    )
    batch_size: int = field(default=64, metadata={"help": "Rows at once.", "metavar": "N"})


@dataclass(frozen=True)
class PushOptions:
    """What ``hf-finetune push`` sends."""

    adapter_only: bool = field(default=False, metadata={"help": "Push an adapter as it is (default)."})
    merged: bool = field(
        default=False, metadata={"help": "Push an adapter folded into its base model, as a whole model."}
    )
    commit_message: str | None = field(default=None, metadata={"help": "First line of the commit."})
