"""Which rows stay with a run: extremes and odd ones first, then some of every label; and what a file says of weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Image
from PIL import Image as Pillow
from safetensors.torch import save_file

from hf_finetune.publish.verify.sample import ROWS, _choose, _spread, model_facts
from hf_finetune.tasks import image_classification


def test_labels_and_predictions_take_turns():
    strata = ["a a"] * 90 + ["a b"] * 9 + ["b b"]
    order = list(_spread(strata))
    assert sorted(order) == list(range(100))
    assert {strata[row] for row in order[:3]} == {"a a", "a b", "b b"}
    assert sorted(strata[row] for row in order[:7]) == ["a a"] * 3 + ["a b"] * 3 + ["b b"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Fifty ordinary images, and a large, a small, a grey, a turned and two deep ones."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    files = {f"plain{index}.png": ("RGB", (20, 20), None) for index in range(50)}
    files |= {
        "large.png": ("RGB", (60, 50), None),
        "small.png": ("RGB", (3, 4), None),
        "grey.png": ("L", (20, 20), None),
    }
    files |= {
        "turned.jpg": ("RGB", (20, 30), 6),
        "deep.png": ("I;16", (20, 20), None),
        "dark.png": ("I;16", (20, 20), None),
    }
    for name, (mode, (width, height), orientation) in files.items():
        pixels = random.integers(0, 200, (height, width, 3)).astype(np.uint8)
        if mode == "I;16":  # as transformers reads it, all above 255 is white; the other one is dark enough for both
            image = Pillow.fromarray(pixels[..., 0].astype(np.uint16) * (250 if name == "deep.png" else 0))
        else:
            image = Pillow.fromarray(pixels).convert(mode)
        exif = Pillow.Exif()
        if orientation:
            exif[0x0112] = orientation
        image.save(folder / name, exif=exif)
    names = list(files)
    rows = Dataset.from_dict({"image": [str(folder / name) for name in names]})
    return names, rows.cast_column("image", Image(decode=False))


def test_the_odd_images_come_first(images):
    names, rows = images
    chosen = [names[row] for row in image_classification.TASK.input.odd_rows(rows)]
    assert chosen[:2] == ["large.png", "small.png"]
    assert {"grey.png", "turned.jpg", "deep.png"} <= set(chosen)


def test_images_are_kept_byte_for_byte_but_for_those_that_a_pipeline_reads_otherwise(images, tmp_path):
    from transformers import ViTImageProcessor

    names, rows = images
    processor = ViTImageProcessor(size={"height": 8, "width": 8})
    kept, left_out = _choose(tmp_path, image_classification.TASK, rows, ["x"] * len(names), processor)
    assert len(kept) == ROWS
    assert sum(left_out.values()) == 1
    assert next(iter(left_out)).startswith("a pipeline reads them differently: more than 8 bits")
    assert {path.name for path in tmp_path.iterdir()} == {row["input"] for row in kept}
    for row in kept:
        source = rows[row["row"]]["image"]["path"]
        assert (tmp_path / row["input"]).read_bytes() == Path(source).read_bytes()
        assert row["facts"]["shape"] == [3, 8, 8]
        assert len(row["facts"]["pixels"]) == 16


def test_weights_are_told_by_type_shape_and_content(tmp_path):
    weight = torch.arange(6.0).view(2, 3)
    save_file({"a": weight, "b": weight.half()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "bert", "id2label": {}, "transformers_version": "5"})
    )
    one = model_facts(tmp_path)
    assert one["settings"] == {"config.json": {"model_type": "bert"}}
    assert one["base"] is None
    assert {name: fact.rpartition(" ")[0] for name, fact in one["weights"].items()} == {
        "a": "F32 [2, 3]",
        "b": "F16 [2, 3]",
    }
    save_file({"a": weight.flip(0), "b": weight.half()}, tmp_path / "model.safetensors")
    other = model_facts(tmp_path)["weights"]
    assert [name for name in other if other[name] != one["weights"][name]] == ["a"]


@pytest.mark.parametrize("size", [8, 20, 200])
def test_a_cut_file_is_told_too(size, tmp_path):
    save_file({"a": torch.zeros(50)}, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    whole = model_facts(tmp_path)["weights"]
    (tmp_path / "model.safetensors").write_bytes(content[:size])
    assert model_facts(tmp_path)["weights"] != whole
