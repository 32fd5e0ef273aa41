"""The Hugging Face Trainer with the learning rates and samplers of a phase, and mixup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from hf_finetune.data.batching import EpochSampler, longest_first
from hf_finetune.errors import Interrupted
from hf_finetune.models import Stage, is_adapter, load_weights
from hf_finetune.strategies import Phase, parameter_groups
from hf_finetune.training.callbacks import Progress, SetEpoch, StopOnSignal
from hf_finetune.training.fit_in_memory import FitInMemory


class PhaseTrainer(Trainer):
    """A Trainer for one phase.

    Args:
        mix: from a batch to one of mixed rows and label probabilities.
        fit: splits batches that do not fit into memory; with None they end the run.
        balance: class of each training row, for sampling all classes equally often; None samples rows as they are.
        skim: which training rows are read in one of N epochs only, and N; None reads all rows in every epoch.
        patience: evaluations without progress after which the phase ends; None trains all epochs.
    """

    def __init__(
        self,
        *,
        args: TrainingArguments,
        stages: list[Stage],
        phase: Phase,
        mix: Callable[[dict[str, Any]], dict[str, Any]] | None,
        fit: FitInMemory | None,
        balance: np.ndarray | None,
        skim: tuple[np.ndarray, int] | None,
        patience: int | None,
        **kwargs: Any,
    ) -> None:
        self.stopper = StopOnSignal()
        self.progress = Progress(phase.name, bar=not args.disable_tqdm)
        callbacks: list[Any] = [self.stopper, SetEpoch(), self.progress, *([fit] if fit else [])]
        if patience:
            callbacks.append(EarlyStoppingCallback(early_stopping_patience=patience))
        super().__init__(args=args, callbacks=callbacks, **kwargs)
        self.stages = stages
        self.phase = phase
        self.mix = mix
        self.fit = fit
        self.balance = balance
        self.skim = skim
        for chatty in (PrinterCallback, ProgressCallback):
            self.remove_callback(chatty)
        self.model_accepts_loss_kwargs = False  # the loss is computed outside the model

    def run(self, checkpoint: str | None) -> None:
        """Train, from a checkpoint of the phase or from its beginning.

        Raises:
            Interrupted: a signal came; a checkpoint was written.
        """
        try:
            self.train(resume_from_checkpoint=checkpoint)
        finally:
            self.stopper.restore()
            self.progress.close()
        if self.stopper.received:
            raise Interrupted(self.stopper.received)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the rows per second and, if it differs from that of the first group, the learning rate of the head."""
        if "loss" in logs:
            groups = self.optimizer.param_groups if self.optimizer is not None else []
            if len(groups) > 1 and "learning_rate" in logs:
                # The Trainer logs the rate of the step, and the groups have that of the next one.
                first, head = (group.get("initial_lr", group["lr"]) for group in (groups[0], groups[-1]))
                if head != first:
                    logs["learning_rate_head"] = logs["learning_rate"] * head / first if first else groups[-1]["lr"]
            logs["rows_per_second"] = self.progress.measure(self.state)
        super().log(logs, start_time)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make any optimiser of the Trainer, with one learning rate per stage."""
        if self.optimizer is None and self.optimizer_cls_and_kwargs is None:
            target = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, target)
            # Some optimisers come with their own parameter groups (GaLore, LOMO, …).
            if isinstance(kind, type) and not options.keys() & {"params", "model", "optimizer_dict"}:
                decayed = set(self.get_decay_parameter_names(target))
                options["params"] = parameter_groups(target, self.stages, self.phase, self.args.weight_decay, decayed)
            self.optimizer_cls_and_kwargs: Any = (kind, options)
        return super().create_optimizer(model)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Load weights with ``from_pretrained``: the Trainer ignores those that were saved under older names."""
        if is_adapter(self.model) or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_weights(self.model, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if is_adapter(self.model) or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            load_weights(self.model, self.state.best_model_checkpoint)

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler | None:
        rows = self.train_dataset if train_dataset is None else train_dataset
        columns = getattr(rows, "column_names", ())
        grouped = self.args.train_sampling_strategy == "group_by_length" and self.args.length_column_name in columns
        lengths = rows[self.args.length_column_name][:] if grouped else None
        step_rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        classes, (empty, every) = self.balance, self.skim or (None, 1)
        if "row" in columns:  # each chunk of a long text is a row here
            numbers = rows["row"][:]
            classes, empty = (None if each is None else each[numbers] for each in (classes, empty))
        if classes is None and lengths is None and empty is None:
            return super()._get_train_sampler(train_dataset)
        sampler = EpochSampler(seed, step_rows, lengths=lengths, classes=classes, empty=empty, every=every)
        self.progress.sampled = len(sampler)
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """Evaluate long rows first: labels are gathered with the logits, so the order does not change the metrics."""
        column = self.args.length_column_name
        if column in getattr(eval_dataset, "column_names", ()):
            return longest_first(eval_dataset[column][:])
        return super()._get_eval_sampler(eval_dataset)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Train on one batch: with mixup or CutMix where they are on, and in parts if memory requires it."""
        if self.mix is not None:
            inputs = self.mix(self._prepare_inputs(inputs))
        if self.fit is None:
            return super().training_step(model, inputs, num_items_in_batch)
        whole = super().training_step
        closes = self.accelerator.gradient_state.sync_gradients
        return self.fit.step(model, inputs, lambda alone, part: whole(alone, part, num_items_in_batch), closes=closes)


def evaluation_order(chunks: Any, length_column: str) -> np.ndarray | None:
    """Return the row of each chunk of long texts, in the order in which the Trainer evaluates chunks; None without chunks.

    It is the sampler's order for any number of processes: accelerate distributes whole batches in turn, and gathers them
    in the same order.
    """
    if "row" not in getattr(chunks, "column_names", ()):
        return None
    rows = np.asarray(chunks["row"][:])
    return rows[longest_first(chunks[length_column][:])] if length_column in chunks.column_names else rows
