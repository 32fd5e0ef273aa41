"""What can be asked for: YAML and flags become one checked Config."""

from hf_finetune.config.flags import add_options, options_of
from hf_finetune.config.options import Config, without_secrets
from hf_finetune.config.parse import parse
from hf_finetune.config.parser import build_parser, find_options
