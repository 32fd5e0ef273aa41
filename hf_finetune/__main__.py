"""``python -m hf_finetune``."""

import sys

from hf_finetune.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
