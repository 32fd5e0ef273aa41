"""Bad input: exit status 2, one ``error:`` and one ``fix:`` line, no traceback, and nothing of the user's touched."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_finetune.cli.main import main as hf_finetune

GOOD = [("good film", "positive"), ("bad film", "negative")] * 20
WHO = ("text", "label", "who")


def write_csv(path: Path, rows, header=("text", "label")) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


@pytest.fixture
def case(tmp_path, tmp_path_factory, monkeypatch, checkpoints, image_folder):
    """What the cases are made of: a good file, checkpoints, pictures, and a folder to write bad files into."""
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(tmp_path_factory.mktemp("cache")))

    class Case:
        folder = tmp_path
        good = write_csv(tmp_path / "good.csv", GOOD)
        bert = checkpoints("bert")
        vit = checkpoints("vit")
        pictures = image_folder

        def text(self, *flags, train=None, model=None, data=None):
            data = data or ["--train_file", str(train or self.good)]
            return [
                "train",
                "text-classification",
                "--model_name_or_path",
                model or self.bert,
                *data,
                "--output_dir",
                str(tmp_path / "run"),
                *flags,
            ]

        def image(self, *flags, data=None, model=None):
            source = ["--model_name_or_path", model or self.vit, "--dataset_name", str(data or self.pictures)]
            return ["train", "image-classification", *source, "--output_dir", str(tmp_path / "run"), *flags]

        def file(self, name, rows, header=("text", "label")):
            return write_csv(tmp_path / name, rows, header)

        def raw(self, name, content):
            (tmp_path / name).write_bytes(content)
            return tmp_path / name

        def broken_picture(self):
            import shutil

            root = tmp_path / "pictures"
            shutil.copytree(image_folder, root)
            picture = next((root / "train" / "class 1").iterdir())
            picture.write_bytes(picture.read_bytes()[:60])
            return root

        def table(self, more):
            root = Path(image_folder)
            files = [file for name in ("class 1", "class 2") for file in sorted((root / "train" / name).iterdir())[:6]]
            rows = [(file.relative_to(root).as_posix(), file.parent.name) for file in files] + more
            path = write_csv(tmp_path / "pictures.csv", rows, ("path", "label"))
            data = ["--train_file", path, "--image_root", image_folder]
            return ["train", "image-classification", "--model_name_or_path", self.vit, *data]

        def copied(self):
            import shutil

            return Path(shutil.copytree(Path(image_folder, "train"), tmp_path / "copied"))

        def linked(self):
            root = self.copied()
            (root / "class 1" / "out.png").symlink_to(Path(image_folder, "test"))
            return root

        def bomb(self):
            import struct
            import zlib

            root = self.copied()
            header = b"IHDR" + struct.pack(">IIBBBBB", 90_000, 90_000, 8, 2, 0, 0, 0)
            data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
            empty = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
            (root / "class 1" / "bomb.png").write_bytes(data + empty)
            return root

        def archive(self, member):
            import zipfile

            path = tmp_path / "pictures.zip"
            if member is None:
                path.write_bytes(b"no archive")
                return path
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(member, b"x")
            return path

        def stripped(self, name):
            import shutil

            target = tmp_path / f"without {name}"
            shutil.copytree(self.bert, target)
            (target / name).unlink()
            return str(target)

    return Case()


# name → (arguments, words that the error must have, words that the fix must have)
CASES = {
    "missing file": (lambda c: c.text(train=c.folder / "no.csv"), "no.csv: the file does not exist", "path"),
    "missing folder": (lambda c: c.image(data=c.folder / "no"), "no such local folder", "check the name"),
    "empty file": (
        lambda c: c.text(train=(c.folder / "e.csv").touch() or c.folder / "e.csv"),
        "the file is empty",
        "row",
    ),
    "header only": (lambda c: c.text(train=c.file("h.csv", [])), "has no rows", "rows"),
    "unknown ending": (
        lambda c: c.text(train=(c.folder / "x.xls").write_text("x") and c.folder / "x.xls"),
        ".xls",
        ".csv",
    ),
    "text column not found": (
        lambda c: c.text("--text_column", "txt"),
        "'txt'; the columns are 'text', 'label'",
        "--text_column text",
    ),
    "label column not found": (
        lambda c: c.text("--label_column", "y"),
        "no column 'y'; the columns are",
        "--label_column",
    ),
    "no column is the label": (
        lambda c: c.text(train=c.file("n.csv", GOOD, ("a", "b"))),
        "no column is clearly",
        "--label_column",
    ),
    "one class": (lambda c: c.text(train=c.file("o.csv", [("x", "a")] * 9)), "the label 'a'", "another class"),
    "missing labels": (lambda c: c.text(train=c.file("m.csv", [*GOOD, ("x", "")])), "have no label (rows 41)", "fill"),
    "missing texts": (
        lambda c: c.text(train=c.raw("m.jsonl", b'{"text": "a", "label": "x"}\n{"text": null, "label": "y"}\n')),
        "1 of 2 rows have no text (rows 2)",
        "--on_bad_row skip",
    ),
    "quotes that never close": (
        lambda c: c.text(train=c.raw("q.csv", b'text,label\na,x\n"b,y\nc,x\n')),
        "q.csv: the row that begins in line 3 cannot be read: a quote opens in it and never closes",
        "quotes",
    ),
    "too many cells": (
        lambda c: c.text(train=c.raw("c.csv", b"text,label\na,x\nwell, no,y\n")),
        "c.csv: line 3 has 3 cells, but the header has 2",
        "--delimiter",
    ),
    "columns of the same name": (
        lambda c: c.text(train=c.raw("d.csv", b"text,text\na,x\n")),
        "d.csv: the header has the name 'text' more than once",
        "name of its own",
    ),
    "a workbook called csv": (
        lambda c: c.text(train=c.raw("w.csv", b"PK\x03\x04\x14\x00")),
        "w.csv: the file is a zip archive or an Excel workbook",
        "CSV",
    ),
    "broken UTF-8": (
        lambda c: c.text(train=c.raw("u.csv", "text,label\né,x\n".encode() + b"\xc3,y\n")),
        "u.csv: byte 17, in line 3, is no text in UTF-8",
        "UTF-8",
    ),
    "wrong encoding": (
        lambda c: c.text("--encoding", "utf-8", train=c.raw("l.csv", b"text,label\n\xe9,x\n")),
        "l.csv: byte 12, in line 2, is no text in utf-8",
        "--encoding",
    ),
    "unknown encoding": (lambda c: c.text("--encoding", "utf9"), "there is no encoding 'utf9'", "utf-8"),
    "impossible delimiter": (lambda c: c.text("--delimiter", "ab"), "'ab' cannot separate cells", "tab"),
    "broken JSON": (
        lambda c: c.text(train=c.raw("j.jsonl", b'{"text": "a", "label": "x"}\n{"text": b}\n')),
        "j.jsonl: line 2 is no JSON: Expecting value (character 10)",
        "mend",
    ),
    "no texts by class": (
        lambda c: c.text(train=None, data=["--train_dir", str(c.folder)]),
        "no .txt files in class folders were found",
        "FOLDER/CLASS/text.txt",
    ),
    "nothing but bad rows": (
        lambda c: c.text("--on_bad_row", "skip", train=c.file("b.csv", [("a", "")] * 3)),
        "all 3 rows would be skipped: no label in column 'label'",
        "--label_column",
    ),
    "class only in test": (
        lambda c: c.text("--test_file", c.file("t.csv", [*GOOD, ("x", "mixed")])),
        "'mixed' does not occur in the training rows (first in row 41)",
        "spelling",
    ),
    "too few rows to split": (lambda c: c.text(train=c.file("f.csv", GOOD[:2])), "too few", "--validation_split"),
    "unknown strategy": (lambda c: c.text("--strategy", "fulll"), "no strategy 'fulll'", "lp_ft"),
    "unknown stage": (
        lambda c: c.text("--strategy", "freeze:layer9"),
        "no stage 'layer9'; the stages are embeddings, block1",
        "stages",
    ),
    "freezing everything": (lambda c: c.text("--strategy", "freeze:head"), "nothing would train", "below the head"),
    "too deep": (lambda c: c.text("--strategy", "freeze:5"), "has 2 blocks, not 5", "0 to 2"),
    "unknown metric": (
        lambda c: c.text("--metric", "acuracy"),
        "'acuracy' is none of the built-in metrics",
        "built-in",
    ),
    "unknown LoRA target": (
        lambda c: c.text("--strategy", "lora", "--lora_target_modules", "q_proj"),
        "called q_proj; there are dense, key, query, value",
        "name one",
    ),
    "no config.json": (lambda c: c.text(model=c.stripped("config.json")), "holds no config.json", "save_pretrained"),
    "no weights": (lambda c: c.text(model=c.stripped("model.safetensors")), "holds no weights", "weights"),
    "no checkpoint": (lambda c: c.text(model=str(c.folder / "none")), "checkpoint", "name"),
    "image checkpoint for texts": (lambda c: c.text(model=c.vit), "vit", "text"),
    "text checkpoint for pictures": (lambda c: c.image(model=c.bert), "image", "text"),
    "unreadable picture": (
        lambda c: c.image(data=c.broken_picture()),
        "pictures cannot be read; the first: ",
        "--on_bad_image skip",
    ),
    "a picture that the table names is missing": (
        lambda c: c.table([("no.png", "a")]),
        "pictures.csv, column 'path': 1 of 13 pictures are missing; the first, in row 13: there is no file",
        "--image_root",
    ),
    "a path that leads out": (
        lambda c: c.table([("../../etc/passwd", "a")]),
        "paths lead out of the folder",
        "--image_root",
    ),
    "a link that leads out": (lambda c: c.image(data=c.linked()), "the symbolic link leads out of the folder", "copy"),
    "an archive that leads out": (lambda c: c.image(data=c.archive("../evil.png")), "leads out of it", "unpack"),
    "no archive": (lambda c: c.image(data=c.archive(None)), "the archive cannot be unpacked", "pack it anew"),
    "a missing shard": (
        lambda c: c.image(data=c.folder / "s-{0..2}.tar"),
        "s-0.tar: the archive does not exist",
        "path",
    ),
    "an archive of texts": (
        lambda c: ["train", "text-classification", "--model_name_or_path", c.bert, "--dataset_name", "texts.zip"],
        "are read of pictures only",
        "--train_file",
    ),
    "a decompression bomb": (lambda c: c.image(data=c.bomb()), "decompression bomb", "--on_bad_image skip"),
    "predict: a decompression bomb": (lambda c: ["predict", c.vit, str(c.bomb())], "decompression bomb", "remove"),
    "predict: a link that leads out": (
        lambda c: ["predict", c.vit, str(c.linked())],
        "leads out of the folder",
        "copy",
    ),
    "predict: no pictures": (
        lambda c: ["predict", c.vit, str((c.folder / "void").mkdir() or c.folder / "void")],
        "the folder holds no pictures",
        "name",
    ),
    "pictures of an impossible size": (
        lambda c: c.image("--image_size", "40"),
        "pictures of 40 pixels",
        "leave the flag out",
    ),
    "no pictures": (
        lambda c: c.image(data=(c.folder / "void").mkdir() or c.folder / "void"),
        "no pictures in class folders",
        "CLASS",
    ),
    "unknown flag": (
        lambda c: c.text("--lerning_rate", "1"),
        "unknown key 'lerning_rate'",
        "did you mean learning_rate",
    ),
    "wrong type": (lambda c: c.text("--num_train_epochs", "many"), "invalid float value: 'many'", "--help"),
    "out of bounds": (lambda c: c.text("--validation_split", "2"), "2.0 is out of bounds", "between"),
    "early stopping on nothing": (
        lambda c: c.text("--early_stopping_patience", "2", "--validation_split", "0"),
        "early stopping needs validation rows",
        "validation",
    ),
    "fp16 without a GPU": (lambda c: c.text("--fp16"), "fp16 needs a GPU", "bf16"),
    "too long": (lambda c: c.text("--max_length", "999"), "reads at most 64 tokens", "64"),
    "two sources": (lambda c: c.text("--dataset_name", "imdb"), "exclude each other", "keep"),
    "unknown group column": (
        lambda c: c.text("--group_column", "patient"),
        "there is no column 'patient'; the columns are 'text', 'label'",
        "--group_column",
    ),
    "rows without a group": (
        lambda c: c.text(
            "--group_column=who", train=c.file("g.csv", [(*r, "" if i == 2 else "x") for i, r in enumerate(GOOD)], WHO)
        ),
        "1 of 40 rows have no group (rows 3)",
        "fill the groups in",
    ),
    "no time": (
        lambda c: c.text("--time_column=who", train=c.file("w.csv", [(*r, "2024-02-30") for r in GOOD], WHO)),
        "row 1 holds '2024-02-30'; expected an ISO date",
        "--time_column",
    ),
    "more folds than rows": (
        lambda c: c.text("--num_folds", "50", "--fold", "1"),
        "40 rows do not make 50 folds",
        "give 40 or less",
    ),
    "no file of splits": (lambda c: c.text("--splits_file", c.good), "the file cannot be read", "splits.parquet"),
    "two remedies against imbalance": (
        lambda c: c.text("--balanced_sampling", "--class_weights", "balanced"),
        "both make up for the frequencies of the classes",
        "keep one of them",
    ),
    "no data": (
        lambda c: ["train", "text-classification", "--model_name_or_path", c.bert],
        "no data was given",
        "--train_file",
    ),
    "no checkpoint named": (
        lambda c: ["train", "text-classification", "--train_file", c.good],
        "no checkpoint",
        "--model_name_or_path",
    ),
    "unknown task": (lambda c: ["train", "text-clasification"], "no task 'text-clasification'", "text-classification"),
    "unknown verb": (lambda c: ["trian"], "no verb 'trian'", "did you mean train"),
    "unknown accelerate configuration": (
        lambda c: c.text("--accelerate_config", "gpus"),
        "no accelerate configuration 'gpus'; the packaged ones are",
        "accelerate config",
    ),
    "predict: no model": (lambda c: ["predict", str(c.folder / "none"), c.good], "checkpoint", "name"),
    "predict: unknown output": (
        lambda c: ["predict", c.bert, c.good, "--output", "a.xls"],
        "'.xls' are not written",
        ".csv",
    ),
    "predict: no classifier": (lambda c: ["predict", c.bert, c.good], "no classifier", "fine-tuned"),
    "push without a name of one's own": (
        lambda c: c.text("--hub_model_id", "a/b"),
        "nothing will be pushed",
        "--push_to_hub",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name, case, capfd, monkeypatch):
    arguments, error, fix = CASES[name]
    argv = arguments(case)
    monkeypatch.chdir(case.folder)
    before = {path: path.read_bytes() for path in case.folder.rglob("*") if path.is_file()}
    assert hf_finetune(argv) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert [line.split(":")[0] for line in lines[-2:]] == ["error", "fix"], lines
    assert sum(line.startswith("error:") for line in lines) == 1
    assert "Traceback" not in "\n".join(lines)
    assert error in lines[-2]
    assert fix in lines[-1]
    after = {path: path.read_bytes() for path in case.folder.rglob("*") if path.is_file()}
    new = {path.relative_to(case.folder).as_posix() for path in after.keys() - before.keys()}
    assert {path: after.get(path) for path in before} == before
    assert new == set()


def test_an_occupied_folder_is_left_alone_until_overwriting_is_asked_for(case, capfd):
    assert hf_finetune(case.text("--num_train_epochs", "1")) == 0
    metrics = (case.folder / "run" / "metrics.json").read_bytes()
    assert hf_finetune(case.text("--num_train_epochs", "1", "--seed", "9")) == 2
    assert "the folder holds another run" in capfd.readouterr().err
    assert (case.folder / "run" / "metrics.json").read_bytes() == metrics
    assert hf_finetune(case.text("--num_train_epochs", "1", "--seed", "9", "--overwrite_output_dir")) == 0
    assert (case.folder / "run" / "metrics.json").read_bytes() != metrics


def test_bad_pictures_are_dropped_and_counted_when_that_is_asked_for(case, capfd):
    flags = ["--on_bad_image", "skip", "--num_train_epochs", "1"]
    assert hf_finetune(case.image(*flags, data=case.broken_picture())) == 0
    said = capfd.readouterr().out
    assert "1 unreadable pictures of the train split are skipped" in said
    assert "1 unreadable pictures" in (case.folder / "run" / "README.md").read_text()


def test_bad_rows_are_dropped_and_listed_when_that_is_asked_for(case, capfd):
    train = case.file("holes.csv", [*GOOD, ("no label", ""), ("é", " ")])
    flags = ["--on_bad_row", "skip", "--num_train_epochs", "1"]
    assert hf_finetune(case.text(*flags, train=train)) == 0
    assert "2 rows of the train split are skipped (no label in column 'label'): 41, 42." in capfd.readouterr().out
    lines = (case.folder / "run" / "skipped.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"split": "train", "row": row, "id": str(row - 1), "reason": "no label in column 'label'"} for row in (41, 42)
    ]
    assert "2 rows of the train split are skipped" in (case.folder / "run" / "README.md").read_text()
    assert hf_finetune(case.text("--num_train_epochs", "1", "--overwrite_output_dir")) == 0
    assert not (case.folder / "run" / "skipped.jsonl").exists()


def test_texts_by_class_go_from_folder_to_model(case):
    for index, (text, label) in enumerate(GOOD):
        path = case.folder / "texts" / label / f"{index}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert hf_finetune(case.text("--num_train_epochs", "1", data=["--dataset_name", str(case.folder / "texts")])) == 0
    config = json.loads((case.folder / "run" / "model" / "config.json").read_text())
    assert config["label2id"] == {"negative": 0, "positive": 1}


def test_the_shell_sees_status_2_and_two_lines(case):
    command = [sys.executable, "-m", "hf_finetune", *case.text(train="no.csv")]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2:] == ["error: no.csv: the file does not exist", "fix: check the path."]
