"""What a task is: an input, the outputs that it can have, and the class of models that it fine-tunes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hf_finetune.models import Checkpoint, load_checkpoint, load_settings
from hf_finetune.strategies.defaults import Default, Facts
from hf_finetune.tasks.outputs import Output, Outputs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from datasets import Dataset
    from torch import Tensor

    from hf_finetune.config import Config
    from hf_finetune.config.options import DataConfig, InputConfig
    from hf_finetune.data import Splits
    from hf_finetune.data.inputs import RowInput
    from hf_finetune.data.rows.finding import Section


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

    name: str  # in the singular, as ``--text_column`` spells it
    rows: RowInput  # how its cells are read and cleaned
    decodes: bool  # whether rows are files that are decoded when they are read, which a cache of pixels saves
    piece_rows: int  # rows that ``predict`` has in memory at once, and that a killed process loses at most
    processor_name: str  # the keyword of ``transformers.pipeline`` for the preprocessing
    call_options: dict[str, Any]  # keywords of a call of the pipeline, so that it reads a row as training did
    facts: RowFacts
    baseline_name: str  # of the features of the baseline, with ``{linear}`` for the model on them

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

    def views(self, inputs: InputConfig, *, tunes_backbone: bool) -> InputConfig | None:
        """Return which random views of the training rows a phase takes; None: the rows as they are."""

    def mixer(self, inputs: InputConfig, classes: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """Return what mixes the rows of a batch, and makes probabilities of shape (rows, classes) of its labels.

        Raises:
            UserError: such rows cannot be mixed.
        """

    def shortened(self) -> Shortened:
        """Return a counter of what encoding leaves out of rows."""

    def fingerprint(self, encoded: Any, processor: Any) -> str:
        """Return a hash of the inputs of encoded rows and of what made them; labels and ids do not count."""

    def describe_processor(self, processor: Any) -> str:
        """Return what tells a processor from others, wherever it lies."""

    def content_hash(self, split: Any) -> str | None:
        """Return a hash of the rows of a split; None where their ids tell them apart."""

    def preview(self, row: dict[str, Any]) -> dict[str, str | None]:
        """Return a row as a page shows it: ``text`` and ``image``, of which one may be None, or also ``audio``.

        Images and sounds are ``data:`` addresses.
        """

    def baseline_features(
        self, parts: dict[str, Any], backbone: Callable[[], dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        """Return cheap features of each part, shape (rows, features); None where there are none.

        Args:
            parts: splits by name; what is fitted is fitted on ``train``.
            backbone: gives what the untouched backbone makes of the rows, for inputs without features of their own.
        """

    def odd_rows(self, rows: Dataset) -> list[int]:
        """Return the numbers of unusual rows (the longest, the smallest, …), which ``verify`` keeps first."""

    def keep_row(self, folder: Path, row: int, cells: dict[str, Any], processor: Any) -> dict[str, Any] | str:
        """Return the ``input`` and ``facts`` of a row for ``verify``, or why a pipeline cannot repeat it.

        ``input`` is JSON; a file goes into ``folder``, and its size into ``bytes``.
        """

    def pipeline_input(self, kept: Any, folder: Path) -> Any:
        """Return what a pipeline takes, for an ``input`` that was kept in a folder."""

    def probe(self, model: Any, processor: Any) -> dict[str, Tensor]:
        """Return inputs that mean nothing, but reach every weight of a model."""

    def longest(self, batch: dict[str, Tensor], processor: Any) -> dict[str, Tensor]:
        """Return inputs of one row made as large as the model reads them, where rows differ in size."""

    def components(self, gradio: Any, columns: dict[str, list[str]] | None) -> tuple[list[Any], list[Any]]:
        """Return the components of Gradio that take a row on the page of ``serve``, and the events that ask for its answer."""

    def row_of(self, values: tuple[Any, ...], columns: dict[str, list[str]] | None) -> Dataset | None:
        """Return the row of the values of these components; None where nothing was put in.

        Raises:
            UserError: it cannot be read.
        """

    def widget(self, inputs: dict[str, str]) -> list[dict[str, str]] | None:
        """Return examples for the model's page on the Hub, never rows of the user's."""

    def usage_sample(self, inputs: dict[str, str]) -> str:
        """Return the arguments of a call of the pipeline, as code."""

    def onnx_code(self, columns: dict[str, Any]) -> tuple[str, list[str], list[str]]:
        """Return the class of the processor, more imports, and lines of code that make ``inputs`` for an exported model."""

    def why_column(self, config: DataConfig, own: str, number: int) -> str:
        """Return why ``check`` says that a column is read; ``number`` is its place among the input columns."""

    def inspect(self, splits: Splits, config: DataConfig) -> Inspection:
        """Look at all rows for ``check``."""


class Inspection(Protocol):
    """What an input found in the rows of all splits."""

    @property
    def section(self) -> Section:
        """Return what ``check`` says of them."""

    @property
    def splits(self) -> Splits:
        """Return the splits without the rows that cannot be read."""

    def comparable(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return those of some rows (columns ``split`` and ``row``) whose inputs can be compared."""

    def near(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the pairs of such rows that are nearly the same, shape (pairs, 2), by their places in ``rows``."""

    def add_processor(self, processor: Any) -> None:
        """Add to the section what depends on the checkpoint's processor."""


class RowFacts(Protocol):
    """What a model sees of a row: a file that imports nothing of this package, for the fresh process of ``verify``."""

    __file__: str

    def processor_facts(self, processor: Any) -> dict[str, Any]:
        """Return the settings of a processor that decide which inputs the model sees, as JSON has them."""

    def input_facts(self, inputs: Any) -> dict[str, Any]:
        """Return what a processor made of one row, as JSON has it."""


class Shortened(Protocol):
    """What encoding left out of rows, of as many splits or parts of one as are added."""

    def add(self, encoded: Any) -> None:
        """Count the rows of an encoded split."""

    def say(self, name: str, processor: Any) -> None:
        """Say it, where there was anything; ``name`` is what the rows are called."""
