"""Images that viewers show and training trips over, each found by its header or by decoding it."""

from __future__ import annotations

import io
import shutil
import struct
import zlib

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from hf_finetune.checks.duplicates import check_duplicates
from hf_finetune.config.options import DataConfig
from hf_finetune.data.readers.cell import IMAGE
from hf_finetune.data.readers.folder import open_classes
from hf_finetune.data.splits.splits import Splits
from hf_finetune.tasks.inputs import image
from hf_finetune.tasks.outputs import SingleLabel


def noise(width=40, height=30, seed=0, mode="RGB") -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG file whose header claims a size that its pixels do not have."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def cell(content: bytes) -> dict:
    return {"bytes": content, "path": None}


@pytest.fixture
def zoo(tmp_path):
    """One class of good images and one of odd ones; returns how to read them as splits."""
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [noise(seed=i, mode="P") for i in range(3)]
    odd = {
        "alpha.png": saved(noise(seed=1).convert("RGBA"), "PNG"),
        "animated.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "bits.png": saved(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50), "PNG"),
        "bomb.png": png_of_size(60_000, 60_000),
        "cmyk.jpg": saved(noise(seed=2, mode="CMYK"), "JPEG"),
        "cut.jpg": saved(noise(200, 200, seed=3), "JPEG")[:2000],
        "palette.png": saved(noise(seed=4, mode="P"), "PNG"),
        "text.png": b"no image",
        "thin.png": saved(noise(seed=5).crop((0, 0, 1, 30)), "PNG"),
        "turned.jpg": saved(noise(seed=6), "JPEG", exif=turned.tobytes()),
    }
    for name in ("good", "odd"):
        (tmp_path / "train" / name).mkdir(parents=True)
    for name, content in odd.items():
        (tmp_path / "train" / "odd" / name).write_bytes(content)
    for index in range(4):
        noise(seed=10 + index).save(tmp_path / "train" / "good" / f"{index}.png")

    def read() -> Splits:
        return Splits(open_classes(tmp_path / "train", IMAGE).keep(), None, None, SingleLabel(["good", "odd"]), "here")

    return tmp_path, read


def test_every_oddity_is_found_and_named(zoo):
    _, read = zoo
    splits = read()
    found = {f.code: f for f in image.inspect(splits, DataConfig()).section.findings}
    assert {code: [row.split(" (")[0] for row in f.rows] for code, f in found.items()} == {
        "image-bomb": ["odd/bomb.png"],
        "image-truncated": ["odd/cut.jpg"],
        "image-unreadable": ["odd/text.png"],
        "image-thin": ["odd/thin.png"],
        "image-16-bit": ["odd/bits.png"],
        "image-cmyk": ["odd/cmyk.jpg"],
        "image-palette": ["odd/animated.gif", "odd/palette.png"],
        "image-alpha": ["odd/alpha.png"],
        "image-animated": ["odd/animated.gif"],
        "image-turned": ["odd/turned.jpg"],
    }
    assert {code for code, f in found.items() if f.severity == "error"} == {
        "image-bomb",
        "image-truncated",
        "image-unreadable",
    }
    assert "truncated" in found["image-truncated"].rows[0]


def test_images_that_are_to_be_skipped_are_a_warning(zoo):
    _, read = zoo
    splits = read()
    found = {f.code: f.severity for f in image.inspect(splits, DataConfig(on_bad_image="skip")).section.findings}
    assert (found["image-unreadable"], found["image-truncated"]) == ("warning", "warning")


def test_a_image_saved_anew_is_a_near_duplicate_and_a_copy_an_exact_one(tmp_path):
    for split, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        (tmp_path / split / name).mkdir(parents=True)
        for index in range(3):
            seed = 100 * ord(name) + 50 * len(split) + index
            noise(120, 90, seed).save(tmp_path / split / name / f"{index}.png")
    noise(120, 90, 7).save(tmp_path / "train" / "a" / "0.png")
    noise(120, 90, 7).resize((100, 75)).save(tmp_path / "test" / "a" / "0.jpg", quality=80)
    shutil.copy(tmp_path / "train" / "b" / "1.png", tmp_path / "test" / "a" / "1.png")
    folders = [open_classes(tmp_path / split, IMAGE).keep() for split in ("train", "test")]
    splits = Splits(folders[0], None, folders[1], SingleLabel(["a", "b"]), "here")
    found = {f.code: f.rows for f in check_duplicates(splits, image.rows, image.inspect(splits, DataConfig())).findings}
    assert found == {
        "leak-exact": ["train b/1.png (b) = test a/1.png (a)"],
        "labels-conflict": ["train b/1.png (b) = test a/1.png (a)"],
        "leak-near": ["train a/0.png (a) = test a/0.jpg (a)"],
    }


def test_images_within_the_rows_are_looked_at_as_well():
    from datasets import Features, Value
    from datasets import Image as ImageFeature

    content = saved(noise(seed=3), "PNG")
    rows = {"id": ["0", "1", "2"], "image": [cell(content), cell(b"x"), cell(content)], "label": [0, 1, 1]}
    features = Features({"id": Value("string"), "image": ImageFeature(decode=False), "label": Value("int64")})
    splits = Splits(Dataset.from_dict(rows, features=features), None, None, SingleLabel(["a", "b"]), "here")
    inspection = image.inspect(splits, DataConfig())
    assert inspection.looks["train"].readable.tolist() == [True, False, True]
    assert inspection.splits.train["id"][:] == ["0", "2"]
    found = {f.code: f.rows for f in check_duplicates(splits, image.rows, inspection).findings}
    assert found["labels-conflict"] == ["train 0 (a) = train 2 (b)"]
