"""The recipes and accelerate configurations of the package, and a function that runs a recipe from Python."""

from __future__ import annotations

import json
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import UserError
from hf_finetune.tasks import module_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset, DatasetDict


def fine_tune(task: str, dataset: DatasetDict | Dataset | None = None, **flags: Any) -> dict[str, dict[str, float]]:
    """Fine-tune from Python: the same flags as the command line, and a ``DatasetDict`` if the rows are in memory.

    Example:
        >>> fine_tune("text-classification", dataset, model_name_or_path="google-bert/bert-base-uncased")

    Returns:
        The content of ``metrics.json``.

    Raises:
        UserError: as on the command line.
    """
    argv = [word for key, value in flags.items() if value is not None for word in _flag(key, value)]
    return load_recipe(recipe_path(task))(argv, dataset)


def _flag(name: str, value: Any) -> list[str]:
    """Return a flag and its Python value as words of a command line."""
    if isinstance(value, (list, tuple)):
        return [f"--{name}", *map(_word, value)]
    return [f"--{name}={_word(value)}"]


def _word(value: Any) -> str:
    if isinstance(value, (dict, bool)):
        return json.dumps(value)
    return str(getattr(value, "value", value))  # a member of an enumeration by its value


def recipe_path(task: str) -> Path:
    """Return the recipe file of a task.

    Raises:
        UserError: there is no such task.
    """
    return packaged("recipes") / f"{module_name(task)}.py"


def accelerate_config_path(name: str) -> Path:
    """Return the path of an accelerate configuration, from a path or the name of a packaged one.

    Raises:
        UserError: there is no such file or name.
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
            fix="use one of these names, or the path of a file that 'accelerate config' wrote.",
        )
    return packaged_file


def packaged(folder: str) -> Path:
    """Return a folder of packaged files: inside the package in a wheel, next to it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / folder if (package / folder).is_dir() else package.parent / folder


def load_recipe(path: Path) -> Callable[..., dict[str, dict[str, float]]]:
    """Return the ``main`` function of a recipe file."""
    spec = util.spec_from_file_location(f"hf_finetune_recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError("the recipe cannot be read", where=str(path), fix="reinstall the package.")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main
