"""What all sides import, loaded once: on two slow cores that takes longer than most of what is measured."""

import datasets
import evaluate
import pandas
import peft
import sklearn.metrics
import timm
import torch
import torchvision.transforms
import transformers.trainer

__all__ = ["datasets", "evaluate", "pandas", "peft", "sklearn", "timm", "torch", "torchvision", "transformers"]
