"""Folders, archives and shards of images, in every layout that tools leave them in."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from hf_finetune.config.options import DataConfig
from hf_finetune.data.images.decode import open_image
from hf_finetune.data.load import load_splits
from hf_finetune.data.readers.cell import IMAGE
from hf_finetune.data.readers.folder import files_below
from hf_finetune.data.readers.sources import expand
from hf_finetune.data.rows.unlabelled import open_unlabelled
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task
from hf_finetune.tasks.inputs import image


@pytest.fixture(autouse=True)
def _own_caches(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(tmp_path_factory.mktemp("own")))


def png(value=0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write(root: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(root)


def pack(path: Path, files: dict[str, bytes]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return str(path)


def load(**options):
    return load_splits(DataConfig(**{"validation_split": 0.0} | options), get_task("image-classification"))


def refused(**options) -> UserError:
    with pytest.raises(UserError) as caught:
        load(**options)
    return caught.value


def shown(split) -> dict[str, int]:
    return {row["id"]: open_image(row["image"]).getpixel((0, 0))[0] for row in split}


CLASSES = {"class 2/1.png": png(1), "class 10/1.png": png(2), "class 10/2.png": png(3)}
METADATA = {"metadata.csv": b"file_name,label\nx/1.png,cat\n2.png,dog\n", "x/1.png": png(1), "2.png": png(2)}
SPLITS = {f"{split}/{name}": content for split in ("train", "test") for name, content in CLASSES.items()}
LAYOUTS = {"classes": CLASSES, "metadata": METADATA, "splits": SPLITS}
WAYS = ["folder", ".zip", ".tar", ".tar.gz", "folder in .zip", "folder in folder in .tar"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", WAYS)
def test_every_layout_in_a_folder_and_in_every_archive(layout, way, tmp_path):
    files = LAYOUTS[layout]
    if way == "folder":
        place = write(tmp_path / "data", files)
    else:
        above = "folder/" * way.count("folder")
        rubbish = {"__MACOSX/._x.png": b"x", f"{above}.DS_Store": b"x", f"{above}Thumbs.db": b"x"}
        place = pack(tmp_path / f"data{way.split()[-1]}", {above + name: c for name, c in files.items()} | rubbish)
    splits = load(dataset_name=place)
    if layout == "metadata":
        assert shown(splits.train) == {"x/1.png": 1, "2.png": 2}
        assert splits.labels == ["cat", "dog"]
    else:
        assert shown(splits.train) == {"class 2/1.png": 1, "class 10/1.png": 2, "class 10/2.png": 3}
        assert splits.labels == ["class 2", "class 10"]
        assert (splits.test is not None) == (layout == "splits")
    assert splits.source == Path(place).name


# Metadata


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_metadata_of_each_split(ending, tmp_path):
    for split, names in {"train": ["a", "b"], "validation": ["c", "d"]}.items():
        lines = [f"{name}.png,{label}" for name, label in zip(names, ("x", "y"), strict=True)]
        table = "\n".join(["file_name,label", *lines])
        if ending == "jsonl":
            rows = [line.split(",") for line in lines]
            table = "\n".join(json.dumps({"file_name": file, "label": label}) for file, label in rows)
        write(tmp_path / split, {f"metadata.{ending}": table.encode()} | {f"{name}.png": png() for name in names})
    splits = load(dataset_name=str(tmp_path))
    assert splits.train["id"][:] == ["a.png", "b.png"]
    assert splits.validation["id"][:] == ["c.png", "d.png"]
    assert load(train_dir=str(tmp_path / "train")).train["id"][:] == ["a.png", "b.png"]


def test_one_table_of_metadata_for_all_splits(tmp_path):
    table = b"file_name,label\ntrain/1.png,x\nval/1.png,x\ntrain/2.png,y\n"
    write(tmp_path, {"metadata.csv": table, "train/1.png": png(), "train/2.png": png(), "val/1.png": png()})
    splits = load(dataset_name=str(tmp_path))
    assert splits.train["id"][:] == ["train/1.png", "train/2.png"]
    assert splits.validation["id"][:] == ["val/1.png"]


def test_metadata_may_hold_several_columns_of_labels(tmp_path):
    write(tmp_path, {"metadata.csv": b"file_name,a,b\n1.png,1,0\n2.png,0,1\n", "1.png": png(), "2.png": png()})
    splits = load(dataset_name=str(tmp_path), label_columns=["a", "b"])
    assert splits.train["label"][:] == [[1.0, 0.0], [0.0, 1.0]]


def test_metadata_without_labels_leaves_the_folders_to_be_the_classes(tmp_path, capsys):
    write(tmp_path, CLASSES | {"metadata.csv": b"file_name,caption\nclass 2/1.png,a cat\n"})
    assert load(dataset_name=str(tmp_path)).labels == ["class 2", "class 10"]
    assert "metadata.csv has no column of labels: the folders are the classes." in capsys.readouterr().out


@pytest.mark.parametrize("path", ["../1.png", "/etc/passwd"])
def test_metadata_cannot_name_files_elsewhere(path, tmp_path):
    write(tmp_path, {"1.png": png(), "data/2.png": png()})
    write(tmp_path / "data", {"metadata.csv": f"file_name,label\n2.png,a\n{path},b\n".encode()})
    assert "lead out of the folder" in refused(dataset_name=str(tmp_path / "data")).what


def test_metadata_in_an_archive_cannot_name_files_elsewhere(tmp_path):
    archive = pack(tmp_path / "a.zip", {"metadata.csv": b"file_name,label\n2.png,a\n/etc/passwd,b\n", "2.png": png()})
    assert "lead out of the folder" in refused(dataset_name=archive).what


# Archives


def test_one_archive_a_split(tmp_path):
    for name in ("train.zip", "test.tar"):
        pack(tmp_path / name, CLASSES)
    splits = load(train_dir=str(tmp_path / "train.zip"), test_dir=str(tmp_path / "test.tar"))
    assert (len(splits.train), len(splits.test)) == (3, 3)
    splits = load(dataset_name=str(tmp_path))
    assert (len(splits.train), len(splits.test)) == (3, 3)


def test_class_folders_go_before_archives_beside_them(tmp_path):
    pack(tmp_path / "raw.zip", {"x/1.png": png(9)})
    assert load(dataset_name=write(tmp_path, CLASSES)).labels == ["class 2", "class 10"]


def test_an_archive_without_classes_is_named_by_its_own_name(tmp_path):
    archive = pack(tmp_path / "a.zip", {"1.png": png()})
    error = refused(dataset_name=archive)
    assert (error.where, error.what) == (archive, "no images in class folders were found")
    assert refused(dataset_name=str(tmp_path / "no.zip")).what == "the archive does not exist"


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
def test_archives_hold_texts_as_well(ending, tmp_path):
    tables = {"data/train.csv": b"text,label\none,a\ntwo,b\n", "data/test.csv": b"text,label\nthree,a\n"}
    config = DataConfig(dataset_name=pack(tmp_path / f"a{ending}", tables), validation_split=0)
    splits = load_splits(config, get_task("text-classification"))
    assert (splits.train["text"][:], splits.test["text"][:]) == (["one", "two"], ["three"])
    files = {"a/1.txt": b"one", "b/1.txt": b"two"}
    config = DataConfig(dataset_name=pack(tmp_path / f"b{ending}", files), validation_split=0)
    splits = load_splits(config, get_task("text-classification"))
    assert (splits.train["text"][:], splits.labels) == (["one", "two"], ["a", "b"])


# WebDataset


def shard(path: Path, start: int, side="cls", count=3) -> str:
    files = {}
    for index in range(start, start + count):
        files[f"{index:04d}.png"] = png(index)
        label = ("cat", "dog")[index % 2]
        content = json.dumps({"label": label, "width": index}) if side == "json" else label
        files[f"{index:04d}.{side}"] = content.encode()
    return pack(path, files)


@pytest.mark.parametrize("side", ["cls", "json", "txt"])
def test_one_shard(side, tmp_path):
    splits = load(dataset_name=shard(tmp_path / "a.tar", 0, side))
    assert shown(splits.train) == {"0000": 0, "0001": 1, "0002": 2}
    assert splits.labels == ["cat", "dog"]
    assert splits.train["label"][:] == [0, 1, 0]


def test_numbers_are_classes_in_natural_order(tmp_path):
    files = {f"{i}.{ending}": png() if ending == "png" else b"%d" % i for i in range(12) for ending in ("png", "cls")}
    splits = load(dataset_name=pack(tmp_path / "a.tar", files))
    assert splits.labels == [str(i) for i in range(12)]
    assert splits.train["id"][:] == [str(i) for i in range(12)]


def test_shards_by_range_and_by_folder(tmp_path):
    for number in range(8, 12):
        shard(tmp_path / f"s-{number:03d}.tar", number * 10)
    wanted = [f"s-{n:03d}.tar/{n * 10 + i:04d}" for n in range(8, 12) for i in range(3)]
    assert load(dataset_name=str(tmp_path / "s-{008..011}.tar")).train["id"][:] == wanted
    assert load(dataset_name=str(tmp_path)).train["id"][:] == wanted
    error = refused(dataset_name=str(tmp_path / "s-{010..012}.tar"))
    assert (error.what, error.where) == ("the archive does not exist", str(tmp_path / "s-012.tar"))


def test_shards_belong_to_the_split_that_their_name_says(tmp_path):
    shard(tmp_path / "wds_train-0.tar", 0)
    shard(tmp_path / "wds_train-1.tar", 3)
    shard(tmp_path / "wds_val-0.tar", 6)
    splits = load(dataset_name=str(tmp_path))
    assert (len(splits.train), len(splits.validation), splits.test) == (6, 3, None)


def test_columns_of_json_are_columns(tmp_path):
    splits = load(dataset_name=shard(tmp_path / "a.tar", 1, "json"), label_column="width", problem_type="regression")
    assert splits.train["label"][:] == [[1.0], [2.0], [3.0]]


def test_json_of_lists_is_several_classes_a_row(tmp_path):
    files = {"1.png": png(), "1.json": b'{"label": ["a", "b"]}', "2.png": png(), "2.json": b'{"label": ["b"]}'}
    splits = load(dataset_name=pack(tmp_path / "a.tar", files))
    assert (splits.output.NAME, splits.train["label"][:]) == ("multi_label_classification", [[1.0, 1.0], [0.0, 1.0]])


def test_json_of_any_shape_is_taken(tmp_path):
    odd = ['{"label": "a", "x": 1}', '{"label": "b", "x": {"y": 2}}', '{"label": "a", "x": [1, "z"], "id": 7}']
    odd += ['{"label": "b", "x": 1e400, "n": 99999999999999999999}', '"a"', '{"label": "b", "x": null}']
    files = {f"{i}.json": text.encode() for i, text in enumerate(odd)} | {f"{i}.png": png() for i in range(6)}
    splits = load(dataset_name=pack(tmp_path / "a.tar", files))
    assert splits.train["id"][:] == list("012345")
    assert splits.labels == ["a", "b"]


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"1.png": png(), "1.json": b"{"}, "1.json cannot be read"),
        ({"1.png": png(), "1.json": b'{"label": "a \\ud83d"}'}, "surrogates not allowed"),
        ({"1.png": png(), "1.jpg": png(), "1.cls": b"0"}, "the sample '1' has two images"),
        ({"1.cls": b"0"}, "hold no images"),
        ({"1.png": png(), "1.cls": b"0", "2.png": png(), "2.cls": b"1", "3.png": png()}, "have no label (rows 3)"),
    ],
)
def test_broken_shards_are_refused(files, what, tmp_path):
    assert what in refused(dataset_name=pack(tmp_path / "a.tar", files)).what


def test_notes_beside_images_in_class_folders_are_no_labels(tmp_path):
    notes = {name.replace(".png", ".txt"): b"0 0.5 0.5" for name in CLASSES}
    assert load(dataset_name=pack(tmp_path / "a.tar", CLASSES | notes)).labels == ["class 2", "class 10"]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("a.tar", ["a.tar"]),
        ("a{8..10}.tar", ["a8.tar", "a9.tar", "a10.tar"]),
        ("a{08..10}.tar", ["a08.tar", "a09.tar", "a10.tar"]),
        ("{0..1}/{1..2}.tar", ["0/1.tar", "0/2.tar", "1/1.tar", "1/2.tar"]),
        ("{a..b}.tar", ["{a..b}.tar"]),
    ],
)
def test_ranges(name, files):
    assert [path.as_posix() for path in expand(name)] == files


@pytest.mark.parametrize("name", ["a{3..1}.tar", "a{0..999999999}.tar"])
def test_ranges_that_mean_nothing(name):
    with pytest.raises(UserError, match="is empty or has more than"):
        expand(name)


# Links


def test_links_out_of_a_folder_are_refused_with_their_name(tmp_path):
    write(tmp_path, {"secret/1.png": png()})
    root = Path(write(tmp_path / "data", CLASSES))
    for name, target in {"class 2/out.png": "../../secret/1.png", "class 2/deep": "../../secret"}.items():
        link = root / name
        link.symlink_to(target)
        assert refused(dataset_name=str(root)).where == str(link)
        with pytest.raises(UserError, match="leads out of the folder"):
            to_predict(root)
        link.unlink()
    (root / "class 3").symlink_to("../secret")
    assert refused(dataset_name=str(root)).where == str(root / "class 3")


def test_links_within_a_folder_are_followed(tmp_path):
    root = Path(write(tmp_path / "data", SPLITS))
    write(root, {"pool/9.png": png(9)})
    (root / "train" / "class 2" / "9.png").symlink_to("../../pool/9.png")
    (root / "train" / "class 3").symlink_to("../pool")
    splits = load(dataset_name=str(root))
    found = shown(splits.train)
    assert (found["class 2/9.png"], found["class 3/9.png"]) == (9, 9)
    link = tmp_path / "by another name"
    link.symlink_to(root)
    assert shown(load(dataset_name=str(link)).train) == found


def test_loops_of_links_end(tmp_path):
    root = Path(write(tmp_path / "data", CLASSES))
    (root / "class 2" / "self.png").symlink_to("self.png")
    (root / "class 2" / "up").symlink_to("..")
    for index in range(12):  # each folder sees all others: so many paths that no machine walks them
        (root / "class 2" / f"f{index}").mkdir()
        for other in range(12):
            (root / "class 2" / f"f{index}" / f"to{other}").symlink_to(f"../f{other}")
    images = [path.relative_to(root).as_posix() for path in files_below(root, IMAGE.endings())]
    assert sorted(images) == sorted([*CLASSES, "class 2/self.png"])  # which no one can read: the audit says so
    found = [path.relative_to(root).as_posix() for path in files_below(root / "class 2", IMAGE.endings(), root)]
    assert found[:2] == ["class 2/1.png", "class 2/self.png"]
    assert sorted(found[2:]) == ["class 2/up/class 10/1.png", "class 2/up/class 10/2.png"]


def test_a_link_to_nothing_is_a_image_that_cannot_be_read(tmp_path):
    root = Path(write(tmp_path / "data", CLASSES))
    (root / "class 2" / "gone.png").symlink_to("nowhere.png")
    assert len(files_below(root, IMAGE.endings())) == 4


# Prediction


def to_predict(place, config=None):
    return open_unlabelled(str(place), image.rows, config or DataConfig()).rows


def test_images_to_predict_come_as_folder_archive_table_or_alone(tmp_path):
    root = Path(
        write(tmp_path / "data", {"b/10.png": png(10), "b/9.png": png(9), ".hidden.png": b"x", "Thumbs.db": b"x"})
    )
    assert shown(to_predict(root)) == {"b/9.png": 9, "b/10.png": 10}
    archive = pack(tmp_path / "a.zip", {"1.png": png(1), "__MACOSX/._1.png": b"x"})
    assert shown(to_predict(archive)) == {"1.png": 1}
    (tmp_path / "t.csv").write_text("photo,x\n10.png,1\n9.png,2\n")
    config = DataConfig(image_root=str(root / "b"))
    assert shown(to_predict(tmp_path / "t.csv", config)) == {"10.png": 10, "9.png": 9}
    assert shown(to_predict(root / "b" / "9.png")) == {"9.png": 9}
    for missing in (tmp_path / "no.png", Path("/dev/zero")):
        with pytest.raises(UserError, match="no such file or folder"):
            to_predict(missing)
