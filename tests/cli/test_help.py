"""Help and refusals come at once: on one screen, and without importing torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hf_finetune.cli.main import VERBS, main
from hf_finetune.cli.task_flags import take_task
from hf_finetune.config.options import TrainOptions
from hf_finetune.tasks import TASKS

RECIPES = Path(__file__).parents[2] / "recipes"
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "numpy",
    "pandas",
    "sklearn",
    "matplotlib",
    "rich",
    "pyarrow",
)
HELP = [
    ["--help"],
    *([verb, "--help"] for verb in VERBS),
    *([verb, task, "--help", *more] for verb in ("train", "check") for task in TASKS for more in ([], ["all"])),
]
WRONG = [
    ["trian"],
    ["train", "text-classificatio"],
    ["train", "text-classification", "--learnin_rate", "1"],
    ["train", "text-classification", "--learning_rate", "fast"],
    ["train", "text-classification", "--optim", "adamm"],
    ["train", "text-classification", "--log_level", "loud"],
    ["train", "text-classification", "--lr_scheduler_kwargs", "{"],
    ["train", "text-classification", "--model_name_or_path", "m", "--lora_r", "0"],
    ["train", "text-classification", "--accelerate_config", "cpu", "--seeds", "1", "--lora_r", "x"],
    ["check", "image-classification", "--mixup", "some"],
    ["predict", "m", "rows.csv", "--top_k", "0"],
    ["evaluate", "no/such/run"],
    ["push", "run"],
]
# Every command of a list in one fresh process: what it prints, its status, and which heavy modules it imported.
PROBE = """
import contextlib, io, json, sys
sys.argv[0] = "hf-finetune"
from hf_finetune.cli.main import main
answers = []
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = main(words)
        except SystemExit as end:
            status = end.code
    answers.append((words, status, said.getvalue()))
print(json.dumps({"answers": answers, "modules": sorted(sys.modules)}))
"""


def probe(commands):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(commands)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_help_imports_nothing_heavy_and_fits_a_screen():
    found = probe(HELP)
    assert [name for name in HEAVY if name in found["modules"]] == []
    for words, status, said in found["answers"]:
        assert status in (0, None), words
        if "all" in words:
            assert said.count("\n  --") > 150
        elif len(words) == 3:
            assert len(said.splitlines()) <= 40, words
            assert max(map(len, said.splitlines())) <= 100, words


def test_wrong_flags_and_values_are_refused_without_importing_anything_heavy():
    found = probe(WRONG)
    assert [name for name in HEAVY if name in found["modules"]] == []
    for words, status, said in found["answers"]:
        assert (status, len(said.splitlines())) == (2, 2), (words, said)
        assert said.startswith("error: "), words


def test_importing_the_package_imports_nothing_heavy():
    code = "import hf_finetune, sys; hf_finetune.fine_tune; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())


@pytest.mark.parametrize("words", [["--help"], ["--learnin_rate", "1"]])
@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.py")), ids=lambda path: path.stem)
def test_a_recipe_answers_without_importing_anything_heavy(recipe, words):
    run = f"import runpy, sys; sys.argv = {[str(recipe), *words]}\n"
    run += "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nfinally:\n    print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if words == ["--help"] else 2)
    assert not set(HEAVY) & set(done.stdout.splitlines()[-1].split())


def test_help_shows_the_flags_of_the_input_of_the_task(capsys):
    for task, shown, absent in (
        ("text-classification", "--max_length", "--image_size"),
        ("image-classification", "--image_size", "--max_length"),
    ):
        with pytest.raises(SystemExit):
            main(["train", task, "--help"])
        said = capsys.readouterr().out
        assert shown in said
        assert absent not in said


@pytest.mark.parametrize(
    "before",
    [
        [],
        ["--config", "f.yaml"],
        ["--config=f.yaml", "--seed", "1"],
        ["--output_dir", "text-classification"],
        ["--merge_adapter"],
        ["--label_columns", "a", "b"],
        ["--accelerate_config", "cpu"],
    ],
)
def test_the_task_may_stand_behind_flags(before):
    words = [*before, "text-classification", "--seed", "2"]
    assert take_task("train", words, TrainOptions, "") == ("text-classification", [*before, "--seed", "2"])


def test_a_flag_before_the_task_is_parsed(tmp_path, capsys):
    assert main(["train", "--config", str(tmp_path / "f.yaml"), "text-classification"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'f.yaml'}: the file does not exist")
    assert main(["check", "--seed", "1"]) == 2
    assert "no task is named" in capsys.readouterr().err
