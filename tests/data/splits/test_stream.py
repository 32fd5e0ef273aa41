"""Streams: every row once an epoch, whatever the format; labels counted in one pass; rows that judge are read into memory."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage

from hf_finetune.config.options import DataConfig
from hf_finetune.data import audit, load_splits
from hf_finetune.data.readers.sources import expand
from hf_finetune.data.splits.stream import Stream
from hf_finetune.data.splits.stream_splits import warn_of_runs
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}


def write_csv(path, rows, header=("text", "label")):
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def rows_of(count, start=0):
    return [(f"text number {i}" + " word" * (i % 7), ("yes", "no", "01")[i % 3]) for i in range(start, start + count)]


def arguments(batch=4, processes=1, sampling="random", seed=1):
    return SimpleNamespace(
        seed=seed,
        data_seed=None,
        train_batch_size=batch,
        world_size=processes,
        gradient_accumulation_steps=1,
        train_sampling_strategy=sampling,
    )


def load(kind="text", **values):
    return load_splits(DataConfig(streaming=True, **values), get_task(f"{kind}-classification"))


def read(stream, epoch=0):
    stream.set_epoch(epoch)
    return stream.read(list(stream))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("hf_finetune.tasks.inputs.text.rows.block_rows", 16)
    monkeypatch.setattr("hf_finetune.tasks.inputs.image.rows.block_rows", 8)


@pytest.mark.parametrize("sampling", ["random", "group_by_length"])
def test_every_row_comes_once_an_epoch_in_another_order_each_time(tmp_path, small_blocks, sampling):
    rows = rows_of(103)
    stream = load(train_file=write_csv(tmp_path / "a.csv", rows), validation_split=0).train
    stream.batched(arguments(sampling=sampling))
    first, second, again = read(stream, 0), read(stream, 1), read(stream, 0)
    assert len(stream) == 103
    assert sorted(row["row"] for row in first) == sorted(row["row"] for row in second) == list(range(103))
    assert [row["row"] for row in first] == [row["row"] for row in again] != [row["row"] for row in second]
    names = ["01", "no", "yes"]
    assert all((row["text"], names[row["label"]]) == rows[row["row"]] for row in first)
    # Mixed within blocks of 16 rows.
    assert {row["row"] for row in first[:16]} == set(range(16))


def test_rows_of_a_batch_are_of_like_length(tmp_path):
    texts = [(("long " * 50 if i % 2 else "short") + str(i), "ab"[i % 3 // 2]) for i in range(64)]
    stream = load(train_file=write_csv(tmp_path / "a.csv", texts), validation_split=0).train
    stream.batched(arguments(batch=8, sampling="group_by_length"))
    lengths = np.array([len(row["text"]) for row in read(stream)]).reshape(8, 8)
    assert (np.ptp(lengths, axis=1) < 10).sum() >= 6


def test_labels_that_were_not_known_before_are_counted_and_sorted(tmp_path, capsys):
    splits = audit(
        load(train_file=write_csv(tmp_path / "a.csv", rows_of(100)), validation_split=0.2),
        get_task("text-classification"),
    )
    assert splits.labels == ["01", "no", "yes"]
    assert isinstance(splits.train, Stream)
    assert len(splits.train) + len(splits.validation) == 100
    assert splits.class_counts("train").tolist() == np.bincount(splits.train["label"]).tolist()
    assert (splits.class_counts("train") + splits.class_counts("validation")).tolist() == [33, 33, 34]
    held_out = {int(i) for i in splits.validation["id"][:]}
    assert held_out.isdisjoint(row["row"] for row in read(splits.train))
    assert splits.validation[0]["text"] == rows_of(100)[int(splits.validation[0]["id"])][0]
    said = capsys.readouterr().out
    assert "100 rows, text column 'text', label column 'label' with 3 classes, counted in" in said


def test_the_label_pass_reads_no_other_column(tmp_path, monkeypatch):
    from hf_finetune.data.readers.sources import open_tables
    from hf_finetune.data.splits import stream_splits

    Dataset.from_dict({"text": ["a", "b"] * 9, "label": ["x", "y"] * 9}).to_parquet(tmp_path / "a.parquet")
    for file in (write_csv(tmp_path / "a.csv", rows_of(30)), str(tmp_path / "a.parquet")):
        source = open_tables([Path(file)], file)
        assert next(source.blocks(["label"], 10)).column_names == ["label"]
        codes, distinct = stream_splits.count_labels(source, ["label"])
        assert codes.dtype == np.uint8
        assert len(codes) in (18, 30)
        assert len(distinct) in (2, 3)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_files_by_pattern_are_one_after_the_other(tmp_path, ending):
    for part in range(3):
        rows, path = rows_of(10, 10 * part), tmp_path / f"part-{part:02}.{ending}"
        if ending == "csv":
            write_csv(path, rows)
        elif ending == "tsv":
            path.write_text("\n".join("\t".join(row) for row in [("text", "label"), *rows]))
        elif ending == "jsonl":
            path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows))
        else:
            Dataset.from_list([{"text": t, "label": x} for t, x in rows]).to_parquet(path)
    for pattern in (f"part-*.{ending}", f"part-{{00..02}}.{ending}", f"part-0{{0,1,2}}.{ending}"):
        splits = load(train_file=str(tmp_path / pattern), validation_split=0)
        assert {row["row"]: row["text"] for row in read(splits.train)} == {i: t for i, (t, _) in enumerate(rows_of(30))}


def test_patterns_name_files(tmp_path):
    assert expand("a/{x,y}-{08..10}.tar") == [Path(f"a/{n}-{i}.tar") for n in "xy" for i in ("08", "09", "10")]
    odd = tmp_path / "[a].csv"
    odd.write_text("")
    assert expand(str(odd)) == [odd]
    with pytest.raises(UserError, match="no file has a name like this"):
        expand(str(tmp_path / "*.parquet"))


def test_files_with_other_columns_are_refused(tmp_path):
    write_csv(tmp_path / "a.csv", rows_of(4))
    write_csv(tmp_path / "b.csv", rows_of(4), header=("text", "class"))
    with pytest.raises(UserError, match=r"b\.csv: the file has other columns than .*a\.csv"):
        load(train_file=str(tmp_path / "*.csv"))


def test_long_splits_that_judge_are_drawn_from_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_finetune.tasks.inputs.text.rows.most_judging", 20)
    by_class = sorted(rows_of(300), key=lambda row: row[1])
    files = {name: write_csv(tmp_path / f"{name}.csv", by_class) for name in ("train_file", "validation_file")}
    splits = load(**files, test_file=write_csv(tmp_path / "test.csv", rows_of(12)))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (300, 20, 12)
    assert splits.class_counts("validation").min() > 0
    assert splits.validation["id"][:] == sorted(splits.validation["id"][:], key=int)
    assert all(by_class[int(row["id"])][0] == row["text"] for row in splits.validation)
    assert splits.test["id"][:] == [str(i) for i in range(12)]
    assert any("20 of 300 rows were drawn from the validation split" in note for note in splits.notes)


def test_the_first_rows_of_a_stream(tmp_path):
    splits = load(train_file=write_csv(tmp_path / "a.csv", rows_of(100)), max_train_samples=30, validation_split=0.1)
    assert len(splits.train) + len(splits.validation) == 30
    assert max(row["row"] for row in read(splits.train)) < 30


def test_several_classes_a_row_and_numbers(tmp_path):
    rows = [{"text": f"t{i}", "tags": [["a"], ["a", "b"], []][i % 3], "x": i / 4, "y": -i} for i in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file = {"train_file": str(tmp_path / "a.jsonl"), "text_column": "text", "validation_split": 0}
    several = load(**file, label_column="tags")
    assert (several.output.NAME, several.labels) == ("multi_label_classification", ["a", "b"])
    assert several.class_counts("train").tolist() == [40, 20]
    assert {tuple(row["label"]) for row in read(several.train)} == {(1, 0), (1, 1), (0, 0)}
    numbers = load(**file, label_columns=["x", "y"], problem_type="regression")
    assert numbers.output.NAME == "regression"
    assert all(row["label"] == [row["row"] / 4, -row["row"]] for row in read(numbers.train))


@pytest.mark.parametrize("cell", ["", "  "])
def test_rows_without_a_label_are_named(tmp_path, cell):
    rows = rows_of(40)
    rows[37] = ("a text", cell)
    with pytest.raises(UserError, match=r"1 of 40 rows have no label \(rows 38\)"):
        load(train_file=write_csv(tmp_path / "a.csv", rows))


def test_rows_without_a_text_are_named(tmp_path, small_blocks):
    table = {"text": [f"t{i}" if i != 21 else None for i in range(40)], "label": ["a", "b"] * 20}
    Dataset.from_dict(table).to_parquet(tmp_path / "a.parquet")
    stream = load(train_file=str(tmp_path / "a.parquet"), validation_split=0).train
    with pytest.raises(UserError, match=r"column 'text': row 22 has no text"):
        list(stream)


def test_ids_are_no_labels(tmp_path):
    rows = [(f"t{i}", f"id{i}") for i in range(1200)]
    with pytest.raises(UserError, match="look like ids or free text"):
        load(train_file=write_csv(tmp_path / "a.csv", rows))


def test_many_classes_of_a_few_rows_are_labels(tmp_path):
    rows = [(f"t{i}", f"class{i % 1100}") for i in range(3300)]
    assert len(load(train_file=write_csv(tmp_path / "a.csv", rows)).labels) == 1100


def test_a_file_that_changes_under_a_run_is_noticed(tmp_path):
    path = write_csv(tmp_path / "a.csv", rows_of(50))
    stream = load(train_file=path, validation_split=0).train
    write_csv(path, rows_of(49))
    with pytest.raises(UserError, match="50 rows were counted before training, and 49 are read now"):
        list(stream)


def test_classes_in_runs_are_said():
    notes: list[str] = []
    warn_of_runs(np.random.default_rng(0).integers(0, 5, 1000), 100, notes)
    warn_of_runs(np.tile([0, 1, 2, 3, 4], 200), 100, notes)
    warn_of_runs(np.repeat([0, 1], 50), 100, notes)  # one block holds them all
    assert notes == []
    warn_of_runs(np.repeat(np.arange(5), 200), 100, notes)
    assert "the classes stand in runs of more than 100 rows" in notes[0]


def test_processes_and_workers_share_the_rows(tmp_path, small_blocks):
    from accelerate.data_loader import IterableDatasetShard
    from torch.utils.data import DataLoader

    stream = load(train_file=write_csv(tmp_path / "a.csv", rows_of(96)), validation_split=0).train
    stream.batched(arguments(batch=4, processes=2))
    whole = [row.number for row in stream]

    def batches(process, workers):
        part = IterableDatasetShard(stream, batch_size=4, num_processes=2, process_index=process)
        return list(DataLoader(part, batch_size=4, num_workers=workers, collate_fn=lambda b: [r.number for r in b]))

    for workers in (0, 3):
        one, two = batches(0, workers), batches(1, workers)
        assert len(one) == len(two) == 12
        assert [n for pair in zip(one, two, strict=True) for batch in pair for n in batch] == whole


def test_rows_before_the_start_of_a_resumed_run_are_not_encoded(tmp_path, small_blocks):
    stream = load(train_file=write_csv(tmp_path / "a.csv", rows_of(40)), validation_split=0).train
    stream.batched(arguments(batch=4))
    whole = list(stream)
    stream.start_at(5)
    rows = list(stream)
    assert [row.number for row in rows] == [row.number for row in whole]
    assert [row.block is None for row in rows] == [True] * 20 + [False] * 20
    assert stream.collator(lambda batch: {"rows": batch})(rows[:4]) == {}


def test_errors_of_workers_are_the_users_too(tmp_path):
    from torch.utils.data import DataLoader

    table = {"text": ["t", None] * 10, "label": ["a", "b"] * 10}
    Dataset.from_dict(table).to_parquet(tmp_path / "a.parquet")
    stream = load(train_file=str(tmp_path / "a.parquet"), validation_split=0).train
    with pytest.raises(UserError) as caught:
        list(DataLoader(stream, batch_size=4, num_workers=1, collate_fn=list))
    assert "column 'text': row 2 has no text" in caught.value.what
    assert caught.value.fix == "fill the texts in, or drop the rows without one."


def png(colour, size=40):
    file = io.BytesIO()
    PILImage.new("RGB", (size, size), COLOURS[colour]).save(file, "PNG")
    return file.getvalue()


def test_images_of_parquet_files(tmp_path, small_blocks):
    names = list(COLOURS)
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    rows = [{"image": {"bytes": png(names[i % 3]), "path": None}, "label": i % 3} for i in range(24)]
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "a.parquet")
    splits = audit(
        load("image", train_file=str(tmp_path / "a.parquet"), validation_split=0.25), get_task("image-classification")
    )
    assert splits.labels == names
    assert (len(splits.train), len(splits.validation)) == (18, 6)
    for row in read(splits.train):
        assert row["image"]["bytes"] == png(names[row["row"] % 3])
        assert row["label"] == row["row"] % 3


def write_shards(folder, shards=2, each=9, bad=()):
    names = list(COLOURS)
    for shard in range(shards):
        with tarfile.open(folder / f"shard-{shard}.tar", "w") as tar:
            for i in range(each):
                number = shard * each + i
                content = {"png": b"broken" if number in bad else png(names[i % 3]), "cls": str(i % 3).encode()}
                for ending, data in content.items():
                    info = tarfile.TarInfo(f"sample{number}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return str(folder / f"shard-{{0..{shards - 1}}}.tar")


def test_webdataset_shards(tmp_path):
    splits = audit(
        load("image", train_file=write_shards(tmp_path), validation_split=0.34), get_task("image-classification")
    )
    assert splits.labels == ["0", "1", "2"]
    assert len(splits.train) + len(splits.validation) == 18
    assert all("/sample" in name for name in splits.validation["id"][:])
    for row in read(splits.train):
        assert row["image"]["bytes"] == png(list(COLOURS)[row["label"]])


@pytest.mark.parametrize("ending", ["cls", "label"])
def test_texts_in_shards(tmp_path, ending):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i, (text, _) in enumerate(rows_of(12)):
            for kind, data in {"txt": text, ending: str(i % 2)}.items():
                info = tarfile.TarInfo(f"{i:02}.{kind}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data.encode()))
    if ending == "cls":
        splits = load(train_file=str(tmp_path / "a.tar"), validation_split=0)
        assert splits.labels == ["0", "1"]
        assert {row["row"]: row["text"] for row in read(splits.train)} == {i: t for i, (t, _) in enumerate(rows_of(12))}
    else:
        with pytest.raises(UserError, match=r"no \.txt files in class folders"):
            load(train_file=str(tmp_path / "a.tar"), validation_split=0)


def test_broken_images_stop_a_stream_or_are_dropped_and_counted(tmp_path, checkpoints, capsys):
    from hf_finetune.config.options import InputConfig
    from hf_finetune.tasks.inputs import image as task

    processor = task.load_processor(checkpoints("vit"))
    pattern = write_shards(tmp_path, bad=(4,))
    for views in (None, InputConfig(augmentation="light")):
        stream = load("image", train_file=pattern, validation_split=0).train
        collate = task.encode(stream, processor, views).collator(task.collator(processor))
        with pytest.raises(UserError, match="the image of row 5 cannot be read"):
            collate(list(stream))
        stream = load("image", train_file=pattern, validation_split=0, on_bad_image="skip").train
        encoded = task.encode(stream, processor, views)
        capsys.readouterr()
        for _ in range(2):
            assert encoded.collator(task.collator(processor))(list(stream))["pixel_values"].shape == (17, 3, 32, 32)
        assert capsys.readouterr().out.count("row 5 cannot be read and is skipped") == 1
        assert stream.notes() == ["1 unreadable images of the train split were skipped: rows 5."]


def test_folders_saved_data_sets_and_objects(tmp_path, image_folder):
    images = load("image", dataset_name=image_folder)
    assert (len(images.train), len(images.validation), len(images.test)) == (48, 12, 13)
    assert len({row["label"] for row in read(images.train)[:10]}) == 3
    table = {"text": [f"t{i}" for i in range(20)], "label": [i % 2 for i in range(20)]}
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    both = DatasetDict(
        train=Dataset.from_dict(table, features=features), test=Dataset.from_dict(table, features=features)
    )
    both.save_to_disk(str(tmp_path / "saved"))
    streams = both["train"].to_iterable_dataset()
    given = load_splits(DataConfig(validation_split=0), get_task("text-classification"), streams)
    config = DataConfig(dataset_name=str(tmp_path / "saved"), streaming=True)
    for splits in (load_splits(config, get_task("text-classification")), given):
        assert isinstance(splits.train, Stream)
        assert splits.labels == ["no", "yes"]
        assert all(row["label"] == row["row"] % 2 for row in read(splits.train))


def test_a_folder_laid_out_like_a_repository_of_the_hub(tmp_path):
    (tmp_path / "data").mkdir()
    for split, count in (("train", 30), ("test", 9)):
        table = [{"text": t, "label": x, "other": 1} for t, x in rows_of(count)]
        Dataset.from_list(table).to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    splits = load(dataset_name=str(tmp_path))
    assert len(splits.test) == 9
    assert len(splits.train) + len(splits.validation) == 30
    assert next(splits.train.source.blocks(["label"], 4)).column_names == ["label"]


def test_what_is_nowhere_is_said(tmp_path):
    with pytest.raises(UserError, match="the Hub gave no such data set"):
        load(dataset_name="nobody/nothing")
    with pytest.raises(UserError, match="the archive does not exist"):
        load(train_file=str(tmp_path / "x-{0..1}.tar"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match="the rows cannot be read"):
        load(train_file=str(tmp_path / "broken.parquet"))
