"""What a stranger's file may not do: run code by YAML, pickle or a repository's Python; and no token is shown or kept."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import sys
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Call:
    """A call in the source: where it stands, its dotted name and its keywords, as they are written."""

    where: str
    name: str
    keywords: dict[str, str]


def calls_of(path: Path) -> list[Call]:
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [
        Call(
            f"{path.relative_to(ROOT)}:{node.lineno}",
            ast.unparse(node.func),
            {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg},
        )
        for node in nodes
    ]


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    return [call for path in SOURCES for call in calls_of(path)]


# The source


def test_there_is_a_source_to_look_at(calls):
    assert len(SOURCES) > 60
    assert {"yaml.load", "torch.load"} <= {call.name for call in calls}


def runs_what_it_reads(call: Call) -> bool:
    if call.name in ("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"):
        return True
    if call.name in ("yaml.load", "yaml.load_all"):
        return call.keywords.get("Loader") not in ("yaml.BaseLoader", "yaml.SafeLoader")  # BaseLoader makes text only
    if call.name == "torch.load":
        return call.keywords.get("weights_only") != "True"
    if call.name == "eval" and call.where.startswith("hf_finetune/config/training_fields.py:"):
        return False  # the types of options, which stand in the installed transformers
    if call.name in ("pickle.load", "pickle.loads", "eval", "exec", "os.system", "marshal.loads"):
        return True
    given = call.keywords.get
    trusted = given("allow_pickle") == "True" or given("weights_only") == "False" or given("shell") == "True"
    return call.name.endswith(("read_pickle", "joblib.load")) or trusted


def test_no_loader_runs_what_it_reads(calls):
    assert [call for call in calls if runs_what_it_reads(call)] == []


@pytest.mark.parametrize(
    "code",
    [
        "yaml.unsafe_load(f)", "yaml.load(f, Loader=yaml.FullLoader)", "yaml.load(f)", "torch.load(f)",
        "torch.load(f, weights_only=False)", "pickle.loads(f)", "eval(f)", "os.system(f)", "pd.read_pickle(f)",
        "np.load(f, allow_pickle=True)", "subprocess.run(f, shell=True)",
    ],
)  # fmt: skip
def test_a_loader_that_would_is_seen(code, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "code.py").write_text(code)
    assert [runs_what_it_reads(call) for call in calls_of(tmp_path / "code.py")] == [True]


def test_remote_code_is_never_trusted_unasked(calls):
    assert [call for call in calls if call.keywords.get("trust_remote_code") == "True"] == []


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
