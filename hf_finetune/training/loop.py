"""Phases are trained one after the other, each by a Trainer of its own; the model goes on from phase to phase."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from hf_finetune.activations import Workload, cache_activations
from hf_finetune.config import Config
from hf_finetune.console import is_main_process, say, without_bars
from hf_finetune.data import Splits
from hf_finetune.data.splits.split_file import refuse_other_rows, write_split_file
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError
from hf_finetune.evaluation.metrics import metric_function
from hf_finetune.memory import peak_memory, reset_peak_memory
from hf_finetune.models import Checkpoint, is_adapter, load_weights
from hf_finetune.models.checkpoint import save_mlp_head_code
from hf_finetune.models.precision import half_precision
from hf_finetune.strategies import Plan, apply_phase, show_phase
from hf_finetune.tasks.outputs import Output
from hf_finetune.tasks.task import Task
from hf_finetune.training.arguments import is_sharded, training_arguments
from hf_finetune.training.fit_in_memory import FitInMemory
from hf_finetune.training.resume import find_resume, refuse_other_settings, wants_resume
from hf_finetune.training.run import open_run, save_history
from hf_finetune.training.sampling import sampling_classes, seldom_read
from hf_finetune.training.trainer import PhaseTrainer, evaluation_order


@without_bars(logging)
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
    folders = [config.output_dir / "checkpoints" / f"{n}-{phase.name}" for n, phase in enumerate(plan.phases, 1)]
    if wants_resume(config):
        refuse_other_settings(config)
        if splits.split_table is not None:
            refuse_other_rows(config.output_dir, splits.split_table)
    start, resume = find_resume(config, folders)
    model, stages, processor = checkpoint.model, checkpoint.stages, checkpoint.processor
    output = splits.output.for_training(splits.output.truth_of(splits.train))
    _remember_inputs(model, splits.inputs)
    output.start(model, config, splits)
    keep = config.cache.image_cache
    validation = None if splits.validation is None else task.input.encode(splits.validation, processor, None, keep)
    held_out = {} if validation is None else {"validation": validation}
    every_arguments = [
        training_arguments(config, phase, folder, output.METRICS, validates=validation is not None)
        for phase, folder in zip(plan.phases, folders, strict=True)
    ]
    order = evaluation_order(validation, every_arguments[0].length_column_name)
    shared: dict[str, Any] = {
        "compute_metrics": metric_function(output, config.run.metric, order),
        "preprocess_logits_for_metrics": _logits_only,
        "compute_loss_func": output.loss(config, splits),
        "balance": sampling_classes(config, splits),
        "skim": seldom_read(config, splits),
        "mix": _mixer(config, task, splits),
        "stages": stages,
        "fit": FitInMemory() if config.training.get("auto_find_batch_size") else None,
        "patience": config.run.early_stopping_patience,
    }
    open_run(config, splits.skipped)
    if splits.split_table is not None and is_main_process():
        write_split_file(config.output_dir, splits.split_table)
    if plan.channels_last:
        model.to(memory_format=torch.channels_last)
    timing: dict[str, float] = {}
    reset_peak_memory()
    if start > 0:
        load_weights(model, folders[start - 1] / "finished")
        if shared["fit"]:
            shared["fit"].load(folders[start - 1] / "finished")
    for number in range(start, len(plan.phases)):
        phase, arguments = plan.phases[number], every_arguments[number]
        began = time.perf_counter()
        apply_phase(model, stages, phase)
        show_phase(model, stages, phase)
        views = task.input.views(config.inputs, tunes_backbone=phase.adapters or len(phase.trains) > 1)
        train_rows = task.input.encode(splits.train, processor, views, "off" if views is None else keep)
        if number == start:
            for name, split in {"training": train_rows, **held_out}.items():
                shortened = task.input.shortened()
                shortened.add(split)
                shortened.say(name, processor)
        work = Workload(
            f"phase {phase.name}",
            {"train": train_rows} | held_out,
            task.input.collator(processor),
            task.input.fingerprint,
            passes=phase.epochs,
            half=half_precision({"bf16": arguments.bf16, "fp16": arguments.fp16}),
            batch_size=arguments.per_device_eval_batch_size,
            views=None
            if views is None
            else f"{views.augmentation} {views.rotation_degrees} seed {torch.initial_seed()}",
            obstacle=_obstacle(config, arguments),
        )
        kept = cache_activations(config.cache, checkpoint, work)
        rows, collate = kept.rows["train"], kept.collate
        if task.input.decodes and views is None and rows is train_rows:  # read more than once after all
            rows = task.input.encode(splits.train, processor, None, keep)
        if isinstance(rows, Stream):
            rows.batched(arguments)
            collate = rows.collator(collate)
        with kept.replaying():
            trainer = PhaseTrainer(
                model=model,
                args=arguments,
                phase=phase,
                train_dataset=rows,
                eval_dataset=kept.rows.get("validation"),
                data_collator=collate,
                **shared,
            )
            trainer.run(resume if number == start else None)
        save_history(config.output_dir, phase.name, trainer.state.log_history)
        timing[f"train_{phase.name.replace('-', '_')}_seconds"] = time.perf_counter() - began
        if number + 1 < len(plan.phases):
            _finish_phase(trainer, folders[number])
    timing |= {
        "train_seconds": sum(timing.values()),
        "trainable_parameters": float(sum(p.numel() for p in model.parameters() if p.requires_grad)),
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "processes": float(trainer.args.world_size),
        "peak_memory_bytes": float(peak_memory()),
    }
    if isinstance(splits.train, Stream):
        splits.notes += splits.train.notes()
    _save_artifact(trainer, checkpoint, config, output)
    return timing


def _remember_inputs(model: Any, inputs: dict[str, str]) -> None:
    """Write the user's names of the input columns into the model's configuration, where ``predict`` finds them.

    Lists by standard name, since ``config.json`` is sorted by name and the order of columns that make one text counts:
    ``{"text": ["title", "body"]}``.
    """
    base = model.get_base_model() if is_adapter(model) else model
    base.config.input_columns = {
        standard: [own for own, name in inputs.items() if name == standard] for standard in inputs.values()
    }


def _obstacle(config: Config, arguments: Any) -> str:
    """Return why a phase cannot read cached activations, for reasons other than its model and rows; empty if it can."""
    if config.data.streaming:
        return "the rows are a stream"
    if is_sharded(arguments):
        return "the weights are spread over processes"
    return "rows are mixed" if config.inputs.mixup or config.inputs.cutmix else ""


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


def _save_artifact(trainer: Any, checkpoint: Checkpoint, config: Config, output: Output) -> None:
    """Save weights, configuration and processor to a temporary folder, and rename it to ``model/`` when it is complete.

    The output finishes the model first: a regression model is rescaled from standardised numbers to the labels' units.
    """
    folder = config.output_dir / "model"
    partial = config.output_dir / "model.partial"
    if is_main_process():
        shutil.rmtree(partial, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    output.finish(model)
    if config.strategy.merge_adapter and is_adapter(model):
        checkpoint.model = model = model.merge_and_unload()
        if is_main_process():
            model.save_pretrained(partial)
    else:
        trainer.save_model(str(partial))
    if is_main_process():
        if is_adapter(model):
            # An adapter is saved without the configuration, which names the labels.
            model.get_base_model().config.save_pretrained(partial)
        else:
            save_mlp_head_code(model, partial)
        if not hasattr(checkpoint.processor, "data_config"):  # timm's processor is saved within config.json
            checkpoint.processor.save_pretrained(partial)
        for name in ("training_args.bin", "README.md"):  # a pickle of the arguments, and a generic model card
            (partial / name).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    trainer.accelerator.wait_for_everyone()
    say(f"Saved {folder}")


def _logits_only(logits: Any, labels: Any) -> Any:
    """Hidden states and attentions, which some checkpoints return too, are not gathered."""
    return logits[0] if isinstance(logits, tuple) else logits


def _mixer(config: Config, task: Task, splits: Splits) -> Any:
    if not (config.inputs.mixup or config.inputs.cutmix):
        return None
    mix = task.input.mixer(config.inputs, len(splits.output.names))
    if not splits.output.ONE_CLASS:
        raise UserError(
            "labels that are not one class a row cannot be mixed", where="--mixup, --cutmix", fix="leave the flags out."
        )
    return mix
