"""Training views have the size and scale of the checkpoint's own preprocessing, however a processor spells them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ConvNextImageProcessor, MobileNetV1ImageProcessor, ViTImageProcessor

from hf_finetune.data.augment import measure_preprocessing, rotation, training_transform

PROCESSORS = {
    "resize to 256, crop to 224": (
        MobileNetV1ImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}),
        (224, 224),
    ),
    "plain resize": (ViTImageProcessor(size={"height": 32, "width": 48}), (32, 48)),
    "crop share": (ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875), (64, 64)),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_size_is_what_the_processor_puts_out_and_not_what_it_resizes_to(name):
    processor, size = PROCESSORS[name]
    assert measure_preprocessing(processor).size == size
    view = training_transform(measure_preprocessing(processor), "light", 10.0)(Image.new("RGB", (90, 70)))
    assert view.shape == (3, *size)
    assert view.dtype == torch.float32


def test_mean_and_std_are_read_off_the_output():
    processor = ViTImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    pixels = measure_preprocessing(processor)
    assert pixels.mean == pytest.approx((0.1, 0.2, 0.3), abs=1e-5)
    assert pixels.std == pytest.approx((0.4, 0.5, 0.6), abs=1e-5)


def test_a_timm_processor_is_measured_too(checkpoints):
    from transformers import AutoImageProcessor

    pixels = measure_preprocessing(AutoImageProcessor.from_pretrained(checkpoints("timm-resnet")))
    assert pixels.size == (32, 32)
    assert pixels.mean == pytest.approx((0.5, 0.4, 0.3), abs=1e-5)
    assert pixels.std == pytest.approx((0.2, 0.25, 0.3), abs=1e-5)


@pytest.mark.parametrize("augmentation", ["light", "randaug"])
def test_views_differ_and_keep_the_scale_of_the_pixels(augmentation):
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8))
    transform = training_transform(measure_preprocessing(processor), augmentation, 0.0)
    torch.manual_seed(0)
    first, second = transform(picture), transform(picture)
    assert not torch.equal(first, second)
    assert first.min() >= -1.001
    assert first.max() <= 1.001


def test_the_same_seed_gives_the_same_view():
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8))
    transform = training_transform(measure_preprocessing(processor), "randaug", 15.0)
    views = []
    for _ in range(2):
        torch.manual_seed(3)
        views.append(transform(picture))
    assert torch.equal(*views)


def test_rotation_turns_by_no_more_than_it_is_told():
    picture = Image.new("RGB", (40, 40), (255, 255, 255))
    torch.manual_seed(0)
    small = min(np.asarray(rotation(1.0)(picture)).mean() for _ in range(8))
    large = min(np.asarray(rotation(45.0)(picture)).mean() for _ in range(8))
    assert small > 250  # nothing but slivers of black corners
    assert large < 250
