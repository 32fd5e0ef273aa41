"""Pixels are made once, and are the same wherever they are kept: in memory, on disk, or nowhere."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from hf_finetune.config.options import InputConfig
from hf_finetune.data.images import image_cache
from hf_finetune.data.images.decode import open_image, open_reduced
from hf_finetune.data.images.image_cache import PixelStore, choose_place, open_store, source_shapes
from hf_finetune.data.readers.cell import IMAGE
from hf_finetune.data.readers.folder import open_classes
from hf_finetune.tasks.inputs import image as task

LIGHT = InputConfig(augmentation="light")
SHAPES = np.array([[2, 3, 3], [0, 0, 0], [1, 1, 3]])


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def processor(checkpoints):
    return task.load_processor(checkpoints("mobilenet"))


@pytest.fixture
def split(image_folder):
    return open_classes(Path(image_folder, "train"), IMAGE).keep()


def smooth(width, height):
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], axis=-1).astype(np.uint8))


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, **options)
    return {"bytes": file.getvalue(), "path": None}


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("size", "reduced"), [((1000, 600), (167, 100)), ((600, 1000), (100, 167)), ((90, 80), (90, 80))]
)
def test_the_shorter_edge_is_reduced_and_never_enlarged(size, reduced):
    cell = encoded(smooth(*size))
    image = open_reduced(cell, 100)
    assert image.size == reduced
    wanted = open_image(cell).resize(reduced, Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(image, dtype=float) - np.asarray(wanted)).mean() < 1.5


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_reduced_image_is_turned_as_exif_says(orientation):
    cell = encoded(smooth(400, 240), exif=turned(orientation))
    image = open_reduced(cell, 50)
    assert image.size == ((50, 83) if orientation >= 5 else (83, 50))
    wanted = open_image(cell).resize(image.size, Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(image, dtype=float) - np.asarray(wanted)).mean() < 1.5


def test_shapes_are_read_off_the_headers():
    cells = [encoded(smooth(400, 240)), {"bytes": b"no image", "path": None}]
    assert source_shapes(Dataset.from_dict({"image": cells}), 50).tolist() == [[50, 83, 3], [0, 0, 0]]


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_a_store_gives_back_what_was_put(place):
    store = PixelStore(SHAPES, place)
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert store.get(0) is None
    store.put(0, pixels)
    store.put(1, pixels)  # its header promised nothing
    store.put(2, pixels)  # its header promised another size
    assert np.array_equal(store.get(0), pixels)
    assert store.get(1) is store.get(2) is None
    store = PixelStore(SHAPES, place)
    store.put(0, pixels.reshape(3, 2, 3))
    assert np.array_equal(store.get(0), pixels.reshape(3, 2, 3))


def test_nothing_is_left_behind_on_disk(cache_folder):
    store = PixelStore(SHAPES, "disk")
    store.put(2, np.ones((1, 1, 3), dtype=np.uint8))
    assert list((cache_folder / "images").iterdir()) == []


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_a_forked_process_keeps_for_all(place):
    store = PixelStore(SHAPES, place)
    child = os.fork()
    if not child:
        store.put(2, np.full((1, 1, 3), 7, dtype=np.uint8))
        os._exit(0)
    os.waitpid(child, 0)
    assert store.get(2).tolist() == [[[7, 7, 7]]]


def test_a_spawned_process_gets_the_buffer_and_not_a_copy():
    import pickle

    store = PixelStore(SHAPES, "ram")
    other = pickle.loads(pickle.dumps(store))
    other.put(2, np.full((1, 1, 3), 7, dtype=np.uint8))
    assert store.get(2).tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize(
    ("asked", "processes", "place"),
    [
        ("auto", 1, "ram"),
        ("auto", 2, "disk"),
        ("auto", 8, None),
        ("ram", 4, "ram"),
        ("ram", 8, None),
        ("disk", 8, "disk"),
    ],
)
def test_auto_takes_a_quarter_of_the_memory_or_half_of_the_disk(asked, processes, place, monkeypatch):
    monkeypatch.setattr(image_cache, "available_memory", lambda: 400)
    monkeypatch.setattr(image_cache, "free_disk", lambda: 800)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert choose_place(asked, 100)[0] == place


def test_available_memory_is_some_of_this_machine():
    assert 0 < image_cache.available_memory() < 2**50


def test_the_choice_is_said_in_one_line(capsys):
    assert open_store(SHAPES, "auto", "3 images") is not None
    assert capsys.readouterr().out == "3 images: decoded once and cached in memory (0 MB).\n"


def test_a_full_disk_is_a_warning(monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert open_store(SHAPES, "disk", "3 images") is None
    assert capsys.readouterr().out.startswith("Warning: 3 images: decoded in every epoch")


def test_what_does_not_fit_is_a_warning(monkeypatch, capsys):
    monkeypatch.setattr(image_cache, "available_memory", lambda: 10)
    assert open_store(SHAPES, "ram", "3 images") is None
    assert "the cache needs 0 MB (free: 0 MB of memory" in capsys.readouterr().out


@pytest.mark.parametrize("views", [LIGHT, InputConfig(augmentation="randaug", rotation_degrees=10.0), None])
def test_pixels_are_the_same_wherever_they_are_kept(views, processor, image_folder):
    def rows(place):
        split = open_classes(Path(image_folder, "train"), IMAGE).keep().select(range(0, 48, 12))
        images = task.encode(split, processor, views, place)
        images.set_epoch(2)
        first, second = ([images[index]["pixel_values"].clone() for index in range(4)] for _ in range(2))
        assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
        return first

    ram, disk, off = rows("ram"), rows("disk"), rows("off")
    assert ram[0].dtype == torch.uint8
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(ram, disk, off, strict=True))


def test_each_image_is_opened_once(processor, split, monkeypatch):
    opened = []

    def counted(cell, edge):
        opened.append(cell["path"])
        return open_reduced(cell, edge)

    monkeypatch.setattr("hf_finetune.tasks.inputs.image.encoding.open_reduced", counted)
    for phase in range(2):  # a run's phases share what is kept
        images = task.encode(split, processor, LIGHT, "ram")
        for epoch in range(2):
            images.set_epoch(phase + epoch)
            assert len(images.__getitems__(list(range(48)))) == 48
    assert len(opened) == len(set(opened)) == 48


def test_inputs_that_are_kept_are_the_processors_own(processor, split):
    kept, plain = task.encode(split, processor, None, "ram"), task.encode(split, processor)
    collate = task.collator(processor)
    for _ in range(2):
        batch = collate(kept.__getitems__([3, 5, 7]))
        expected = collate([plain[index] for index in (3, 5, 7)])
        torch.testing.assert_close(batch["pixel_values"], expected["pixel_values"], rtol=0, atol=1e-5)
        assert batch["pixel_values"].is_contiguous()
        assert batch["labels"].tolist() == expected["labels"].tolist()


def test_workers_of_every_kind_take_the_same_views_and_hear_of_the_epoch(processor, split):
    def two_epochs(**options):
        images = task.encode(split.select(range(8)), processor, LIGHT, "ram")
        collate = task.collator(processor)
        loader = torch.utils.data.DataLoader(images, batch_size=4, collate_fn=collate, **options)
        batches = []
        for epoch in range(2):
            images.set_epoch(epoch)
            batches += [batch["pixel_values"] for batch in loader]
        return torch.cat(batches)

    alone = two_epochs()
    assert not torch.equal(alone[:8], alone[8:])
    assert torch.equal(two_epochs(num_workers=2, persistent_workers=True), alone)


@pytest.mark.slow
def test_spawned_workers_do_too(processor, split):
    images = task.encode(split.select(range(4)), processor, LIGHT, "ram")
    images.set_epoch(1)
    options = {"batch_size": 4, "collate_fn": task.collator(processor)}
    alone = next(iter(torch.utils.data.DataLoader(images, **options)))
    loader = torch.utils.data.DataLoader(images, num_workers=1, multiprocessing_context="spawn", **options)
    assert torch.equal(next(iter(loader))["pixel_values"], alone["pixel_values"])


def test_a_processor_that_computes_in_floats_is_not_kept(split, capsys):
    def in_floats(images, return_tensors):
        image = torch.from_numpy(np.array(images)).permute(2, 0, 1).float()[None] / 255
        return {"pixel_values": torch.nn.functional.interpolate(image, (32, 32), mode="bilinear", antialias=True)}

    images = task.encode(split, in_floats, None, "ram")
    assert images.store is None
    assert images[0]["pixel_values"].dtype == torch.float32
    assert "cannot be kept as bytes" in capsys.readouterr().out
