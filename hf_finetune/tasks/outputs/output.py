"""The protocol of an output: how labels are read, how the loss is made, what raw model output means, how a row is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_finetune.config import Config
    from hf_finetune.config.options import DataConfig
    from hf_finetune.data import Splits

Section = dict[str, Any]  # a part of evaluation.json
RawRows = np.ndarray | list[np.ndarray]  # of a batch: an array whose first axis is rows, or an array for each row


@dataclass(frozen=True)
class Floor:
    """What answering always the same reaches, as ``metrics.json`` and the model card call it.

    Args:
        kind: ``majority``: the answer is the most frequent one; ``mean``: it is the mean.
        metric: the one that ``metrics.json`` shows of it, as ``majority_accuracy``.
        words: what the model card calls that.
    """

    kind: str
    metric: str
    words: str


@dataclass(frozen=True)
class Bar:
    """A class of an answer: its probability, whether it is answered, and from which probability on (several classes a row)."""

    name: str
    value: float
    chosen: bool
    threshold: float | None = None


@dataclass(frozen=True)
class Answer:
    """One answer for people: in words, the most probable classes, and how many more there are."""

    prediction: str
    bars: list[Bar]
    more: int = 0


class Statistics(Protocol):
    """What a metric needs of each row, computed once; what is derived from it (orders of scores) may be cached on it."""

    @property
    def size(self) -> int:
        """Numbers that a resample touches: the rows, times the labels where each row has several."""

    @property
    def class_rows(self) -> np.ndarray | None:
        """Rows of each class, shape (classes,); None where there are no classes."""

    def __len__(self) -> int:
        """The number of rows."""

    def __getitem__(self, rows: np.ndarray) -> Self:
        """The statistics of some rows, by their numbers."""


class Output(Protocol):
    """A kind of label, with the labels of a data set or of a saved model. Instances do not change.

    Raw outputs (``raw``) and labels in numbers (``truth``) are arrays whose first axis is rows. Where rows differ in length they
    are object arrays of shape (rows,) that hold one array each.
    """

    NAME: ClassVar[str]  # what evaluation.json calls it, and ``--problem_type``
    METRICS: ClassVar[dict[str, bool]]  # name → greater is better; the first chooses the best epoch
    SHARES: ClassVar[frozenset[str]]  # metrics from 0 to 1
    CLASS_MEANS: ClassVar[frozenset[str]]  # those of them that are means over classes
    CARD_METRICS: ClassVar[tuple[str, ...]]  # that the model card shows
    HUB_METRICS: ClassVar[dict[str, str]]  # name → what the Hub calls it
    FLOOR: ClassVar[Floor]
    HAS_CLASSES: ClassVar[bool]  # names are classes that have probabilities; else they are numbers
    ONE_CLASS: ClassVar[bool]  # a row has one class
    SMALLEST_SCALE: ClassVar[float]  # raw outputs are rounded as numbers of this size at least
    LINEAR_MODEL: ClassVar[str]  # what :meth:`fit_linear` fits, in words
    PIPELINE_OPTIONS: ClassVar[dict[str, Any]]  # that ``pipeline()`` is called with to give all of the answer
    ONNX_CODE: ClassVar[str]  # Python code from ``logits`` to printed answers

    @property
    def names(self) -> list[str]:
        """The classes or numbers, in the order of the raw outputs."""

    # Labels

    @classmethod
    def recognise(cls, train: Dataset, columns: list[str], options: DataConfig) -> bool:
        """Return whether the labels of some training rows are of this kind."""

    @classmethod
    def read(cls, train: Dataset, columns: list[str], options: DataConfig) -> Self:
        """Return the output of some training rows.

        Raises:
            UserError: the labels are not of this kind.
        """

    @classmethod
    def restore(cls, names: list[str], tuned: dict[str, Any]) -> Self:
        """Return the output of a saved model; ``tuned`` may hold other settings too."""

    def read_from(self, columns: list[str], options: DataConfig) -> Self:
        """Return the same output, whose labels are in these columns."""

    def unusable(self, split: Dataset) -> list[tuple[np.ndarray, str]]:
        """Return which rows have labels that cannot be used, shape (rows,), and what is wrong with them; one pair a fault."""

    def encode(self, split: Dataset, split_name: str) -> list[Any]:
        """Return the column ``label`` of a split: numbers, or lists of numbers.

        Raises:
            UserError: a missing label, or one that the training rows do not have.
        """

    def truth_of(self, split: Any) -> np.ndarray:
        """Return the labels of an encoded split, shape (rows,) or (rows, labels)."""

    def describe(self) -> str:
        """Return what the labels are, in words: ``3 classes``."""

    def spell(self, label: Any) -> str:
        """Return the label of a row as people read it."""

    def class_counts(self, truth: np.ndarray) -> np.ndarray | None:
        """Return the rows of each class, shape (classes,); None where there are no classes."""

    def strata(self, truth: np.ndarray) -> np.ndarray:
        """Return the group of each row that every split should have its share of, integers of shape (rows,)."""

    def summary(self, splits: Splits) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Return a table of all splits: its header, and its rows."""

    def notes(self, splits: Splits) -> list[str]:
        """Return what is suspicious about the labels of the training rows, for the terminal and the model card.

        Raises:
            UserError: nothing can be learned from them.
        """

    def check(self, section: Any, splits: Splits) -> None:
        """Add tables and findings on the labels to a section of ``hf-finetune check``."""

    # Training

    def settings(self) -> dict[str, Any]:
        """Return what goes into ``config.json`` before training, beside the names."""

    def for_training(self, truth: np.ndarray) -> Self:
        """Return the output while a model trains on rows with these labels.

        Raises:
            UserError: nothing can be learned from them.
        """

    def start(self, model: Any, config: Config, splits: Splits) -> None:
        """Set where a fresh head begins."""

    def loss(self, config: Config, splits: Splits) -> Any:
        """Return the Trainer's ``compute_loss_func``.

        Raises:
            UserError: an option that this kind of label does not have.
        """

    def finish(self, model: Any) -> None:
        """Make a trained model give answers as users need them."""

    # Raw outputs

    def predict(self, model: Any, inputs: dict[str, Any]) -> RawRows:
        """Return the raw output of each row of a batch, in float32."""

    def pool(self, raw: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return raw outputs of rows from those of their chunks; ``rows`` holds the row of each chunk."""

    def example(self) -> np.ndarray:
        """Return raw outputs of one row whose answer shows the types of all columns of :meth:`answers`."""

    def read_raw(self, cells: list[Any]) -> np.ndarray:
        """Return raw outputs from the column ``logits`` of a table of predictions, each cell an array or nested arrays."""

    def gather(self, predictions: Any, labels: Any, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return raw outputs and truth from what the Trainer gathered; ``rows`` holds the row of each chunk, if there are any."""

    # Scores

    def statistics(self, raw: np.ndarray, truth: np.ndarray) -> Any:
        """Return the :class:`Statistics` of these rows."""

    def score(self, statistics: Any, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every metric of weighted rows: the only implementation of each.

        Args:
            statistics: of the rows.
            weights: shape (resamples, rows): ones for the metric, how often rows were drawn for an interval.

        Returns:
            metric → shape (resamples,); NaN where it is not defined.
        """

    def per_label(self, statistics: Any) -> dict[str, dict[str, float]]:
        """Return the figures of each label, by its name."""

    def row_losses(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return how wrong each row is, shape (rows,)."""

    def wrong(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return which rows are not answered right, shape (rows,)."""

    def constant(self, truth: np.ndarray) -> np.ndarray:
        """Return raw outputs of the constant answer that suits these labels best."""

    def label_errors(self, raw: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray] | None:
        """Return rows whose label is probably wrong, what they look like, and by how much; None where it cannot be said."""

    def sections(self, raw: np.ndarray, truth: np.ndarray) -> dict[str, Section]:
        """Return the parts of ``evaluation.json`` that this kind of label has, by name."""

    def own_baseline(self, train: Dataset) -> tuple[str, Callable[[Dataset], np.ndarray]] | None:
        """Return the name of a simple model of some training rows, and a function from rows to raw outputs.

        None where the baseline is a linear model on features of the input, see :meth:`fit_linear`.
        """

    def fit_linear(self, features: Any, truth: np.ndarray, strength: float) -> Callable[[Any], np.ndarray]:
        """Fit a linear model.

        Args:
            features: of the training rows, an array or sparse matrix of shape (rows, features).
            truth: their labels.
            strength: inverse of the regularisation.

        Returns:
            A function from features to raw outputs.
        """

    # Answers

    def tune(self, raw: np.ndarray, truth: np.ndarray, metric: str | None) -> Self:
        """Return the output with what held-out rows decide: thresholds, temperature. ``metric`` is the one asked for."""

    def tuned(self) -> dict[str, Any]:
        """Return what :meth:`tune` chose, as keys of ``config.json``."""

    def decide(self, raw: np.ndarray) -> np.ndarray:
        """Return the answers in the form of the truth."""

    def answers(self, raw: np.ndarray) -> dict[str, list[Any]]:
        """Return the columns of a table of predictions, ``prediction`` among them."""

    def top(self, raw: np.ndarray, count: int) -> dict[str, list[Any]]:
        """Return columns with the most probable classes of each row: ``top_labels`` and ``top_probabilities``."""

    def answer(self, raw: np.ndarray, most: int) -> Answer:
        """Return the answer to one row for people; ``raw`` is of that row alone, ``most`` the number of bars."""

    def truth(self, truth: np.ndarray) -> list[Any]:
        """Return the column of true labels of a table of predictions."""

    def read_truth(self, cells: list[Any]) -> np.ndarray:
        """Return the truth from that column."""

    def in_order(self, names: list[str], raw: np.ndarray, truth: np.ndarray) -> tuple[Self, np.ndarray, np.ndarray]:
        """Return output, raw outputs and truth with the same names in another order."""
