"""Mistakes in data and flags of audio classification: status 2, an error line and a fix line, and nothing half-made."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_finetune.cli.main import main as hf_finetune


def folder(case, **files):
    """A folder of two classes; ``files`` are written into the class ``a``."""
    root = case.tmp / "data"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            samples = np.random.default_rng(number).normal(0, 0.1, 4_000)
            soundfile.write(root / name / f"{number}.wav", samples, 16_000)
    for name, content in files.items():
        (root / "a" / name.replace("_", ".")).write_bytes(content)
    return ["--dataset_name", str(root)]


def table(case, *rows, header="file,label"):
    folder(case)
    path = case.tmp / "data" / "table.csv"
    good = [f"{name}/{number}.wav,{name}" for name in ("a", "b") for number in range(6)]
    path.write_text("\n".join([header, *good, *rows]) + "\n")
    return ["--train_file", str(path)]


def silent(case):
    (case.tmp / "data" / "a").mkdir(parents=True)
    (case.tmp / "data" / "a" / "0.txt").write_text("x")
    return ["--dataset_name", str(case.tmp / "data")]


def one_class(case):
    flags = folder(case)
    shutil.rmtree(case.tmp / "data" / "b")
    return flags


def empty_file(case):
    flags = folder(case)
    soundfile.write(case.tmp / "data" / "a" / "0.wav", np.zeros(0), 16_000)
    return flags


def not_numbers(case):
    flags = folder(case)
    soundfile.write(case.tmp / "data" / "a" / "0.wav", np.full(100, np.nan), 16_000, subtype="FLOAT")
    return flags


def cut_short(case):
    flags = folder(case)
    path = case.tmp / "data" / "a" / "0.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    path.write_bytes(path.read_bytes()[:30])
    return flags


# name → (flags of the data, further flags, words of the error, words of the fix)
CASES = {
    "a text as a recording": (
        lambda c: folder(c, x_wav=b"text"),
        [],
        "1 of 11 recordings cannot be read",
        "--on_bad_audio skip",
    ),
    "no bytes": (lambda c: folder(c, x_wav=b""), [], "1 of 11 recordings cannot be read", "--on_bad_audio skip"),
    "a broken MP3": (
        lambda c: folder(c, x_mp3=b"ID3" + b"\0" * 50),
        [],
        "1 of 11 recordings cannot be read",
        "--on_bad_audio skip",
    ),
    "no samples": (empty_file, [], "a/0.wav (it has no samples)", "--on_bad_audio skip"),
    "samples that are no numbers": (not_numbers, [], "some samples are not finite numbers", "--on_bad_audio skip"),
    "cut short": (cut_short, [], "1 of 11 recordings cannot be read", "--on_bad_audio skip"),
    "no recordings": (silent, [], "no recordings in class folders were found", "FOLDER/CLASS/speech.wav"),
    "no folder": (lambda c: ["--train_dir", str(c.tmp / "nothing")], [], "the folder does not exist", "check the path"),
    "one class": (one_class, [], "a classifier needs two classes", "--label_column"),
    "a missing file": (lambda c: table(c, "a/99.wav,a"), [], "1 of 13 recordings are missing", "--audio_root"),
    "a path that leads out": (lambda c: table(c, "../x.wav,a"), [], "lead out of the folder", "--audio_root"),
    "an address": (lambda c: table(c, "https://x.org/a.wav,a"), [], "not from the network", "download the recordings"),
    "a row without path": (lambda c: table(c, ",a"), [], "it has no path", "--on_bad_audio skip"),
    "a row without label": (lambda c: table(c, "a/0.wav,"), [], "1 of 13 rows have no label", "--on_bad_row skip"),
    "no such root": (table, ["--audio_root", "/no/such"], "the folder does not exist", "check the path"),
    "no such column": (table, ["--audio_column", "sound"], "there is no column 'sound'", "--audio_column"),
    "a column of labels as recordings": (table, ["--audio_column", "label"], "recordings are missing", "--audio_root"),
    "no such group": (table, ["--group_column", "speaker"], "there is no column 'speaker'", "--group_column"),
    "a table of numbers": (
        lambda c: table(c, header="n,label"),
        ["--audio_column", "m"],
        "there is no column 'm'",
        "--audio_column",
    ),
    "longer than the window": (
        folder,
        ["--max_seconds", "2"],
        "the checkpoint reads at most 1 seconds, not 2",
        "give 1 or less",
    ),
    "no seconds": (folder, ["--max_seconds", "0"], "out of bounds", "--max_seconds"),
    "seconds that are a word": (folder, ["--max_seconds", "long"], "long", "--help"),
    "mixed recordings": (folder, ["--mixup", "0.2"], "recordings cannot be mixed", "leave the flags out"),
    "cut and mixed": (folder, ["--cutmix", "0.2"], "recordings cannot be mixed", "leave the flags out"),
    "an unknown view": (folder, ["--augmentation", "heavy"], "heavy", "--help"),
    "a wrong way of bad files": (folder, ["--on_bad_audio", "drop"], "drop", "--help"),
    "a text checkpoint": (
        folder,
        ["--model_name_or_path", "bert"],
        "no feature extractor can be loaded",
        "preprocessor_config.json",
    ),
    "an image checkpoint": (folder, ["--model_name_or_path", "resnet"], "", "audio checkpoint"),
    "an unknown strategy": (
        folder,
        ["--strategy", "freeze:nowhere"],
        "there is no stage 'nowhere'",
        "use one of these",
    ),
    "an unknown metric": (folder, ["--metric", "wer"], "'wer' is none of the built-in metrics", "built-in"),
    "a Python script": (lambda c: ["--dataset_name", __file__], [], "is a Python script", "name its files"),
}


class Case:
    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name, checkpoints, audio_checkpoints, tmp_path, capsys):
    data, flags, error, fix = CASES[name]
    flags = [checkpoints(word) if word in ("bert", "resnet") else word for word in flags]
    model = ["--model_name_or_path", audio_checkpoints("whisper")]
    command = ["train", "audio-classification", *model, *data(Case(tmp_path)), "--num_train_epochs", "1"]
    assert hf_finetune([*command, "--output_dir", str(tmp_path / "run"), *flags]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-2].startswith("error: ")
    assert said[-1].startswith("fix: ")
    assert error in said[-2]
    assert fix in said[-1]
    assert "Traceback" not in "\n".join(said)
    assert not (tmp_path / "run" / "model").exists()


def test_unreadable_recordings_can_be_left_out(audio_checkpoints, tmp_path, capsys):
    data = folder(Case(tmp_path), x_wav=b"text")
    command = ["train", "audio-classification", "--model_name_or_path", audio_checkpoints("whisper"), *data]
    flags = ["--num_train_epochs", "1", "--on_bad_audio", "skip", "--output_dir", str(tmp_path / "run")]
    assert hf_finetune([*command, *flags]) == 0
    assert "1 unreadable recordings of the train split are skipped: a/x.wav" in " ".join(
        capsys.readouterr().out.split()
    )
