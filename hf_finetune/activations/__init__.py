"""The activation cache: what is frozen is computed once, kept on disk, and the rest of the model trains from there."""

from hf_finetune.activations.keep import Kept, Work, keep_activations

__all__ = ["Kept", "Work", "keep_activations"]
