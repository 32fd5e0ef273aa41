"""What the tasks make of rows: tokens cut where the checkpoint ends, images in the size that was asked for."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset

from hf_finetune.config import Config
from hf_finetune.config.options import CacheConfig, DataConfig, InputConfig, ModelConfig, RunConfig, StrategyConfig
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task
from hf_finetune.tasks.outputs import SingleLabel


def config(model, **inputs):
    return Config(
        ModelConfig(model), DataConfig(), InputConfig(**inputs), CacheConfig(), StrategyConfig(), RunConfig(), {}
    )


TEXTS = Dataset.from_dict({"id": ["0", "1"], "text": ["good film", "bad " * 300], "label": [1, 0]})


@pytest.mark.parametrize(("name", "limit"), [("bert", 64), ("roberta", 64)])
def test_texts_are_cut_where_the_positions_end(name, limit, checkpoints):
    """RoBERTa counts positions from behind the padding id: of 66 positions 64 can be read."""
    task = get_task("text-classification")
    checkpoint = task.load_model(config(checkpoints(name)), SingleLabel(["a", "b"]))
    rows = task.input.encode(TEXTS, checkpoint.processor)
    assert rows["length"] == [4, limit]
    batch = task.input.collator(checkpoint.processor)([rows[0], rows[1]])
    assert batch["input_ids"].shape == (2, limit)
    assert batch["labels"].tolist() == [1, 0]
    assert "length" not in batch
    checkpoint.model.eval()(**batch)


def test_max_length_is_saved_with_the_tokenizer(checkpoints, tmp_path):
    from transformers import AutoTokenizer

    task = get_task("text-classification")
    checkpoint = task.load_model(config(checkpoints("bert"), max_length=12), SingleLabel(["a", "b"]))
    checkpoint.processor.save_pretrained(tmp_path)
    assert len(AutoTokenizer.from_pretrained(tmp_path)("bad " * 40, truncation=True)["input_ids"]) == 12


@pytest.mark.parametrize("gpu", [False, True])
def test_batches_are_padded_to_the_longest_row_and_on_a_gpu_to_a_multiple_of_8(gpu, checkpoints, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    task = get_task("text-classification")
    checkpoint = task.load_model(config(checkpoints("bert")), SingleLabel(["a", "b"]))
    short = TEXTS.select([0])
    batch = task.input.collator(checkpoint.processor)(list(task.input.encode(short, checkpoint.processor)))
    assert batch["input_ids"].shape == (1, 8 if gpu else 4)
    assert batch["attention_mask"].sum() == 4


@pytest.mark.parametrize("name", ["resnet", "swin", "timm-resnet", "timm-efficientnet"])
def test_image_size_reaches_processor_and_model(name, checkpoints):
    task = get_task("image-classification")
    checkpoint = task.load_model(config(checkpoints(name), image_size=40), SingleLabel(["a", "b"]))
    from PIL import Image

    pixels = checkpoint.processor(images=Image.new("RGB", (99, 77)), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 40, 40)
    assert checkpoint.model(pixel_values=pixels).logits.shape == (1, 2)


@pytest.mark.parametrize("name", ["vit", "timm-vit"])
def test_an_impossible_image_size_is_refused(name, checkpoints):
    task = get_task("image-classification")
    with pytest.raises(UserError, match="cannot read images of 36 pixels"):
        task.load_model(config(checkpoints(name), image_size=36), SingleLabel(["a", "b"]))


def test_a_shortest_edge_and_its_crop_shrink_together(checkpoints, tmp_path):
    import shutil

    from transformers import MobileNetV1ImageProcessor

    folder = tmp_path / "resnet"
    shutil.copytree(checkpoints("resnet"), folder)
    (folder / "preprocessor_config.json").unlink()
    processor = MobileNetV1ImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224})
    processor.save_pretrained(folder)
    checkpoint = get_task("image-classification").load_model(
        config(str(folder), image_size=112), SingleLabel(["a", "b"])
    )
    assert checkpoint.processor.size["shortest_edge"] == 128
    assert checkpoint.processor.crop_size["height"] == 112


def test_validation_images_are_the_processors_own(checkpoints, image_folder):
    from pathlib import Path

    from hf_finetune.data.images.decode import open_image
    from hf_finetune.data.readers.cell import IMAGE
    from hf_finetune.data.readers.folder import open_classes

    task = get_task("image-classification")
    checkpoint = task.load_model(config(checkpoints("vit")), SingleLabel(["a", "b", "c"]))
    split = open_classes(Path(image_folder, "test"), IMAGE).keep()
    item = task.input.encode(split, checkpoint.processor)[3]
    expected = checkpoint.processor(images=open_image(split[3]["image"]), return_tensors="pt")["pixel_values"][0]
    assert torch.equal(item["pixel_values"], expected)
    assert item["labels"] == split[3]["label"]


def test_an_unknown_task_lists_those_there_are():
    with pytest.raises(UserError, match="there is no task 'summarization'"):
        get_task("summarization")


def test_timms_own_names_are_found_on_the_hub():
    from hf_finetune.tasks.inputs.image import checkpoint_name

    assert checkpoint_name("resnet50.a1_in1k") == "timm/resnet50.a1_in1k"
    assert checkpoint_name("microsoft/resnet-50") == "microsoft/resnet-50"
    assert checkpoint_name("no-such-model") == "no-such-model"
