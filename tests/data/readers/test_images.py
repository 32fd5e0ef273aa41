"""Folders of images by class, and images as every viewer shows them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from hf_finetune.data.images.decode import open_image, unreadable_images
from hf_finetune.data.readers.cell import IMAGE
from hf_finetune.data.readers.folder import files_below, open_classes, split_folders
from hf_finetune.errors import UserError


def write_image(path, mode="RGB", size=(6, 4), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path, **options)
    return path


def encoded(image: Image.Image, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# Opening


def test_exif_rotation_is_applied(tmp_path):
    # Left half red, right half blue; orientation 6 says: turn by 90 degrees clockwise to see it upright.
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = open_image(str(tmp_path / "a.png"))
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5)) == (255, 0, 0)
    assert upright.getpixel((10, 35)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("mode", "colour", "rgb"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("LA", (50, 255), (50, 50, 50)),
    ],
)
def test_every_mode_becomes_rgb(mode, colour, rgb):
    opened = open_image({"bytes": encoded(Image.new(mode, (3, 2), colour)), "path": None})
    assert (opened.mode, opened.size, opened.getpixel((1, 1))) == ("RGB", (3, 2), rgb)


def test_palettes_become_their_colours():
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert open_image({"bytes": encoded(image), "path": None}).getpixel((0, 0)) == (200, 100, 50)


def test_cmyk_jpegs_become_rgb(tmp_path):
    opened = open_image({"bytes": encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG"), "path": None})
    assert (opened.mode, opened.getpixel((0, 0))) == ("RGB", (255, 255, 255))


def test_bytes_win_over_the_path_and_a_path_alone_is_read(tmp_path):
    file = write_image(tmp_path / "a.png", size=(6, 4))
    assert open_image({"bytes": encoded(Image.new("RGB", (1, 1))), "path": str(file)}).size == (1, 1)
    assert open_image({"bytes": None, "path": str(file)}).size == (6, 4)
    assert open_image(str(file)).size == (6, 4)


def test_opening_gives_the_pixels_that_pipelines_see(tmp_path):
    from transformers.image_utils import load_image

    exif = Image.Exif()
    exif[0x0112] = 8
    pixels = np.random.default_rng(0).integers(0, 255, (9, 13, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(open_image(str(tmp_path / "a.png")), load_image(str(tmp_path / "a.png")))


# Folders


def test_classes_stand_in_natural_order_and_so_do_their_images(tmp_path):
    for name in ("class 10/b10.png", "class 10/b9.png", "class 9/a.png", "ähre/ü 1.png", "Ant/x.png"):
        write_image(tmp_path / name)
    rows = open_classes(tmp_path, IMAGE).keep()
    assert rows.features["label"].names == ["Ant", "class 9", "class 10", "ähre"]
    assert rows["id"][:] == ["Ant/x.png", "class 9/a.png", "class 10/b9.png", "class 10/b10.png", "ähre/ü 1.png"]
    assert rows["label"][:] == [0, 1, 2, 2, 3]
    assert open_image(rows[4]["image"]).size == (6, 4)


@pytest.mark.parametrize(
    "hidden",
    ["a/.hidden.png", "a/._1.png", ".git/1.png", "__MACOSX/1.png", "a/.ipynb_checkpoints/1-checkpoint.png"],
)
def test_hidden_files_and_folders_are_passed_over(hidden, tmp_path):
    for name in ("a/1.png", "b/1.png", hidden):
        write_image(tmp_path / name)
    rows = open_classes(tmp_path, IMAGE).keep()
    assert rows["id"][:] == ["a/1.png", "b/1.png"]
    assert rows.features["label"].names == ["a", "b"]


@pytest.mark.parametrize("hidden", ["Thumbs.db", ".DS_Store", "notes.txt", "1.pdf", "no-ending"])
def test_files_that_are_no_images_are_passed_over(hidden, tmp_path):
    for name in ("a/1.png", "b/1.png"):
        write_image(tmp_path / name)
    (tmp_path / "a" / hidden).write_bytes(b"x")
    assert open_classes(tmp_path, IMAGE).keep()["id"][:] == ["a/1.png", "b/1.png"]


def test_a_folder_below_a_hidden_one_may_be_read(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        write_image(tmp_path / ".cache" / "data" / name)
    assert len(open_classes(tmp_path / ".cache" / "data", IMAGE).keep()) == 2


def test_endings_in_capitals_and_images_at_any_depth(tmp_path):
    for name in ("a/1.PNG", "a/deep/er/2.jpeg", "b/1.JPG", "b/2.webp"):
        write_image(tmp_path / name)
    assert open_classes(tmp_path, IMAGE).keep()["id"][:] == ["a/1.PNG", "a/deep/er/2.jpeg", "b/1.JPG", "b/2.webp"]


def test_a_class_without_images_is_no_class(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        write_image(tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert open_classes(tmp_path, IMAGE).keep().features["label"].names == ["a", "b"]


def test_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match="the folder does not exist"):
        open_classes(tmp_path / "no", IMAGE).keep()


def test_images_that_stand_in_no_class_folder(tmp_path):
    write_image(tmp_path / "1.png")
    with pytest.raises(UserError, match="no images in class folders") as caught:
        open_classes(tmp_path, IMAGE).keep()
    assert caught.value.where == str(tmp_path)


def test_listing_images_for_prediction(tmp_path):
    for name in ("img10.png", "img9.png", "sub/1.png", ".x.png"):
        write_image(tmp_path / name)
    names = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path, IMAGE.endings())]
    assert names == ["img9.png", "img10.png", "sub/1.png"]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "val", "test"), {"train": "train", "validation": "val", "test": "test"}),
        (("Training", "Valid", "Testing"), {"train": "Training", "validation": "Valid", "test": "Testing"}),
        (("train", "dev"), {"train": "train", "validation": "dev"}),
        (("cat", "test"), {}),
        (("cat", "dog"), {}),
        ((), {}),
    ],
)
def test_split_folders_are_found_by_name(folders, splits, tmp_path):
    for name in folders:
        write_image(tmp_path / name / "a" / "1.png")
    assert {split: path.name for split, path in split_folders(tmp_path, IMAGE.endings()).items()} == splits


# Broken images


def test_unreadable_images_are_told_from_good_ones(tmp_path):
    for name in ("a/1.jpg", "a/2.jpg", "a/3.png", "b/1.png", "b/2.png"):
        write_image(tmp_path / name, size=(200, 200))
    (tmp_path / "a/2.jpg").write_bytes((tmp_path / "a/1.jpg").read_bytes()[:-200])
    (tmp_path / "a/3.png").write_text("no image at all")
    (tmp_path / "b/2.png").write_bytes(b"")
    rows = open_classes(tmp_path, IMAGE).keep()
    bad = unreadable_images(rows, list(range(len(rows))))
    assert [rows[index]["id"] for index, _ in bad] == ["a/2.jpg", "a/3.png", "b/2.png"]
    assert "truncated" in bad[0][1]
    assert "cannot identify image file" in bad[1][1]


def test_only_the_asked_rows_are_decoded(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        write_image(tmp_path / name)
    (tmp_path / "a/1.png").write_bytes(b"")
    rows = open_classes(tmp_path, IMAGE).keep()
    assert unreadable_images(rows, [1]) == []


def test_a_row_without_a_image_is_unreadable():
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature

    rows = Dataset.from_dict(
        {"image": [{"bytes": encoded(Image.new("RGB", (2, 2))), "path": None}, None]},
        features=Features({"image": ImageFeature(decode=False)}),
    )
    assert unreadable_images(rows, [0, 1]) == [(1, "no image")]


def test_a_image_whose_file_is_gone_is_unreadable(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        write_image(tmp_path / name)
    rows = open_classes(tmp_path, IMAGE).keep()
    (tmp_path / "b/1.png").unlink()
    assert [index for index, _ in unreadable_images(rows, [0, 1])] == [1]


def test_a_decompression_bomb_is_unreadable(tmp_path, monkeypatch):
    for name in ("a/1.png", "b/1.png"):
        write_image(tmp_path / name, size=(30, 30))
    write_image(tmp_path / "b/1.png", size=(5, 5))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    rows = open_classes(tmp_path, IMAGE).keep()
    assert [index for index, _ in unreadable_images(rows, [0, 1])] == [0]
