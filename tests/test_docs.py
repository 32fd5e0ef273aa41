"""The documentation is correct: links, flags, commands, worked examples, and the files and numbers of a run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from warm_process import verification_in_a_fork

from hf_finetune.cli.main import VERBS
from hf_finetune.cli.train import _seeds
from hf_finetune.config import build_parser, options_of, parse
from hf_finetune.config.options import CheckOptions, EvaluateOptions, PredictOptions, PushOptions, TrainOptions
from hf_finetune.packaged import accelerate_config_path, recipe_path
from hf_finetune.tasks import TASKS, module_name

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
EXAMPLES = sorted((ROOT / "recipes" / "configs").iterdir())
DEMO_EXAMPLES = ("rotten_tomatoes_minilm.yaml", "solar_cells_efficientnet_lite0_head.yaml")
MODEL_AND_DATA = ["--model_name_or_path", "some-model", "--dataset_name", "some-data"]
OPTIONS = {flag for action in build_parser()._actions for flag in action.option_strings}
LAUNCH_OPTIONS = {flag for action in launch_command_parser()._actions for flag in action.option_strings}
VERB_OPTIONS = {
    flag
    for verb in VERBS
    for flag in re.findall(r'add_argument\(\s*"(--\w+)"', (ROOT / f"hf_finetune/cli/{verb}.py").read_text("utf-8"))
}
VERB_OPTIONS |= {
    f"--{option.name}"
    for kind in (TrainOptions, CheckOptions, EvaluateOptions, PredictOptions, PushOptions)
    for option in options_of(kind)
}


def by_name(path: Path) -> str:
    return path.name


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page in this language; ``""`` for blocks without one."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return [block for marked, block in fenced if marked == language]


def commands() -> list[tuple[str, list[str]]]:
    """Return all commands in bash blocks of the pages and in comments of the worked examples, as (page, words)."""
    found = []
    for page in PAGES:
        lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
        found += [(page.name, shlex.split(line, comments=True)) for line in lines]
    for example in EXAMPLES:
        lines = re.findall(r"^#   (\S.*)$", text_of(example), flags=re.MULTILINE)
        found += [(example.name, shlex.split(line)) for line in lines]
    return [(where, words) for where, words in found if words]


COMMANDS = commands()
TRAINING = [
    pytest.param(words, id=f"{where}-{index}")
    for index, (where, words) in enumerate(COMMANDS)
    if words[:2] == ["hf-finetune", "train"] or words[:2] == ["accelerate", "launch"]
]


# Links and names


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_relative_links_point_to_files(page):
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text_of(page)) if not t.startswith(("http://", "https://"))]
    missing = [t for t in targets if not (page.parent / t.partition("#")[0]).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_paths_on_a_page_exist(page):
    named = re.findall(r"`((?:hf_finetune|recipes|accelerate_configs|docs)/[\w./-]*)`", text_of(page))
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=by_name)
def test_every_flag_exists(page):
    named = set(re.findall(r"(?<![\w-])--[a-z]\w*", text_of(page)))
    known = (
        OPTIONS | VERB_OPTIONS | LAUNCH_OPTIONS | {"--run", "--help", "--config", "--logdir"}
    )  # pytest's --run-slow, tensorboard's
    assert named <= known


def test_every_docs_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\((docs/\w+\.md)\)", text_of(ROOT / "README.md")))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


def test_python_examples_are_python():
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block, str(page), "exec")


# Commands


def test_every_verb_has_a_command():
    assert {words[1] for _, words in COMMANDS if words[0] == "hf-finetune"} == set(VERBS)
    assert len(TRAINING) >= 12


@pytest.mark.parametrize("words", TRAINING)
def test_training_commands_parse(words):
    if words[0] == "accelerate":
        script = next(i for i, word in enumerate(words) if word.endswith(".py"))
        assert (ROOT / words[script]).is_file()
        launch = launch_command_parser().parse_args(words[2 : script + 1])
        assert launch.config_file is None or (ROOT / launch.config_file).is_file()
        task, flags = Path(words[script]).name, words[script + 1 :]
        assert task in [f"{module_name(name)}.py" for name in TASKS]
    else:
        assert words[2] in TASKS
        flags = words[3:]
        if "--accelerate_config" in flags:
            at = flags.index("--accelerate_config")
            assert accelerate_config_path(flags[at + 1]).is_file()
            del flags[at : at + 2]
        if "--seeds" in flags:
            at = flags.index("--seeds")
            assert _seeds(flags[at + 1]) == [0, 1, 2]
            del flags[at : at + 2]
    at = flags.index("--config") + 1 if "--config" in flags else 0
    if at and flags[at].startswith("runs/"):  # the configuration that a run would write
        flags = [*flags[: at - 1], *flags[at + 1 :], *MODEL_AND_DATA]
    elif at:
        flags[at] = str(ROOT / flags[at])
    config = parse(flags)
    assert config.data.dataset_name or config.data.train_file


def test_predict_serve_and_demo_commands_parse(monkeypatch):
    import signal

    from hf_finetune.cli import demo, predict, serve
    from hf_finetune.evaluation.prediction import labeller, predict_file
    from hf_finetune.publish import serve as served

    seen = []
    none = predict_file.Predicted(0, [], None)
    monkeypatch.setattr(predict_file, "predict_file", lambda *args, **_: seen.append(args) or none)
    monkeypatch.setattr(labeller, "load_labeller", lambda *_, **__: None)
    monkeypatch.setattr(served, "refuse_address", lambda *_: None)
    monkeypatch.setattr(served, "serve", lambda *args: seen.append(args))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("hf_finetune.demo.run_demo", lambda *args: seen.append(args))
    verbs = {"predict": predict, "demo": demo, "serve": serve}
    ours = [words for _, words in COMMANDS if words[0] == "hf-finetune" and words[1] in verbs]
    for words in ours:
        verbs[words[1]].main(words[2:])
    assert len(seen) == len(ours) >= 7


def test_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", text_of(ROOT / "Makefile"), flags=re.MULTILINE))
    named = {words[1] for _, words in COMMANDS if words[0] == "make"}
    assert {"demo", "test", "lint"} <= named <= targets


# Worked examples


def test_examples_are_named_after_data_and_backbone():
    for example in EXAMPLES:
        assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+\.yaml", example.name), example.name


@pytest.mark.parametrize("example", EXAMPLES, ids=by_name)
def test_example_parses_and_its_comment_names_it(example):
    comment = text_of(example).split("\n\n")[0]
    assert comment.startswith("# ")
    if example.name in DEMO_EXAMPLES:
        config = parse(["--config", str(example), *MODEL_AND_DATA])
        assert "hf-finetune demo" in comment
        keys = yaml.safe_load(text_of(example))
        assert not keys.keys() & {"model_name_or_path", "dataset_name", "train_file", "output_dir"}
    else:
        config = parse(["--config", str(example)])
        assert comment.count(f"--config recipes/configs/{example.name}") == 2  # launched in both ways
        assert config.output_dir == Path("runs") / example.stem


def test_the_demos_use_their_examples():
    from hf_finetune.demo import DEMOS

    assert sorted(demo.config for demo in DEMOS.values()) == sorted(DEMO_EXAMPLES)


def test_every_example_that_a_page_or_recipe_names_exists():
    sources = [*PAGES, *(ROOT / "recipes").glob("*.py"), *(ROOT / "hf_finetune").rglob("*.py")]
    for source in sources:
        for name in re.findall(r"recipes/configs/([\w.]+\.yaml)", text_of(source)):
            assert (ROOT / "recipes" / "configs" / name).is_file(), (source.name, name)


@pytest.mark.parametrize("name", ["beans_resnet50_head", "cifar10_resnet50"])
def test_sgd_examples_give_torch_rate_and_momentum(name, tmp_path):
    import torch
    from transformers import Trainer, TrainingArguments

    asked = parse(["--config", str(ROOT / "recipes" / "configs" / f"{name}.yaml")]).training
    arguments = TrainingArguments(**asked | {"output_dir": str(tmp_path), "use_cpu": True})
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    assert kind is torch.optim.SGD
    assert options == {"lr": 0.001, "momentum": 0.9}
    assert arguments.weight_decay == 0


def test_mlp_example_is_adam_on_a_frozen_backbone():
    config = parse(["--config", str(ROOT / "recipes" / "configs" / "beans_resnet50_head_mlp.yaml")])
    assert (config.strategy.strategy, config.model.head_hidden_size) == ("head", 512)
    assert (config.training["optim"], config.training["learning_rate"]) == ("adamw_torch", 1e-4)
    assert config.training["weight_decay"] == 0
    assert config.run.early_stopping_patience == 3
    assert (config.inputs.augmentation, config.inputs.rotation_degrees) == ("light", 20)


# Files and numbers of a run


@pytest.fixture(scope="module")
def run(python, checkpoints, text_files, tmp_path_factory):
    """Return the folder of a small run with two phases."""
    from hf_finetune import fine_tune

    folder = tmp_path_factory.mktemp("documented") / "run"
    files = {f"{split}_file": path for split, path in text_files.items()}
    flags = {"strategy": "lp_ft", "num_train_epochs": 1, "bf16": False, "output_dir": folder}
    with pytest.MonkeyPatch.context() as patch, verification_in_a_fork(python):
        patch.setenv("HF_FINETUNE_VERIFY", "1")
        fine_tune("text-classification", model_name_or_path=checkpoints("bert"), **files, **flags)
    return folder


def documented(heading: str) -> set[str]:
    """Return the names in the first column of the tables below a heading of outputs.md."""
    section = text_of(ROOT / "docs" / "outputs.md").split(f"\n{heading}\n")[1].split("\n## ")[0]
    return {
        name
        for row in re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
        for name in re.findall(r"`(.*?)`", row)
    }


def test_every_file_of_a_run_is_documented(run):
    table = text_of(ROOT / "docs" / "outputs.md").split("\n## ")[0]
    rows = set(re.findall(r"^\| `(.*?)/?` \|", table, flags=re.MULTILINE))
    assert {path.name for path in run.iterdir()} == rows
    listing = next(block for block in blocks(ROOT / "README.md", "") if block.startswith("runs/"))
    assert set(re.findall(r"^    (\S+?)/? ", listing, flags=re.MULTILINE)) == rows


def test_every_number_of_a_run_is_documented(run):
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    parts = {"validation", "test", "test_intervals", "test_per_class", "baseline", "calibration", "timing"}
    assert metrics.keys() == parts
    by_phase = {key for key in metrics["timing"] if re.fullmatch(r"train_\w+_seconds", key)}
    assert by_phase == {"train_head_seconds", "train_full_seconds"}
    written = metrics["test"].keys() | metrics["calibration"].keys() | (metrics["timing"].keys() - by_phase)
    assert metrics["validation"].keys() == metrics["test"].keys()
    assert written | {"train_<phase>_seconds"} == documented("## metrics.json")
    text = text_of(ROOT / "docs" / "outputs.md")
    assert {key.rpartition("/")[2] for key in metrics["test_per_class"]} == set(re.findall(r"`<label>/(\w+)`", text))


def test_every_column_of_the_predictions_is_documented(run):
    import pandas as pd

    columns = set(pd.read_parquet(run / "predictions.parquet").columns)
    assert columns == documented("## predictions.parquet")


def test_the_examples_in_the_readme_run_on_such_a_folder(run, tmp_path):
    from transformers import pipeline

    from hf_finetune.cli.predict import main

    assert pipeline("text-classification", model=str(run / "model"))("a good film")[0]["label"] in (
        "positive",
        "negative",
    )
    rows = tmp_path / "new.csv"
    rows.write_text("text\na good film\nthe bad plot\n", encoding="utf-8")
    main([str(run), str(rows), "--output", str(tmp_path / "labelled.csv")])
    assert (tmp_path / "labelled.csv").read_text().splitlines()[0] == "id,prediction,probability"


# Lists that a page repeats from the code


def test_strategies_page_and_readme_name_every_strategy():
    help_text = next(action.help for action in build_parser()._actions if action.dest == "strategy")
    for name in ("auto", "full", "head", "freeze:STAGE", "freeze:DEPTH", "lp_ft", "gradual", "lora"):
        assert name in help_text
        for page in ("README.md", "docs/strategies.md"):
            assert re.search(rf"^\| `{name}`", text_of(ROOT / page), flags=re.MULTILINE), (page, name)


def test_data_page_lists_the_column_names_that_are_looked_for():
    from hf_finetune.data.rows.columns import IMAGE_NAMES, LABEL_NAMES, TEXT_NAMES

    text = text_of(ROOT / "docs" / "data.md")
    for column, names in {"text": TEXT_NAMES, "image": IMAGE_NAMES, "label": LABEL_NAMES}.items():
        cell = re.search(rf"^\| {column} \| (.*?) \|", text, flags=re.MULTILINE)
        assert cell is not None
        assert tuple(re.findall(r"`(\w+)`", cell[1])) == names


def test_data_page_lists_the_pairs_that_are_looked_for():
    from hf_finetune.data.rows.columns import PAIR_NAMES

    listed = text_of(ROOT / "docs" / "data.md").split("**Pairs of texts.**")[1].split("**")[0]
    assert tuple(re.findall(r"`(\w+)`\s+and\s+`(\w+)`", listed))[: len(PAIR_NAMES)] == PAIR_NAMES


@pytest.mark.parametrize("page", ["README.md", "docs/scaling.md"])
def test_every_accelerate_configuration_is_described(page):
    rows = re.findall(r"^\| (`[a-z0-9_]+`(?:, `[a-z0-9_]+`)*) \|", text_of(ROOT / page), flags=re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {path.stem for path in (ROOT / "accelerate_configs").iterdir()} <= described


def test_every_task_has_a_recipe_and_a_place_in_the_readme():
    for task in TASKS:
        assert recipe_path(task).is_file()
        assert f"hf-finetune train {task}" in text_of(ROOT / "README.md")


def test_push_commands_parse(monkeypatch):
    from hf_finetune.cli import push
    from hf_finetune.publish.hub import push as hub

    seen = []
    monkeypatch.setattr(hub, "push_folder", lambda run, to: seen.append((run, to)))
    ours = [words for _, words in COMMANDS if words[:2] == ["hf-finetune", "push"]]
    for words in ours:
        push.main(words[2:])
    assert len(seen) == len(ours) >= 4


def test_push_page_lists_every_flag_and_retried_status():
    from hf_finetune.cli.push import build_parser as build_push_parser
    from hf_finetune.publish.hub.access import BUSY, LONGEST_WAIT, RETRY_SECONDS

    text = text_of(ROOT / "docs" / "push.md")
    flags = {action.dest for action in build_push_parser()._actions} - {"hub_token", "help", "run"}
    assert set(re.findall(r"^\| `--(\w+)` \|", text, flags=re.MULTILINE)) == flags
    assert ", ".join(map(str, BUSY[:-1])) + f" or {BUSY[-1]}" in text
    assert (RETRY_SECONDS, LONGEST_WAIT) == ((1, 2, 4), 60)
    assert "after 1, 2 and 4 seconds" in text
