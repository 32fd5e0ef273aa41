"""What can be asked for: YAML and flags become one checked Config."""

from hf_finetune.config.parse import SECRETS, Config, build_parser, parse, without_secrets

__all__ = ["SECRETS", "Config", "build_parser", "parse", "without_secrets"]
