"""Bad input that nobody thought of: whatever a file, a flag or a setting holds, it is taken or refused by a UserError."""

from __future__ import annotations

import json
import os
import shutil
from itertools import count
from pathlib import Path

import pytest
from bad_input import GOOD, Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_finetune.config import build_parser, parse
from hf_finetune.config.options import DataConfig, ModelConfig
from hf_finetune.data import audit, load_splits
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task
from hf_finetune.tasks.outputs import SingleLabel

FOLDER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
quick = settings(derandomize=True, deadline=None, database=None, max_examples=100, suppress_health_check=FOLDER)
few = settings(quick, max_examples=25)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
ROWS = st.lists(st.fixed_dictionaries({"text": st.text(max_size=8)}, optional={"label": VALUES}) | VALUES, max_size=6)
CELLS = st.text(alphabet='ab01,;\t"\n\r \\\x00é', max_size=60)
PROBLEMS = st.sampled_from([None, "single_label_classification", "multi_label_classification", "regression"])
numbers = count()


def refused(action) -> str | None:
    """What a UserError says; None where there was none. Whatever else is raised fails the test."""
    try:
        action()
    except UserError as error:
        lines = str(error).splitlines()
        assert [line.split(": ")[0] for line in lines] == ["error", "fix"], lines
        assert len(lines[0]) > len("error: ") + 8, lines
        return lines[0]
    return None


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("generated")


def written(folder: Path, ending: str, content: bytes) -> str:
    """A file of a name of its own: ``datasets`` keeps what it has read of a path."""
    path = folder / f"{next(numbers)}{ending}"
    path.write_bytes(content)
    return str(path)


def read(file: str, **options) -> None:
    task = get_task("text-classification")
    splits = load_splits(DataConfig(train_file=file, **options), task)
    assert len(splits.train) >= 1
    audit(splits, task)


# Files


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow"])
@few
@given(content=st.binary(max_size=120) | CELLS.map(str.encode))
def test_any_bytes_are_rows_or_refused(ending, folder, content):
    refused(lambda: read(written(folder, ending, content)))


@few
@given(cells=CELLS, separator=st.sampled_from([",", "\t", ";"]))
def test_any_cells_below_a_good_header(folder, cells, separator):
    text = f"text{separator}label\na{separator}b\n{cells}\n"
    refused(lambda: read(written(folder, ".csv", text.encode()), text_column="text", label_column="label"))


@few
@given(rows=ROWS, whole=st.booleans())
def test_any_json(folder, rows, whole):
    text = json.dumps(rows) if whole else "".join(json.dumps(row) + "\n" for row in rows)
    refused(lambda: read(written(folder, ".json", text.encode())))


@few
@given(labels=st.lists(VALUES, min_size=2, max_size=6), problem=PROBLEMS, delimiter=st.sampled_from([None, ","]))
def test_any_labels_of_one_column(folder, labels, problem, delimiter):
    text = "".join(json.dumps({"text": f"t{i}", "label": label}) + "\n" for i, label in enumerate(labels * 2))
    file = written(folder, ".jsonl", text.encode())
    refused(lambda: read(file, problem_type=problem, label_delimiter=delimiter))


@few
@given(
    labels=st.lists(SCALARS | st.sampled_from(["[]", "['a']", "[1", "{'a'}", "a,b"]), min_size=2, max_size=6),
    problem=PROBLEMS,
)
def test_any_plain_labels(folder, labels, problem):
    text = "".join(json.dumps({"text": f"t{i}", "label": str(label)}) + "\n" for i, label in enumerate(labels * 2))
    refused(lambda: read(written(folder, ".jsonl", text.encode()), problem_type=problem))


@few
@given(
    first=st.lists(VALUES, min_size=3, max_size=3), second=st.lists(SCALARS, min_size=3, max_size=3), problem=PROBLEMS
)
def test_any_labels_of_two_columns(folder, first, second, problem):
    rows = [{"text": "t", "a": a, "b": b} for a, b in zip(first * 2, second * 2, strict=True)]
    file = written(folder, ".jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    refused(lambda: read(file, label_columns=["a", "b"], problem_type=problem))


@few
@given(
    names=st.lists(st.text(max_size=8), min_size=1, max_size=4), ending=st.sampled_from([".csv", ".jsonl", ".parquet"])
)
def test_any_names_of_columns(folder, names, ending):
    import pandas as pd

    frame = pd.DataFrame([[f"{i}{j}" for j in range(len(names))] for i in range(6)], columns=names)
    path = folder / f"{next(numbers)}{ending}"
    try:
        if ending == ".csv":
            frame.to_csv(path, index=False)
        elif ending == ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        else:
            frame.to_parquet(path)
    except (ValueError, UnicodeError):  # pandas writes no such names
        return
    refused(lambda: read(str(path)))
    refused(lambda: read(str(path), text_column=names[0], label_column=names[-1]))


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".parquet", ".arrow"])
def test_files_that_are_cut_short(ending, folder):
    import pandas as pd
    from datasets import Dataset

    frame = pd.DataFrame(GOOD, columns=["text", "label"])
    whole = folder / f"whole{ending}"
    if ending == ".csv":
        frame.to_csv(whole, index=False)
    elif ending == ".parquet":
        frame.to_parquet(whole)
    elif ending == ".arrow":
        Dataset.from_pandas(frame).save_to_disk(str(folder / "saved"))
        shutil.copy(next((folder / "saved").glob("*.arrow")), whole)
    else:
        frame.to_json(whole, orient="records", lines=ending == ".jsonl")
    content = whole.read_bytes()
    assert refused(lambda: read(str(whole))) is None
    ends = range(0, len(content), max(1, len(content) // 15))
    said = [refused(lambda end=end: read(written(folder, ending, content[:end]))) for end in ends]
    assert said[0] is not None
    if ending in (".json", ".parquet"):  # whose last byte is needed
        assert None not in said


# Flags and YAML


@quick
@given(
    flag=st.sampled_from(sorted(a.dest for a in build_parser()._actions)), value=st.text(max_size=8) | SCALARS.map(str)
)
def test_any_value_of_any_flag(flag, value):
    if flag in ("help", "config"):
        return
    base = ["--model_name_or_path", "m", "--dataset_name", "d"]
    refused(lambda: parse([*base, f"--{flag}={value}"]))
    refused(lambda: parse([*base, f"--{flag}", value]))


@quick
@given(content=st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>'\"# \n\t,?%@`~0.", max_size=60).map(str.encode))
def test_any_yaml(folder, content):
    refused(lambda: parse(["--config", written(folder, ".yaml", content)]))


@quick
@given(
    key=st.sampled_from(sorted(a.dest for a in build_parser()._actions if a.dest not in ("help", "config"))),
    value=VALUES,
)
def test_any_value_of_any_key_of_yaml(folder, key, value):
    import yaml

    content = {"model_name_or_path": "m", "dataset_name": "d"} | {key: value}
    file = written(folder, ".yaml", yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass"))
    refused(lambda: parse(["--config", file]))


# Checkpoints


def checkpoint_with(case: Case, name: str, file: str, content: bytes) -> str:
    target = case.folder / f"m{next(numbers)}"
    shutil.copytree(case.checkpoints(name), target, copy_function=os.link)
    (target / file).unlink()  # a link: the checkpoint itself stays as it is
    (target / file).write_bytes(content)
    return str(target)


@pytest.fixture
def case(folder, checkpoints, image_folder):
    return Case(folder, checkpoints, image_folder)


def load(name: str, folder: str):
    from hf_finetune.tasks import get_task

    task = get_task("image-classification" if name in ("vit", "timm-resnet") else "text-classification")
    flags = ["--model_name_or_path", folder, "--dataset_name", "d"]
    return task.load_model(parse(flags), SingleLabel(["a", "b"]))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("bert", "config.json"),
        ("bert", "tokenizer.json"),
        ("bert", "tokenizer_config.json"),
        ("bert", "model.safetensors"),
        ("vit", "preprocessor_config.json"),
        ("timm-resnet", "config.json"),
    ],
)
def test_checkpoints_that_are_cut_short(name, file, case):
    content = (Path(case.checkpoints(name)) / file).read_bytes()
    ends = range(0, len(content), max(1, len(content) // 12))
    said = [refused(lambda end=end: load(name, checkpoint_with(case, name, file, content[:end]))) for end in ends]
    assert None not in said


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
@few
@given(content=st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_file_of_a_checkpoint(file, case, content):
    refused(lambda: load("bert", checkpoint_with(case, "bert", file, content)))


@few
@given(data=st.data(), value=VALUES)
def test_any_value_in_the_settings_of_a_checkpoint(case, data, value):
    from hf_finetune.models import load_settings

    content = json.loads((Path(case.bert) / "config.json").read_text(encoding="utf-8"))
    key = data.draw(st.sampled_from(sorted(content)))
    model = checkpoint_with(case, "bert", "config.json", json.dumps(content | {key: value}).encode())
    refused(lambda: load_settings(ModelConfig(model_name_or_path=model)))
