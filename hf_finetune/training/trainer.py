"""The Hugging Face Trainer with a phase's learning rates, and mixup on the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PrinterCallback, ProgressCallback, Trainer

from hf_finetune.data.batching import BalancedSampler, LengthGroupedSampler, LongestFirstSampler
from hf_finetune.models import Stage, is_adapter, load_weights
from hf_finetune.strategies import Phase, parameter_groups
from hf_finetune.training.fitting import FitInMemory
from hf_finetune.training.progress import Progress


class PhaseTrainer(Trainer):
    """Trains one phase.

    Args:
        stages: the model's stages.
        phase: what trains, at which rates.
        mix: timm's ``Mixup``, called with a batch of images and their labels; returns both, the labels as
            probabilities.
        fit: what divides batches that do not fit into memory; None: they end the run.
        balance: class of each training row, of which all are to be seen equally often; None: rows come as they are.
    """

    def __init__(
        self,
        *args: Any,
        stages: list[Stage],
        phase: Phase,
        mix: Any = None,
        fit: FitInMemory | None = None,
        balance: np.ndarray | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.stages = stages
        self.phase = phase
        self.mix = mix
        self.fit = fit
        self.balance = balance
        if fit is not None:
            self.add_callback(fit)
        for chatty in (PrinterCallback, ProgressCallback):
            self.remove_callback(chatty)
        self.progress = Progress(phase.name, bar=False if self.args.disable_tqdm else None)
        self.add_callback(self.progress)
        # The loss is ours: the models need not be told how many rows a step has.
        self.model_accepts_loss_kwargs = False

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Beside a loss, the rate of the head (the Trainer logs that of the first group) and the training rows a second."""
        if "loss" in logs:
            groups = self.optimizer.param_groups if self.optimizer is not None else []
            if len(groups) > 1 and "learning_rate" in logs:
                logs["learning_rate_head"] = groups[-1]["lr"]
            logs["rows_per_second"] = self.progress.measure(self.state)
        super().log(logs, start_time)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Any optimiser of the Trainer, over groups with a learning rate a stage."""
        if self.optimizer is None and self.optimizer_cls_and_kwargs is None:
            target = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, target)
            # Optimisers that bring parameter groups of their own (GaLore, LOMO, …) keep them.
            if isinstance(kind, type) and not options.keys() & {"params", "model", "optimizer_dict"}:
                decayed = set(self.get_decay_parameter_names(target))
                options["params"] = parameter_groups(target, self.stages, self.phase, self.args.weight_decay, decayed)
            self.optimizer_cls_and_kwargs: Any = (kind, options)
        return super().create_optimizer(model)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """The Trainer reads weights by the model's own names, and passes over what was saved under others."""
        if self._is_plain():
            load_weights(self.model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self._is_plain():
            load_weights(self.model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    def _is_plain(self) -> bool:
        """Whether checkpoints hold what ``save_pretrained`` wrote: no adapter alone, no shards."""
        return not (is_adapter(self.model) or self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler | None:
        rows = self.train_dataset if train_dataset is None else train_dataset
        column = self.args.length_column_name
        grouped = self.args.train_sampling_strategy == "group_by_length" and column in getattr(rows, "column_names", ())
        step_rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        if self.balance is not None:
            # Of a text that is read in chunks every chunk is a row.
            balance = self.balance[rows["row"][:]] if "row" in getattr(rows, "column_names", ()) else self.balance
            return BalancedSampler(balance, seed, rows[column][:] if grouped else None, step_rows)
        if grouped:
            return LengthGroupedSampler(rows[column][:], step_rows, seed)
        return super()._get_train_sampler(train_dataset)

    def _get_eval_sampler(self, eval_dataset: Any) -> torch.utils.data.Sampler | None:
        """Labels are gathered with the logits, so the order changes no metric; what processes repeat is cut off as ever."""
        column = self.args.length_column_name
        if column in getattr(eval_dataset, "column_names", ()):
            return LongestFirstSampler(eval_dataset[column][:])
        return super()._get_eval_sampler(eval_dataset)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One batch, on mixed images where mixup or CutMix is on, in parts where memory is short."""
        if self.mix is not None:
            inputs = self._prepare_inputs(inputs)
            inputs["pixel_values"], inputs["labels"] = mix_batch(self.mix, inputs["pixel_values"], inputs["labels"])
        if self.fit is None:
            return super().training_step(model, inputs, num_items_in_batch)
        whole = super().training_step
        closes = self.accelerator.gradient_state.sync_gradients
        return self.fit.step(model, inputs, lambda alone, part: whole(alone, part, num_items_in_batch), closes=closes)


def rows_as_evaluated(chunks: Any, length_column: str) -> np.ndarray | None:
    """The row of each chunk of longer texts, in the order in which the Trainer evaluates them and hands their logits on.

    That is the order of the sampler, in any number of processes: accelerate deals whole batches out in turn, and gathers
    them in the same turn. None where rows are no chunks.
    """
    if "row" not in getattr(chunks, "column_names", ()):
        return None
    rows = np.asarray(chunks["row"][:])
    return rows[LongestFirstSampler(chunks[length_column][:]).order] if length_column in chunks.column_names else rows


def mix_batch(mix: Any, pixels: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """timm's Mixup needs an even number of rows: the last row of an odd batch stays as it is."""
    even = len(labels) - len(labels) % 2
    mixed, targets = (
        mix(pixels[:even].clone(), labels[:even]) if even else (pixels[:0], labels.new_zeros(0, mix.num_classes))
    )
    rest = nn.functional.one_hot(labels[even:], mix.num_classes).to(targets.dtype)
    return torch.cat([mixed, pixels[even:]]), torch.cat([targets, rest])
