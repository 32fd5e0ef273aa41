"""What can be asked for: YAML and flags become one checked Config."""

from hf_finetune.config.configuration import SECRETS, Config, without_secrets
from hf_finetune.config.flags import add_options, options_of
from hf_finetune.config.options import (
    CheckOptions,
    EvaluateOptions,
    PredictOptions,
    PushOptions,
    TrainOptions,
)
from hf_finetune.config.parse import parse
from hf_finetune.config.parser import build_parser, find_options

__all__ = [
    "SECRETS",
    "CheckOptions",
    "Config",
    "EvaluateOptions",
    "PredictOptions",
    "PushOptions",
    "TrainOptions",
    "add_options",
    "build_parser",
    "find_options",
    "options_of",
    "parse",
    "without_secrets",
]
