"""Token classification: one text in, the entities in it out."""

from hf_finetune.tasks.inputs import words
from hf_finetune.tasks.inputs.words.defaults import recommend
from hf_finetune.tasks.outputs import Outputs
from hf_finetune.tasks.outputs.entities import Tags
from hf_finetune.tasks.task import Task

TASK = Task("token-classification", "AutoModelForTokenClassification", words, Outputs((Tags,)), recommend)
