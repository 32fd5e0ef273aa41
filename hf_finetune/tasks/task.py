"""A task: an input, its possible outputs, and the class of models that it fine-tunes."""

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
    from hf_finetune.data.protocols import RowInput
    from hf_finetune.data.rows.finding import Section


@dataclass(frozen=True)
class Task:
    """A task: a module of ``hf_finetune.tasks`` holds one such value, called ``TASK``."""

    name: str  # the Hub's pipeline tag
    auto_class: str  # of transformers
    input: Input
    outputs: Outputs  # the possible kinds of label
    # For a model and its rows, flag → default and its reason (strategy, learning rates, batch size, …).
    defaults: Callable[[Facts], dict[str, Default]]

    def load_model(self, config: Config, output: Output, rows: Dataset | None = None) -> Checkpoint:
        """Return the checkpoint with a fresh head for an output, and its processor; a ``UserError`` if they do not fit.

        ``rows`` are the training rows, to which an input may adapt the model.
        """
        name = self.input.checkpoint_name(str(config.model.model_name_or_path))
        model = replace(config.model, model_name_or_path=name)
        load_settings(model)  # first: its errors are clearer than those of the processor
        options = {"revision": model.model_revision, "trust_remote_code": model.trust_remote_code}
        processor = self.input.load_processor(name, **options)
        checkpoint = load_checkpoint(model, self.auto_class, output.names, processor, output.settings())
        self.input.prepare(checkpoint, config.inputs, rows)
        return checkpoint


class Input(Protocol):
    """A kind of input and everything that depends on it, implemented by a folder of ``hf_finetune.tasks.inputs``."""

    name: str  # in the singular, as ``--text_column`` spells it
    rows: RowInput  # how its cells are read and cleaned
    decodes: bool  # whether rows are files that are decoded when read, so that a cache of decoded data saves time
    piece_rows: int  # rows that ``predict`` keeps in memory, and the most that a killed process loses
    processor_name: str  # the keyword of ``transformers.pipeline`` for the preprocessing
    facts: RowFacts
    baseline_name: str  # of the baseline, with ``{linear}`` for the model on its features

    def checkpoint_name(self, name: str) -> str:
        """Return the Hub id of a checkpoint that the user named as its library does."""

    def load_processor(self, name: str, **options: Any) -> Any:
        """Return the preprocessing of a checkpoint or of a saved model; a ``UserError`` if there is none."""

    def prepare(self, checkpoint: Checkpoint, inputs: InputConfig, rows: Any = None) -> None:
        """Set model and processor to the requested input size or length; a ``UserError`` if the model cannot read it.

        ``rows`` are the training rows, whose sizes it may look at; None if there are none.
        """

    def encode(
        self, split: Dataset, processor: Any, views: InputConfig | None = None, image_cache: str | None = None
    ) -> Any:
        """Return the model inputs of a split: a map-style data set of dictionaries, with ``labels`` if the split has them.

        A ``Stream`` is returned, and encodes its rows when they are read. ``views`` are random views for training, None for
        the inputs of ``pipeline()``; ``image_cache`` is where decoded images of rows that are read again are kept.
        """

    def collator(self, processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Return a function from encoded rows to a batch."""

    def views(self, inputs: InputConfig, *, tunes_backbone: bool) -> InputConfig | None:
        """Return the random views of the training rows in a phase; None for unchanged rows."""

    def mixer(self, inputs: InputConfig, classes: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """Return a function that mixes rows and labels of a batch; a ``UserError`` if such rows cannot be mixed."""

    def shortened(self) -> Shortened:
        """Return a counter of rows that encoding shortened."""

    def fingerprint(self, encoded: Any, processor: Any) -> str:
        """Return a hash of the inputs of encoded rows and of the processor, without labels and ids."""

    def describe_processor(self, processor: Any) -> str:
        """Return a text that identifies a processor by its content, independent of its path."""

    def content_hash(self, split: Any) -> str | None:
        """Return a hash of the rows of a split; None if their ids identify them."""

    def preview(self, row: dict[str, Any]) -> dict[str, str | None]:
        """Return a row for an HTML page: ``text``, ``image`` and ``audio``, if any; the last two are ``data:`` URLs."""

    def baseline_features(
        self, parts: dict[str, Any], backbone: Callable[[], dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        """Return cheap features of each split in ``parts``, fitted on ``train``, shape (rows, features); None if there are none.

        ``backbone`` returns features of the pretrained backbone, for inputs without features of their own.
        """

    def call_options(self, processor: Any) -> dict[str, Any]:
        """Return keywords for calling the pipeline, so that it reads a row as training did."""

    def odd_rows(self, rows: Dataset) -> list[int]:
        """Return the numbers of unusual rows (longest, smallest, …), which ``verify`` keeps first."""

    def keep_row(self, folder: Path, row: int, cells: dict[str, Any], processor: Any) -> dict[str, Any] | str:
        """Return the ``input`` and ``facts`` of a row for ``verify``, or why a pipeline cannot repeat it.

        ``input`` is JSON; a file is written into ``folder``, and its size is in ``bytes``.
        """

    def pipeline_input(self, kept: Any, folder: Path) -> Any:
        """Return the argument of a pipeline for an ``input`` kept in a folder."""

    def probe(self, model: Any, processor: Any) -> dict[str, Tensor]:
        """Return random inputs that use every weight of a model."""

    def longest(self, batch: dict[str, Tensor], processor: Any) -> dict[str, Tensor]:
        """Return inputs of one row enlarged to the maximum that the model reads, if rows differ in size."""

    def components(self, gradio: Any, columns: dict[str, list[str]] | None) -> tuple[list[Any], list[Any]]:
        """Return Gradio components for a row on the page of ``serve``, and the events that trigger a prediction.

        ``columns`` is standard name → columns that the model was trained on; None if unknown.
        """

    def row_of(self, values: tuple[Any, ...], columns: dict[str, list[str]] | None) -> Dataset | None:
        """Return the row for the values of these components, None if they are empty; a ``UserError`` if unreadable."""

    def widget(self, inputs: dict[str, str]) -> list[dict[str, str]] | None:
        """Return examples for the widget on the Hub, never rows of the user's data."""

    def usage_sample(self, inputs: dict[str, str]) -> str:
        """Return the arguments of a call of the pipeline as code."""

    def onnx_code(self, columns: dict[str, Any]) -> tuple[str, list[str], list[str]]:
        """Return the class of the processor, imports, and lines of code that make ``inputs`` for an exported model."""

    def why_column(self, config: DataConfig, own: str, number: int) -> str:
        """Return why a column is read, for ``check``; ``number`` is its place among the input columns."""

    def inspect(self, splits: Splits, config: DataConfig) -> Inspection:
        """Inspect all rows for ``check``."""


class Inspection(Protocol):
    """What an input found in the rows of all splits."""

    @property
    def section(self) -> Section:
        """Return the section of ``check`` on these inputs."""

    @property
    def splits(self) -> Splits:
        """Return the splits without unreadable rows."""

    def comparable(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows (columns ``split`` and ``row``) whose inputs can be compared."""

    def near(self, rows: pd.DataFrame) -> np.ndarray:
        """Return pairs of near duplicates as positions in ``rows``, shape (pairs, 2)."""

    def add_processor(self, processor: Any) -> None:
        """Add the findings that depend on the checkpoint's processor to the section."""


class RowFacts(Protocol):
    """Facts about model inputs: a file without imports from this package, for the fresh process of ``verify``."""

    __file__: str

    def processor_facts(self, processor: Any) -> dict[str, Any]:
        """Return the settings of a processor that change the model's inputs, as JSON."""

    def pipeline_input(self, item: Any) -> Any:
        """Return what a pipeline takes for an item, JSON, of the jobs of ``verify``."""

    def input_facts(self, inputs: Any) -> dict[str, Any]:
        """Return facts about the model inputs of one row, as JSON."""


class Shortened:
    """A counter of rows that encoding shortened, over one or more splits; this one is for inputs that never are."""

    def add(self, encoded: Any) -> None:
        """Count the rows of an encoded split."""

    def say(self, name: str, processor: Any) -> None:
        """Print the counts, if any; ``name`` is the name of the rows in the message."""
