"""The window of audio models: the length to which some of them fill up each recording, and how it is cut."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hf_finetune.models import Checkpoint

FRAMES = 100  # of a spectrogram per second


def window_of(processor: Any) -> float | None:
    """Return the seconds to which a feature extractor fills up each recording; None if it leaves its length."""
    if getattr(processor, "chunk_length", None):  # Whisper
        return float(processor.chunk_length)
    if getattr(processor, "num_mel_bins", None) and getattr(processor, "max_length", None):  # AST
        return processor.max_length / FRAMES
    return None


def cut_window(checkpoint: Checkpoint, seconds: int) -> bool:
    """Cut a window to its first seconds, in the feature extractor, the configuration and the embeddings of positions.

    A forward pass takes as much less. The saved model has the cut window, so that ``pipeline()`` reads it as it is.

    Returns:
        Whether it was cut; False if it is not longer, or if the model has no known table of positions in time.
    """
    if seconds >= int(window_of(checkpoint.processor) or 0):
        return False
    model, processor = checkpoint.model, checkpoint.processor
    if isinstance(getattr(getattr(model, "encoder", None), "embed_positions", None), nn.Embedding):
        name = _cut_whisper(model, processor, seconds)
    elif hasattr(model, "audio_spectrogram_transformer"):
        name = _cut_ast(model, processor, seconds)
    else:
        return False
    checkpoint.fresh.append(name)  # an adapter has to bring it along
    return True


def _cut_whisper(model: Any, processor: Any, seconds: int) -> str:
    table = model.encoder.embed_positions
    table.num_embeddings = table.num_embeddings * seconds // processor.chunk_length
    table.weight = _like(table.weight, table.weight[: table.num_embeddings])
    model.config.max_source_positions = model.encoder.max_source_positions = table.num_embeddings
    processor.chunk_length = seconds
    processor.n_samples = seconds * processor.sampling_rate
    processor.nb_max_frames = processor.n_samples // processor.hop_length
    return "encoder.embed_positions.weight"


def _cut_ast(model: Any, processor: Any, seconds: int) -> str:
    embeddings = model.audio_spectrogram_transformer.embeddings
    bands, times = embeddings.get_shape(model.config)
    model.config.max_length = processor.max_length = seconds * FRAMES
    kept = embeddings.get_shape(model.config)[1]
    table = embeddings.position_embeddings
    first = table.shape[1] - bands * times  # of the tokens before the patches
    patches = table[:, first:].unflatten(1, (bands, times))[:, :, :kept].flatten(1, 2)
    embeddings.position_embeddings = _like(table, torch.cat([table[:, :first], patches], dim=1))
    return "audio_spectrogram_transformer.embeddings.position_embeddings"


def _like(old: nn.Parameter, values: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=old.requires_grad)
