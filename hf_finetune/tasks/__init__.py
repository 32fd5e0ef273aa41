"""What a task is: preprocessing, collator, model class. One module a task; all have the shape of :class:`Task`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_finetune.config import Config
    from hf_finetune.config.options import InputConfig
    from hf_finetune.models import Checkpoint

TASKS = {
    "text-classification": "hf_finetune.tasks.inputs.text.encoding",
    "image-classification": "hf_finetune.tasks.inputs.image.encoding",
}


class Task(Protocol):
    """The shape of a task module."""

    NAME: str  # the pipeline tag of the Hub
    KIND: Literal["text", "image"]  # what a row holds
    AUTO_CLASS: str  # the class of transformers that has the right head

    def load_model(self, config: Config, labels: list[str], problem: str = "single_label_classification") -> Checkpoint:
        """The checkpoint with a fresh head and its preprocessing."""

    def load_processor(self, name: str, **options: Any) -> Any:
        """The preprocessing of a checkpoint or of a saved model."""

    def encode(
        self, split: Dataset, processor: Any, views: InputConfig | None = None, image_cache: str | None = None
    ) -> Any:
        """Model inputs of a split, row by row: a map-style data set of dictionaries with ``labels`` where there are any.

        Of a ``Stream`` it is the same stream, which knows how to encode its rows when they are read.

        ``views`` asks for random views of the rows, in training; without it the inputs are those of ``pipeline()``.
        ``image_cache`` says where the decoded images of rows that are read more than once are kept.
        """

    def collator(self, processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """What makes a batch of such rows."""


def get_task(name: str) -> Task:
    """The task of this name.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        raise UserError(f"there is no task {name!r}", where="TASK", fix=f"choose one of {', '.join(TASKS)}.")
    return cast(Task, import_module(TASKS[name]))
