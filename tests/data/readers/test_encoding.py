"""Encodings: marks, UTF-8, those that are found and said, and what is wrong with a byte."""

from __future__ import annotations

import pytest

from hf_finetune.data.readers.encoding import BLOCK, find_encoding, known_encoding
from hf_finetune.data.readers.sources import read_file
from hf_finetune.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def file(tmp_path):
    def write(content: bytes, name="a.csv"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def refused(file, asked=None) -> UserError:
    with pytest.raises(UserError) as caught:
        find_encoding(file, asked)
    return caught.value


TEXT = "text,label\ncafé 👍 שלום,x\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("asked", [False, True])
def test_unicode_in_all_its_forms(encoding, asked, file, capsys):
    content = ("text,label\n" + "the café was good,x\n" * 20).encode(encoding)
    read = read_file(file(content), encoding=encoding if asked else None)
    assert read.column_names == ["text", "label"]
    assert set(read["text"][:]) == {"the café was good"}
    assert ("read as UTF-" in capsys.readouterr().out) is (not asked and "8" not in encoding)


def test_a_mark_before_an_encoding_that_was_named(file):
    for name, mark in {"utf-8": b"\xef\xbb\xbf", "utf-16-le": b"\xff\xfe"}.items():
        assert read_file(file(mark + TEXT.encode(name)), encoding=name).column_names == ["text", "label"]


FRENCH = "Le café était très agréable.\nÇa coûte 5 € à l'entrée, déjà vu.\nUn été, une fête où naît l'œuvre.\n"
RUSSIAN = "Фильм был очень хороший, но слишком длинный.\nАктёры играли плохо, сюжет скучный.\n"
CHINESE = "这部电影非常好看，我很喜欢。\n演员的表演太差了，浪费时间。\n"
GREEK = "Η ταινία ήταν πολύ καλή και μου άρεσε.\nΤο σενάριο ήταν κακό.\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(FRENCH, "cp1252"), (FRENCH.replace("€", "").replace("œ", ""), "latin-1"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8_r"),
     (CHINESE, "gb18030"), (GREEK, "cp1253")],
)  # fmt: skip
def test_another_encoding_is_found_and_said(text, encoding, file, capsys):
    path = file((text * 5).encode(encoding))
    found = find_encoding(path)
    assert path.read_bytes().decode(found) == text * 5
    said = capsys.readouterr().out
    assert f"line 1); read as {found}, as in" in said
    assert repr(text.splitlines()[0][:60]) in said


def test_the_bytes_that_tell_it_may_stand_far_down(file, capsys):
    path = file(b"plain text\n" * (BLOCK // 8) + FRENCH.encode("cp1252"))
    assert find_encoding(path) == "cp1252"
    assert f"line {BLOCK // 8 + 1}); read as cp1252, as in 'Le café était très agréable.'" in capsys.readouterr().out


def test_a_broken_byte_in_utf_8_is_not_taken_for_another_encoding(file):
    path = file("text,label\ncafé,x\nthé,y\n".encode() + b"caf\xc3,x\n" + "été,y\n".encode())
    error = refused(path)
    assert error.what.startswith("byte 30, in line 4, is not text in UTF-8, which the other lines are")
    assert error.where == str(path)


@pytest.mark.parametrize("offset", [-2, -1, 0, 1, 2])
def test_a_broken_byte_is_found_where_blocks_meet(offset, file):
    before = ("é" * (BLOCK // 2 - 10) + "\n\n").encode()
    before += b"x" * (BLOCK + offset - len(before))
    error = refused(file(before + b"\xc3(" + b"y" * 10), "utf-8")
    assert error.what.startswith(
        f"byte {BLOCK + offset + 1}, in line 3, is not text in utf-8 (invalid continuation byte)"
    )


def test_a_character_across_blocks_is_none_broken(file):
    assert find_encoding(file(b"x" * (BLOCK - 1) + "é👍".encode())) == "utf-8"


def test_a_wrong_encoding_is_refused_with_byte_and_line(file):
    error = refused(file("text\na\né\n".encode("cp1252")), "utf-8")
    assert error.what == "byte 8, in line 3, is not text in utf-8 (invalid continuation byte)"
    assert "leave --encoding out" in error.fix
    assert "is not text in ascii" in refused(file(TEXT.encode()), "ascii").what


def test_a_mark_with_other_bytes_behind_it(file):
    assert refused(file(b"\xef\xbb\xbftext\n\xff\n")).what.startswith("byte 9, in line 2, is not text in utf-8-sig")
    assert "is not text in utf-16" in refused(file(b"\xff\xfea\0b")).what


@pytest.mark.parametrize(
    ("name", "near"), [("utf9", "utf"), ("cp1522", "cp125"), ("base64", "e.g. utf-8"), ("a\0b", "e.g.")]
)
def test_an_unknown_encoding(name, near):
    with pytest.raises(UserError) as caught:
        known_encoding(name)
    assert caught.value.where == "--encoding"
    assert caught.value.what == f"there is no encoding {name!r}"
    assert near in caught.value.fix


def test_bytes_that_are_no_text(file):
    assert "binary" in refused(file(b"abc\0\1\2\n" * 9)).what
    assert "binary" in refused(file(b"x" * 5000 + b"\0")).what
    assert "NUL" in refused(file(b"abc\0\1\2\n"), "cp1252").what
    assert "Excel" in refused(file(b"PK\x03\x04\0\0"), "cp1252").what
    assert "not UTF-8 (byte 1, line 1), and no other encoding" in refused(file(bytes(range(128, 256)) * 3)).what
