"""Filling a store puts each row in its place, and computes only the missing rows, once each."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hf_finetune.activations import fill as fill_module
from hf_finetune.activations.fill import compute, fill
from hf_finetune.activations.store import ActivationStore


class Rows:
    """Row i is a text of ``lengths[i]`` tokens, all of them i."""

    column_names = ("input_ids", "length")

    def __init__(self, lengths) -> None:
        self.lengths = np.asarray(lengths)
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, key):
        if isinstance(key, str):
            return list(self.lengths)
        self.read.append(key)
        return {"input_ids": [key] * int(self.lengths[key])}


def collate(rows):
    width = max(len(row["input_ids"]) for row in rows)
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for at, row in enumerate(rows):
        ids[at, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[at, : len(row["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.zeros(len(rows))}


class Doubling:
    """Replaces a cut in these tests: a token t at position p gives (2 t, p)."""

    def __init__(self, *, tokens: bool = True) -> None:
        self.tokens = tokens
        self.model = torch.nn.Linear(1, 1)
        self.batches: list[tuple[int, ...]] = []

    def compute(self, batch):
        assert "labels" not in batch
        assert not torch.is_grad_enabled()
        ids = batch["input_ids"]
        self.batches.append(tuple(ids.shape))
        output = torch.stack([2.0 * ids, torch.arange(ids.shape[1]).expand(ids.shape).float()], -1)
        return output[batch["attention_mask"].bool()] if self.tokens else output[:, 0]


LENGTHS = np.random.default_rng(3).integers(1, 30, size=150)


def expected(lengths) -> torch.Tensor:
    return torch.cat(
        [torch.stack([torch.full((n,), 2.0 * i), torch.arange(n).float()], -1) for i, n in enumerate(lengths)]
    )


def make(folder, *, tokens: bool = True) -> ActivationStore:
    lengths = LENGTHS if tokens else np.ones_like(LENGTHS)
    return ActivationStore(folder / "store", (2,), torch.float32, lengths, tokens=tokens)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_rows_are_stored_in_order_although_they_are_computed_by_length(batch_size, tmp_path):
    rows, cut = Rows(LENGTHS), Doubling()
    assert torch.equal(next(compute(cut, rows, collate, [np.arange(150)], batch_size)), expected(LENGTHS))
    assert sorted(rows.read) == list(range(150))
    widths = [width for _, width in cut.batches]
    assert widths == sorted(widths)
    assert [count for count, _ in cut.batches] == [batch_size] * (150 // batch_size) + [150 % batch_size] * (
        150 % batch_size > 0
    )
    some = np.asarray([5, 140, 3, 3])
    found = next(compute(Doubling(tokens=False), rows, collate, [some], batch_size))
    assert found.tolist() == [[10.0, 0.0], [280.0, 0.0], [6.0, 0.0], [6.0, 0.0]]


@pytest.mark.parametrize("tokens", [True, False])
def test_an_interrupted_fill_computes_only_the_missing_rows(tokens, tmp_path):
    rows, store = Rows(LENGTHS), make(tmp_path, tokens=tokens)
    fill(store, Doubling(tokens=tokens), rows, collate, 16)
    assert store.files == 5
    times = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    again = make(tmp_path, tokens=tokens)
    rows.read.clear()
    fill(again, Doubling(tokens=tokens), rows, collate, 16)
    assert rows.read == []
    for number in (1, 4):
        (store.folder / f"{number:06d}.npy").unlink()
    fill(again, Doubling(tokens=tokens), rows, collate, 16)
    assert sorted(rows.read) == sorted([*store.rows_of(1), *store.rows_of(4)])
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {"000001.npy", "000004.npy"}
    whole = expected(LENGTHS) if tokens else torch.tensor([[2.0 * i, 0.0] for i in range(150)])
    assert torch.equal(make(tmp_path, tokens=tokens).read(np.arange(150)), whole)


def test_rows_written_before_a_failure_are_kept(tmp_path):
    rows, store = Rows(LENGTHS), make(tmp_path)

    def fail_later(batch):
        if 80 in batch["input_ids"]:
            raise ValueError("an image that cannot be read")
        return Doubling().compute(batch)

    cut = Doubling()
    cut.compute = fail_later
    with pytest.raises(ValueError, match="cannot be read"):
        fill(store, cut, rows, collate, 16)
    assert store.missing() == [2, 3, 4]
    fill(store, Doubling(), rows, collate, 16)
    assert torch.equal(store.read(np.arange(150)), expected(LENGTHS))


def test_a_full_disk_raises_an_os_error(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        fill(make(tmp_path), Doubling(), Rows(LENGTHS), collate, 16)


def test_files_that_disappear_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(ActivationStore, "write", lambda *args: None)
    with pytest.raises(RuntimeError, match=r"5 of 5 files of activations are missing in .*store"):
        fill(make(tmp_path), Doubling(), Rows(LENGTHS), collate, 16)


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_processes_share_the_files_and_compute_each_row_once(processes, tmp_path, monkeypatch):
    """The processes run one after another here, so the last one finds the work of the others."""
    rows = Rows(LENGTHS)
    for index in range(processes):
        state = SimpleNamespace(
            process_index=index, num_processes=processes, local_process_index=index, is_main_process=index == 0
        )
        monkeypatch.setattr(fill_module, "PartialState", lambda state=state: state)
        gathered = iter([[None], [False]])  # the other processes report that nothing is missing
        monkeypatch.setattr(fill_module, "gather_object", lambda mine, gathered=gathered: next(gathered))
        fill(make(tmp_path), Doubling(), rows, collate, 16)
    assert sorted(rows.read) == list(range(150))
    assert make(tmp_path).missing() == []
