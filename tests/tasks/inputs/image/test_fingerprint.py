"""What tells images from others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from hf_finetune.data.readers.cell import IMAGE
from hf_finetune.data.readers.folder import open_classes
from hf_finetune.tasks.inputs.image.encoding import fingerprint


@pytest.fixture
def folder(image_folder, tmp_path):
    return Path(shutil.copytree(Path(image_folder) / "test", tmp_path / "images"))


def hash_of(split):
    return fingerprint(SimpleNamespace(split=split), None)


def test_an_image_that_is_changed_in_place(folder):
    before = hash_of(open_classes(folder, IMAGE).keep())
    assert hash_of(open_classes(folder, IMAGE).keep()) == before
    path = sorted(folder.rglob("*.png"))[3]
    content, status = path.read_bytes(), path.stat()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # the same size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert hash_of(open_classes(folder, IMAGE).keep()) != before


def test_images_in_memory_are_identified_by_their_bytes(folder):
    rows = open_classes(folder, IMAGE).keep()
    cells = [{"bytes": Path(cell["path"]).read_bytes(), "path": None} for cell in rows["image"]]

    def split(cells):
        from datasets import Dataset, Features, Image

        return Dataset.from_dict({"image": cells}, features=Features({"image": Image(decode=False)}))

    named = [cell | {"path": f"{i}.png"} for i, cell in enumerate(cells)]
    changed = [*cells[:-1], {"bytes": cells[-1]["bytes"] + b"\0", "path": None}]
    assert hash_of(split(named)) == hash_of(split(cells))
    assert hash_of(split(changed)) != hash_of(split(cells))
