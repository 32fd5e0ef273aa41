"""A folder of .txt files by class."""

from __future__ import annotations

import pytest

from hf_finetune.config.options import DataConfig
from hf_finetune.data.load import load_splits
from hf_finetune.data.readers import encoding
from hf_finetune.data.readers.cell import TEXT
from hf_finetune.data.readers.folder import open_classes
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    """Write texts by path below a folder."""

    def write(texts: dict[str, str | bytes]):
        for name, text in texts.items():
            path = tmp_path / "texts" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / "texts"

    return write


def load(**options):
    return load_splits(DataConfig(**{"validation_split": 0.0} | options), get_task("text-classification"))


def refused(root, encoding=None) -> UserError:
    with pytest.raises(UserError) as caught:
        open_classes(root, TEXT, encoding).keep()
    return caught.value


SMALL = {"neg/10.txt": "bad\n", "neg/2.txt": "awful\r\nfilm\r\n", "pos/sub/1.TXT": "é 👍", "pos/3.txt": ""}


def test_every_file_is_a_row_in_natural_order(folder):
    root = folder(
        SMALL | {".git/a.txt": "x", "pos/.b.txt": "x", "pos/._c.txt": "x", "pos/readme.md": "x", "top.txt": "x"}
    )
    folder({"__MACOSX/pos/1.txt": "x", "empty/.keep": "", "pos/.DS_Store": b"\0\1"})
    rows = open_classes(root, TEXT).keep()
    assert rows.features["label"].names == ["neg", "pos"]
    assert rows.to_list() == [
        {"id": "neg/2.txt", "text": "awful\nfilm", "label": 0},
        {"id": "neg/10.txt", "text": "bad", "label": 0},
        {"id": "pos/3.txt", "text": "", "label": 1},
        {"id": "pos/sub/1.TXT", "text": "é 👍", "label": 1},
    ]


@pytest.mark.parametrize("flag", ["dataset_name", "train_dir"])
def test_a_folder_by_name_and_by_flag(flag, folder):
    splits = load(**{flag: str(folder(SMALL))})
    assert (splits.labels, splits.train["label"][:], splits.validation) == (["neg", "pos"], [0, 0, 1, 1], None)
    assert splits.train["id"][0] == "neg/2.txt"


def test_splits_above_the_classes(folder):
    root = folder(
        {f"train/{name}": text for name, text in SMALL.items()} | {"Test/pos/1.txt": "t", "val/neg/1.txt": "v"}
    )
    splits = load(dataset_name=str(root))
    assert {name: len(split) for name, split in splits.items()} == {"train": 4, "validation": 1, "test": 1}
    assert (splits.test["label"][:], splits.test["id"][:]) == ([1], ["pos/1.txt"])
    by_flag = load(train_dir=str(root / "train"), test_dir=str(root / "Test"))
    assert {name: len(split) for name, split in by_flag.items()} == {"train": 4, "test": 1}


def test_a_class_called_as_a_split_is_a_class(folder):
    assert load(dataset_name=str(folder({"train/1.txt": "a", "bus/1.txt": "b"}))).labels == ["bus", "train"]


def test_a_changed_file_is_read_anew(folder):
    assert open_classes(folder(SMALL), TEXT).keep()["text"][1] == "bad"
    assert open_classes(folder({"neg/10.txt": "new"}), TEXT).keep()["text"][1] == "new"


def test_what_is_no_such_folder(folder, tmp_path):
    (empty := tmp_path / "empty").mkdir()
    assert refused(tmp_path / "none").what == "the folder does not exist"
    assert refused(folder({"top.txt": "x"})).what == "no .txt files in class folders were found"
    with pytest.raises(UserError, match=r"no saved data set, no archives and no \.txt files by class"):
        load(dataset_name=str(empty))


# Encodings

FRENCH = "Le café était très agréable, déjà vu à l'été.\nÇa coûte cher où naît la fête.\n"


def test_marks_and_utf_8_stand_beside_each_other(folder):
    root = folder({"a/1.txt": "é".encode("utf-16"), "a/2.txt": b"\xef\xbb\xbf\xc3\xa9", "b/1.txt": "é"})
    assert open_classes(root, TEXT).keep()["text"][:] == ["é", "é", "é"]


def test_files_in_another_encoding_are_read_alike_and_said(folder, capsys):
    root = folder({"a/1.txt": FRENCH.encode("cp1252"), "a/2.txt": "été".encode("cp1252"), "b/1.txt": FRENCH})
    assert open_classes(root, TEXT).keep()["text"][:] == [FRENCH[:-1], "été", FRENCH[:-1]]
    said = capsys.readouterr().out
    assert 'texts: 2 of 3 files are not UTF-8; read as cp1252, as in "Le café était' in said


def test_an_encoding_that_was_named(folder):
    root = folder({"a/1.txt": "é".encode("cp1250"), "b/1.txt": "x"})
    assert open_classes(root, TEXT, "cp1250").keep()["text"][0] == "é"
    error = refused(root, "utf-8")
    assert (error.what, error.where) == ("byte 1 is not text in utf-8-sig", str(root / "a" / "1.txt"))
    assert refused(root, "utf9").where == "--encoding"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"abc\0def", "binary"), (b"abc\0\xff", "binary"), (b"PK\x03\x04\xff", "a zip archive"), (b"\xff\xfea\0b", "not text in utf-16")],
)  # fmt: skip
def test_a_file_that_is_no_text_is_named(content, words, folder):
    root = folder({"a/1.txt": content, "b/1.txt": "x"})
    error = refused(root)
    assert words in error.what
    assert error.where == str(root / "a" / "1.txt")


# Bounds


def test_links_out_of_the_folder_are_refused(folder, tmp_path):
    root = folder(SMALL)
    (tmp_path / "secret.txt").write_text("secret")
    link = root / "pos" / "9.txt"
    link.symlink_to(tmp_path / "secret.txt")
    error = refused(root)
    assert error.what == f"the symbolic link leads out of the folder {root}"
    assert error.where == str(link)
    link.unlink()
    outside = tmp_path / "outside"
    outside.mkdir()
    for place in (root / "pos" / "more", root / "other"):
        place.symlink_to(outside)
        assert refused(root).where == str(place)
        place.unlink()
    (root / "pos" / "4.txt").symlink_to(root / "pos" / "3.txt")  # within it is fine
    assert len(open_classes(root, TEXT).keep()) == 5


def test_a_split_that_is_a_link_out_of_the_folder(folder, tmp_path):
    root = folder({"train/a/1.txt": "x", "train/b/1.txt": "y"})
    (tmp_path / "elsewhere" / "a").mkdir(parents=True)
    (root / "test").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="the symbolic link leads out"):
        load(dataset_name=str(root))


def test_a_file_that_is_too_large_is_named(folder, monkeypatch):
    monkeypatch.setattr(encoding, "LARGEST_TEXT", 1_000_000)
    root = folder(SMALL | {"pos/7.txt": "x" * 1_000_001})
    error = refused(root)
    assert (error.what, error.where) == ("the file has 1 MB; a text may have 1", str(root / "pos" / "7.txt"))
