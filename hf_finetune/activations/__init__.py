"""The activation cache: what is frozen is computed once, kept on disk, and the rest of the model trains from there."""

from hf_finetune.activations.cache import CachedRows, Workload, cache_activations

__all__ = ["CachedRows", "Workload", "cache_activations"]
