"""Texts that are longer than the model reads, token by token."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from hf_finetune.config.options import InputConfig
from hf_finetune.errors import UserError
from hf_finetune.tasks.inputs.text import encoding as task
from hf_finetune.tasks.inputs.text.long_texts import LongTexts, encode_pieces, long_text_of, pieces, set_long_text

CLS, SEP = 2, 3
WORDS = ("good", "great", "lovely", "bright", "happy", "bad", "awful", "gloomy", "dull", "sad", "the", "film", "was")
IDS = list(range(5, 18))  # of these words


@pytest.fixture
def tokenizer(checkpoints):
    """Reads ten tokens, of which two are special."""

    def get(how, length=10, name="bert"):
        made = task.load_processor(checkpoints(name))
        made.model_max_length = length
        set_long_text(made, how)
        return made

    return get


def table(*texts, **columns):
    return Dataset.from_dict({"id": [str(i) for i in range(len(texts))], "text": list(texts), **columns})


def test_head_and_tail_are_half_and_half(tokenizer):
    rows = task.encode(table(" ".join(WORDS), "good film", label=[1, 0]), tokenizer("head_tail"))
    assert rows["input_ids"][:] == [[CLS, *IDS[:4], *IDS[-4:], SEP], [CLS, 5, 16, SEP]]
    assert rows["length"][:] == [10, 4]
    assert rows["labels"][:] == [1, 0]
    assert rows["cut"][:] == [5, 0]
    odd = task.encode(table(" ".join(WORDS)), tokenizer("head_tail", length=7))
    assert odd["input_ids"][0] == [CLS, *IDS[:3], *IDS[-2:], SEP]


def test_chunks_overlap_by_an_eighth_and_know_their_row(tokenizer):
    rows = task.encode(table("good film", " ".join(WORDS), label=[0, 1]), tokenizer("chunk"))
    # Eight words a chunk, of which one is the last of the chunk before.
    assert rows["input_ids"][:] == [[CLS, 5, 16, SEP], [CLS, *IDS[:8], SEP], [CLS, *IDS[7:], SEP]]
    assert rows["row"][:] == [0, 1, 1]
    assert rows["labels"][:] == [0, 1, 1]
    assert rows["length"][:] == [4, 10, 8]
    assert rows["cut"][:] == [0, 5, 0]
    batch = task.collator(tokenizer("chunk"))([rows[0], rows[2]])
    assert set(batch) == {"input_ids", "attention_mask", "labels"} | ({"token_type_ids"} & set(batch))


def test_rows_are_numbered_through_all_batches(tokenizer):
    texts = [" ".join(["good"] * (20 if index % 3 == 0 else 3)) for index in range(2500)]
    rows = task.encode(table(*texts), tokenizer("chunk"))
    expected = [row for row, text in enumerate(texts) for _ in range(3 if len(text) > 40 else 1)]
    assert rows["row"][:] == expected


@pytest.mark.parametrize("words", [7, 8, 9, 15, 16, 22, 23, 60])
def test_chunks_are_those_that_the_tokenizer_itself_makes(words, tokenizer):
    made = tokenizer("chunk")
    text = " ".join(np.random.default_rng(words).choice(WORDS, words))
    found, _ = encode_pieces(made, ([text],), "chunk")
    own = made([text], truncation=True, max_length=10, stride=1, return_overflowing_tokens=True)
    assert found["input_ids"] == own["input_ids"]
    assert found["attention_mask"] == own["attention_mask"]


def test_of_a_pair_the_longer_text_is_read_in_chunks(tokenizer):
    made = tokenizer("chunk", length=13)  # three special tokens
    rows = task.encode(table("good film", text_pair=[" ".join(WORDS)]), made)
    first = [CLS, 5, 16, SEP]
    assert rows["input_ids"][:] == [[*first, *IDS[:8], SEP], [*first, *IDS[7:], SEP]]
    long = task.encode(table(" ".join(WORDS), text_pair=[" ".join(WORDS[:6])]), made)
    # The shorter text may take half of the ten tokens of room.
    assert [ids[-7:] for ids in long["input_ids"][:]] == [[SEP, *IDS[:5], SEP]] * 3
    assert [ids[1:-7] for ids in long["input_ids"][:]] == [IDS[:5], IDS[5:10], IDS[10:]]


def test_pairs_that_are_cut_lose_tokens_of_the_longer_text_first(tokenizer):
    rows = task.encode(table("good film", text_pair=[" ".join(WORDS)]), tokenizer("truncate"))
    assert rows["input_ids"][0] == [CLS, 5, 16, SEP, *IDS[:5], SEP]


def test_a_model_that_puts_its_special_tokens_at_the_end():
    special = [0] * 20 + [1, 1]
    assert pieces(special, 10, "head_tail") == [[slice(0, 0), slice(0, 4), slice(16, 20), slice(20, 22)]]


def test_a_length_without_room_is_refused(tokenizer):
    with pytest.raises(UserError) as caught:
        task.encode(table(" ".join(WORDS)), tokenizer("chunk", length=3))
    assert caught.value.where == "--max_length"


def test_the_choice_is_saved_and_loaded_with_the_tokenizer(tokenizer, tmp_path):
    made = tokenizer("chunk")
    made.save_pretrained(tmp_path / "chunk")
    again = task.load_processor(str(tmp_path / "chunk"))
    assert long_text_of(again) == "chunk"
    set_long_text(again, InputConfig().long_text)
    again.save_pretrained(tmp_path / "plain")
    assert long_text_of(task.load_processor(str(tmp_path / "plain"))) == "truncate"


def test_what_truncation_would_have_cut_is_said(tokenizer, capsys):
    made, long = tokenizer("chunk"), LongTexts()
    long.add(task.encode(table("good film", " ".join(WORDS), " ".join(WORDS * 2)), made))
    long.say("training", made)
    said = " ".join(capsys.readouterr().out.split())
    assert said == (
        "Long texts: 2 of 3 training rows have more than 10 tokens and are read in 6 chunks, whose answers are averaged; "
        "truncation would have cut 23 tokens."
    )
    short = LongTexts()
    short.add(task.encode(table("good film"), made))
    short.say("training", made)
    assert capsys.readouterr().out == ""
