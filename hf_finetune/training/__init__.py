"""The Trainer subclass, phases in turn, the run folder, interruption and resuming."""

from hf_finetune.errors import Interrupted
from hf_finetune.training.loop import train
from hf_finetune.training.run import start_run
