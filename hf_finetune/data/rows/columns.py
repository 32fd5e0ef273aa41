"""Find the columns of inputs and labels by name and type, or as named by the user, and bring a split to its clean form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasets import ClassLabel, Dataset, Image

from hf_finetune.config.options import DataConfig
from hf_finetune.console import first_few
from hf_finetune.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hf_finetune.data.protocols import RowInput, RowOutput

TEXT_NAMES = (
    "text", "sentence", "content", "review", "tweet", "message", "document", "body", "comment", "utterance", "query",
)  # fmt: skip
PAIR_NAMES = (  # of first and second texts in data sets of the Hub
    ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence"),
    ("text1", "text2"), ("text_a", "text_b"), ("query", "passage"),
)  # fmt: skip
IMAGE_NAMES = ("image", "img", "picture", "photo")
LABEL_NAMES = (
    "label", "labels", "target", "class", "category", "sentiment", "emotion", "intent", "fine_label", "y", "score", "cls",
)  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """The user's columns that are read.

    ``inputs`` is the user's name of each input column → its standard name: ``text`` and ``text_pair``, or ``image``. Several
    columns may be ``text``: they are joined in this order.
    """

    inputs: dict[str, str]
    labels: list[str]
    group: str | None = None
    time: str | None = None


def find_columns(split: Any, rows: RowInput, config: DataConfig) -> Columns:
    """Return the columns of inputs and labels of the training rows.

    Raises:
        UserError: a named column is missing, or the choice is not clear.
    """
    named = [_require(split, name, "--label_columns") for name in config.label_columns or []]
    if not named and config.label_column:
        named = [_require(split, config.label_column, "--label_column")]
    labels = rows.find_labels(split, named)
    group = _require(split, config.group_column, "--group_column") if config.group_column else None
    time = _require(split, config.time_column, "--time_column") if config.time_column else None
    taken = tuple(name for name in (*labels, group, time) if name)
    inputs = rows.find_columns(split, config, taken)
    return Columns(inputs, rows.label_columns(labels, inputs), group, time)


def find_texts(
    split: Any, config: DataConfig, taken: tuple[str, ...], trained: dict[str, list[str]] | None = None
) -> dict[str, str]:
    """Return the column of each text, none of those in ``taken`` → its standard name, ``text`` or ``text_pair``.

    ``trained``, standard name → columns that a model was trained on, is the default for columns that the user did not name.

    Raises:
        UserError: a named column is missing, the choice is not clear, or a column is named twice.
    """
    if config.text_column and config.text_columns:
        raise UserError(
            "--text_column and --text_columns exclude each other",
            where="--text_columns",
            fix="name one column with --text_column, or all with --text_columns.",
        )
    first = config.text_columns or ([config.text_column] if config.text_column else [])
    flag = "--text_columns" if config.text_columns else "--text_column"
    inputs = {_require(split, name, flag): "text" for name in first}
    pair = config.text_pair_column and _require(split, config.text_pair_column, "--text_pair_column")
    if trained is not None:
        inputs = inputs or {_require_trained(split, name, "--text_column"): "text" for name in trained["text"]}
        seconds = [pair] if pair else trained.get("text_pair", [])
        pair = next((_require_trained(split, name, "--text_pair_column") for name in seconds), None)
    elif not inputs:
        found, other = find_pair(split, taken, pair) or (None, pair)
        inputs, pair = {found or find_text(split, (*taken, pair or "")): "text"}, other
    if pair in inputs:
        raise UserError(
            f"{pair!r} is named as both texts of a pair",
            where="--text_pair_column",
            fix="name the column of the second text.",
        )
    return inputs | ({pair: "text_pair"} if pair else {})


def find_pair(split: Any, taken: tuple[str, ...], second: str | None = None) -> tuple[str, str] | None:
    """Return the columns of a known pair; None if there is no or more than one pair, or a column named like a text.

    ``second`` restricts the search to pairs with this second column.
    """
    strings = _strings(split, taken)
    pairs = [
        (one, other)
        for one, other in ((_by_name(strings, [a]), _by_name(strings, [b])) for a, b in PAIR_NAMES)
        if one and other and second in (None, other)
    ]
    if len(pairs) != 1:
        return None
    alone = _by_name([name for name in strings if name not in pairs[0]], TEXT_NAMES)
    return None if alone and second is None else pairs[0]


def find_text(split: Any, taken: tuple[str, ...]) -> str:
    """Return the text column, none of those in ``taken``."""
    strings = _strings(split, taken)
    return _choose(split, "text", None, strings, _by_name(strings, TEXT_NAMES))


def find_label(split: Any, named: str | None) -> str:
    """Return the label column."""
    typed = [name for name, feature in split.features.items() if isinstance(feature, ClassLabel)]
    return _choose(split, "label", named, typed, _by_name(split.column_names, LABEL_NAMES))


def find_image(split: Any, named: str | None) -> str:
    """Return the image column."""
    typed = [name for name, feature in split.features.items() if isinstance(feature, Image)]
    return _choose(split, "image", named, typed, _by_name(typed, IMAGE_NAMES))


def _choose(split: Any, what: str, named: str | None, fitting: list[str], usual: str | None) -> str:
    """Return the column that the user named, the one with a usual name, or the only fitting one."""
    if named:
        return _require(split, named, f"--{what}_column")
    if usual or len(fitting) == 1:
        return usual or fitting[0]
    raise UserError(
        f"no column is clearly the {what}; the columns are {_list(split)}",
        where="the training rows",
        fix=f"name it with --{what}_column.",
    )


def is_string(split: Any, column: str) -> bool:
    """Return whether a column is of any of Arrow's text types (pandas 3 writes large_string, polars string_view)."""
    return getattr(split.features[column], "dtype", "") in ("string", "large_string", "string_view")


def _strings(split: Any, taken: tuple[str, ...]) -> list[str]:
    return [name for name in split.column_names if is_string(split, name) and name not in (*taken, "id")]


def _by_name(columns: list[str], usual: Iterable[str]) -> str | None:
    names = {name.strip().lower(): name for name in columns}
    return next((names[name] for name in usual if name in names), None)


def require_column(split: Any, name: str, where: str, fix: str, known: str = "") -> str:
    """Return a column that a split must have; ``known`` says in the message how we know it, e.g. ``, which …``."""
    if name in split.column_names:
        return name
    raise UserError(f"there is no column {name!r}{known}; the columns are {_list(split)}", where=where, fix=fix)


def _require(split: Any, named: str, flag: str) -> str:
    hint = did_you_mean(named, split.column_names, flag)
    return require_column(split, named, flag, f"{hint}give one of these to {flag}.")


def _require_trained(split: Any, name: str, flag: str) -> str:
    fix = f"name the column with {flag}."
    return require_column(split, name, "the rows to predict", fix, ", which the model was trained on")


def _list(split: Any) -> str:
    return ", ".join(map(repr, split.column_names))


def clean_split(split: Dataset, name: str, rows: RowInput, columns: Columns, output: RowOutput) -> Dataset:
    """Return the columns of the input, ``id`` and ``label`` of one split without missing cells.

    Raises:
        UserError: a column is missing or of another type, or a label is wrong.
    """
    refuse_missing_columns(split, columns, f"{name} split")
    ids = [str(i) for i in (split["id"][:] if "id" in split.column_names else range(len(split)))]
    encoded = output.encode(split, name)
    return rows.clean(split, columns.inputs, f"{name} split").add_column("id", ids).add_column("label", encoded)


def refuse_missing_columns(split: Any, columns: Columns, where: str) -> None:
    """Refuse a split without a column that the training rows have."""
    for wanted in (*columns.inputs, *columns.labels):
        require_column(split, wanted, where, "give every split the same columns.", ", which the training rows have")


def describe_labels(columns: Columns, output: RowOutput) -> str:
    """Return ``label column 'label' with 2 classes``."""
    own = [name for name in columns.labels if name not in columns.inputs]  # spans are read with their text
    return f"label column{'s' if len(own) > 1 else ''} {first_few(map(repr, own))} with {output.describe()}"
