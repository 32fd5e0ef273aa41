"""Texts that say nothing, damaged texts, and the cost of cutting."""

from __future__ import annotations

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from hf_finetune.config.options import DataConfig
from hf_finetune.data.rows.finding import Section
from hf_finetune.data.splits.splits import Splits
from hf_finetune.tasks.inputs.text.checks import inspect
from hf_finetune.tasks.outputs import SingleLabel


def splits_of(*texts: str, test: tuple[str, ...] | None = None) -> Splits:
    def rows(some):
        ids = [f"r{i}" for i in range(len(some))]
        return Dataset.from_dict({"id": ids, "text": list(some), "label": [i % 2 for i in range(len(some))]})

    return Splits(
        rows(texts), None, rows(test) if test else None, SingleLabel(["a", "b"]), "here", inputs={"review": "text"}
    )


def section_of(splits: Splits) -> Section:
    return inspect(splits, DataConfig()).section


def test_empty_wordless_and_damaged_texts_are_found_by_row():
    section = section_of(splits_of("good", " \t\n", "", "123 !", "🙂", "cafÃ©", "itâ€™s", "bro\ufffdken", "café, it’s"))
    found = {f.code: (f.severity, f.rows, f.where) for f in section.findings}
    where = "train split, column 'review'"
    assert found == {
        "text-empty": ("warning", ["r1", "r2"], where),
        "text-without-letters": ("info", ["r3", "r4"], where),
        "text-damaged": ("warning", ["r5", "r6", "r7"], where),
    }
    assert section.facts["train"]["text"] == {"text-empty": 2, "text-without-letters": 2, "text-damaged": 3}


@pytest.mark.parametrize("text", ["مرحبا بالعالم", "Ärger über Öl", "Ã", "naïve façade", "你好", "Â vous"])
def test_other_scripts_are_no_damage(text):
    assert section_of(splits_of("good", text)).findings == []


def test_nothing_but_empty_training_texts_is_an_error():
    assert [f.severity for f in section_of(splits_of("", " ")).findings] == ["error"]


def test_tokens_that_are_cut_are_counted(checkpoints):
    tokenizer = AutoTokenizer.from_pretrained(checkpoints("bert"))
    tokenizer.model_max_length = 10
    splits = splits_of("film", " ".join(["film"] * 18), test=("the film",))
    inspection = inspect(splits, DataConfig())
    inspection.add_processor(tokenizer)
    section = inspection.section
    tokens = section.facts["train"]["tokens"]
    assert (tokens["median"], tokens["longest"]) == (11, 20)  # of 3 and 20 tokens
    assert (tokens["rows_cut"], tokens["tokens_cut"]) == (0.5, 10 / 23)
    (finding,) = section.findings
    assert (finding.code, finding.severity, finding.rows) == ("text-cut", "warning", ["r1"])
    assert "43% of all tokens are cut off" in finding.message
    assert section.facts["test"]["tokens"]["rows_cut"] == 0.0


def test_both_texts_of_a_pair_are_counted(checkpoints):
    tokenizer = AutoTokenizer.from_pretrained(checkpoints("bert"))
    pairs = {"id": ["r0", "r1"], "text": ["the film", "film"], "text_pair": ["film", "film"], "label": [0, 1]}
    rows = Dataset.from_dict(pairs)
    inspection = inspect(Splits(rows, None, None, SingleLabel(["a", "b"]), "here"), DataConfig())
    inspection.add_processor(tokenizer)
    (table, _) = inspection.section.tables
    assert table.rows[0][1:5] == (5, 5, 5, 6)  # of 6 and 5 tokens: the shortest, median, 95 of 100, longest
