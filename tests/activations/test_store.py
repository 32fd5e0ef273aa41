"""A store returns the rows that were written, even if some of its files were damaged in between."""

from __future__ import annotations

import multiprocessing
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_finetune.activations import store as store_module
from hf_finetune.activations.store import ActivationStore

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LENGTHS = np.random.default_rng(0).integers(1, 9, size=100)


def make(folder: Path, dtype: torch.dtype = torch.float32, *, tokens: bool = True, shape=(5,)) -> ActivationStore:
    lengths = LENGTHS if tokens else np.ones_like(LENGTHS)
    return ActivationStore(folder / "store", shape, dtype, lengths, tokens=tokens)


def content(store: ActivationStore) -> torch.Tensor:
    """Return activations for all rows in order, including special values."""
    values = torch.randn(int(store.offsets[-1]), *store.shape, generator=torch.Generator().manual_seed(1))
    values.view(-1)[:3] = torch.tensor([float("inf"), -0.0, 1e-6])
    return values.to(store.dtype)


def part(store: ActivationStore, number: int, values: torch.Tensor) -> torch.Tensor:
    rows = store.rows_of(number)
    return values[store.offsets[rows[0]] : store.offsets[rows[-1] + 1]]


def fill(store: ActivationStore, values: torch.Tensor) -> None:
    for number in range(store.files):
        store.write(number, part(store, number, values))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("tokens", "shape"), [(True, (5,)), (False, (5,)), (False, (3, 2, 4)), (False, ())])
def test_rows_are_read_bit_for_bit_in_any_order(dtype, tokens, shape, tmp_path):
    store = make(tmp_path, dtype, tokens=tokens, shape=shape)
    values = content(store)
    assert store.missing() == list(range(store.files))
    fill(store, values)
    assert store.files > 1
    assert store.missing() == []
    again = make(tmp_path, dtype, tokens=tokens, shape=shape)  # another run reads the same files
    orders = ([*range(100)], [*range(99, -1, -1)], [7], [3, 99, 3, 3, 0], np.random.default_rng(2).permutation(100))
    for order in orders:
        found = again.read(np.asarray(order))
        expected = torch.cat([values[store.offsets[i] : store.offsets[i + 1]] for i in order])
        assert found.dtype == dtype
        assert found.shape == expected.shape
        assert torch.equal(found.view(torch.uint8), expected.view(torch.uint8))
    assert len(again.read(np.asarray([], dtype=np.int64))) == 0


def test_changing_a_returned_tensor_does_not_change_the_store(tmp_path):
    store = make(tmp_path)
    values = content(store)
    fill(store, values)
    store.read(np.arange(4)).zero_()
    assert torch.equal(store.read(np.arange(100)), values)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def header_only(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:128])


def half_a_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 no array at all")


def other_shape(path: Path) -> None:
    np.save(path, np.load(path)[:-1])


def other_type(path: Path) -> None:
    np.save(path, np.load(path).astype(np.float64))


@pytest.mark.parametrize(
    "damage", [cut_short, header_only, half_a_header, emptied, foreign, other_shape, other_type, Path.unlink]
)
def test_a_damaged_file_counts_as_missing_and_can_be_written_again(damage, tmp_path):
    store = make(tmp_path)
    values = content(store)
    fill(store, values)
    damage(sorted(store.folder.glob("*.npy"))[1])
    again = make(tmp_path)
    assert again.missing() == [1]
    with pytest.raises(RuntimeError, match=r"000001\.npy was removed"):
        again.read(again.rows_of(1))
    again.write(1, part(again, 1, values))
    assert again.missing() == []
    assert torch.equal(again.read(np.arange(100)), values)


def test_an_unreadable_file_counts_as_missing(tmp_path, monkeypatch):
    fill(make(tmp_path), content(make(tmp_path)))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    store = make(tmp_path)
    assert store.missing() == []
    monkeypatch.setattr(Path, "open", refuse)
    assert store.missing() == list(range(store.files))


def test_half_written_files_of_an_earlier_run_are_ignored(tmp_path):
    store = make(tmp_path)
    store.folder.mkdir()
    (store.folder / "000000.npy.4711.partial").write_bytes(b"half")
    assert store.missing() == list(range(store.files))
    fill(store, content(store))
    assert torch.equal(make(tmp_path).read(np.arange(100)), content(store))


@pytest.mark.parametrize("when", ["writing", "renaming"])
def test_a_failed_write_leaves_no_file(when, tmp_path, monkeypatch):
    store = make(tmp_path)
    values = content(store)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((np, "save", full) if when == "writing" else (Path, "replace", full)))
    with pytest.raises(OSError, match="No space left"):
        store.write(0, part(store, 0, values))
    assert list(store.folder.iterdir()) == []


def test_rows_with_another_shape_are_refused(tmp_path):
    store = make(tmp_path)
    with pytest.raises(RuntimeError, match=re.escape("activations have shape (1, 5), expected")):
        store.write(0, torch.zeros(1, 5))


@pytest.mark.parametrize("rows", [1, 2, 31, 33, 64, 5000, 300_000])
@pytest.mark.parametrize("width", [1, 1000, 1_000_000])
def test_each_row_is_in_one_file_and_no_file_is_too_large(rows, width, tmp_path):
    store = ActivationStore(tmp_path, (width,), torch.float32, np.ones(rows, dtype=np.int64), tokens=False)
    files = [store.rows_of(number) for number in range(store.files)]
    assert [int(file[0]) for file in files] == [*range(0, rows, store.file_rows)]
    assert int(files[-1][-1]) == rows - 1
    assert sum(len(file) for file in files) == rows
    assert max(len(file) for file in files) * width * 4 <= max(64 << 20, width * 4)
    if width == 1:
        assert store.files <= 75  # small rows share files


def _write(arguments: tuple[Path, int]) -> None:
    folder, times = arguments
    store = make(folder, shape=(4000,))
    values = content(store)
    for _ in range(times):
        store.write(0, part(store, 0, values))


def test_two_processes_can_write_the_same_file_at_once(tmp_path):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pending = pool.map_async(_write, [(tmp_path, 40)] * 2)
        seen = 0
        while not pending.ready():  # at any time the file is complete or missing
            store = make(tmp_path, shape=(4000,))
            if 0 not in store.missing():
                assert torch.equal(store.read(store.rows_of(0)), part(store, 0, content(store)))
                seen += 1
        pending.get()
    assert seen > 0
    assert [path.name for path in store.folder.iterdir()] == ["000000.npy"]


def resident() -> int:
    """Return the resident memory of this process in bytes, including mapped files."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("the system does not tell")
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1])


@pytest.mark.parametrize("width", [64, 16384], ids=["small rows", "large rows"])
def test_reading_does_not_fill_the_memory(width, tmp_path):
    """With memory mapping, each read page and up to 2 MB around it would count as resident."""
    rows = (256 << 20) // (4 * width)
    store = ActivationStore(tmp_path / "store", (width,), torch.float32, np.ones(rows, dtype=np.int64), tokens=False)
    for number in range(store.files):
        store.write(number, torch.zeros(len(store.rows_of(number)), width))
    assert store.missing() == []
    order = np.random.default_rng(0)
    store.read(order.integers(0, rows, 64))
    before, most = resident(), 0
    for _ in range(100):
        store.read(order.integers(0, rows, 64))
        most = max(most, resident() - before)
    assert most < 24 << 20


def test_few_files_are_open_at_once_and_threads_do_not_interfere(tmp_path, monkeypatch):
    opened = lru_cache(maxsize=3)(store_module._opened.__wrapped__)
    monkeypatch.setattr(store_module, "_opened", opened)
    monkeypatch.setattr(store_module, "_FEWEST", 2)
    stores = [make(tmp_path / str(number)) for number in range(3)]
    values = content(stores[0])
    for store in stores:
        fill(store, values)
        assert store.files == 50
    expected = stores[0].read(np.arange(100))

    def read(number: int) -> bool:
        order = np.random.default_rng(number).permutation(100)
        found = torch.cat([stores[number % 3].read(order[at : at + 10]) for at in range(0, 100, 10)])
        return torch.equal(found, torch.cat([values[stores[0].offsets[i] : stores[0].offsets[i + 1]] for i in order]))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(24)))
    assert torch.equal(expected, values)
    assert opened.cache_info().currsize == 3


def test_a_store_can_be_pickled_for_spawned_processes(tmp_path):
    store = make(tmp_path)
    fill(store, content(store))
    store.read(np.arange(100))
    assert torch.equal(pickle.loads(pickle.dumps(store)).read(np.arange(100)), content(store))
