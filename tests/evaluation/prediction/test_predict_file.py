"""Files of any size: a piece in memory at a time, the same bytes whether or not the process was killed."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from conftest import make_texts

from hf_finetune.config.options import DataConfig
from hf_finetune.errors import UserError
from hf_finetune.evaluation.prediction.answer_files import Unfinished
from hf_finetune.evaluation.prediction.labeller import Labeller
from hf_finetune.evaluation.prediction.predict_file import predict_file
from hf_finetune.tasks.inputs import audio, image, text, words

ROWS, PIECE = 100, 16
ENDINGS = ("csv", "jsonl", "parquet")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    for each, rows in {text: PIECE, words: PIECE, image: 4, audio: 4}.items():
        monkeypatch.setattr(each, "piece_rows", rows)


@pytest.fixture(scope="module")
def bert(classifiers):
    return classifiers("bert", ["negative", "neutral", "positive"])


@pytest.fixture(scope="module")
def tagger(checkpoints, tmp_path_factory):
    """A model of entities with a random head, which reads texts of more than 8 tokens in windows."""
    folder = str(tmp_path_factory.mktemp("tagger"))
    torch.manual_seed(0)
    tags = {"id2label": dict(enumerate(["O", "B-fault", "I-fault", "B-praise", "I-praise"]))}
    model = transformers.AutoModelForTokenClassification.from_pretrained(checkpoints("bert"), **tags)
    model.classifier.weight.data.normal_()
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(checkpoints("bert"), model_max_length=8).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def listener(audio_checkpoints, tmp_path_factory):
    """A classifier of recordings with a random head, which reads them in chunks of at most 0.15 seconds."""
    folder = str(tmp_path_factory.mktemp("listener"))
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(["high", "low", "noise"]))}
    model = transformers.AutoModelForAudioClassification.from_pretrained(audio_checkpoints("whisper"), **names)
    model.save_pretrained(folder)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(audio_checkpoints("whisper"))
    extractor.max_seconds = 0.15
    extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sounds(recordings):
    return str(Path(recordings, "test"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "new.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("id", "text"), *((f"=r{i}", text) for i, (text, _) in enumerate(make_texts(ROWS)))]
        )
    return str(path)


@pytest.fixture(scope="module")
def whole(bert, texts, tmp_path_factory):
    """What a process that nobody killed writes, by ending."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "piece_rows", PIECE)
        patch.setattr(image, "piece_rows", 4)
        for ending in ENDINGS:
            predict(bert, texts, folder / f"out.{ending}")
    return folder


def predict(model, source, output, **options):
    return predict_file(model, str(source), Path(output), options.pop("columns", DataConfig()), **options)


@pytest.fixture
def encoded(monkeypatch):
    """How many rows were encoded at a time."""
    counts = []
    encode = Labeller.encode
    monkeypatch.setattr(Labeller, "encode", lambda self, rows: (counts.append(len(rows)), encode(self, rows))[1])
    return counts


def interrupt(monkeypatch, after):
    """Let the process end after so many pieces, as Ctrl-C would."""
    write = Unfinished.write

    def once(self, number, table):
        if number == after:
            raise KeyboardInterrupt
        write(self, number, table)

    monkeypatch.setattr(Unfinished, "write", once)


# Killed and gone on with

KILLED = """
import os, signal, sys
from pathlib import Path
from hf_finetune.evaluation.prediction import predict_file as library
from hf_finetune.evaluation.prediction.answer_files import Unfinished
from hf_finetune.config.options import DataConfig

from hf_finetune.tasks.inputs import audio, text, words
text.piece_rows, words.piece_rows, audio.piece_rows = 16, 16, 4
write = Unfinished.write

def killed(self, number, table):
    if number == 3:
        (self.folder / f"000003{self.output.suffix}.new").write_text("half a pie")
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, number, table)

model, source, *outputs = sys.argv[1:]
for output in outputs:
    child = os.fork()
    if child == 0:
        Unfinished.write = killed
        library.predict_file(model, source, Path(output), DataConfig())
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""


@pytest.mark.parametrize(
    ("model", "source", "rows", "piece", "long"),
    [
        ("bert", "texts", ROWS, PIECE, ""),
        ("tagger", "texts", ROWS, PIECE, "Long texts: "),
        ("listener", "sounds", 13, 4, "Long recordings: "),
    ],
)
def test_a_killed_process_is_gone_on_with_and_the_bytes_are_the_same(
    model, source, rows, piece, long, python, request, encoded, tmp_path, capsys
):
    model, source = map(request.getfixturevalue, (model, source))
    outputs = [tmp_path / f"out.{ending}" for ending in ENDINGS]
    done = python(["-c", KILLED, model, source, *map(str, outputs)])
    assert done.returncode == 0, done.stderr[-2000:]
    for output in outputs:
        assert not output.exists()
        assert len(list(Path(f"{output}.partial").glob("00000?" + output.suffix))) == 3
        predict(model, source, output)
        assert not Path(f"{output}.partial").exists()
    rest = [min(piece, rows - begin) for begin in range(3 * piece, rows, piece)]
    assert encoded == rest * 3
    said = capsys.readouterr().out
    assert said.count(f"has the answers for {3 * piece} of {rows} rows; this goes on behind them.") == 3
    assert said.count(long) >= 3
    for output in outputs:
        predict(model, source, tmp_path / f"whole{output.suffix}")
        assert output.read_bytes() == (tmp_path / f"whole{output.suffix}").read_bytes()
    assert len(set(map(str, pd.read_parquet(tmp_path / "out.parquet").drop(columns="id").to_numpy().tolist()))) > 3


@pytest.mark.parametrize("change", ["input", "model", "flags"])
def test_pieces_of_anything_else_are_not_used(change, bert, texts, classifiers, encoded, tmp_path, monkeypatch, capsys):
    source = tmp_path / "new.csv"
    source.write_bytes(Path(texts).read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after=2)
        with pytest.raises(KeyboardInterrupt):
            predict(bert, source, tmp_path / "out.csv")
    encoded.clear()
    model, options = bert, {}
    if change == "input":
        with source.open("a") as file:
            file.write("last,a good film\n")
    elif change == "model":
        model = classifiers("bert", ["negative", "neutral", "other"])
    else:
        options = {"batch_size": 7}
    predict(model, source, tmp_path / "out.csv", **options)
    assert f"out.csv.partial was started with other {change}: all rows are predicted again." in capsys.readouterr().out
    assert sum(encoded) == len(pd.read_csv(tmp_path / "out.csv")) == ROWS + (change == "input")


def test_a_run_that_was_moved_is_the_same_model(bert, texts, tmp_path, encoded, whole):
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after=5)
        with pytest.raises(KeyboardInterrupt):
            predict(bert, texts, tmp_path / "out.csv")
    encoded.clear()
    moved = tmp_path / "run"
    moved.mkdir()
    (moved / "model").symlink_to(bert)
    predict(str(moved), texts, tmp_path / "out.csv")
    assert encoded == [PIECE, ROWS - 6 * PIECE]
    assert (tmp_path / "out.csv").read_bytes() == (whole / "out.csv").read_bytes()


def test_a_folder_of_the_users_is_left_alone(bert, texts, tmp_path):
    (tmp_path / "out.csv.partial").mkdir()
    (tmp_path / "out.csv.partial" / "thesis.doc").write_text("years of work")
    with pytest.raises(UserError, match=r"contains another file \(thesis.doc\)"):
        predict(bert, texts, tmp_path / "out.csv")
    assert (tmp_path / "out.csv.partial" / "thesis.doc").read_text() == "years of work"


def test_a_note_that_was_cut_short_is_no_file_of_the_users(bert, texts, whole, tmp_path):
    (tmp_path / "out.csv.partial").mkdir()
    (tmp_path / "out.csv.partial" / "begun.json.partial").write_text('{"made_of"')
    predict(bert, texts, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == (whole / "out.csv").read_bytes()
    assert not (tmp_path / "out.csv.partial").exists()


def test_a_full_disk_loses_no_piece(bert, texts, whole, tmp_path, monkeypatch):
    from hf_finetune.evaluation.prediction import answer_files

    def full(table, path):
        if path.stem == "000004":
            raise OSError(28, "No space left on device")
        write_piece(table, path)

    write_piece = answer_files.write_piece
    monkeypatch.setattr(answer_files, "write_piece", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        predict(bert, texts, tmp_path / "out.csv")
    assert "which continues where it stopped" in caught.value.fix
    monkeypatch.setattr(answer_files, "write_piece", write_piece)
    predict(bert, texts, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == (whole / "out.csv").read_bytes()


def test_an_older_output_stays_until_the_new_one_is_whole(bert, texts, tmp_path, monkeypatch):
    (tmp_path / "out.csv").write_text("old")
    interrupt(monkeypatch, after=6)
    with pytest.raises(KeyboardInterrupt):
        predict(bert, texts, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "old"


@pytest.mark.parametrize("place", ["input", "folder"])
def test_an_output_that_would_be_the_users_is_refused(place, bert, texts, tmp_path):
    source = tmp_path / "new.csv"
    source.write_bytes(Path(texts).read_bytes())
    output = source if place == "input" else tmp_path / "out.csv"
    if place == "folder":
        output.mkdir()
    with pytest.raises(UserError, match="which would be lost" if place == "input" else "a folder, not a file"):
        predict(bert, source, output)
    assert source.read_bytes() == Path(texts).read_bytes()


# What is in memory, and in which order


def test_no_more_than_a_piece_is_encoded_at_once(bert, texts, encoded, whole, tmp_path):
    found = predict(bert, texts, tmp_path / "out.jsonl")
    assert encoded == [PIECE] * 6 + [ROWS - 6 * PIECE]
    assert found.rows == ROWS
    assert list(pd.read_json(tmp_path / "out.jsonl", lines=True)["id"]) == [f"=r{i}" for i in range(ROWS)]


def test_pieces_and_batches_change_nothing_but_rounding(bert, texts, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "piece_rows", 1000)
    monkeypatch.setattr(image, "piece_rows", 1000)
    predict(bert, texts, tmp_path / "out.parquet", batch_size=100)
    one, other = (pd.read_parquet(folder / "out.parquet") for folder in (tmp_path, whole))
    assert list(one["id"]) == list(other["id"])
    assert list(one["prediction"]) == list(other["prediction"])
    assert len(set(one["prediction"])) > 1
    assert np.allclose(one["probability"], other["probability"], atol=1e-6)


def test_nothing_but_sentences_is_said_where_there_is_no_terminal(bert, texts, tmp_path, capfd):
    predict(bert, texts, tmp_path / "out.csv")
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == ""


def test_a_file_that_changes_meanwhile_is_noticed(bert, texts, tmp_path, monkeypatch, capsys):
    source = tmp_path / "new.csv"
    source.write_bytes(Path(texts).read_bytes())
    encode = Labeller.encode

    def grows(self, rows):
        with source.open("a") as file:
            file.write("late,a good film\n")
        return encode(self, rows)

    monkeypatch.setattr(Labeller, "encode", grows)
    predict(bert, source, tmp_path / "out.csv")
    assert "new.csv changed meanwhile" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "out.csv")) == ROWS


def test_long_texts_are_counted_over_all_pieces(classifiers, tmp_path, capsys):
    model = classifiers("bert", ["a", "b"])
    settings = Path(model, "tokenizer_config.json")
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"long_text": "chunk", "model_max_length": 16}))
    source = tmp_path / "long.csv"
    source.write_text("text\n" + "\n".join("good film " * (20 if row % 10 == 0 else 2) for row in range(40)) + "\n")
    predict(model, source, tmp_path / "out.csv")
    said = capsys.readouterr().out
    assert said.count("Long texts") == 1
    assert "4 of 40 given rows have more than 16 tokens" in said
    assert len(pd.read_csv(tmp_path / "out.csv")) == 40


def test_two_processes_share_the_rows_and_one_writes(python, bert, texts, whole, tmp_path):
    argv = ["-m", "hf_finetune", "predict", bert, texts, "--output", str(tmp_path / "out.parquet")]
    done = python(argv, cwd=Path(__file__).parents[3], processes=2)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("100 predictions in") == 1
    one, two = (pd.read_parquet(folder / "out.parquet") for folder in (whole, tmp_path))
    assert list(one["id"]) == list(two["id"])
    assert list(one["prediction"]) == list(two["prediction"])
    assert np.allclose(one["probability"], two["probability"], atol=1e-6)


# Which columns


@pytest.mark.parametrize("ending", ENDINGS)
def test_top_k_of_one_class_a_row_is_calibrated(ending, bert, texts, tmp_path):
    predict(bert, texts, tmp_path / "plain.parquet", top_k=3)
    warm = Path(shutil.copytree(bert, tmp_path / "warm"))
    settings = json.loads((warm / "config.json").read_text()) | {"calibration_temperature": 2.5}
    (warm / "config.json").write_text(json.dumps(settings))
    predict(str(warm), texts, tmp_path / f"out.{ending}", top_k=2)
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": lambda f: pd.read_json(f, lines=True)}[ending]
    before, found = pd.read_parquet(tmp_path / "plain.parquet"), read(tmp_path / f"out.{ending}")
    assert list(found.columns) == ["id", "prediction", "probability", "top_labels", "top_probabilities"]
    assert list(found["prediction"]) == list(before["prediction"])
    for (_, new), (_, old) in zip(found.iterrows(), before.iterrows(), strict=True):
        names, values = new["top_labels"], new["top_probabilities"]
        if ending == "csv":
            names, values = json.loads(names), json.loads(values)
        power = np.array(old["top_probabilities"]) ** (1 / 2.5)  # dividing logits raises probabilities to 1/T
        assert list(names) == list(old["top_labels"])[:2]
        assert list(values) == pytest.approx(list((power / power.sum())[:2]), abs=1e-5)
        assert (names[0], values[0]) == (new["prediction"], pytest.approx(new["probability"]))


def test_top_k_of_several_classes_a_row(classifiers, texts, tmp_path):
    kind = {"problem_type": "multi_label_classification", "thresholds": [0.4, 0.9, 0.5]}
    model = classifiers("bert", ["calm", "angry", "sad"], **kind)
    predict(model, texts, tmp_path / "out.jsonl", top_k=9)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len({tuple(row["prediction"]) for row in rows}) > 2
    for row in rows:
        assert sorted(row["top_labels"]) == ["angry", "calm", "sad"]
        assert row["top_probabilities"] == sorted(row["top_probabilities"], reverse=True)
        of = dict(zip(row["top_labels"], row["top_probabilities"], strict=True))
        chosen = [name for name, least in (("calm", 0.4), ("angry", 0.9), ("sad", 0.5)) if of[name] >= least]
        assert row["prediction"] == chosen
        assert row["probability"] == [of[name] for name in chosen]


def test_a_piece_without_any_answer_has_lists_all_the_same(classifiers, texts, tmp_path):
    kind = {"problem_type": "multi_label_classification", "thresholds": [1.0, 1.0]}
    predict(classifiers("bert", ["calm", "angry"], **kind), texts, tmp_path / "out.parquet")
    assert [list(cell) for cell in pd.read_parquet(tmp_path / "out.parquet")["prediction"]] == [[]] * ROWS


def test_numbers_have_no_classes(classifiers, texts, tmp_path):
    model = classifiers("bert", ["price"], problem_type="regression")
    with pytest.raises(UserError, match="the model predicts numbers, not classes"):
        predict(model, texts, tmp_path / "out.csv", top_k=3)
    predict(model, texts, tmp_path / "out.csv")
    assert list(pd.read_csv(tmp_path / "out.csv").columns) == ["id", "prediction"]


# Bad rows


def test_rows_without_text_are_named_or_left_out(bert, tmp_path, encoded, capsys):
    rows = [{"text": None if row % 20 == 7 else "a good film"} for row in range(ROWS)]
    source = tmp_path / "new.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"5 of 100 rows have no text \(rows 8, 28, 48, 68, 88\)"):
        predict(bert, source, tmp_path / "out.csv")
    assert encoded == []
    assert not (tmp_path / "out.csv.partial").exists()
    found = predict(bert, source, tmp_path / "out.csv", columns=DataConfig(on_bad_row="skip"))
    assert found.rows == 95
    assert list(pd.read_csv(tmp_path / "out.csv")["id"]) == [row for row in range(ROWS) if row % 20 != 7]
    assert found.skipped_file == tmp_path / "out.skipped.jsonl"
    listed = [json.loads(line) for line in found.skipped_file.read_text().splitlines()]
    assert listed == found.skipped
    assert listed[0] == {"row": 8, "id": "7", "reason": "no text in column 'text'"}


def test_a_whole_piece_may_be_left_out_but_not_everything(bert, tmp_path):
    source = tmp_path / "new.jsonl"
    rows = [{"text": None if row < 2 * PIECE else "a good film"} for row in range(50)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert predict(bert, source, tmp_path / "out.parquet", columns=DataConfig(on_bad_row="skip")).rows == 18
    assert list(pd.read_parquet(tmp_path / "out.parquet")["id"]) == [str(row) for row in range(32, 50)]
    source.write_text('{"text": null, "n": 1}\n{"text": "", "n": 2}\n{"text": null, "n": 3}\n')
    assert predict(bert, source, tmp_path / "out.parquet", columns=DataConfig(on_bad_row="skip")).rows == 1


@pytest.fixture
def images(tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for row in range(10):
        Image.fromarray(random.integers(0, 255, (40, 50, 3)).astype(np.uint8)).save(folder / f"{row}.png")
    return folder


def test_a_folder_of_images_is_labelled_in_pieces(classifiers, images, encoded, tmp_path):
    vit = classifiers("vit", ["cat", "dog"])
    predict(vit, images, tmp_path / "whole.csv")
    assert encoded == [4, 4, 2]
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after=1)
        with pytest.raises(KeyboardInterrupt):
            predict(vit, images, tmp_path / "out.csv")
    encoded.clear()
    predict(vit, images, tmp_path / "out.csv")
    assert encoded == [4, 2]
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert list(pd.read_csv(tmp_path / "out.csv")["id"]) == [f"{row}.png" for row in range(10)]


def test_bad_images_are_named_or_left_out_and_looked_for_once(classifiers, images, encoded, tmp_path, monkeypatch):
    from hf_finetune.data.images import decode

    vit = classifiers("vit", ["cat", "dog"])
    (images / "5.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"1 of 10 images cannot be read; the first: .*5.png"):
        predict(vit, images, tmp_path / "out.csv")
    skip = DataConfig(on_bad_image="skip")
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after=1)
        with pytest.raises(KeyboardInterrupt):
            predict(vit, images, tmp_path / "out.csv", columns=skip)
    monkeypatch.setattr(decode, "unreadable_images", None)
    found = predict(vit, images, tmp_path / "out.csv", columns=skip)
    assert [fault["id"] for fault in found.skipped] == ["5.png"]
    assert list(pd.read_csv(tmp_path / "out.csv")["id"]) == [f"{row}.png" for row in range(10) if row != 5]


def test_an_image_that_breaks_meanwhile_is_refused(classifiers, images, tmp_path, monkeypatch):
    encode = Labeller.encode

    def breaks(self, rows):
        (images / "6.png").write_bytes(b"no image")
        return encode(self, rows)

    monkeypatch.setattr(Labeller, "encode", breaks)
    with pytest.raises(UserError, match=r"'6.png' was read before and cannot be read now"):
        predict(classifiers("vit", ["cat", "dog"]), images, tmp_path / "out.csv")
