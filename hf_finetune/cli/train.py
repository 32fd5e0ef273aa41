"""``hf-finetune train TASK …``: runs the task's recipe, here or through ``accelerate launch``."""

from __future__ import annotations

import os
import sys

from hf_finetune.cli.status import VerbParser
from hf_finetune.errors import UserError
from hf_finetune.packaged import RECIPES, accelerate_config_path, load_recipe, recipe_path


def main(argv: list[str]) -> None:
    """Parse the task and ``--accelerate_config``; everything else is the recipe's.

    Raises:
        UserError: an unknown task, or an unknown accelerate configuration.
    """
    parser = VerbParser(prog="hf-finetune train", add_help=False, allow_abbrev=False)
    parser.add_argument("task", nargs="?")
    parser.add_argument("--accelerate_config", metavar="NAME|PATH")
    parser.add_argument("--num_processes", metavar="N")
    parser.add_argument("--hub_token", "--hub-token")
    known, rest = parser.parse_known_args(argv)
    if known.task in (None, "-h", "--help") or (known.task not in RECIPES and {"-h", "--help"} & set(rest)):
        print(_usage())
        return
    recipe = recipe_path(known.task)
    if known.num_processes and not known.accelerate_config:
        raise UserError(
            "several processes need an accelerate configuration",
            where="--num_processes",
            fix="add --accelerate_config cpu, multi_gpu or the path of another.",
        )
    if known.accelerate_config is None or {"-h", "--help"} & set(rest):
        load_recipe(recipe)([*rest, *(["--hub_token", known.hub_token] if known.hub_token else [])])
        return
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--quiet"]
    command += ["--config_file", str(accelerate_config_path(known.accelerate_config))]
    if known.num_processes:
        command += ["--num_processes", known.num_processes]
    if known.hub_token:
        os.environ["HF_TOKEN"] = known.hub_token  # a command line is seen by everyone, and launchers print theirs
    # This process becomes the launcher, so that signals reach it and its status is ours.
    os.execv(sys.executable, [*command, str(recipe), *rest])


def _usage() -> str:
    return (
        "usage: hf-finetune train TASK [--accelerate_config NAME|PATH [--num_processes N]] [--config FILE] [flags]\n\n"
        f"tasks: {', '.join(RECIPES)}\n\nhf-finetune train TASK --help shows the flags."
    )
