"""Training views have the size and scale of the checkpoint's own preprocessing, however a processor spells them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ConvNextImageProcessor, MobileNetV1ImageProcessor, ViTImageProcessor

from hf_finetune.data.images.augment import (
    is_reversible,
    measure_preprocessing,
    normalise,
    quantise,
    rotation,
    training_transform,
)

PROCESSORS = {
    "resize to 256, crop to 224": (
        MobileNetV1ImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}),
        (224, 224),
    ),
    "plain resize": (ViTImageProcessor(size={"height": 32, "width": 48}), (32, 48)),
    "crop share": (ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875), (64, 64)),
}


def image_of(width, height):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)).permute(
        2, 0, 1
    )


@pytest.mark.parametrize("name", PROCESSORS)
def test_size_is_what_the_processor_puts_out_and_not_what_it_resizes_to(name):
    processor, size = PROCESSORS[name]
    assert measure_preprocessing(processor).size == size
    view = training_transform(measure_preprocessing(processor), "light", 10.0)(image_of(90, 70))
    assert view.shape == (3, *size)
    assert view.dtype == torch.uint8


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
def test_views_differ_and_get_the_scale_of_the_pixels(augmentation):
    pixels = measure_preprocessing(ViTImageProcessor(size={"height": 32, "width": 32}))
    image = image_of(60, 50)
    transform = training_transform(pixels, augmentation, 0.0)
    torch.manual_seed(0)
    first, second = normalise(torch.stack([transform(image), transform(image)]), pixels)
    assert not torch.equal(first, second)
    assert -1.001 <= first.min() < -0.5
    assert 0.5 < first.max() <= 1.001


def test_the_same_seed_gives_the_same_view():
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    image = image_of(60, 50)
    transform = training_transform(measure_preprocessing(processor), "randaug", 15.0)
    views = []
    for _ in range(2):
        torch.manual_seed(3)
        views.append(transform(image))
    assert torch.equal(*views)


def test_rotation_turns_by_no_more_than_it_is_told():
    image = Image.new("RGB", (40, 40), (255, 255, 255))
    torch.manual_seed(0)
    small = min(np.asarray(rotation(1.0)(image)).mean() for _ in range(8))
    large = min(np.asarray(rotation(45.0)(image)).mean() for _ in range(8))
    assert small > 250  # nothing but slivers of black corners
    assert large < 250


def test_a_batch_is_normalised_as_each_of_its_images_was():
    from torchvision.transforms import v2

    pixels = measure_preprocessing(ViTImageProcessor(image_mean=[0.48, 0.46, 0.41], image_std=[0.27, 0.26, 0.28]))
    images = torch.stack([image_of(40, 30), image_of(40, 30).flip(2)])
    each = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(pixels.mean, pixels.std)])
    batch = normalise(images, pixels)
    torch.testing.assert_close(batch, torch.stack([each(image) for image in images]), rtol=0, atol=1e-5)
    assert all((quantise(row, pixels) == image.numpy()).all() for row, image in zip(batch, images, strict=True))


@pytest.mark.parametrize("name", PROCESSORS)
def test_what_a_processor_puts_out_can_be_kept_as_bytes(name):
    assert is_reversible(PROCESSORS[name][0], measure_preprocessing(PROCESSORS[name][0]))


def test_timm_resizes_on_bytes_too(checkpoints):
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(checkpoints("timm-vit"))
    assert is_reversible(processor, measure_preprocessing(processor))


def test_pixels_between_the_bytes_are_not_taken_for_bytes():
    def in_floats(images, return_tensors):
        image = torch.from_numpy(np.array(images)).permute(2, 0, 1).float()[None] / 255
        return {"pixel_values": torch.nn.functional.interpolate(image, (32, 32), mode="bilinear", antialias=True)}

    assert not is_reversible(in_floats, measure_preprocessing(in_floats))


def test_a_source_is_as_large_as_the_smallest_crop_needs():
    assert measure_preprocessing(ViTImageProcessor()).source_edge == 317
