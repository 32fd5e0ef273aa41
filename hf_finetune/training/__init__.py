"""The Trainer subclass, phases in turn, the run folder, interruption and resuming."""

from hf_finetune.training.callbacks import Interrupted
from hf_finetune.training.loop import History, train
from hf_finetune.training.run import open_run, start_run

__all__ = ["History", "Interrupted", "open_run", "start_run", "train"]
