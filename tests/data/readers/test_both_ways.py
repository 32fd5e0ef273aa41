"""Every container is read plainly and as a stream, and gives the same rows, labels, ids, notes and messages."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pillow

from hf_finetune.config.options import DataConfig
from hf_finetune.data.load import load_splits
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task

LABELS = ("cat", "dog", "01", "NA")
TEXTS = [f"text {i}, “quoted”" for i in range(24)]
NAMES = [LABELS[i % 4] for i in range(24)]


@pytest.fixture(autouse=True)
def _own_caches(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(tmp_path_factory.mktemp("own")))


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (4, 3), (10 * value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def pack(path: Path, files: dict[str, bytes | str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = {name: c if isinstance(c, bytes) else c.encode() for name, c in files.items()}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return str(path)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return str(path)


def frame(rows=range(24)) -> pd.DataFrame:
    return pd.DataFrame(
        {"id": [f"row {i}" for i in rows], "text": [TEXTS[i] for i in rows], "label": [NAMES[i] for i in rows]}
    )


def table(path: Path, rows: pd.DataFrame) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix
    if ending in (".csv", ".tsv"):
        rows.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    elif ending in (".json", ".jsonl"):
        rows.to_json(path, orient="records", lines=ending == ".jsonl", force_ascii=False)
    elif ending == ".parquet":
        rows.to_parquet(path, index=False)
    else:
        Dataset.from_pandas(rows, preserve_index=False).save_to_disk(str(path.with_suffix("")))
        next(path.with_suffix("").glob("*.arrow")).rename(path)
    return str(path)


CLASSES = {f"class {i % 3}/{i}.png": png(i) for i in range(12)}
TEXT_CLASSES = {f"class {i % 3}/{i}.txt": TEXTS[i] for i in range(12)}
SPLITS = {f"{split}/{name}": content for split in ("train", "dev", "test") for name, content in CLASSES.items()}
SAMPLES = {f"{i:02}.png": png(i) for i in range(12)}


def side(ending: str) -> dict[str, bytes | str]:
    cells = [json.dumps({"label": LABELS[i % 2], "size": i}) if ending == "json" else LABELS[i % 2] for i in range(12)]
    return SAMPLES | {f"{i:02}.{ending}": cell for i, cell in enumerate(cells)}


def embedded(path: Path) -> str:
    rows = [{"id": f"{i}", "image": {"bytes": png(i), "path": None}, "label": i % 2} for i in range(12)]
    features = Features({"id": Value("string"), "image": Image(), "label": ClassLabel(names=["a", "b"])})
    Dataset.from_list(rows, features=features).to_parquet(path)
    return str(path)


def paths(folder: Path, ending=".csv") -> str:
    write(folder, CLASSES)
    return table(
        folder / f"t{ending}", pd.DataFrame({"file": list(CLASSES), "label": [LABELS[i % 2] for i in range(12)]})
    )


def metadata(folder: Path) -> str:
    write(folder, CLASSES)
    table(
        folder / "metadata.csv", pd.DataFrame({"file_name": list(CLASSES), "label": [LABELS[i % 2] for i in range(12)]})
    )
    return str(folder)


def shards(folder: Path, ending: str) -> str:
    for number in range(3):
        pack(folder / f"s-{number}.tar", side(ending))
    return str(folder / "s-{0..2}.tar")


def saved(folder: Path) -> str:
    DatasetDict(train=Dataset.from_pandas(frame()), test=Dataset.from_pandas(frame(range(8)))).save_to_disk(str(folder))
    return str(folder)


def repository(folder: Path) -> str:
    table(folder / "data" / "train-00000-of-00001.parquet", frame())
    table(folder / "data" / "test-00000-of-00001.parquet", frame(range(8)))
    return str(folder)


def mixed(folder: Path) -> str:
    lines = [{"text": text, "label": i % 2 if i < 12 else "many"} for i, text in enumerate(TEXTS)]
    write(folder, {"a.jsonl": "\n".join(map(json.dumps, lines))})
    return str(folder / "a.jsonl")


def two(folder: Path, ending: str) -> str:
    for part in range(2):
        table(folder / f"part-{part}{ending}", frame(range(12 * part, 12 * part + 12)))
    return str(folder / f"part-*{ending}")


CONTAINERS = {
    **{
        f"text {e}": ("text", lambda p, e=e: {"train_file": table(p / f"a{e}", frame())})
        for e in (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow")
    },
    **{f"text several {e}": ("text", lambda p, e=e: {"train_file": two(p, e)}) for e in (".csv", ".jsonl", ".parquet")},
    "text jsonl, mixed labels": ("text", lambda p: {"train_file": mixed(p)}),
    "text folder of tables": (
        "text",
        lambda p: {"dataset_name": str(Path(table(p / "d" / "train.csv", frame())).parent)},
    ),
    "text class folders": ("text", lambda p: {"dataset_name": str(write(p / "d", TEXT_CLASSES))}),
    "text class folder by flag": ("text", lambda p: {"train_dir": str(write(p / "d", TEXT_CLASSES))}),
    "text zip of class folders": ("text", lambda p: {"dataset_name": pack(p / "a.zip", TEXT_CLASSES)}),
    "text shard": (
        "text",
        lambda p: {
            "train_file": pack(
                p / "a.tar", {f"{i}.{e}": c for i in range(12) for e, c in (("txt", TEXTS[i]), ("cls", NAMES[i]))}
            )
        },
    ),
    "text saved": ("text", lambda p: {"dataset_name": saved(p / "saved")}),
    "text repository": ("text", lambda p: {"dataset_name": repository(p / "repository")}),
    "image class folders": ("image", lambda p: {"dataset_name": str(write(p / "d", CLASSES))}),
    "image class folder by flag": ("image", lambda p: {"train_dir": str(write(p / "d", CLASSES))}),
    "image folders by split": ("image", lambda p: {"dataset_name": str(write(p / "d", SPLITS))}),
    "image metadata": ("image", lambda p: {"dataset_name": metadata(p / "d")}),
    **{
        f"image {e} of class folders": ("image", lambda p, e=e: {"dataset_name": pack(p / f"a{e}", CLASSES)})
        for e in (".zip", ".tar", ".tar.gz")
    },
    "image tar by flag": ("image", lambda p: {"train_dir": pack(p / "a.tar", CLASSES)}),
    **{
        f"image shard .{e}": ("image", lambda p, e=e: {"dataset_name": pack(p / "a.tar", side(e))})
        for e in ("cls", "json", "txt")
    },
    "image shard .tar.gz": ("image", lambda p: {"train_dir": pack(p / "a.tar.gz", side("cls"))}),
    **{f"image shards .{e}": ("image", lambda p, e=e: {"train_file": shards(p, e)}) for e in ("cls", "json")},
    "image folder of shards": ("image", lambda p: {"dataset_name": str(Path(shards(p / "s", "cls")).parent)}),
    **{
        f"image paths {e}": ("image", lambda p, e=e: {"train_file": paths(p / "d", e)})
        for e in (".csv", ".jsonl", ".parquet")
    },
    "image embedded parquet": ("image", lambda p: {"train_file": embedded(p / "a.parquet")}),
}


def content(row):
    cell = row.get("text", row.get("image"))
    if isinstance(cell, dict):
        return cell["bytes"] or Path(cell["path"]).read_bytes()
    return cell


def said(text: str) -> list[str]:
    """What was said of the rows, without what is said of each way of reading."""
    lines = [line for line in text.splitlines() if "as a stream:" not in line and "unpacked into" not in line]
    return [line for line in lines if not re.search(r": (text|image|label) column|: pairs of|: texts of", line)]


@pytest.mark.parametrize("container", CONTAINERS)
def test_both_ways_give_the_same(container, tmp_path, capsys):
    kind, make = CONTAINERS[container]
    options = make(tmp_path) | {"validation_split": 0}
    plain = load_splits(DataConfig(**options), get_task(f"{kind}-classification"))
    said_plain = said(capsys.readouterr().out)
    stream = load_splits(DataConfig(**options, streaming=True), get_task(f"{kind}-classification"))
    assert said(capsys.readouterr().out) == said_plain
    assert stream.labels == plain.labels
    assert (stream.output, stream.inputs, stream.label_columns) == (plain.output, plain.inputs, plain.label_columns)
    assert (stream.source, stream.notes) == (plain.source, plain.notes)
    assert [name for name, _ in stream.items()] == [name for name, _ in plain.items()]
    rows = stream.train.read(list(stream.train))
    assert len(rows) == len(plain.train) >= 12
    key = repr
    assert sorted(((content(r), r["label"]) for r in rows), key=key) == sorted(
        ((content(r), r["label"]) for r in plain.train), key=key
    )
    assert stream.class_counts("train").tolist() == plain.class_counts("train").tolist()
    for name in ("validation", "test"):
        found, expected = getattr(stream, name), getattr(plain, name)
        if expected is not None:
            assert sorted((r["id"], content(r), r["label"]) for r in found) == sorted(
                (r["id"], content(r), r["label"]) for r in expected
            )


@pytest.mark.parametrize("container", CONTAINERS)
def test_ids_of_held_out_rows_are_those_of_the_plain_rows(container, tmp_path):
    kind, make = CONTAINERS[container]
    options = make(tmp_path)
    plain = load_splits(DataConfig(**options, validation_split=0), get_task(f"{kind}-classification"))
    expected = {row["id"]: (content(row), row["label"]) for row in plain.train}
    if plain.validation is None:
        held_out = load_splits(
            DataConfig(**options, validation_split=0.3, streaming=True), get_task(f"{kind}-classification")
        ).validation
        assert len(held_out) >= 3
        assert all(expected[row["id"]] == (content(row), row["label"]) for row in held_out)


BROKEN = {
    "a missing file": ("text", lambda p: {"train_file": str(p / "a.csv")}),
    "a row that is too wide": (
        "text",
        lambda p: {"train_file": str(write(p, {"a.csv": "text,label\na,b\nc,d,e\n"}) / "a.csv")},
    ),
    "a quote that never closes": (
        "text",
        lambda p: {"train_file": str(write(p, {"a.csv": 'text,label\na,b\n"c,d\ne,f\n'}) / "a.csv")},
    ),
    "broken JSON": (
        "text",
        lambda p: {"train_file": str(write(p, {"a.jsonl": '{"text": "a", "label": 1}\n{"text": \n'}) / "a.jsonl")},
    ),
    "a NUL in the name of a column": (
        "text",
        lambda p: {"train_file": str(write(p, {"a.jsonl": '{"text": "a", "label": 1, "b\\u0000": 2}\n'}) / "a.jsonl")},
    ),
    "broken Parquet": ("text", lambda p: {"train_file": str(write(p, {"a.parquet": "PAR1 nothing"}) / "a.parquet")}),
    "an empty file": ("text", lambda p: {"train_file": str(write(p, {"a.csv": ""}) / "a.csv")}),
    "an unknown ending": ("text", lambda p: {"train_file": str(write(p, {"a.xlsx": "x"}) / "a.xlsx")}),
    "no classes": ("text", lambda p: {"train_dir": str(write(p / "d", {"a.txt": "x"}))}),
    "no images": ("image", lambda p: {"train_dir": str(write(p / "d", {"a.txt": "x"}))}),
    "a binary text": ("text", lambda p: {"train_dir": str(write(p / "d", {"a/1.txt": b"a\0b", "b/1.txt": "x"}))}),
    "a missing image": (
        "image",
        lambda p: {"train_file": str(write(p, {"t.csv": "file,label\na.png,x\nb.png,y\n"}) / "t.csv")},
    ),
    "a path that leads out": (
        "image",
        lambda p: {"train_file": str(write(p, {"t.csv": "file,label\n/etc/a.png,x\n"}) / "t.csv")},
    ),
    "a missing archive": ("image", lambda p: {"train_dir": str(p / "a.tar")}),
    "half an archive": (
        "image",
        lambda p: {
            "dataset_name": str(write(p, {"a.tar": Path(pack(p / "b.tar", CLASSES)).read_bytes()[:3000]}) / "a.tar")
        },
    ),
    "two images a sample": (
        "image",
        lambda p: {"dataset_name": pack(p / "a.tar", {"1.png": png(1), "1.jpg": png(2), "1.cls": "a"})},
    ),
    "other columns": (
        "text",
        lambda p: {"train_file": str(write(p, {"1.csv": "text,label\na,b\n", "2.csv": "text,class\na,b\n"}) / "*.csv")},
    ),
    "no such pattern": ("text", lambda p: {"train_file": str(p / "*.csv")}),
    "no text column": ("text", lambda p: {"train_file": str(write(p, {"a.csv": "x,y,label\na,b,c\n"}) / "a.csv")}),
    "numbers for texts": (
        "text",
        lambda p: {
            "train_file": str(
                write(p, {"a.jsonl": '{"text": 1, "label": "a"}\n{"text": 2, "label": "b"}\n'}) / "a.jsonl"
            ),
            "text_column": "text",
        },
    ),
    "one class": ("text", lambda p: {"train_file": str(write(p, {"a.csv": "text,label\na,x\nb,x\n"}) / "a.csv")}),
    "two names of one split": (
        "image",
        lambda p: {
            "dataset_name": str(
                write(p / "d", {f"{s}/{n}": c for s in ("train", "val", "valid") for n, c in CLASSES.items()})
            )
        },
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_both_ways_refuse_with_the_same_words(case, tmp_path):
    kind, make = BROKEN[case]
    options = make(tmp_path) | {"validation_split": 0}
    errors = []
    for streaming in (False, True):
        with pytest.raises(UserError) as caught:
            list(load_splits(DataConfig(**options, streaming=streaming), get_task(f"{kind}-classification")).train)
        errors.append((caught.value.what, caught.value.where, caught.value.fix))
    assert errors[0] == errors[1]
