"""``hf-finetune train TASK …``: runs the task's recipe, here or through ``accelerate launch``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset, DatasetDict

RECIPES = {
    "text-classification": "text_classification.py",
    "image-classification": "image_classification.py",
}


def main(argv: list[str]) -> None:
    """Parse the task and ``--accelerate_config``; everything else is the recipe's.

    Raises:
        UserError: an unknown task, or an unknown accelerate configuration.
        SystemExit: with the status of ``accelerate launch``.
    """
    parser = argparse.ArgumentParser(prog="hf-finetune train", add_help=False, allow_abbrev=False)
    parser.add_argument("task", nargs="?")
    parser.add_argument("--accelerate_config", metavar="NAME|PATH")
    parser.add_argument("--num_processes", metavar="N")
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
        load_recipe(recipe)(rest)
        return
    config = accelerate_config_path(known.accelerate_config)
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(config)]
    if known.num_processes:
        command += ["--num_processes", known.num_processes]
    sys.exit(subprocess.run([*command, str(recipe), *rest], check=False).returncode)


def fine_tune(task: str, dataset: DatasetDict | Dataset | None = None, **flags: Any) -> dict[str, dict[str, float]]:
    """Fine-tune from Python: the same flags as the command line, and a ``DatasetDict`` if the rows are in memory.

    Example:
        >>> fine_tune("text-classification", dataset, model_name_or_path="google-bert/bert-base-uncased")

    Returns:
        The content of ``metrics.json``.

    Raises:
        UserError: as on the command line.
    """
    argv: list[str] = []
    for key, value in flags.items():
        if value is None:
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        argv += [f"--{key}", *(str(item).lower() if isinstance(item, bool) else str(item) for item in values)]
    return load_recipe(recipe_path(task))(argv, dataset)


def recipe_path(task: str) -> Path:
    """The recipe file of a task, in the wheel or in the checkout.

    Raises:
        UserError: there is no such task.
    """
    if task not in RECIPES:
        raise UserError(
            f"there is no task {task!r}", where="hf-finetune train", fix=f"choose one of {', '.join(RECIPES)}."
        )
    return packaged("recipes") / RECIPES[task]


def accelerate_config_path(name: str) -> Path:
    """An accelerate configuration by path, or by the name of one that the package carries.

    Raises:
        UserError: there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    folder = packaged("accelerate_configs")
    packaged_file = folder / f"{name}.yaml"
    if not packaged_file.is_file():
        names = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise UserError(
            f"there is no accelerate configuration {name!r}; the packaged ones are {names}",
            where="--accelerate_config",
            fix="name one of these, or the path of a file that 'accelerate config' wrote.",
        )
    return packaged_file


def packaged(folder: str) -> Path:
    """A folder that travels with the package: inside it in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / folder if (package / folder).is_dir() else package.parent / folder


def load_recipe(path: Path) -> Callable[..., dict[str, dict[str, float]]]:
    """The ``main`` of a recipe file."""
    spec = util.spec_from_file_location(f"hf_finetune_recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError("the recipe cannot be read", where=str(path), fix="install the package anew.")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def _usage() -> str:
    return (
        "usage: hf-finetune train TASK [--accelerate_config NAME|PATH [--num_processes N]] [--config FILE] [flags]\n\n"
        f"tasks: {', '.join(RECIPES)}\n\nhf-finetune train TASK --help shows the flags."
    )
