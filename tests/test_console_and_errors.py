"""What users are told: two lines for a mistake, an exit status, and no secret."""

from __future__ import annotations

import signal
import sys

import pytest

from hf_finetune.cli.status import run_as_script
from hf_finetune.config import without_secrets
from hf_finetune.console import is_main_process, say, show_table
from hf_finetune.errors import Interrupted, UserError

# The two lines of a mistake


def test_a_mistake_is_an_error_line_and_a_fix_line():
    error = UserError("the file is empty", where="a.csv", fix="give rows.")
    assert str(error) == "error: a.csv: the file is empty\nfix: give rows."


def test_without_a_place_the_error_begins_with_what_is_wrong():
    assert str(UserError("nothing given", fix="give it.")) == "error: nothing given\nfix: give it."


def test_newlines_and_tabs_in_the_parts_do_not_make_more_lines():
    error = UserError("bad\n\nvery\r\nbad", where="row\n1\t", fix="correct\nit\n")
    assert str(error) == "error: row 1 : bad very bad\nfix: correct it"


def test_the_parts_stay_apart():
    error = UserError("what", where="where", fix="fix")
    assert (error.what, error.where, error.fix) == ("what", "where", "fix")


# Exit status


def raising(error: BaseException):
    def main():
        raise error

    return main


def test_a_finished_run_is_status_0(capsys):
    assert run_as_script(lambda: {"accuracy": 1.0}) == 0
    assert capsys.readouterr().err == ""


def test_a_mistake_is_status_2_and_two_lines_on_standard_error(capsys):
    assert run_as_script(raising(UserError("bad", where="here", fix="correct it."))) == 2
    output = capsys.readouterr()
    assert output.err == "error: here: bad\nfix: correct it.\n"
    assert output.out == ""


def test_a_mistake_is_printed_by_the_main_process_only(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run_as_script(raising(UserError("bad", fix="correct it."))) == 2
    assert capsys.readouterr().err == ""


def test_a_keyboard_interrupt_is_status_130():
    assert run_as_script(raising(KeyboardInterrupt())) == 130


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on(number, status, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--output_dir", "my runs", "--overwrite_output_dir"])
    assert run_as_script(raising(Interrupted(number))) == status
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[0]
        == f"interrupted by {signal.Signals(number).name}; a checkpoint was written. To resume, run (with the same launcher):"
    )
    assert lines[1].endswith("recipe.py --output_dir 'my runs' --resume_from_checkpoint auto")


def test_the_command_that_goes_on_shows_no_token(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--hub_token", "hf_secret", "--seed", "1"])
    run_as_script(raising(Interrupted(signal.SIGINT)))
    printed = capsys.readouterr().err
    assert "hf_secret" not in printed
    assert "--seed 1" in printed


def test_the_command_that_goes_on_names_resuming_once(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--resume_from_checkpoint", "auto"])
    run_as_script(raising(Interrupted(signal.SIGINT)))
    assert capsys.readouterr().err.count("--resume_from_checkpoint") == 1


@pytest.mark.parametrize("error", [ValueError("ours"), RuntimeError("ours"), KeyError("ours")])
def test_a_defect_of_ours_keeps_its_traceback(error):
    with pytest.raises(type(error), match="ours"):
        run_as_script(raising(error))


def test_an_exit_of_the_parser_keeps_its_status():
    with pytest.raises(SystemExit) as caught:
        run_as_script(raising(SystemExit(7)))
    assert caught.value.code == 7


# Secrets


@pytest.mark.parametrize(
    ("argv", "clean"),
    [
        (["r.py", "--hub_token", "hf_x", "--seed", "1"], ["r.py", "--hub_token", "***", "--seed", "1"]),
        (["r.py", "--hub_token=hf_x", "--seed=1"], ["r.py", "--hub_token=***", "--seed=1"]),
        (["r.py", "--hub-token", "hf_x"], ["r.py", "--hub-token", "***"]),
        (["r.py", "--hub-token=hf_x"], ["r.py", "--hub-token=***"]),
        (["r.py", "--seed", "1"], ["r.py", "--seed", "1"]),
        (["r.py", "hub_token", "kept"], ["r.py", "hub_token", "kept"]),
        (["r.py", "--hub_token"], ["r.py", "--hub_token"]),
        (["r.py", "--hub_token=a=b"], ["r.py", "--hub_token=***"]),
        ([], []),
    ],
)
def test_values_of_secret_flags_are_hidden(argv, clean):
    assert without_secrets(argv) == clean


def test_redacting_leaves_the_command_line_as_it_is():
    argv = ["--hub_token", "hf_x"]
    without_secrets(argv)
    assert argv == ["--hub_token", "hf_x"]


# The console


def test_only_rank_0_is_the_main_process(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert is_main_process()
    monkeypatch.setenv("RANK", "0")
    assert is_main_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()


def test_sentences_are_printed_as_they_are(capsys):
    sentence = "[bold]labels[/bold] [a, b] " + "long " * 60 + ":smile: 0.5"
    say(sentence)
    assert capsys.readouterr().out == sentence + "\n"


def test_other_processes_are_silent(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    say("hello")
    show_table("title", ("a",), [(1,)])
    assert capsys.readouterr().out == ""


def test_a_table_holds_every_cell_and_sets_numbers_to_the_right(capsys):
    show_table("The [title]", ("name", "rows"), [("[a]", "1,000"), ("b", 7)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "The [title]"
    first, second = (next(line for line in lines if name in line) for name in ("[a]", "│ b"))
    assert "1,000" in first
    assert first.index("1,000") + 4 == second.index("7")
