"""Imports of all sides, loaded once, because on two slow cores they take longer than most measurements."""

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
