"""Outputs: the kinds of label, each with its losses, its metrics and the answers that it gives."""

from hf_finetune.tasks.outputs.multi_label import MultiLabel
from hf_finetune.tasks.outputs.output import Answer, Output, Section
from hf_finetune.tasks.outputs.reading import Outputs
from hf_finetune.tasks.outputs.regression import Regression
from hf_finetune.tasks.outputs.single_label import SingleLabel

__all__ = ["CLASSES_OR_NUMBERS", "Answer", "MultiLabel", "Output", "Outputs", "Regression", "Section", "SingleLabel"]

# What a whole input may be labelled with.
CLASSES_OR_NUMBERS = Outputs((MultiLabel, Regression, SingleLabel))
