"""The warm process runs command lines as ``python`` does, and sketched figures are files of the kind that is asked for."""

from __future__ import annotations

import os
import sys

import pytest
from sketch import PNG, SVG, Sketch

TWO = """
import os, sys, torch
torch.distributed.init_process_group("gloo")
one = torch.ones(1)
torch.distributed.all_reduce(one)
if os.environ["RANK"] == "1":
    sys.exit(int(one))
torch.distributed.barrier()
"""


def test_code_modules_and_files_run_with_their_own_words_environment_and_folder(python, tmp_path):
    (tmp_path / "said.py").write_text("import os, sys; print(__name__, sys.argv[1:], os.getcwd(), os.environ.get('X'))")
    for argv in (["said.py", "a b"], ["-m", "said", "a b"], ["-c", (tmp_path / "said.py").read_text(), "a b"]):
        done = python(argv, env=os.environ | {"X": "y"}, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"__main__ ['a b'] {tmp_path} y\n"
    assert "X" not in os.environ
    assert "said" not in sys.modules


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [("import sys; sys.exit(2)", 2, ""), ("raise SystemExit('no')", 1, "no\n"), ("1 / 0", 1, "division by zero\n")],
)
def test_status_and_traceback_are_those_of_python(code, status, said, python):
    done = python(["-c", code])
    assert done.returncode == status
    assert done.stderr.endswith(said)


def test_processes_know_their_ranks_and_one_that_fails_ends_the_others(python):
    done = python(["-c", TWO], processes=2)
    assert done.returncode == 2, done.stderr  # what both of them counted; the other waits at a barrier


def test_code_reads_its_standard_input(python):
    assert python(["-c", "import sys; print(sys.stdin.read()[::-1])"], input="good").stdout == "doog\n"


def test_each_command_starts_from_the_same_state(python):
    for _ in range(2):
        assert python(["-c", "import json; print(hasattr(json, 'marked')); json.marked = True"]).stdout == "False\n"


def test_figures_are_sketched_where_drawing_is_not_what_is_tested(tmp_path):
    from matplotlib.figure import Figure

    assert Figure is Sketch
    figure = Figure(figsize=(1, 1))
    figure.subplots().imshow([[1]]).set(xlabel="x")
    figure.savefig(tmp_path / "a.png", dpi=150)
    with (tmp_path / "a.svg").open("w") as file:
        figure.savefig(file, format="svg")
    assert ((tmp_path / "a.png").read_bytes(), (tmp_path / "a.svg").read_text()) == (PNG + b"a.png", SVG)


@pytest.mark.drawing
def test_figures_are_drawn_where_it_is(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([1, 2])
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
