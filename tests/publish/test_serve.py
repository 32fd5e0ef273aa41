"""What the page answers is what ``predict`` writes; and where it may be."""

from __future__ import annotations

import json
import socket
import sys

import numpy as np
import pytest

from hf_finetune.config.options import DataConfig
from hf_finetune.errors import UserError
from hf_finetune.evaluation.prediction.labeller import load_labeller
from hf_finetune.evaluation.prediction.predict_file import predict_file
from hf_finetune.publish import serve
from hf_finetune.publish.serve import (
    import_gradio,
    is_loopback,
    refuse_address,
    render,
)
from hf_finetune.tasks.inputs.text.show import boxes
from hf_finetune.tasks.outputs.output import Answer, Bar


def predicted(model, source, tmp_path):
    """The row that ``predict`` writes of an input with one row, with all its classes."""
    output = tmp_path / "out.jsonl"
    numbers = "regression" in json.dumps(load_labeller(model).model.config.to_dict())
    predict_file(model, str(source), output, DataConfig(), top_k=None if numbers else 99)
    return json.loads(output.read_text())


def ask(model, *values):
    return serve.answer(load_labeller(model), values)


def bars(answer):
    return [bar.name for bar in answer.bars], pytest.approx([bar.value for bar in answer.bars], abs=1e-6)


def test_a_text_is_answered_as_in_a_file(classifiers, tmp_path):
    model = classifiers("bert", ["negative", "neutral", "positive"], calibration_temperature=3.0)
    (tmp_path / "new.csv").write_text("text\na good film\n")
    row = predicted(model, tmp_path / "new.csv", tmp_path)
    answer = ask(model, "a good film")
    assert answer.prediction == row["prediction"]
    assert (row["top_labels"], row["top_probabilities"]) == bars(answer)
    assert [bar.chosen for bar in answer.bars] == [True, False, False]
    assert ask(model, " \n") is None


def test_columns_and_pairs_have_a_box_each(classifiers, tmp_path):
    columns = {"text": ["title", "body"], "text_pair": ["reply"]}
    model = classifiers("bert", ["yes", "no"], input_columns=columns)
    assert boxes(columns) == {"title": "text", "body": "text", "reply": "text_pair"}
    cells = {"title": "good film", "body": "the plot", "reply": "bad"}
    (tmp_path / "new.jsonl").write_text(json.dumps(cells) + "\n")
    row = predicted(model, tmp_path / "new.jsonl", tmp_path)
    answer = ask(model, *cells.values())
    assert (row["top_labels"], row["top_probabilities"]) == bars(answer)


def test_several_classes_have_thresholds(classifiers, tmp_path):
    kind = {"problem_type": "multi_label_classification", "thresholds": [0.05, 0.99, 0.05]}
    model = classifiers("bert", ["calm", "angry", "sad"], **kind)
    (tmp_path / "new.csv").write_text("text\na good film\n")
    row = predicted(model, tmp_path / "new.csv", tmp_path)
    answer = ask(model, "a good film")
    assert sorted(bar.name for bar in answer.bars if bar.chosen) == sorted(row["prediction"])
    assert {bar.name: bar.threshold for bar in answer.bars} == {"calm": 0.05, "angry": 0.99, "sad": 0.05}
    assert (row["top_labels"], row["top_probabilities"]) == bars(answer)
    assert "no class reaches its threshold" in render(Answer("", answer.bars))


def test_numbers_are_shown_as_numbers(classifiers, tmp_path):
    model = classifiers("bert", ["price"], problem_type="regression")
    (tmp_path / "new.csv").write_text("text\na good film\n")
    row = predicted(model, tmp_path / "new.csv", tmp_path)
    answer = ask(model, "a good film")
    assert float(answer.prediction) == pytest.approx(row["prediction"], rel=1e-5)
    assert answer.bars == []


def test_a_image_is_turned_as_in_a_folder(classifiers, tmp_path):
    from PIL import Image

    model = classifiers("vit", ["cat", "dog"])
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, :20] = 255
    turned = Image.Exif()
    turned[274] = 6
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "a.jpg", exif=turned)
    row = predicted(model, tmp_path / "in", tmp_path)
    labeller = load_labeller(model)
    answer = serve.answer(labeller, (str(tmp_path / "in" / "a.jpg"),))
    assert (row["top_labels"], row["top_probabilities"]) == bars(answer)
    Image.fromarray(pixels).save(tmp_path / "upright.jpg")
    other = serve.answer(labeller, (str(tmp_path / "upright.jpg"),))
    assert abs(answer.bars[0].value - other.bars[0].value) > 1e-5


def test_bombs_and_broken_images_are_refused(classifiers, tmp_path, checkpoints, image_folder):
    from bad_input import Case

    labeller = load_labeller(classifiers("vit", ["cat", "dog"]))
    bomb = Case(tmp_path, checkpoints, image_folder).bomb() / "class 1" / "bomb.png"
    with pytest.raises(UserError, match="decompression bomb"):
        serve.answer(labeller, (str(bomb),))
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="cannot identify image file"):
        serve.answer(labeller, (str(tmp_path / "x.png"),))


def test_names_of_classes_are_text():
    html = render(Answer("<b>", [Bar("<img src=x onerror=alert(1)>", 0.5, True)], more=3))
    assert "<b>" not in html
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "50.0 %" in html
    assert "3 other classes are less probable" in html
    assert render(None) == ""


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True), ("0.0.0.0", False),
     ("192.168.1.7", False), ("::", False), ("example.org", False)],
)  # fmt: skip
def test_which_addresses_are_this_machine_alone(host, alone):
    assert is_loopback(host) is alone


def test_a_port_that_is_taken_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"the page cannot be at port {port} of 127.0.0.1 \(Address already in use"
        ):
            refuse_address("127.0.0.1", port)
    refuse_address("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port", "what"), [
    ("127.0.0.1", 0, "there is no port 0"),
    ("127.0.0.1", 99999, "there is no port 99999"),
    ("203.0.113.7", 7860, "the page cannot be at port 7860 of 203.0.113.7"),
])  # fmt: skip
def test_addresses_that_are_none(host, port, what):
    with pytest.raises(UserError, match=what):
        refuse_address(host, port)


def test_gradio_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError) as caught:
        import_gradio()
    assert caught.value.fix == "run pip install 'hf-finetune[serve]'."
