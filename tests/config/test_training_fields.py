"""The fields of ``TrainingArguments`` are read from the source as importing the class would give them."""

from __future__ import annotations

import argparse
import subprocess
import sys
from enum import Enum
from typing import Any, Literal

import pytest
from transformers import HfArgumentParser, TrainingArguments

from hf_finetune.config import training_fields
from hf_finetune.config.flags import add_options, options_of


def plain(kind: Any) -> Any:
    """A type as text, with the values of enumerations; a class of another library stands for anything."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.value for member in kind]
    if getattr(kind, "__args__", None) and getattr(kind, "__origin__", None) is not Literal:
        return str(getattr(kind, "__origin__", "|")), [plain(each) for each in kind.__args__]
    return "anything" if kind is Any or getattr(kind, "__name__", "") == "ParallelismConfig" else str(kind)


def without_computed(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if key == "choices" else value for key, value in metadata.items()}


def test_the_fields_are_those_of_the_imported_class():
    read, imported = training_fields.training_fields(), options_of(TrainingArguments)
    assert [option.name for option in read] == [option.name for option in imported]
    for ours, theirs in zip(read, imported, strict=True):
        assert plain(ours.type) == plain(theirs.type), ours.name
        assert ours.default == theirs.default, ours.name
        assert without_computed(ours.metadata) == without_computed(theirs.metadata), ours.name


def actions(parser: argparse.ArgumentParser) -> dict[str, tuple[Any, ...]]:
    kinds = {"_true_or_false": "string_to_bool", "_mapping_or_path": "str"}

    def kind(action: argparse.Action) -> str:
        name = getattr(action.type, "__name__", str(action.type))
        return "choice" if action.choices else kinds.get(name, name)

    return {
        option: (action.dest, action.nargs, kind(action), list(action.choices or []))
        for action in parser._actions
        for option in action.option_strings
        if "-" not in option.lstrip("-")
    }


def test_flags_take_what_hf_argument_parser_takes():
    ours = argparse.ArgumentParser()
    add_options(ours, training_fields.training_fields())
    theirs = actions(HfArgumentParser([TrainingArguments]))
    found = actions(ours)
    assert found.keys() == theirs.keys()
    # Ours take more: switches that may be left open can be given bare, trackers are a list, a mapping is one; and words
    # of --debug that there are not are refused at once.
    bare = {flag for flag, (_, nargs, kind, _) in theirs.items() if kind == "string_to_bool" and nargs is None}
    other = {flag for flag in found if found[flag] != theirs[flag]}
    assert {flag.strip("-") for flag in other - bare} == {
        "debug",
        "report_to",
        "liger_kernel_config",
        "parallelism_config",
    }


@pytest.fixture(autouse=True)
def anew():
    """Every test reads the source again."""
    yield training_fields.training_fields.cache_clear()
    training_fields.training_fields.cache_clear()


@pytest.mark.parametrize(
    "source",
    ["from elsewhere import TrainingArguments\n", "class TrainingArguments(Base):\n    size: int = 1\n"],
    ids=["elsewhere", "with a base class"],
)
def test_a_source_that_cannot_be_read_is_imported_instead(source, tmp_path, monkeypatch):
    (tmp_path / "training_args.py").write_text(source)
    monkeypatch.setattr(training_fields, "find_spec", lambda name: argparse.Namespace(origin=str(tmp_path / "x.py")))
    assert [o.name for o in training_fields.training_fields()] == [o.name for o in options_of(TrainingArguments)]


def test_types_and_defaults_are_those_of_the_source(tmp_path, monkeypatch):
    (tmp_path / "base.py").write_text("from enum import Enum\nclass Colour(Enum):\n    RED = 'red'\n")
    (tmp_path / "training_args.py").write_text(
        "from .base import Colour\nclass TrainingArguments:\n    red = 'red'\n    if True:\n        red = 'green'\n"
        "    colour: Colour = field(default=red, metadata={'help': 'a colour'})\n    size: float | None = None\n"
        "    names: list[str] = field(default_factory=list)\n    parts: Unknown | None = None\n"
        "    def method(self):\n        red = 'blue'\n"
    )
    monkeypatch.setattr(training_fields, "find_spec", lambda name: argparse.Namespace(origin=str(tmp_path / "x.py")))
    colour, size, names, parts = training_fields.training_fields()
    assert ([each.value for each in colour.type], colour.default) == (["red"], "green")
    assert colour.metadata == {"help": "a colour"}
    assert (size.name, size.type, size.default) == ("size", float | None, None)
    assert (names.name, names.type, names.default) == ("names", list[str], [])
    assert (parts.name, parts.type) == ("parts", Any | None)


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_reading_them_imports_neither_torch_nor_transformers(module):
    code = f"from hf_finetune.config.training_fields import training_fields as f; f(); import sys; print('{module}' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
