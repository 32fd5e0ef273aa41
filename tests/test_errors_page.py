"""The page of error messages is what the code says, and every message says what was found and how to mend it."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load_generator():
    spec = util.spec_from_file_location("make_errors", ROOT / "docs" / "make_errors.py")
    module = util.module_from_spec(spec)
    sys.modules["make_errors"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


make_errors = load_generator()
MESSAGES = make_errors.collect()


def place(message) -> str:
    return f"{message.file}:{message.line}"


def test_the_page_is_what_the_code_says():
    committed = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert committed == make_errors.page(MESSAGES), "run 'make docs'"


def test_every_call_in_the_source_is_found():
    files = [*(ROOT / "hf_finetune").rglob("*.py"), *(ROOT / "recipes").glob("*.py")]
    calls = sum(
        line.count("UserError(") - line.count("class UserError(") - line.count("``UserError(")
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
    )
    assert len(MESSAGES) == calls >= 100


@pytest.mark.parametrize("message", MESSAGES, ids=place)
def test_a_message_says_what_was_found_and_how_to_mend_it(message):
    for fix in message.fix:
        if fix.startswith("⟨") and fix.endswith("⟩"):  # handed on from where it is checked
            continue
        assert len(fix.split()) >= 2, fix
        assert fix.rstrip(")").endswith("."), f"a fix is a sentence: {fix!r}"
        assert "\n" not in fix
    for what in message.what:
        assert not what.endswith("."), f"the error goes on after the place, without a full stop: {what!r}"
        assert len(what.split()) >= 4 or "⟨" in what, f"say what was found: {what!r}"
        assert not what.lower().startswith(("invalid", "error", "failed", "unable", "illegal")), what
        assert what[:1].islower() or what[:1] in "⟨('-" or what.split()[0].isupper(), f"no capital: {what!r}"


def test_placeholders_and_choices_are_readable(tmp_path):
    source = """
from hf_finetune.errors import UserError

def f(rows, column, near, several, error):
    where = f"column {column!r}"
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"{len(rows)} row{'s' if several else ''} of {', '.join(map(repr, rows))} {'do' if several else 'does'} not fit",
        where=where if several else "somewhere",
        fix=f"{hint}use a|b.",
    )

def g(error):
    raise UserError(str(error), fix="mend it.")
"""
    (tmp_path / "hf_finetune" / "data").mkdir(parents=True)
    (tmp_path / "hf_finetune" / "data" / "x.py").write_text(source, encoding="utf-8")
    second, first = make_errors.collect(tmp_path)
    assert first.what == ("⟨number of rows⟩ row(s) of ⟨rows⟩ (do / does) not fit",)
    assert first.where == ("column '⟨column⟩'", "somewhere")
    assert first.fix == ("(did you mean ⟨near⟩?) use a|b.",)
    assert (second.what, second.where, second.fix) == (("⟨error⟩",), ("",), ("mend it.",))
    assert "| column '⟨column⟩' *or* somewhere | (did you mean ⟨near⟩?) use a\\|b. |" in make_errors.page([first])
