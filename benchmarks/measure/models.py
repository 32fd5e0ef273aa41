"""Models with random weights and images of noise, for measuring speed and memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

CLASSES = 4


def resnet50(folder: str) -> None:
    """Save a ResNet-50 for 224 pixels."""
    torch.manual_seed(0)
    ResNetForImageClassification(ResNetConfig(num_labels=CLASSES)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 224, "width": 224}).save_pretrained(folder)


def vit_small(folder: str) -> None:
    """Save a ViT-S/16 for 224 pixels: 12 blocks of width 384 with 6 heads."""
    torch.manual_seed(0)
    size = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
    ViTForImageClassification(ViTConfig(num_labels=CLASSES, **size)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 224, "width": 224}).save_pretrained(folder)


def bert_small(folder: str, tokenizer: str) -> None:
    """Save a BERT with 12 blocks of width 384 and 12 heads, with the tokenizer of another checkpoint."""
    torch.manual_seed(0)
    size = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536}
    BertForSequenceClassification(BertConfig(**size)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)


def make_images(folder: str, train: int, validation: int) -> None:
    """Write JPEGs of 500 × 375 pixels in class folders: smooth noise with grain, about as hard to decode as photographs."""
    random = np.random.default_rng(0)
    for split, rows in (("train", train), ("validation", validation)):
        for row in range(rows):
            path = Path(folder) / split / f"class{row % CLASSES}" / f"{row}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(random.integers(0, 256, (19, 25, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
            grain = random.integers(-12, 13, smooth.shape, dtype=np.int16)
            Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(path, quality=90)
