"""Outputs: the kinds of label, each with its loss, metrics and predictions."""

from hf_finetune.tasks.outputs.multi_label import MultiLabel
from hf_finetune.tasks.outputs.output import Answer, Output, Section
from hf_finetune.tasks.outputs.reading import Outputs
from hf_finetune.tasks.outputs.regression import Regression
from hf_finetune.tasks.outputs.single_label import SingleLabel

# The kinds of label of a whole input, in the order in which they are tried.
CLASSES_OR_NUMBERS = Outputs((MultiLabel, Regression, SingleLabel))
