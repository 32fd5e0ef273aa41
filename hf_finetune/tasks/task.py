"""What a task is: an input, the outputs that it can have, and the class of models that it fine-tunes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from hf_finetune.models import Checkpoint, load_checkpoint, load_settings
from hf_finetune.strategies.defaults import Default, Facts
from hf_finetune.tasks.outputs import Output, Outputs

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_finetune.config import Config
    from hf_finetune.config.options import InputConfig


@dataclass(frozen=True)
class Task:
    """A task: a module of ``hf_finetune.tasks`` holds one such value, called ``TASK``.

    Args:
        name: the Hub's pipeline tag.
        auto_class: the class of transformers whose models have the right head.
        input: what a row holds.
        defaults: strategy, rates, lengths and batch sizes for a model and its rows, each with its reason, by the name of the
            flag.
        outputs: the kinds of label that a row may have.
    """

    name: str
    auto_class: str
    input: Input
    outputs: Outputs
    defaults: Callable[[Facts], dict[str, Default]]

    def load_model(self, config: Config, output: Output) -> Checkpoint:
        """Return the checkpoint with a fresh head for an output and its processor, as ``config.inputs`` asks for it.

        Raises:
            UserError: no such checkpoint, one of another kind, or one that cannot read such inputs.
        """
        model = replace(
            config.model, model_name_or_path=self.input.checkpoint_name(str(config.model.model_name_or_path))
        )
        load_settings(model)  # says what is wrong with a checkpoint, where the processor says that it is missing
        options = {"revision": model.model_revision, "trust_remote_code": model.trust_remote_code}
        processor = self.input.load_processor(str(model.model_name_or_path), **options)
        checkpoint = load_checkpoint(model, self.auto_class, output.names, processor, output.settings())
        self.input.prepare(checkpoint, config.inputs)
        return checkpoint


class Input(Protocol):
    """What a row holds, and everything that depends on it: a folder of ``hf_finetune.tasks.inputs``, taken as a value."""

    name: Literal["text", "image"]
    processor_name: str  # the keyword of ``transformers.pipeline`` for the preprocessing
    call_options: dict[str, Any]  # keywords of a call of the pipeline, so that it reads a row as training did

    def pipeline_input(self, kept: Any, folder: Path) -> Any:
        """Return what a pipeline takes, for an input that ``verify`` kept in a folder."""

    def checkpoint_name(self, name: str) -> str:
        """Return the name of a checkpoint on the Hub, for one that the user gave as a library calls it."""

    def load_processor(self, name: str, **options: Any) -> Any:
        """Return the preprocessing of a checkpoint or of a saved model.

        Raises:
            UserError: there is none.
        """

    def prepare(self, checkpoint: Checkpoint, inputs: InputConfig) -> None:
        """Set model and processor to the size or length of inputs that was asked for.

        Raises:
            UserError: the checkpoint cannot read such inputs.
        """

    def encode(
        self, split: Dataset, processor: Any, views: InputConfig | None = None, image_cache: str | None = None
    ) -> Any:
        """Return the model inputs of a split: a map-style data set of dictionaries, with ``labels`` where it has labels.

        Of a ``Stream`` it is the same stream, which knows how to encode its rows when they are read.

        ``views`` asks for random views of the rows, in training; without it the inputs are those of ``pipeline()``.
        ``image_cache`` says where the decoded images of rows that are read more than once are kept.
        """

    def collator(self, processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Return what makes a batch of such rows."""
