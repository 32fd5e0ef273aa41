"""Tables of paths: every image below its folder is found, whatever system wrote the table, and no other file."""

from __future__ import annotations

import io
import json
import os
import stat
import threading
import time
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from hf_finetune.config.options import DataConfig
from hf_finetune.data.images.decode import open_image
from hf_finetune.data.load import load_splits
from hf_finetune.data.readers.cell import IMAGE
from hf_finetune.data.readers.hub import as_source
from hf_finetune.data.readers.sources import open_file
from hf_finetune.data.readers.table_of_paths import OUTSIDE, find_files, find_paths
from hf_finetune.data.rows.audit import audit
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def image(path: Path, value=0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), (value, 0, 0)).save(path, "PNG")
    return path


def table(path: Path, columns: dict) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False)
    return str(path)


@pytest.fixture
def four(tmp_path) -> Path:
    for index in range(4):
        image(tmp_path / "photos" / f"{index}.png", 10 * index)
    return tmp_path


PATHS = [f"photos/{index}.png" for index in range(4)]
CLASSES = ["cat", "dog", "cat", "dog"]


def load(**options):
    return load_splits(DataConfig(**{"validation_split": 0.0} | options), get_task("image-classification"))


def refused(**options) -> UserError:
    with pytest.raises(UserError) as caught:
        load(**options)
    return caught.value


def red(rows) -> list[int]:
    return [open_image(row["image"]).getpixel((0, 0))[0] for row in rows]


# What is read


@pytest.mark.parametrize(
    "column", ["image", "path", "file", "file_name", "filename", "image_path", "filepath", "Image "]
)
def test_the_column_of_paths_is_found_by_its_name(column, four):
    splits = load(train_file=table(four / "t.csv", {"number": range(4), column: PATHS, "label": CLASSES}))
    assert splits.train["id"][:] == PATHS
    assert red(splits.train) == [0, 10, 20, 30]
    assert splits.labels == ["cat", "dog"]
    assert splits.train["label"][:] == [0, 1, 0, 1]


def test_a_column_of_any_name_is_found_by_its_endings_or_is_named(four):
    columns = {"photo of it": PATHS, "thumb": PATHS[::-1], "label": CLASSES}
    assert red(load(train_file=table(four / "a.csv", columns), image_column="thumb").train) == [30, 20, 10, 0]
    assert red(load(train_file=table(four / "b.csv", {"x": PATHS, "label": CLASSES})).train) == [0, 10, 20, 30]
    error = refused(train_file=table(four / "c.csv", columns))
    assert error.what.startswith("no column is clearly the image")
    assert "--image_column" in error.fix


def test_a_column_of_paths_goes_before_one_of_names(four):
    columns = {"image": ["a", "b", "c", "d"], "path": PATHS, "label": CLASSES}
    assert red(load(train_file=table(four / "t.csv", columns)).train) == [0, 10, 20, 30]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_every_kind_of_table(ending, four):
    frame = pd.DataFrame({"path": PATHS, "label": CLASSES})
    file = four / f"t{ending}"
    match ending:
        case ".csv":
            frame.to_csv(file, index=False)
        case ".tsv":
            frame.to_csv(file, index=False, sep="\t")
        case ".json":
            file.write_text(json.dumps(frame.to_dict("records")))
        case ".jsonl":
            frame.to_json(file, orient="records", lines=True)
        case ".parquet":
            frame.to_parquet(file)
    assert red(load(train_file=str(file)).train) == [0, 10, 20, 30]


def test_paths_start_from_the_table_or_from_the_root_that_is_named(four):
    names = [path.removeprefix("photos/") for path in PATHS]
    elsewhere = table(four / "tables" / "t.csv", {"path": names, "label": CLASSES})
    assert red(load(train_file=elsewhere, image_root=str(four / "photos")).train) == [0, 10, 20, 30]
    beside = table(four / "photos" / "t.csv", {"path": names, "label": CLASSES})
    assert red(load(train_file=beside).train) == [0, 10, 20, 30]
    assert refused(train_file=elsewhere, image_root="no/such").where == "--image_root no/such"


def test_paths_are_relative_to_the_table_of_their_split(four):
    test = table(four / "photos" / "test.csv", {"path": ["3.png", "2.png"], "label": ["dog", "cat"]})
    splits = load(train_file=table(four / "t.csv", {"path": PATHS, "label": CLASSES}), test_file=test)
    assert red(splits.test) == [30, 20]


def test_a_folder_of_tables(four):
    table(four / "train.csv", {"path": PATHS, "label": CLASSES})
    table(four / "test.csv", {"path": PATHS[:2], "label": CLASSES[:2]})
    splits = load(dataset_name=str(four))
    assert (red(splits.train), red(splits.test)) == ([0, 10, 20, 30], [0, 10])


def test_an_id_of_the_users_own_stays(four):
    splits = load(train_file=table(four / "t.csv", {"id": list("wxyz"), "path": PATHS, "label": CLASSES}))
    assert splits.train["id"][:] == list("wxyz")


@pytest.mark.parametrize(
    ("columns", "options", "problem", "labels"),
    [
        ({"label": ["a,b", "b", "a", ""]}, {"label_delimiter": ","}, "multi_label_classification", [[1, 1], [0, 1]]),
        (
            {"a": [1, 0, 1, 0], "b": [1, 1, 0, 0]},
            {"label_columns": ["a", "b"]},
            "multi_label_classification",
            [[1, 1], [0, 1]],
        ),
        ({"label": [0.5, 1.5, 2.5, 3.5]}, {}, "regression", [[0.5], [1.5]]),
    ],
    ids=["several classes", "a column a class", "numbers"],
)
def test_all_kinds_of_labels(columns, options, problem, labels, four):
    splits = load(train_file=table(four / "t.csv", {"path": PATHS} | columns), **options)
    assert problem == splits.output.NAME
    assert splits.train["label"][:2] == labels


def test_images_in_the_rows_stay_in_the_rows(four):
    content = [(four / path).read_bytes() for path in PATHS]
    rows = Dataset.from_dict(
        {"image": [{"bytes": c, "path": "/no/such.png"} for c in content], "label": CLASSES},
        features=Features({"image": ImageFeature(), "label": Value("string")}),
    )
    rows.to_parquet(four / "t.parquet")
    assert red(load(train_file=str(four / "t.parquet")).train) == [0, 10, 20, 30]
    pd.DataFrame({"image": [{"bytes": c, "path": None} for c in content], "label": CLASSES}).to_parquet(
        four / "p.parquet"
    )
    assert red(load(train_file=str(four / "p.parquet")).train) == [0, 10, 20, 30]


def test_cells_that_name_files_are_held_to_the_folder_as_well(four):
    cells = [{"bytes": (four / PATHS[0]).read_bytes(), "path": None}, *({"bytes": None, "path": p} for p in PATHS[1:])]
    pd.DataFrame({"image": cells, "label": CLASSES}).to_parquet(four / "t.parquet")
    splits = load(train_file=str(four / "t.parquet"))
    assert red(splits.train) == [0, 10, 20, 30]
    assert splits.train["id"][:] == ["row 1", *PATHS[1:]]
    cells[2]["path"] = "/etc/passwd"
    pd.DataFrame({"image": cells, "label": CLASSES}).to_parquet(four / "u.parquet")
    assert "'/etc/passwd'" in refused(train_file=str(four / "u.parquet")).what


# Paths as other systems write them


def test_stray_spaces_strokes_of_windows_and_both_forms_of_letters(four):
    image(four / unicodedata.normalize("NFC", "é/ü.png"), 77)
    image(four / unicodedata.normalize("NFD", "à/ö.png"), 88)
    written = [
        " photos/1.png ",
        "photos\\2.png",
        unicodedata.normalize("NFD", "é/ü.png"),
        unicodedata.normalize("NFC", "à\\ö.png"),
        "./photos/../photos/3.png",
        str(four / "photos/0.png"),
    ]
    splits = load(train_file=table(four / "t.csv", {"path": written, "label": ["a", "b"] * 3}))
    assert red(splits.train) == [10, 20, 77, 88, 30, 0]
    assert splits.train["id"][:] == written


# What is not there


@pytest.mark.parametrize(
    "path", ["photos/none.png", "none/1.png", "photos", "photos/", ".", "photos/a\0b.png", "x" * 300]
)
def test_a_missing_image_is_named_with_its_row(path, four):
    rows = Dataset.from_dict({"path": [*PATHS[:2], path, *PATHS[2:]], "label": ["a", "b", "a", "b", "a"]})
    rows.to_parquet(four / "t.parquet")
    error = refused(train_file=str(four / "t.parquet"))
    assert error.what.startswith("1 of 5 images are missing; the first, in row 3: there is no file ")
    assert error.what.endswith(repr(str(four / path)))
    assert error.where == f"{four / 't.parquet'}, column 'path'"
    assert "--image_root" in error.fix


def test_rows_without_a_path_are_named(four):
    error = refused(train_file=table(four / "t.csv", {"path": [*PATHS[:3], ""], "label": CLASSES}))
    assert "in row 4: it has no path" in error.what


def test_missing_images_are_skipped_where_that_is_asked_for(four):
    file = table(four / "t.csv", {"path": [*PATHS, "none.png", ""], "label": ["a", "b"] * 3})
    splits = audit(load(train_file=file, on_bad_image="skip"), get_task("image-classification"), "skip")
    assert splits.train["id"][:] == PATHS
    assert splits.skipped == [
        {"split": "train", "row": 5, "id": "none.png", "reason": "no image"},
        {"split": "train", "row": 6, "id": "row 6", "reason": "no image"},
    ]


def test_what_is_no_file_is_not_opened(four):
    os.mkfifo(four / "photos" / "pipe.png")
    assert find_files(["photos/pipe.png", "photos/1.png"], four) == [None, str(four / "photos/1.png")]


# What lies elsewhere


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "photos/../../secret.png",
        "/etc/passwd",
        "..\\secret.png",
        "C:\\secret.png",
        "photos\\..\\..\\secret.png",
    ],
)
def test_paths_that_lead_out_are_refused_in_every_case(path, four):
    root = four / "inner"
    image(four / "secret.png")
    for index in range(4):
        image(root / PATHS[index])
    file = table(root / "t.csv", {"path": [*PATHS[:3], path], "label": CLASSES})
    for mode in ("error", "skip"):
        error = refused(train_file=file, on_bad_image=mode)
        assert error.what == f"1 of 4 paths lead out of the folder {root}; the first, in row 4: {path!r}"
        assert "--image_root" in error.fix


def test_addresses_are_no_paths(four):
    error = refused(train_file=table(four / "t.csv", {"path": [*PATHS[:3], "https://x.org/1.png"], "label": CLASSES}))
    assert "row 4 names 'https://x.org/1.png'; images are read from files" in error.what


def test_links_within_the_folder_are_followed_and_others_refused(four):
    root = four / "inner"
    image(four / "secret.png", 99)
    image(root / "real" / "1.png", 11)
    (root / "file.png").symlink_to("real/1.png")
    (root / "folder").symlink_to("real")
    (root / "out.png").symlink_to("../secret.png")
    (root / "outer").symlink_to("..")
    (root / "loop").symlink_to("loop")
    wanted = ["file.png", "folder/1.png", "out.png", "outer/secret.png", "loop/1.png", "loop", "folder/../real/1.png"]
    found = [str(root / name) for name in wanted]
    assert find_files(wanted, root) == [*found[:2], OUTSIDE, OUTSIDE, None, None, found[6]]


def test_no_way_of_writing_a_path_leads_out(tmp_path):
    root = tmp_path / "a" / "root"
    for folder in (tmp_path, tmp_path / "a", root, root / "sub"):
        image(folder / "1.png")
    (root / "up").symlink_to("..")
    (root / "side").symlink_to("sub")
    random = np.random.default_rng(0)
    pieces = ["..", ".", "/", "\\", "sub", "up", "side", "1.png", "", " ", str(tmp_path)]
    paths = ["".join(random.choice(pieces, int(random.integers(1, 8)))) for _ in range(4000)]
    paths += ["/".join(random.choice(pieces, int(random.integers(1, 6)))) + "/1.png" for _ in range(4000)]
    found = find_files(paths, root)
    opened = {path for path in found if path not in (None, OUTSIDE)}
    assert len(opened) > 20
    assert found.count(OUTSIDE) > 200
    assert all(os.path.realpath(path).startswith(f"{root.resolve()}/") for path in opened)


def test_links_folders_and_gaps_among_files(four):
    (four / "photos" / "link.png").symlink_to("1.png")
    (four / "photos" / "out.png").symlink_to("/etc/hostname")
    (four / "photos" / "folder.png").mkdir()
    wanted = [*PATHS, "photos/link.png", "photos/out.png", "photos/folder.png", "photos/none.png", None, ""]
    inside = [str(four / path) for path in wanted[:5]]
    assert find_files(wanted, four) == [*inside, OUTSIDE, None, None, None, None]


@pytest.mark.parametrize(("fast", "several"), [(1e9, False), (0.0, True)])
def test_files_of_a_slow_disk_are_looked_for_in_threads(fast, several, four, monkeypatch):
    threads = set()

    def kind(path):
        threads.add(threading.get_ident())
        time.sleep(0.005)
        return stat.S_IFREG

    monkeypatch.setattr("hf_finetune.data.readers.table_of_paths._kind", kind)
    monkeypatch.setattr("hf_finetune.data.readers.table_of_paths.PROBED", 5)
    monkeypatch.setattr("hf_finetune.data.readers.table_of_paths.FAST", fast)
    paths = [f"{number}.png" for number in range(40)]
    assert find_files(paths, four) == [str(four / path) for path in paths]
    assert (len(threads) > 1) == several


def test_a_root_that_is_a_link_or_the_top_of_the_machine(four, monkeypatch):
    (four / "link").symlink_to("photos")
    assert find_files(["1.png"], four / "link") == [str(four / "link/1.png")]
    assert (
        find_files([f"{four}/photos/1.png", str(four / "photos/1.png")[1:]], Path("/"))
        == [str(four / "photos/1.png")] * 2
    )
    monkeypatch.chdir(four)
    assert find_files(["photos/1.png"], Path()) == [str(four / "photos/1.png")]


def test_columns_that_hold_no_paths_are_left_alone():
    rows = as_source(Dataset.from_dict({"text": ["a", "b"], "label": ["x.png", "y.png"]}), "rows")
    assert find_paths(rows, IMAGE, None) is None
    assert find_paths(rows, IMAGE, "no such") is None
    assert find_paths(rows, IMAGE, "text") == "text"


def test_a_table_of_a_hundred_thousand_images_takes_seconds(tmp_path):
    import time

    for folder in range(4):
        (tmp_path / str(folder)).mkdir()
        for index in range(500):
            (tmp_path / str(folder) / f"{index}.png").touch()
    paths = [f"{row % 4}/{row % 500}.png" for row in range(100_000)]
    start = time.perf_counter()
    assert None not in find_files(paths, tmp_path)
    assert time.perf_counter() - start < 5


def test_reading_a_table_directly(four):
    rows = open_file(table(four / "t.csv", {"path": PATHS, "label": CLASSES}), IMAGE, DataConfig()).keep()
    assert rows.column_names == ["label", "path", "id"]
    assert rows[1]["path"] == {"bytes": None, "path": str(four / "photos/1.png")}


def test_bytes_are_not_read_to_look_for_paths(four):
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    rows = Dataset.from_dict({"image": [{"bytes": buffer.getvalue(), "path": None}] * 3, "label": ["a", "b", "a"]})
    rows.cast_column("image", ImageFeature(decode=False)).to_parquet(four / "t.parquet")
    read = open_file(str(four / "t.parquet"), IMAGE, DataConfig()).keep()
    assert "id" not in read.column_names  # the rows as they came
