"""Image classification: one image in, classes or numbers out."""

from hf_finetune.tasks.inputs import image
from hf_finetune.tasks.inputs.image.defaults import recommend
from hf_finetune.tasks.task import Task

TASK = Task("image-classification", "AutoModelForImageClassification", image, recommend)
