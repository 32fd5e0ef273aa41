"""``hf-finetune train TASK …``: runs the task's recipe, here or through ``accelerate launch``."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from hf_finetune.cli.status import VerbParser
from hf_finetune.cli.task_flags import take_task
from hf_finetune.config import Config, add_options, find_options, options_of, parse
from hf_finetune.config.flags import with_underscores
from hf_finetune.config.options import TrainOptions
from hf_finetune.errors import UserError
from hf_finetune.packaged import accelerate_config_path, load_recipe, recipe_path
from hf_finetune.tasks import TASKS

_USAGE = "usage: hf-finetune train TASK [--accelerate_config NAME|PATH [--num_processes N]] [--seeds N,N,…] [--config FILE] [flags]"


def main(argv: list[str]) -> None:
    """Parse the task and the flags of this command; everything else is the recipe's."""
    task, rest = take_task("train", with_underscores(argv), TrainOptions, _USAGE)
    parser = VerbParser("hf-finetune train", add_help=False)
    add_options(parser, [*options_of(TrainOptions), *find_options("hub_token")])
    own, rest = parser.parse_known_args(rest)
    # Wrong flags are refused here, before a launcher or a recipe imports torch.
    config = parse(rest, program=f"hf-finetune train {task}", own=TrainOptions, reads=TASKS[task])
    recipe = recipe_path(task)
    if own.num_processes and not own.accelerate_config:
        what = "several processes need an accelerate configuration"
        fix = "add --accelerate_config cpu, multi_gpu or the path of another."
        raise UserError(what, where="--num_processes", fix=fix)
    command = [sys.executable]
    if own.accelerate_config is not None:
        command += ["-m", "accelerate.commands.accelerate_cli", "launch", "--quiet"]
        command += ["--config_file", str(accelerate_config_path(own.accelerate_config))]
        command += ["--num_processes", str(own.num_processes)] if own.num_processes else []
    command += [str(recipe), *rest]
    # A command line is seen by everyone, and launchers print theirs.
    environment = os.environ | ({"HF_TOKEN": own.hub_token} if own.hub_token else {})
    if own.seeds is not None:
        _several_seeds(own.seeds, config, command, environment)
    elif own.accelerate_config is None:
        load_recipe(recipe)([*rest, *(["--hub_token", own.hub_token] if own.hub_token else [])])
    else:
        # This process becomes the launcher, so that signals reach it and its status is ours.
        os.execve(sys.executable, command, environment)


def _several_seeds(asked: str, config: Config, command: list[str], environment: dict[str, str]) -> None:
    """Train once for each seed, into ``seed-N`` under the output folder, and say how far the results spread.

    Every seed has a process of its own, so that it does what it would do alone. With ``--resume_from_checkpoint auto`` the
    seeds that are done stay as they are. The status of a run that fails becomes that of all.
    """
    from hf_finetune.console import say
    from hf_finetune.evaluation.seeds import summarise_seeds
    from hf_finetune.training.resume import wants_resume
    from hf_finetune.training.run import with_output_dir

    seeds = _seeds(asked)
    if config.training.get("push_to_hub"):
        fix = "push the one you choose: hf-finetune push RUN."
        raise UserError("several seeds make several models", where="--push_to_hub", fix=fix)
    folder = with_output_dir(config).output_dir
    resumes = wants_resume(config)
    metrics = {}
    for seed in seeds:
        run = folder / f"seed-{seed}"
        if not (resumes and (run / "metrics.json").exists()):
            say(f"Seed {seed}: {run}")
            argv = [*command, "--seed", str(seed), "--output_dir", str(run)]
            if status := subprocess.run(argv, env=environment, check=False).returncode:
                raise SystemExit(status)
        metrics[seed] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    summarise_seeds(folder, metrics)


def _seeds(asked: str) -> list[int]:
    words = [word.strip() for word in asked.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        what = f"{asked!r} is not a list of different whole numbers"
        raise UserError(what, where="--seeds", fix="give numbers such as 0,1,2.")
    return [int(word) for word in words]
