"""Logits stand in the order of the rows, each row once."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from hf_finetune.evaluation.prediction.labeller import predict_rows, scatter_rows
from hf_finetune.tasks.outputs.logits import LogitOutput


def part(*rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose values tell which they are."""
    indices = np.array(rows, dtype=int)
    return indices, np.stack([indices * 10.0, indices * 10.0 + 1], axis=1)


def test_rows_are_put_back_where_they_belong():
    found = scatter_rows([part(4, 0), part(2), part(1, 3)], 5)
    np.testing.assert_array_equal(found, [[0, 1], [10, 11], [20, 21], [30, 31], [40, 41]])


@pytest.mark.parametrize(
    ("parts", "count", "message"),
    [
        ([part(0, 1), part(1)], 2, "predicted 3 rows, 2 of them different, expected 2"),
        ([part(0, 1), part(1)], 3, "predicted 3 rows, 2 of them different, expected 3"),
        ([part(0), part(2)], 3, "predicted 2 rows, 2 of them different, expected 3"),
        ([part(0, 1, 2)], 2, "predicted 3 rows, 3 of them different, expected 2"),
    ],
    ids=["duplicate", "duplicate instead of a row", "missing", "too many"],
)
def test_duplicates_and_missing_rows_are_refused(parts, count, message):
    with pytest.raises(RuntimeError, match=message):
        scatter_rows(parts, count)


def test_the_type_of_the_values_is_kept():
    assert scatter_rows([(np.array([0]), np.ones((1, 2), dtype=np.float32))], 1).dtype == np.float32


class Echo(nn.Module):
    """Logits that tell the sum of a row's tokens, the width of its batch, and the mode of the model."""

    def __init__(self):
        super().__init__()
        self.widths: list[int] = []
        self.keys: set[str] = set()

    def forward(self, **inputs):
        ids = inputs["input_ids"]
        self.widths.append(ids.shape[1])
        self.keys |= set(inputs)
        mode = torch.full((len(ids),), float(self.training))
        return SimpleNamespace(logits=torch.stack([ids.sum(dim=1).double(), mode.double()], dim=1))


def collate(rows):
    width = max(len(row["input_ids"]) for row in rows)
    ids = [row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows]
    return {"input_ids": torch.tensor(ids), "labels": torch.zeros(len(rows))}


TOKENS = [[5] * length for length in (9, 1, 4, 2, 8, 3, 7)]
SUMS = [5.0 * len(ids) for ids in TOKENS]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_logits_come_in_the_order_of_the_rows_whatever_the_batch(batch_size):
    rows = Dataset.from_dict({"input_ids": TOKENS, "length": [len(ids) for ids in TOKENS]})
    found = predict_rows(Echo(), rows, collate, batch_size)
    assert found[:, 0].tolist() == SUMS
    assert found.dtype == np.float32


def test_texts_are_batched_by_length():
    model = Echo()
    predict_rows(model, Dataset.from_dict({"input_ids": TOKENS, "length": [len(t) for t in TOKENS]}), collate, 3)
    assert model.widths == [3, 8, 9]


def test_rows_without_a_length_are_taken_as_they_come():
    model = Echo()
    found = predict_rows(model, [{"input_ids": ids} for ids in TOKENS], collate, 3)
    assert model.widths == [9, 8, 7]
    assert found[:, 0].tolist() == SUMS


def test_the_model_predicts_in_evaluation_mode_and_sees_no_labels():
    model = Echo().train()
    found = predict_rows(model, [{"input_ids": ids} for ids in TOKENS], collate, 3)
    assert found[:, 1].tolist() == [0.0] * 7
    assert model.keys == {"input_ids"}


def test_half_precision_logits_become_float32():
    class Half(nn.Module):
        def forward(self, input_ids):
            return SimpleNamespace(logits=torch.full((len(input_ids), 2), 0.1, dtype=torch.bfloat16))

    assert predict_rows(Half(), [{"input_ids": [1]}], collate, 1).dtype == np.float32


def test_the_logits_of_chunks_are_averaged_row_by_row():
    logits = np.array([[1, 10], [2, 20], [6, 60], [4, 40], [9, 90]], dtype=np.float32)
    found = LogitOutput.pool(logits, {"row": [0, 1, 1, 1, 2]})
    np.testing.assert_array_equal(found, [[1, 10], [4, 40], [9, 90]])
    assert found.dtype == np.float32


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_chunks_come_back_as_rows(batch_size):
    columns = {"input_ids": TOKENS, "length": [len(ids) for ids in TOKENS], "row": [0, 0, 1, 2, 2, 2, 3]}
    found = predict_rows(Echo(), Dataset.from_dict(columns), collate, batch_size)
    expected = [(SUMS[0] + SUMS[1]) / 2, SUMS[2], sum(SUMS[3:6]) / 3, SUMS[6]]
    assert found[:, 0].tolist() == pytest.approx(expected)
