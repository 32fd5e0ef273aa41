"""Text classification: one text or a pair in, classes or numbers out."""

from hf_finetune.tasks.inputs import text
from hf_finetune.tasks.inputs.text.defaults import recommend
from hf_finetune.tasks.outputs import CLASSES_OR_NUMBERS
from hf_finetune.tasks.task import Task

TASK = Task("text-classification", "AutoModelForSequenceClassification", text, CLASSES_OR_NUMBERS, recommend)
