"""Image classification: one image in, classes or numbers out."""

from hf_finetune.tasks.inputs import image
from hf_finetune.tasks.inputs.image.defaults import recommend
from hf_finetune.tasks.outputs import CLASSES_OR_NUMBERS
from hf_finetune.tasks.task import Task

TASK = Task("image-classification", "AutoModelForImageClassification", image, CLASSES_OR_NUMBERS, recommend)
