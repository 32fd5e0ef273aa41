"""Audio classification: one recording in, classes or numbers out."""

from hf_finetune.tasks.inputs import audio
from hf_finetune.tasks.inputs.audio.defaults import recommend
from hf_finetune.tasks.outputs import CLASSES_OR_NUMBERS
from hf_finetune.tasks.task import Task

TASK = Task("audio-classification", "AutoModelForAudioClassification", audio, CLASSES_OR_NUMBERS, recommend)
