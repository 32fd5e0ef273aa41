"""Words of texts are those of the pipeline of transformers; windows of long texts share none."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast, pipeline

from hf_finetune.config.options import DataConfig, InputConfig
from hf_finetune.errors import UserError
from hf_finetune.evaluation.prediction.labeller import predict_rows
from hf_finetune.models import Checkpoint
from hf_finetune.tasks.inputs import words
from hf_finetune.tasks.inputs.words.encoding import IGNORED, SETTING
from hf_finetune.tasks.outputs.entities.tags import Tags

LETTERS = "abcdefghij"
OUTPUT = Tags(["O", "B-per", "I-per", "B-loc", "I-loc"])
TEXTS = [
    "abc de.f (gh) a-b", "aé́b ÀB  c", "a", "…abc… 中文 a", "x.y z! U.S.A. @ab #cd", "abc\tde\nfg  h", "''ab'' \"c\"", "ijij" * 5,
    "a" * 30 + " b", "ﬁ ab İb ß", "[SEP] ab [MASK]", "", "  ",
]  # fmt: skip
SPECIAL = {
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def finished(tokenizer: Tokenizer, limit: int = 64) -> PreTrainedTokenizerFast:
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=limit, **SPECIAL)


def word_pieces() -> PreTrainedTokenizerFast:
    """As BERT: words between spaces and punctuation, in pieces, without case and accents."""
    entries = [
        *SPECIAL.values(),
        *LETTERS,
        *(f"##{letter}" for letter in LETTERS),
        "abc",
        "##bc",
        ".",
        "(",
        ")",
        "-",
        "!",
    ]
    tokenizer = Tokenizer(
        models.WordPiece({entry: i for i, entry in enumerate(dict.fromkeys(entries))}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return finished(tokenizer)


def bytes_and_merges() -> PreTrainedTokenizerFast:
    """As RoBERTa: bytes, merged, with the space before a word."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*SPECIAL.values(), *alphabet, "Ġa", "bc"]
    tokenizer = Tokenizer(models.BPE({entry: i for i, entry in enumerate(entries)}, [("Ġ", "a"), ("b", "c")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return finished(tokenizer)


def sentence_pieces() -> PreTrainedTokenizerFast:
    """As XLM-RoBERTa: pieces of a unigram model, ``▁`` for a space."""
    entries = [*SPECIAL.values(), "▁", *LETTERS, "▁a", "bc", ".", "-"]
    scores = [(entry, -float(i)) for i, entry in enumerate(entries)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return finished(tokenizer)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(OUTPUT.names)), "label2id": {name: i for i, name in enumerate(OUTPUT.names)}}
    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    found = BertForTokenClassification(BertConfig(vocab_size=400, max_position_embeddings=64, **settings, **labels))
    found.classifier.weight.data.mul_(60)  # sure of itself, and of every tag somewhere
    return found.eval()


def prepared(tokenizer, model, *, at_spaces=True, limit=None):
    model.config.entities_at_spaces = at_spaces
    words.prepare(Checkpoint(model, tokenizer, [], "tiny"), InputConfig(max_length=limit))
    return tokenizer


def rows(texts, labels=None) -> Dataset:
    columns = {"text": texts} | ({} if labels is None else {"label": labels})
    return Dataset.from_dict(columns)


def answered(model, tokenizer, texts):
    encoded = words.encode(rows(texts), tokenizer)
    collate = words.collator(tokenizer)
    raw = predict_rows(model, encoded, collate, 4, lambda share: None, predict=OUTPUT.predict, pool=OUTPUT.pool)
    return OUTPUT.answers(raw)["prediction"]


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("at_spaces", [True, False])
@pytest.mark.parametrize("make", [word_pieces, bytes_and_merges, sentence_pieces])
def test_entities_are_those_of_the_pipeline(make, at_spaces, model):
    tokenizer = prepared(make(), model, at_spaces=at_spaces)
    call = words.call_options(tokenizer)
    knows_words = make is word_pieces
    assert call == {"aggregation_strategy": "first" if knows_words or at_spaces else "simple"}
    classify = pipeline("token-classification", model=model, tokenizer=tokenizer, **call)
    entities = 0
    random = np.random.default_rng(0)
    alphabet = [*LETTERS, " ", " ", ".", "-", "(", "é", "中", "Z", "'"]
    texts = [*TEXTS, *("".join(random.choice(alphabet, random.integers(1, 40))) for _ in range(60))]
    for text, found in zip(texts, answered(model, tokenizer, texts), strict=True):
        expected = classify(text) if text else []
        named = [(e["start"], e["end"], e["entity_group"]) for e in expected]
        assert [(e["start"], e["end"], e["label"]) for e in found] == named, text
        assert [e["score"] for e in found] == pytest.approx([float(e["score"]) for e in expected], abs=1e-5)
        assert all(e["text"] == text[e["start"] : e["end"]] for e in found)
        entities += len(found)
    assert entities > 100


def test_labels_stand_at_the_first_token_of_each_word(model):
    tokenizer = prepared(word_pieces(), model)
    text = "abcd if ab.cd (ef)"
    spans = [[0, 4, 0], [8, 13, 1], [15, 17, 1]]
    [row] = words.encode(rows([text], [spans]), tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(row["input_ids"])
    tagged = {place: (tokens[place], tag) for place, tag in enumerate(row["labels"]) if tag != IGNORED}
    named = [(token, OUTPUT.names[tag]) for token, tag in tagged.values()]
    assert named == [
        ("abc", "B-per"), ("i", "O"), ("a", "B-loc"), (".", "I-loc"), ("c", "I-loc"), ("(", "O"), ("e", "B-loc"), (")", "O"),
    ]  # fmt: skip
    assert row["places"] == list(tagged)
    assert [text[start:end] for start, end in row["words"]] == ["abcd", "if", "ab", ".", "cd", "(", "ef", ")"]


def test_windows_share_no_word_and_lose_none(model):
    tokenizer = prepared(word_pieces(), model, limit=16)
    random = np.random.default_rng(0)
    texts = [
        " ".join("".join(random.choice(list(LETTERS), random.integers(1, 4))) for _ in range(n)) for n in (3, 40, 90)
    ]
    spans = [[[0, 1, 0]], [[0, 1, 0]], [[0, 1, 1]]]
    encoded = words.encode(rows(texts, spans), tokenizer)
    assert max(encoded["length"]) == 16
    assert len(encoded) > 12
    for number, text in enumerate(texts):
        windows = [row for row in encoded if row["row"] == number]
        found = list(itertools.chain(*(row["words"] for row in windows)))
        assert [text[start:end] for start, end in found] == text.split()
        for row in windows:
            assert sum(tag != IGNORED for tag in row["labels"]) == len(row["words"])
            first = [tokenizer.convert_ids_to_tokens(row["input_ids"])[place] for place in row["places"]]
            assert all(text[start:].startswith(token) for (start, _), token in zip(row["words"], first, strict=True))
        inner = [place for row in windows[1:-1] for place in (row["places"][0], row["length"] - row["places"][-1])]
        assert not inner or min(inner) > 1  # not the first token of a window, which has no context on its left
    assert [row.text for row in _random_raw(encoded)] == texts
    assert [len(row) for row in _random_raw(encoded)] == [len(text.split()) for text in texts]


def _random_raw(encoded):
    random = np.random.default_rng(0)
    raw = np.empty(len(encoded), dtype=object)
    for number, length in enumerate(encoded["length"]):
        raw[number] = random.normal(size=(length, 5))
    return OUTPUT.pool(raw, encoded)


def test_words_and_texts_give_the_same_rows():
    split = Dataset.from_dict({"tokens": [["Ada", "met", None, "Bob"], []], "tags": [["B-per", "O", "O", "B-per"], []]})
    inputs = words.rows.find_columns(split, DataConfig(), ("tags",))
    assert inputs == {"tokens": "text"}
    assert words.rows.clean(split, inputs, "train")["text"][:] == ["Ada met  Bob", ""]
    output = Tags.read(split, ["tags", "tokens"], DataConfig())
    assert output.encode(split, "train") == [[[0, 3, 0], [9, 12, 0]], []]


@pytest.mark.parametrize(
    ("columns", "flags", "found"),
    [
        (["tokens", "ner_tags", "pos_tags"], {}, ("tokens", ["ner_tags", "tokens"])),
        (["words", "tags"], {}, ("words", ["tags", "words"])),
        (["tokens", "pos_tags"], {"label_column": "pos_tags"}, ("tokens", ["pos_tags", "tokens"])),
        (["tokens", "other", "ner_tags"], {"text_column": "other"}, ("other", ["ner_tags", "other"])),
    ],
)
def test_columns_are_found(columns, flags, found):
    from hf_finetune.data.rows.columns import find_columns

    split = Dataset.from_dict({name: [["a"]] for name in columns})
    columns = find_columns(split, words.rows, dataclasses.replace(DataConfig(), **flags))
    assert (next(iter(columns.inputs)), columns.labels) == found


@pytest.mark.parametrize(
    ("config", "where"),
    [(InputConfig(long_text="head_tail"), "--long_text head_tail"), (InputConfig(max_length=100), "--max_length")],
)
def test_what_does_not_fit_is_refused(config, where, model):
    with pytest.raises(UserError) as caught:
        words.prepare(Checkpoint(model, word_pieces(), [], "tiny"), config)
    assert caught.value.where == where


def test_the_strategy_is_saved_with_the_tokenizer(model, tmp_path):
    tokenizer = prepared(bytes_and_merges(), model, at_spaces=False)
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again.init_kwargs[SETTING] == "simple"
    assert words.call_options(again) == {"aggregation_strategy": "simple"}
