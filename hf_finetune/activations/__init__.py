"""The activation cache: the output of the frozen stages is computed once and stored, and training starts from it."""

from hf_finetune.activations.cache import CachedRows, Workload, cache_activations
