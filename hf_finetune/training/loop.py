"""Phases are trained one after the other, each by a Trainer of its own; the model goes on from phase to phase."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback

from hf_finetune.activations import CachedRows, Workload, cache_activations
from hf_finetune.config import Config
from hf_finetune.config.options import InputConfig
from hf_finetune.console import is_main_process
from hf_finetune.data import Splits
from hf_finetune.data.splits.split_file import refuse_other_rows, write_split_file
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import Interrupted, UserError
from hf_finetune.evaluation.metrics import metric_function
from hf_finetune.memory import peak_memory, reset_peak_memory
from hf_finetune.models import Checkpoint, is_adapter, load_weights
from hf_finetune.models.precision import half_precision
from hf_finetune.strategies import Phase, Plan, apply_phase, show_phase
from hf_finetune.tasks.task import Task
from hf_finetune.training.arguments import is_sharded, training_arguments
from hf_finetune.training.artifact import save_artifact
from hf_finetune.training.callbacks import SetEpoch, StopOnSignal
from hf_finetune.training.fit_in_memory import FitInMemory
from hf_finetune.training.history import save_history
from hf_finetune.training.progress import without_library_bars
from hf_finetune.training.resume import find_resume, phase_folder, refuse_other_settings, wants_resume
from hf_finetune.training.run import open_run
from hf_finetune.training.sampling import sampling_classes
from hf_finetune.training.trainer import PhaseTrainer, evaluation_order


@without_library_bars()
def train(config: Config, task: Task, splits: Splits, checkpoint: Checkpoint, plan: Plan) -> dict[str, float]:
    """Train all phases, and save the best model of the last one to ``model/``.

    Everything that can be refused is refused before the run folder is opened: a mistake costs no earlier run.

    Returns:
        Seconds by phase, numbers of weights and of processes: the ``timing`` of ``metrics.json``.

    Raises:
        UserError: options that do not fit together, or nothing to resume from.
        Interrupted: a signal came; a checkpoint was written.
    """
    if isinstance(splits.train, Stream):  # one given in Python means --streaming
        config = replace(config, data=replace(config.data, streaming=True))
    folder = config.output_dir / "checkpoints"
    if wants_resume(config.training.get("resume_from_checkpoint")):
        refuse_other_settings(config)
        if splits.split_table is not None:
            refuse_other_rows(config.output_dir, splits.split_table)
    start, resume = find_resume(folder, plan.phases, config.training.get("resume_from_checkpoint"))
    keep = config.cache.image_cache
    output = splits.output.for_training(splits.output.truth_of(splits.train))
    remember_inputs(checkpoint.model, splits.inputs)
    output.start(checkpoint.model, config, splits)
    validation = (
        None if splits.validation is None else task.input.encode(splits.validation, checkpoint.processor, None, keep)
    )
    arguments = [
        training_arguments(
            config, phase, phase_folder(folder, number, phase), output.METRICS, validates=validation is not None
        )
        for number, phase in enumerate(plan.phases)
    ]
    held_out = {} if validation is None else {"validation": validation}
    collate = task.input.collator(checkpoint.processor)
    shared: dict[str, Any] = {
        "compute_metrics": metric_function(
            output, config.run.metric, evaluation_order(validation, arguments[0].length_column_name)
        ),
        "preprocess_logits_for_metrics": _logits_only,
        "compute_loss_func": output.loss(config, splits),
        "balance": sampling_classes(config, splits),
        "mix": _mixer(config, task, splits),
        "stages": checkpoint.stages,
        "fit": FitInMemory() if config.training.get("auto_find_batch_size") else None,
    }
    open_run(config, splits.skipped)
    if splits.split_table is not None and is_main_process():
        write_split_file(config.output_dir, splits.split_table)
    if plan.channels_last:
        checkpoint.model.to(memory_format=torch.channels_last)
    timing: dict[str, float] = {}
    reset_peak_memory()
    for number, phase in enumerate(plan.phases):
        if number < start:
            continue
        if number == start and number > 0:
            finished = phase_folder(folder, number - 1, plan.phases[number - 1]) / "finished"
            load_weights(checkpoint.model, finished)
            if shared["fit"]:
                shared["fit"].load(finished)
        began = time.perf_counter()
        apply_phase(checkpoint.model, checkpoint.stages, phase)
        show_phase(checkpoint.model, checkpoint.stages, phase)
        views = task.input.views(config.inputs, tunes_backbone=phase.adapters or len(phase.trains) > 1)
        train_rows = task.input.encode(splits.train, checkpoint.processor, views, "off" if views is None else keep)
        if number == start:
            for name, split in {"training": train_rows, **held_out}.items():
                shortened = task.input.shortened()
                shortened.add(split)
                shortened.say(name, checkpoint.processor)
        rows = {"train": train_rows} | held_out
        kept = cache_activations(
            config.cache, checkpoint, _work(config, task, phase, arguments[number], rows, collate, views)
        )
        if task.input.decodes and views is None and kept.rows["train"] is train_rows:  # read more than once after all
            kept.rows["train"] = task.input.encode(splits.train, checkpoint.processor, None, keep)
        here = resume if number == start else None
        with kept.replaying():
            trainer = _train_phase(config, phase, arguments[number], here, checkpoint.model, kept, shared)
        save_history(config.output_dir, phase.name, trainer.state.log_history)
        timing[f"train_{phase.name.replace('-', '_')}_seconds"] = time.perf_counter() - began
        if number + 1 < len(plan.phases):
            _finish_phase(trainer, phase_folder(folder, number, phase))
    timing |= {
        "train_seconds": sum(timing.values()),
        "trainable_parameters": float(sum(p.numel() for p in checkpoint.model.parameters() if p.requires_grad)),
        "parameters": float(sum(p.numel() for p in checkpoint.model.parameters())),
        "processes": float(trainer.args.world_size),
        "peak_memory_bytes": float(peak_memory()),
    }
    if isinstance(splits.train, Stream):
        splits.notes += splits.train.notes()
    save_artifact(trainer, checkpoint, config, output)
    return timing


def remember_inputs(model: Any, inputs: dict[str, str]) -> None:
    """Write the user's names of the input columns into the model's configuration, where ``predict`` finds them.

    Lists by standard name, since ``config.json`` is sorted by name and the order of columns that make one text counts:
    ``{"text": ["title", "body"]}``.
    """
    base = model.get_base_model() if is_adapter(model) else model
    base.config.input_columns = {
        standard: [own for own, name in inputs.items() if name == standard]
        for standard in dict.fromkeys(inputs.values())
    }


def _work(
    config: Config,
    task: Task,
    phase: Phase,
    arguments: Any,
    rows: dict[str, Any],
    collate: Any,
    views: InputConfig | None,
) -> Workload:
    """What the activation cache must know of a phase."""
    return Workload(
        f"phase {phase.name}",
        rows,
        collate,
        task.input.fingerprint,
        passes=phase.epochs,
        half=half_precision(bf16=arguments.bf16, fp16=arguments.fp16),
        batch_size=arguments.per_device_eval_batch_size,
        views=None if views is None else f"{views.augmentation} {views.rotation_degrees} seed {torch.initial_seed()}",
        obstacle=_obstacle(config, arguments),
    )


def _obstacle(config: Config, arguments: Any) -> str:
    """Return why a phase cannot read cached activations, for reasons other than its model and rows; empty if it can."""
    if config.data.streaming:
        return "the rows are a stream"
    if is_sharded(arguments):
        return "the weights are spread over processes"
    return "rows are mixed" if config.inputs.mixup or config.inputs.cutmix else ""


def _train_phase(
    config: Config,
    phase: Phase,
    arguments: Any,
    resume: str | None,
    model: Any,
    kept: CachedRows,
    shared: dict[str, Any],
) -> PhaseTrainer:
    collate = kept.collate
    if isinstance(kept.rows["train"], Stream):
        kept.rows["train"].batched(arguments)
        collate = kept.rows["train"].collator(collate)
    stopper = StopOnSignal()
    callbacks: list[Any] = [stopper, SetEpoch()]
    if config.run.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=config.run.early_stopping_patience))
    trainer = PhaseTrainer(
        model=model,
        args=arguments,
        callbacks=callbacks,
        phase=phase,
        train_dataset=kept.rows["train"],
        eval_dataset=kept.rows.get("validation"),
        data_collator=collate,
        **shared,
    )
    try:
        trainer.train(resume_from_checkpoint=resume)
    finally:
        stopper.restore()
        trainer.progress.close()
    if stopper.received:
        raise Interrupted(stopper.received)
    return trainer


def _finish_phase(trainer: PhaseTrainer, folder: Path) -> None:
    """Keep the phase's best weights, which the next phase starts from; its checkpoints are needed no more."""
    trainer.save_model(str(folder / "partial"))
    if is_main_process():
        (folder / "partial" / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nothing reads
        if trainer.fit:
            trainer.fit.save(folder / "partial")
        shutil.rmtree(folder / "finished", ignore_errors=True)
        (folder / "partial").rename(folder / "finished")
        for path in folder.glob("checkpoint-*"):
            shutil.rmtree(path)
    trainer.accelerator.wait_for_everyone()


def _logits_only(logits: Any, labels: Any) -> Any:
    """Hidden states and attentions, which some checkpoints return too, are not gathered."""
    return logits[0] if isinstance(logits, tuple) else logits


def _mixer(config: Config, task: Task, splits: Splits) -> Any:
    if not (config.inputs.mixup or config.inputs.cutmix):
        return None
    mix = task.input.mixer(config.inputs, len(splits.output.names))
    if not splits.output.ONE_CLASS:
        raise UserError(
            "labels that are not one class a row cannot be mixed",
            where="--mixup, --cutmix",
            fix="leave the flags out.",
        )
    return mix
