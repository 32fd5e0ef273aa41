"""What a stranger's file may not do: run code by YAML, pickle or a repository's Python; and no token is shown or kept."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest

from hf_finetune.cli.main import main as hf_finetune

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in ("hf_finetune", "recipes", "benchmarks", "docs")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "results" not in path.parts
]
TOKEN = "hf_ThisIsASecretThatNobodyMaySee"


def calls(path: Path):
    """Every call of a file, with its dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def keywords(call: ast.Call) -> dict[str, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg}


# The source


def test_there_is_a_source_to_look_at():
    assert len(SOURCES) > 60
    assert any(name == "yaml.load" for path in SOURCES for _, name in calls(path))
    assert any(name == "torch.load" for path in SOURCES for _, name in calls(path))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_loader_runs_what_it_reads(path):
    for call, name in calls(path):
        where = f"{path.name}:{call.lineno} {name}"
        if name.startswith("yaml."):
            assert name not in ("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"), (
                where
            )
        if name in ("yaml.load", "yaml.load_all"):
            # BaseLoader makes text only; _scalar_loader() is a SafeLoader that knows 1e-6.
            assert keywords(call).get("Loader") in ("yaml.BaseLoader", "yaml.SafeLoader", "_scalar_loader()"), where
        if name == "torch.load":
            assert keywords(call).get("weights_only") == "True", where
        assert name not in ("pickle.load", "pickle.loads", "eval", "exec", "os.system", "marshal.loads"), where
        assert not name.endswith(("read_pickle", "joblib.load")), where
        assert keywords(call).get("allow_pickle") != "True", where
        assert keywords(call).get("weights_only") != "False", where
        assert keywords(call).get("shell") != "True", where


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_remote_code_is_never_trusted_unasked(path):
    for call, name in calls(path):
        assert keywords(call).get("trust_remote_code") != "True", f"{path.name}:{call.lineno} {name}"


def test_the_loader_of_numbers_in_yaml_is_a_safe_one():
    import yaml

    from hf_finetune.config.yaml_file import _scalar_loader

    assert issubclass(_scalar_loader(), yaml.SafeLoader)


# Files that try


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path) -> Path:
    return tmp_path / "owned"


@pytest.fixture
def train(tmp_path, text_files):
    """Trains on good rows with the flags that are given; returns the status."""

    def run(*flags):
        data = ["--train_file", text_files["train"], "--num_train_epochs", "1", "--output_dir", str(tmp_path / "run")]
        return hf_finetune(["train", "text-classification", *data, *map(str, flags)])

    return run


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("seed: !!python/object/apply:pathlib.Path.touch [{}]", 2),
        ("seed: !!python/object/apply:os.system ['touch {}']", 2),
        ("seed: {{a: !!python/object/apply:os.system ['touch {}']}}", 2),
        ("anything: !!python/object/new:os.system ['touch {}']", 2),
        ("lr_scheduler_kwargs: !!python/object/apply:os.system ['touch {}']", 2),
        ("lr_scheduler_kwargs: {{a: !!python/object/apply:os.system ['touch {}']}}", 2),
        ("lr_scheduler_kwargs: {{a: '!!python/object/apply:os.system [\"touch {}\"]'}}", 2),
        ("lora_target_modules: [!!python/object/new:os.system ['touch {}']]", 2),
        ("lora_target_modules: !!python/object/apply:os.system ['touch {}']", 0),  # a list of one text, of no use here
        ("!!python/object/apply:os.system ['touch {}']: 1", 2),
    ],
)
def test_yaml_makes_no_objects(line, status, train, marker, checkpoints, tmp_path, capfd):
    file = tmp_path / "c.yaml"
    file.write_text(line.format(marker) + "\n", encoding="utf-8")
    assert train("--config", file, "--model_name_or_path", checkpoints("bert")) == status
    assert "Traceback" not in capfd.readouterr().err
    assert not marker.exists()


def pickled_weights(path: Path, marker: Path, how: str) -> None:
    import torch

    if how == "plain":
        path.write_bytes(pickle.dumps({"weight": Touch(marker)}))
    else:
        torch.save(
            {"weight": torch.zeros(2), "extra": Touch(marker)}, path, _use_new_zipfile_serialization=how == "zip"
        )


@pytest.mark.parametrize("how", ["plain", "zip", "legacy"])
def test_the_trap_works_where_pickles_are_trusted(how, marker, tmp_path):
    import torch

    pickled_weights(tmp_path / "w.bin", marker, how)
    torch.load(tmp_path / "w.bin", weights_only=False) if how != "plain" else pickle.loads(
        (tmp_path / "w.bin").read_bytes()
    )
    assert marker.exists()


@pytest.mark.parametrize("how", ["plain", "zip", "legacy"])
@pytest.mark.parametrize("verb", ["train", "predict"])
def test_pickled_weights_run_nothing(how, verb, train, marker, checkpoints, text_files, tmp_path, capfd):
    model = tmp_path / "model"
    shutil.copytree(checkpoints("bert"), model)
    settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    settings["architectures"] = ["BertForSequenceClassification"]
    (model / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    (model / "model.safetensors").unlink()
    pickled_weights(model / "pytorch_model.bin", marker, how)
    status = (
        train("--model_name_or_path", model)
        if verb == "train"
        else hf_finetune(["predict", str(model), text_files["test"], "--output", str(tmp_path / "out.csv")])
    )
    said = capfd.readouterr().err
    assert status == 2, said
    assert said.splitlines()[-2].startswith("error: ")
    assert "Traceback" not in said
    assert not marker.exists()


def with_code(checkpoint: str, model: Path, marker: Path) -> None:
    """A copy of a checkpoint whose repository carries Python code that makes a file."""
    shutil.copytree(checkpoint, model)
    trap = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
    config = "from transformers import BertConfig\nclass OwnConfig(BertConfig):\n    model_type = 'own'\n"
    network = (
        "from transformers import BertForSequenceClassification\nfrom .configuration_own import OwnConfig\n"
        "class OwnModel(BertForSequenceClassification):\n    config_class = OwnConfig\n"
    )
    (model / "configuration_own.py").write_text(trap + config, encoding="utf-8")
    (model / "modeling_own.py").write_text(trap + network, encoding="utf-8")
    settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    settings |= {
        "model_type": "own",
        "architectures": ["OwnForSequenceClassification"],
        "auto_map": {
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModelForSequenceClassification": "modeling_own.OwnModel",
        },
    }
    (model / "config.json").write_text(json.dumps(settings), encoding="utf-8")


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """Code of repositories is copied to a folder of the test, not to the user's cache."""
    for module in ("transformers.dynamic_module_utils", "transformers.utils.hub", "transformers.utils"):
        monkeypatch.setattr(f"{module}.HF_MODULES_CACHE", str(tmp_path / "modules"), raising=False)
    # What another test has imported from a folder of its own would be found first.
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


@pytest.mark.parametrize("verb", ["train", "predict"])
def test_code_of_a_repository_does_not_run_unasked(
    verb, train, marker, checkpoints, text_files, tmp_path, capfd, own_modules
):
    model = tmp_path / "model"
    with_code(checkpoints("bert"), model, marker)
    status = (
        train("--model_name_or_path", model)
        if verb == "train"
        else hf_finetune(["predict", str(model), text_files["test"], "--output", str(tmp_path / "out.csv")])
    )
    said = capfd.readouterr()
    assert status == 2, said.err
    assert "trust_remote_code" in said.err
    assert "Traceback" not in said.err
    assert not marker.exists()
    assert not (tmp_path / "run").exists()


def test_code_of_a_repository_runs_where_it_was_asked_for(train, marker, checkpoints, tmp_path, own_modules):
    model = tmp_path / "model"
    with_code(checkpoints("bert"), model, marker)
    assert train("--model_name_or_path", model, "--trust_remote_code") == 0
    assert marker.exists()


# Secrets


@pytest.mark.parametrize("how", ["flag", "equals", "yaml", "environment"])
@pytest.mark.parametrize("ends", ["well", "badly"])
def test_no_token_is_shown_or_kept(how, ends, train, checkpoints, tmp_path, capfd, monkeypatch):
    flags = {"flag": ["--hub_token", TOKEN], "equals": [f"--hub_token={TOKEN}"]}.get(how, [])
    if how == "yaml":
        (tmp_path / "secret.yaml").write_text(f"hub_token: {TOKEN}\n", encoding="utf-8")
        flags = ["--config", tmp_path / "secret.yaml"]
    if how == "environment":
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("sys.argv", ["hf-finetune", "train", *map(str, flags)])
    if ends == "badly":
        flags += ["--push_to_hub", "--hub_model_id", "a/b"]
    assert train("--model_name_or_path", checkpoints("bert"), *flags) == (0 if ends == "well" else 2)
    said = capfd.readouterr()
    assert TOKEN not in said.out + said.err
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert bool(kept) == (ends == "well")
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]


def test_a_mistake_beside_a_token_does_not_show_it(train, checkpoints, capfd):
    for flags in (["--hub_token", TOKEN, "--sed", "1"], ["--hub_tokn", TOKEN], ["--hub_token", TOKEN, TOKEN + "x"]):
        assert train("--model_name_or_path", checkpoints("bert"), *flags) == 2
        said = capfd.readouterr()
        assert TOKEN not in said.out + said.err, flags
