"""Storage formats for activations: NumPy files, Arrow through datasets, and safetensors.

    python benchmarks/storage.py                  # a class token, a sequence of tokens, a ResNet feature map

Each format stores the same bfloat16 rows (as 16-bit integers if it has no bfloat16). Writing includes the flush to the page
cache. Reading is one epoch of random batches of 32 rows from the page cache into a tensor. The table shows medians over the
repeats, in milliseconds per 1,000 rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from hf_finetune.activations.store import ActivationStore
from hf_finetune.console import show_table
from hf_finetune.files import write_json

SHAPES = {"class token (384)": (384,), "tokens (32 x 384)": (32, 384), "feature map (14 x 14 x 1024)": (14, 14, 1024)}
Reader = Callable[[np.ndarray], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few rows, once")
    known = parser.parse_args()
    rows, repeats = (64, 1) if known.quick else (known.rows, known.repeats)
    table = []
    for name, shape in SHAPES.items():
        values = torch.randn(rows, *shape).to(torch.bfloat16)
        for form, write in {"numpy": numpy_files, "arrow": arrow, "safetensors": safetensors}.items():
            times = [measure(write, values) for _ in range(repeats)]
            table.append(
                {
                    "activations": name,
                    "form": form,
                    "write_ms": median(t[0] for t in times) / rows * 1e6,
                    "read_ms": median(t[1] for t in times) / rows * 1e6,
                }
            )
    show_table(
        f"Storing {rows} rows, median of {repeats}: ms per 1,000 rows",
        ("activations", "form", "write", "read"),
        [[r["activations"], r["form"], f"{r['write_ms']:.1f}", f"{r['read_ms']:.1f}"] for r in table],
    )
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    write_json(results / "storage.json", table)


def measure(write: Callable[[Path, torch.Tensor], Reader], values: torch.Tensor) -> tuple[float, float]:
    """Return the seconds for writing, and for reading all rows once in random batches; check one batch."""
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        read = write(Path(scratch), values)
        written = time.perf_counter() - began
        order = np.random.default_rng(0).permutation(len(values))
        assert torch.equal(read(order[:32]), values[order[:32]])
        began = time.perf_counter()
        for start in range(0, len(order), 32):
            read(order[start : start + 32])
        return written, time.perf_counter() - began


def numpy_files(folder: Path, values: torch.Tensor) -> Reader:
    """Write as the package does."""
    lengths = np.ones(len(values), dtype=np.int64)
    store = ActivationStore(folder / "store", tuple(values.shape[1:]), values.dtype, lengths, tokens=False)
    for number in range(store.files):
        store.write(number, values[torch.from_numpy(store.rows_of(number))])
    return store.read


def arrow(folder: Path, values: torch.Tensor) -> Reader:
    """Write a datasets.Dataset with one fixed-size list per row, which is memory-mapped for reading."""
    import datasets
    from datasets import Dataset, Features, Sequence, Value, load_from_disk

    datasets.disable_progress_bars()

    flat = values.view(torch.int16).reshape(len(values), -1).numpy()
    features = Features({"x": Sequence(Value("int16"), length=flat.shape[1])})
    Dataset.from_dict({"x": flat}, features=features).save_to_disk(str(folder / "rows"))
    rows = load_from_disk(str(folder / "rows")).with_format("numpy", dtype=np.int16)
    shape = values.shape[1:]

    def read(indices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack(list(rows[indices]["x"]))).view(torch.bfloat16).reshape(-1, *shape)

    return read


def safetensors(folder: Path, values: torch.Tensor) -> Reader:
    """Write one tensor to one file, and read rows as slices."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    save_file({"x": values}, str(folder / "x.safetensors"))
    rows = safe_open(str(folder / "x.safetensors"), "pt").get_slice("x")
    return lambda indices: torch.cat([rows[int(i) : int(i) + 1] for i in indices])


if __name__ == "__main__":
    main()
