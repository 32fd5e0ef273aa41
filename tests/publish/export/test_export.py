"""An exported model answers as the original does, at any size of batch and text, or is not kept."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import FILLER, make_texts
from transformers import AutoImageProcessor, AutoTokenizer

from hf_finetune import fine_tune
from hf_finetune.cli.export import main as export
from hf_finetune.cli.main import main as command
from hf_finetune.config import parse
from hf_finetune.errors import UserError
from hf_finetune.publish.export import export as export_module
from hf_finetune.publish.export import onnx_model
from hf_finetune.publish.export.export import _refuse_other_model, export_run, time_pairs, usage
from hf_finetune.publish.export.onnx_model import OnnxClassifier, write_onnx
from hf_finetune.tasks import image_classification, text_classification
from hf_finetune.tasks.outputs import MultiLabel, Regression, SingleLabel

FAST = {"num_train_epochs": 1, "bf16": False}


@pytest.fixture(scope="module")
def texts(checkpoints, text_files, tmp_path_factory):
    """A run on texts."""
    run = tmp_path_factory.mktemp("texts") / "run"
    files = {f"{split}_file": path for split, path in text_files.items()}
    fine_tune("text-classification", model_name_or_path=checkpoints("bert"), output_dir=run, **files, **FAST)
    return run


@pytest.fixture(scope="module")
def image_run(checkpoints, image_folder, tmp_path_factory):
    """A run on images, whose head has a hidden layer."""
    run = tmp_path_factory.mktemp("images") / "run"
    flags = {"model_name_or_path": checkpoints("resnet"), "dataset_name": image_folder, "head_hidden_size": 8}
    fine_tune("image-classification", output_dir=run, **flags, **FAST)
    return run


@pytest.fixture(scope="module")
def exported(texts):
    """The run on texts, exported to the default folder."""
    export([str(texts)])
    return texts / "onnx"


def figures(folder):
    return json.loads((folder / "export.json").read_text(encoding="utf-8"))


def answers(folder, inputs):
    """Logits of an exported folder, as somebody without this package gets them."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert [node.name for node in session.get_outputs()] == ["logits"]
    return session.run(["logits"], {node.name: inputs[node.name] for node in session.get_inputs()})[0]


# Architectures


def classifier(checkpoints, name):
    """A fixture's model under a fresh head of three classes, and batches of its inputs: the example, and others."""
    flags = parse(["--model_name_or_path", checkpoints(name), "--dataset_name", "unused"])
    if Path(checkpoints(name), "tokenizer.json").exists():
        checkpoint = text_classification.TASK.load_model(flags, SingleLabel(["a", "b", "c"]))
        rows = [" ".join(FILLER * times) for times in (1, 3)], ["good"], ["the film", "a", "bad " * 40]
        inputs = [dict(checkpoint.processor(list(r), padding=True, truncation=True, return_tensors="pt")) for r in rows]
    else:
        checkpoint = image_classification.TASK.load_model(flags, SingleLabel(["a", "b", "c"]))
        black = checkpoint.processor(images=np.zeros((64, 64, 3), dtype=np.uint8), return_tensors="pt")["pixel_values"]
        inputs = [{"pixel_values": torch.randn(count, *black.shape[1:])} for count in (2, 1, 5)]
    return checkpoint.model.eval(), inputs


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        "timm-resnet",
        *(pytest.param(name, marks=slow) for name in (
            "deberta", "distilbert", "roberta", "modernbert", "resnet", "vit", "convnext", "dinov2", "mobilenet", "swin", "timm-vit",
            "timm-efficientnet",
        )),
    ],
)  # fmt: skip
def test_architectures_answer_the_same_at_any_size(name, checkpoints, tmp_path):
    model, (example, *others) = classifier(checkpoints, name)
    attention = model.config._attn_implementation
    write_onnx(model, example, tmp_path / "model.onnx")
    assert model.config._attn_implementation == attention
    written = OnnxClassifier(tmp_path / "model.onnx")
    for batch in [example, *others]:
        with torch.inference_mode():
            expected = model(**batch).logits.numpy()
        assert expected.shape == (len(next(iter(batch.values()))), 3)
        assert written(**batch).logits.numpy() == pytest.approx(expected, abs=2e-5)


# From the run to the folder


def test_an_exported_run_answers_as_its_predictions(exported, texts, text_files):
    known = pd.read_parquet(texts / "predictions.parquet")
    rows = list(pd.read_csv(text_files["test"])["text"])
    inputs = AutoTokenizer.from_pretrained(exported)(rows, padding=True, truncation=True, return_tensors="np")
    assert answers(exported, inputs) == pytest.approx(np.stack(known["logits"]), abs=1e-4)


def test_what_was_compared_is_written(exported, texts):
    found = figures(exported)
    metrics = json.loads((texts / "metrics.json").read_text(encoding="utf-8"))
    assert (found["rows"], found["metric"], found["tolerance"]) == (21, "accuracy", 1e-3)
    assert found["torch"]["accuracy"] == found["onnx"]["accuracy"] == metrics["test"]["accuracy"]
    assert found["changed"] == found["lost"] == 0
    assert 0 <= found["largest_difference"] < 1e-4 * found["largest_logit"]
    assert found["onnx"]["bytes"] == (exported / "model.onnx").stat().st_size
    assert found["torch"]["milliseconds"] > 0 < found["onnx"]["milliseconds"]


def test_the_folder_has_what_is_needed_and_no_more(exported):
    names = {path.name for path in exported.iterdir()}
    assert names == {"README.md", "config.json", "export.json", "model.onnx", "tokenizer.json", "tokenizer_config.json"}
    assert not exported.with_name("onnx.partial").exists()


OUTSIDE = """
import sys
for name in ("torch", "torchvision", "timm", "hf_finetune"):
    sys.modules[name] = None
exec(sys.stdin.read())
"""


def test_the_code_of_the_readme_runs_without_torch_and_this_package(exported, texts):
    [code] = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    outside = subprocess.run(
        [sys.executable, "-c", OUTSIDE], input=code, cwd=exported, capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in outside.stdout.splitlines()]
    inputs = AutoTokenizer.from_pretrained(exported)(["Some text.", "Another."], padding=True, return_tensors="np")
    settings = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    expected = (torch.tensor(answers(exported, inputs)) / settings["calibration_temperature"]).softmax(dim=1)
    names = settings["id2label"]
    assert [line[0] for line in lines] == [names[str(int(row.argmax()))] for row in expected]
    assert [float(line[1]) for line in lines] == pytest.approx([float(row.max()) for row in expected], abs=1e-5)


def test_the_code_of_the_docs_runs(exported, capsys):
    page = Path(__file__).parents[3] / "docs" / "export.md"
    [code] = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(code.replace("runs/reviews/onnx", str(exported)), {})
    assert re.fullmatch(r"\['(posi|nega)tive', '(posi|nega)tive'\]\n", capsys.readouterr().out)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_code_for_other_labels_says_what_the_target_says(problem, exported, monkeypatch, capsys):
    monkeypatch.chdir(exported)
    inputs = AutoTokenizer.from_pretrained(exported)(["Some text."], ["Another."], return_tensors="np")
    logits = answers(exported, inputs)
    code = (Regression if problem == "regression" else MultiLabel).ONNX_CODE
    exec(usage(text_classification.TASK.input, code, {"text": ["a"], "text_pair": ["b"]}), {})
    said = eval(capsys.readouterr().out, {"np": np})
    if problem == "regression":
        assert list(said.values()) == pytest.approx(logits[0].tolist())
    else:
        assert len(said) == 0 or 0.5 <= said[0][1] <= 1
        assert [name for name, _ in said] == MultiLabel(["negative", "positive"]).answers(logits)["prediction"][0]


def test_int8_images(image_run, tmp_path, image_folder):
    from PIL import Image

    found = export_run(image_run, tmp_path / "small", quantize="int8", tolerance=0.2)
    assert {"Conv", "QuantizeLinear", "DequantizeLinear"} <= operators(tmp_path / "small")
    assert 1e-5 * found.largest_logit < found.largest_difference < 0.2 * found.largest_logit
    known = pd.read_parquet(image_run / "predictions.parquet")
    images = [Image.open(f"{image_folder}/test/{name}").convert("RGB") for name in known["id"]]
    inputs = AutoImageProcessor.from_pretrained(tmp_path / "small")(images=images, return_tensors="np")
    apart = np.abs(answers(tmp_path / "small", inputs) - np.stack(known["logits"])).max()
    assert apart == pytest.approx(found.largest_difference, rel=0.2)


def operators(folder):
    import onnx

    return {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}


def test_adapters_are_merged_for_pairs_of_texts_and_numbers_in_int8(checkpoints, tmp_path):
    import onnx

    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(a, b, 2.5 + len(a) / 50) for (a, _), (b, _) in zip(make_texts(60), make_texts(60, 1), strict=True)]
        csv.writer(file).writerows([("text_a", "text_b", "score"), *rows])
    flags = {"text_column": "text_a", "text_pair_column": "text_b", "label_column": "score", "strategy": "lora"}
    flags |= {"train_file": tmp_path / "rows.csv", "problem_type": "regression", "test_split": 0.2}
    model = checkpoints("roberta")
    fine_tune("text-classification", model_name_or_path=model, output_dir=tmp_path / "run", **flags, **FAST)
    assert (tmp_path / "run" / "model" / "adapter_config.json").exists()
    export([str(tmp_path / "run"), *["--format", "onnx", "--quantize", "int8", "--tolerance", "0.2", "--opset", "21"]])
    folder = tmp_path / "run" / "onnx-int8"
    assert not (folder / "adapter_config.json").exists()
    model = onnx.load(folder / "model.onnx")
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [21]
    assert not [weight for weight in model.graph.initializer if "lora" in weight.name]
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= operators(folder)
    found = figures(folder)
    assert found["onnx"]["bytes"] == (folder / "model.onnx").stat().st_size
    assert 1e-5 * found["largest_logit"] < found["largest_difference"] < 0.2 * found["largest_logit"]
    assert (found["rows"], found["metric"], found["changed"]) == (11, "rmse", None)
    errors = [found[engine]["rmse"] for engine in ("torch", "onnx")]
    assert found["lost"] == pytest.approx(errors[1] / errors[0] - 1, abs=1e-6)
    assert abs(found["lost"]) < 0.05
    assert '["Some text."], ["Another."]' in (folder / "README.md").read_text(encoding="utf-8")


def test_mlp_heads_leave_no_code_to_be_trusted_and_large_weights_stand_apart(image_run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model, "EXTERNAL_FROM", 0)
    found = export_run(image_run, tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert settings["model_type"] == "resnet"
    assert "auto_map" not in settings
    files = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert files.keys() == {
        "README.md", "config.json", "export.json", "model.onnx", "model.onnx.data", "preprocessor_config.json"
    }  # fmt: skip
    assert found.onnx["bytes"] == files["model.onnx"] + files["model.onnx.data"]
    assert AutoImageProcessor.from_pretrained(tmp_path / "out").size == {"height": 32, "width": 32}


# Refusals


def refusal(*flags):
    with pytest.raises(UserError) as caught:
        export([str(flag) for flag in flags])
    return caught.value


def test_a_model_that_differs_is_refused_and_an_earlier_export_stays(exported, texts, tmp_path, monkeypatch):
    traced = exported / "model.onnx"
    monkeypatch.setattr(onnx_model, "write_onnx", lambda model, batch, path, opset: shutil.copy(traced, path))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.onnx").write_text("an earlier export")
    error = refusal(texts, "--tolerance", "0", "--output", tmp_path / "old")
    assert re.search(
        r"differs by \S+ of the largest one, more than the tolerance of 0; nothing was exported$", error.what
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "model.onnx"]
    assert (tmp_path / "old" / "model.onnx").read_text() == "an earlier export"


def test_int8_is_refused_for_what_the_metric_loses():
    def found(lost):
        figures = {"accuracy": 0.9}, {"accuracy": 0.9 * (1 - lost)}
        return export_module.Comparison(10, 4.0, 0.5, 0.0, "accuracy", *figures, lost)

    export_module._refuse_different(found(0.01), "int8", 0.01)
    export_module._refuse_different(found(-0.5), "int8", 0.0)
    with pytest.raises(UserError, match=r"int8 loses 1.10% of accuracy \(0.9000 to 0.8901\)"):
        export_module._refuse_different(found(0.011), "int8", 0.01)
    with pytest.raises(UserError):
        export_module._refuse_different(found(float("nan")), "int8", 0.01)
    with pytest.raises(UserError, match=r"differs by 0\.12 of the largest one"):
        export_module._refuse_different(found(0.0), None, 0.1)


@pytest.fixture
def moved(texts, text_files, tmp_path):
    """The run on texts with data of its own."""
    run = tmp_path / "run"
    shutil.copytree(texts, run, ignore=shutil.ignore_patterns("onnx*", "checkpoints"))
    for split, path in text_files.items():
        shutil.copy(path, tmp_path / f"{split}.csv")
    settings = (
        (run / "config.yaml").read_text(encoding="utf-8").replace(str(Path(text_files["test"]).parent), str(tmp_path))
    )
    (run / "config.yaml").write_text(settings, encoding="utf-8")
    return run


def test_a_run_whose_data_is_gone(moved):
    (moved.parent / "test.csv").unlink()
    error = refusal(moved)
    assert "the evaluated rows of the run, which cannot be read" in error.what
    assert "test.csv" in error.what
    assert error.fix == f"restore the data, or correct its path in {moved / 'config.yaml'}."
    assert not (moved / "onnx").exists()


def test_a_run_whose_data_or_model_is_other(moved):
    rows = (moved.parent / "test.csv").read_text(encoding="utf-8").splitlines()
    (moved.parent / "test.csv").write_text("\n".join(rows[:-1]) + "\n", encoding="utf-8")
    assert "which cannot be read" in refusal(moved).what  # splits.parquet knows one row more
    (moved / "splits.parquet").unlink()
    assert "the test rows in the data are not those of predictions.parquet" in refusal(moved).what
    assert {path.name for path in moved.iterdir()}.isdisjoint({"onnx", "onnx.partial"})


def test_a_model_that_does_not_answer_as_its_predictions():
    known = np.array([[1.0, -2.0], [0.5, 0.0]], dtype=np.float32)
    _refuse_other_model(known + 0.09, known)
    for other in (known + 0.11, known * np.nan):
        with pytest.raises(UserError, match="gives other logits than in the run"):
            _refuse_other_model(other, known)


def test_no_run(checkpoints, tmp_path):
    error = refusal(checkpoints("bert"))
    assert error.what == "there is no config.yaml; the export needs a finished run and its evaluated rows"
    assert command(["export", str(tmp_path / "nowhere")]) == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--opset", "9"], "opset 9 is not supported; 18 to 24 are"),
        (["--tolerance", "-1"], "the tolerance is -1.0, and must be 0 or more"),
        (["--tolerance", "nan"], "the tolerance is nan, and must be 0 or more"),
        (["--format", "tflite"], "invalid choice: 'tflite'"),
        (["--quantize", "int4"], "invalid choice: 'int4'"),
        (["--tolerance", "x"], "invalid float value"),
    ],
)
def test_bad_flags(texts, flags, said):
    assert said in refusal(texts, *flags).what


def test_a_folder_of_something_else_is_left_alone(texts, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert refusal(texts, "--output", tmp_path).what == "the path exists and is not an earlier export"
    assert refusal(texts, "--output", tmp_path / "mine.txt").what == "the path exists and is not an earlier export"
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_missing_extra(texts, monkeypatch):
    monkeypatch.setattr(onnx_model, "find_spec", lambda name: None if name.startswith("onnxr") else name)
    error = refusal(texts)
    assert (error.what, error.fix) == ("onnxruntime is not installed", "run pip install 'hf-finetune[export]'.")


def test_models_take_turns_when_they_are_timed():
    calls = []
    models = [lambda name=name, **_: calls.append(name) for name in "ab"]
    one, other = time_pairs(*models, [{}, {}])
    assert calls == list("ab" * 4)  # two rows, first to warm up
    assert one >= 0 <= other
