"""Which stores are deleted when space is short, and the rows that a data set of activations returns."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hf_finetune.activations import store as store_module
from hf_finetune.activations.cut import KEY
from hf_finetune.activations.decision import make_room
from hf_finetune.activations.rows import ActivationDataset, pass_through
from hf_finetune.activations.store import ActivationStore

NAMES = {age: f"{age:032x}" for age in range(1, 5)}  # larger numbers have been unused for longer


@pytest.fixture
def root(tmp_path):
    """Return a folder with four stores of 10 kB, last used an hour apart, and other files."""
    for name in NAMES.values():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "000000.npy").write_bytes(bytes(10_000))
        (folder / "about.json").write_text("{}")
    for foreign in ("photographs", "0123.trial-7", "f" * 31):
        (tmp_path / foreign).mkdir()
        (tmp_path / foreign / "000000.npy").write_bytes(bytes(10_000))
        os.utime(tmp_path / foreign, (0, 0))
    (tmp_path / "notes.txt").write_text("mine")
    for age, name in NAMES.items():
        os.utime(tmp_path / name, (10**9 - 3600 * age,) * 2)
    return tmp_path


def ages(root) -> list[int]:
    return [age for age, name in NAMES.items() if (root / name).exists()]


@pytest.mark.parametrize(
    ("needed", "max_kb", "keep", "room", "left"),
    [
        pytest.param(10_000, 50, (), 10_000, [1, 2, 3, 4], id="there is room"),
        pytest.param(10_001, 50, (), 20_000, [1, 2, 3], id="the oldest goes"),
        pytest.param(30_000, 50, (), 30_000, [1, 2], id="the two oldest go"),
        pytest.param(10_000, 40, (4,), 10_000, [1, 2, 4], id="not the one that is asked for"),
        pytest.param(30_000, 40, (3, 4), 20_000, [3, 4], id="nothing more than can be removed"),
        pytest.param(60_000, 50, (), 10_000, [1, 2, 3, 4], id="what can never fit costs nothing"),
    ],
)
def test_only_the_least_recently_used_stores_are_deleted(needed, max_kb, keep, room, left, root):
    assert make_room(root, needed, max_kb / 1e6, {root / NAMES[age] for age in keep}) == room
    assert ages(root) == left
    others = sorted(path.name for path in root.iterdir() if path.name not in NAMES.values())
    assert others == ["0123.trial-7", "f" * 31, "notes.txt", "photographs"]
    assert all((root / name / "000000.npy").exists() for name in others if name != "notes.txt")


def test_without_a_limit_half_of_the_free_disk_may_be_used(root, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=9_000))
    assert make_room(root, 10**12, None, set()) == 4_500
    assert make_room(root, 100, 1.0, set()) == 9_000  # at most the free space
    assert ages(root) == [1, 2, 3, 4]
    assert make_room(root / "new" / "folder", 100, None, set()) == 4_500


def test_the_time_of_use_is_recorded_if_permitted(tmp_path, monkeypatch):
    store = ActivationStore(tmp_path / "store", (2,), torch.float32, np.ones(3, dtype=np.int64), tokens=False)
    store.write(0, torch.zeros(3, 2))
    os.utime(store.folder, (0, 0))
    store.finish({"rows": 3})
    assert store.folder.stat().st_mtime > 10**9
    assert (store.folder / "about.json").read_text() == '{\n  "rows": 3\n}\n'

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store_module.os, "utime", refuse)
    (store.folder / "about.json").unlink()
    monkeypatch.setattr(store_module, "write_json", refuse)
    store.finish({"rows": 3})  # a store of another user can still be read
    assert store.read(np.arange(3)).shape == (3, 2)


def kept_images(folder, views: int = 2) -> ActivationDataset:
    """View v of row i is (i, v)."""
    stores = []
    for view in range(views):
        store = ActivationStore(folder / str(view), (2,), torch.float32, np.ones(10, dtype=np.int64), tokens=False)
        store.write(0, torch.stack([torch.arange(10.0), torch.full((10,), float(view))], 1))
        stores.append(store)
    rows = SimpleNamespace(labels=[i % 3 for i in range(10)], __len__=lambda: 10)
    return ActivationDataset(rows, stores, SimpleNamespace(whole=object(), tokens=False), pass_through)


@pytest.mark.parametrize("workers", [0, 1])
def test_epochs_use_the_views_in_turn_even_in_persistent_workers(workers, tmp_path):
    rows = kept_images(tmp_path)
    loader = DataLoader(
        rows, batch_sampler=[[3, 1], [9]], collate_fn=pass_through, num_workers=workers, persistent_workers=workers > 0
    )
    for epoch in range(3):
        rows.set_epoch(epoch)
        first, last = list(loader)
        assert first[KEY].tolist() == [[3.0, epoch % 2], [1.0, epoch % 2]]
        assert first["labels"].tolist() == [0, 1]
        assert last[KEY].tolist() == [[9.0, epoch % 2]]


def test_text_rows_include_their_tokens(tmp_path):
    from datasets import Dataset

    lengths = [2, 4, 3]
    rows = Dataset.from_dict({"input_ids": [[i] * n for i, n in enumerate(lengths)], "length": lengths})
    store = ActivationStore(tmp_path / "s", (1,), torch.float32, np.asarray(lengths), tokens=True)
    store.write(0, torch.arange(9.0)[:, None])

    def collate(batch):
        mask = torch.zeros(len(batch), 8, dtype=torch.long)
        for at, row in enumerate(batch):
            mask[at, -len(row["input_ids"]) :] = 1  # on the left
        return {"attention_mask": mask, "first": [row["input_ids"][0] for row in batch]}

    kept = ActivationDataset(rows, [store], SimpleNamespace(whole=None, tokens=True), collate)
    assert list(kept["length"]) == lengths
    assert kept.column_names == ["input_ids", "length"]
    batch = kept.__getitems__([1, 0])
    assert batch["first"] == [1, 0]
    assert batch[KEY][..., 0].tolist() == [[0, 0, 0, 0, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0, 0, 1]]
