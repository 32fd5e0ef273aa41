"""The protocol of an output: reading labels, loss, raw model outputs, metrics and predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from datasets import Dataset

from hf_finetune.config import Config
from hf_finetune.config.options import DataConfig
from hf_finetune.data import Splits
from hf_finetune.data.protocols import RowOutput
from hf_finetune.errors import UserError

Section = dict[str, Any]  # a part of evaluation.json
RawRows = np.ndarray | list[np.ndarray]  # of a batch: an array whose first axis is rows, or one array per row


@dataclass(frozen=True)
class Floor:
    """Names of the constant prediction that a model must beat, for ``metrics.json`` and the model card."""

    kind: str  # ``majority`` (the most frequent class) or ``mean``
    metric: str  # the metric in ``metrics.json``, as in ``majority_accuracy``
    words: str  # its name in the model card


@dataclass(frozen=True)
class Bar:
    """A class in an answer: its probability, whether it is predicted, and its threshold (several classes per row)."""

    name: str
    value: float
    chosen: bool
    threshold: float | None = None


@dataclass(frozen=True)
class Answer:
    """A prediction for people: in words, the most probable classes, how many more there are, and marked parts of a text."""

    prediction: str
    bars: list[Bar]
    more: int = 0
    marked: list[tuple[str, str | None]] = field(default_factory=list)  # (part, its label or None)


class Output(RowOutput, Protocol):
    """A kind of label, with the labels of a data set or of a saved model. Instances are immutable.

    A method with code here is a default for outputs that inherit from this class.

    Raw outputs (``raw``) and encoded labels (``truth``) are arrays whose first axis is rows. If rows differ in length, they
    are object arrays of shape (rows,) with one array per row.
    """

    METRICS: ClassVar[dict[str, bool]]  # name → greater is better; the first chooses the best epoch
    SHARES: ClassVar[frozenset[str]] = frozenset()  # metrics from 0 to 1
    CLASS_MEANS: ClassVar[frozenset[str]] = frozenset()  # those of SHARES that are means over classes
    CARD_METRICS: ClassVar[tuple[str, ...]]  # in the model card
    HUB_METRICS: ClassVar[dict[str, str]]  # name → name on the Hub
    FLOOR: ClassVar[Floor]
    SMALLEST_SCALE: ClassVar[float]  # raw outputs are rounded relative to their size, but at least to this one
    LINEAR_MODEL: ClassVar[str]  # name of the model of :meth:`fit_linear`
    PIPELINE_OPTIONS: ClassVar[dict[str, Any]] = {}  # arguments of ``pipeline()`` for the complete answer
    ONNX_CODE: ClassVar[str]  # Python code from ``logits`` to printed predictions
    TUNED: ClassVar[dict[str, str]] = {}  # key in ``config.json`` → attribute that :meth:`tune` sets

    # Labels

    @classmethod
    def recognise(cls, train: Dataset, columns: list[str], options: DataConfig) -> bool:
        """Return whether the labels of some training rows are of this kind; the default kind need not say."""
        return False

    @classmethod
    def read(cls, train: Dataset, columns: list[str], options: DataConfig) -> Self:
        """Return the output of some training rows; a ``UserError`` if the labels are not of this kind."""

    @classmethod
    def restore(cls, names: list[str], tuned: dict[str, Any]) -> Self:
        """Return the output of a saved model; other settings in ``tuned`` are ignored."""

    def spell(self, label: Any) -> str:
        """Return the label of a row as text."""

    def class_counts(self, truth: np.ndarray) -> np.ndarray | None:
        """Return the number of rows per class, shape (classes,); None if there are no classes."""
        return None

    def empty(self, truth: np.ndarray) -> np.ndarray | None:
        """Return in which rows there is nothing to find, shape (rows,); None for outputs whose rows always have an answer."""
        return None

    def summary(self, splits: Splits) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Return a table of all splits: header and rows."""

    def notes(self, splits: Splits) -> list[str]:
        """Return notes on suspicious training labels for terminal and card; a ``UserError`` if they teach nothing."""
        return []

    def check(self, section: Any, splits: Splits) -> None:
        """Add tables and findings on the labels to a section of ``hf-finetune check``."""

    # Training

    def settings(self) -> dict[str, Any]:
        """Return the settings for ``config.json`` before training, except the names."""
        return {"problem_type": self.NAME}

    def for_training(self, truth: np.ndarray) -> Self:
        """Return the output to use while training on these labels; a ``UserError`` if they teach nothing."""
        return self

    def start(self, model: Any, config: Config, splits: Splits) -> None:
        """Initialise a fresh head."""

    def loss(self, config: Config, splits: Splits) -> Any:
        """Return the Trainer's ``compute_loss_func``; a ``UserError`` for an option that suits other labels."""

    def finish(self, model: Any) -> None:
        """Change a trained model so that its raw outputs suit users, for example in the units of the labels."""

    # Raw outputs

    def predict(self, model: Any, inputs: dict[str, Any]) -> RawRows:
        """Return the raw output of each row of a batch, in float32."""

    def pool(self, raw: np.ndarray, encoded: Any) -> np.ndarray:
        """Return raw outputs of rows from those of chunks; column ``row`` of the encoded chunks is the row of each."""

    def example(self) -> np.ndarray:
        """Return raw outputs of one row for which all columns of :meth:`answers` have their final types."""

    def cells(self, raw: np.ndarray) -> list[Any]:
        """Return the column ``logits`` of a table of predictions, with (nested lists of) arrays as cells."""
        return list(raw)

    def read_raw(self, cells: list[Any]) -> np.ndarray:
        """Return raw outputs from that column."""

    def arrays(self, raw: np.ndarray) -> list[np.ndarray]:
        """Return the logits of each row, to compare two models."""
        return list(raw)

    def pipeline_numbers(self) -> dict[str, Any]:
        """Return arguments of the pipeline with which it answers what :meth:`comparable` returns."""
        return {"function_to_apply": "none", "top_k": len(self.names)}

    def comparable(self, raw: Any) -> dict[str, float]:
        """Return what a pipeline answers for a row: name → number, which ``verify`` compares; ``raw`` is of one row."""
        return dict(zip(self.names, map(float, raw), strict=True))

    def gather(self, predictions: Any, labels: Any, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return raw outputs and truth as gathered by the Trainer; ``rows`` is the row of each chunk, if any."""

    # Scores

    def statistics(self, raw: np.ndarray, truth: np.ndarray) -> Any:
        """Return the data of each row for the metrics, on which derived data (such as rankings) may be cached.

        ``len`` is the number of rows, an array of indices selects rows, ``size`` is the numbers used per resample (rows, times
        the labels of a row), and ``class_rows`` the rows of each class, shape (classes,), or None without classes.
        """

    def score(self, statistics: Any, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return metric → values of shape (resamples,), NaN where undefined; the only implementation of each metric.

        ``weights`` have the shape (resamples, rows): ones for the metric, counts of drawn rows for an interval.
        """

    def per_label(self, statistics: Any) -> dict[str, dict[str, float]]:
        """Return label name → its metrics."""

    def row_losses(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return the loss or error of each row, shape (rows,)."""

    def wrong(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return which rows have a wrong prediction, shape (rows,)."""

    def constant(self, truth: np.ndarray) -> np.ndarray:
        """Return raw outputs of the best constant prediction for these labels."""

    def label_errors(self, raw: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray] | None:
        """Return indices, suggested labels and margins of probably mislabelled rows; None if not supported."""
        return None

    def marked(self, text: str, cell: Any) -> list[tuple[str, str | None]]:
        """Return a text in parts, each with its label or None; empty if labels are not of parts of a text.

        ``cell`` is of the column of true labels or of predictions.
        """
        return []

    def sections(self, raw: np.ndarray, truth: np.ndarray) -> dict[str, Section]:
        """Return name → section of ``evaluation.json`` for this kind of label."""

    def own_baseline(self, train: Dataset) -> tuple[str, Callable[[Dataset], np.ndarray]] | None:
        """Return name and prediction function (rows → raw outputs) of a simple model; None for :meth:`fit_linear`."""
        return None

    def fit_linear(self, features: Any, truth: np.ndarray, strength: float) -> Callable[[Any], np.ndarray]:
        """Fit a linear model of the training rows, and return a function from features to raw outputs.

        ``features`` is an array or sparse matrix of shape (rows, features), ``strength`` the inverse of the regularisation.
        """

    # Answers

    def tune(self, raw: np.ndarray, truth: np.ndarray, metric: str | None) -> Self:
        """Return the output with thresholds or temperature tuned on held-out rows for the requested ``metric``."""
        return self

    def tuned(self) -> dict[str, Any]:
        """Return the result of :meth:`tune` for ``config.json``."""
        return {key: getattr(self, name) for key, name in self.TUNED.items()}

    def decide(self, raw: np.ndarray) -> np.ndarray:
        """Return predictions in the form of the truth."""

    def answers(self, raw: np.ndarray) -> dict[str, list[Any]]:
        """Return the columns of a table of predictions, ``prediction`` among them."""

    def top(self, raw: np.ndarray, count: int) -> dict[str, list[Any]]:
        """Return the columns ``top_labels`` and ``top_probabilities`` with the most probable classes, if there are classes."""
        raise UserError("the model predicts numbers, not classes", where="--top_k", fix="leave it out.")

    def answer(self, raw: np.ndarray, most: int) -> Answer:
        """Return the prediction of one row for people; ``raw`` is of one row, ``most`` the number of bars."""

    def truth(self, truth: np.ndarray) -> list[Any]:
        """Return the column of true labels of a table of predictions."""

    def read_truth(self, cells: list[Any]) -> np.ndarray:
        """Return the truth from that column."""

    def in_order(self, names: list[str], raw: np.ndarray, truth: np.ndarray) -> tuple[Self, np.ndarray, np.ndarray]:
        """Return output, raw outputs and truth with the names in another order."""
