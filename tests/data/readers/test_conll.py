"""CoNLL files: sentences, documents, comments, and lines that lack columns."""

from __future__ import annotations

import pytest

from hf_finetune.data.readers.conll import open_conll
from hf_finetune.data.readers.sources import read_file
from hf_finetune.errors import UserError

CONLL = """\
-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O

Peter NNP I-NP I-PER

-DOCSTART- -X- O O

# NN I-NP O
ok JJ O O
"""


def test_sentences_and_documents(tmp_path):
    file = tmp_path / "train.conll"
    file.write_text(CONLL)
    rows = read_file(file)
    assert rows["tokens"][:] == [["EU", "rejects"], ["Peter"], ["#", "ok"]]
    assert rows["ner_tags"][:] == [["I-ORG", "O"], ["I-PER"], ["O", "O"]]
    assert rows["document"][:] == ["1", "1", "2"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_tabs_comments_and_line_ends(newline, start, tmp_path):
    file = tmp_path / "train.iob2"
    lines = ["# sent_id = 1", "New York\tB-loc", "!\tO", "", "", "#\tO", "a b\tI-x", ""]
    file.write_bytes((start + newline.join(lines)).encode())
    rows = read_file(file)
    assert rows["tokens"][:] == [["New York", "!"], ["#", "a b"]]
    assert rows["ner_tags"][:] == [["B-loc", "O"], ["O", "I-x"]]


def test_a_file_without_tags_and_blocks(tmp_path):
    file = tmp_path / "new.conll"
    file.write_text("Ada\nmet\n\nBob\n\nslept\n")
    source = open_conll([file], "new")
    assert source.column_names == ["tokens", "document"]
    assert [table.num_rows for table in source.blocks(["tokens"], 2)] == [2, 1]


def test_a_line_without_its_tag_is_refused(tmp_path):
    file = tmp_path / "broken.conll"
    file.write_text("Ada B-per\nmet\n")
    with pytest.raises(UserError) as caught:
        read_file(file)
    assert caught.value.what == "line 2 has 1 columns, not 2 as the first"
    assert caught.value.where == str(file)
