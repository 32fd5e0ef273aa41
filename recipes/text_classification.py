"""Fine-tune a text encoder to classify texts.

    accelerate launch recipes/text_classification.py \
        --model_name_or_path google-bert/bert-base-uncased --train_file reviews.csv --output_dir runs/reviews

Flags can also be in a YAML file (``--config recipes/configs/imdb_bert.yaml``); the command line
overrides it. Copy and edit this file: each step is one call.
"""

from __future__ import annotations

import sys
from typing import Any

from hf_finetune.cli.status import run_as_script
from hf_finetune.config import parse


def main(argv: list[str] | None = None, dataset: Any = None) -> dict[str, dict[str, float]]:
    """Train with these flags, or on a ``DatasetDict`` in memory; return the content of ``metrics.json``."""
    config = parse(argv, reads="text")  # before the slow imports, so that --help and errors in flags are fast

    from hf_finetune.data import audit, load_splits
    from hf_finetune.evaluation.results import evaluate
    from hf_finetune.publish import check_hub, push_run, verify, write_model_card
    from hf_finetune.report import write_report
    from hf_finetune.strategies import make_plan
    from hf_finetune.tasks.text_classification import TASK
    from hf_finetune.training import start_run, train

    config = start_run(config, dataset)
    splits = audit(load_splits(config.data, TASK, dataset), TASK, config.data.on_bad_image)
    checkpoint = TASK.load_model(config, splits.output, splits.train)
    config, plan = make_plan(config, TASK, checkpoint, splits)
    config = check_hub(config, TASK, splits, plan)
    timing = train(config, TASK, splits, checkpoint, plan)
    results = evaluate(config, TASK, splits, plan, timing)
    write_report(config.output_dir)
    verify(config, TASK, splits, checkpoint)
    write_model_card(config, TASK, splits, plan, results)
    push_run(config)
    return results.metrics


if __name__ == "__main__":
    sys.exit(run_as_script(main))
