"""Entities in a text: one tag a word, strict precision, recall and F1 of whole entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from datasets import Dataset

from hf_finetune.config import Config
from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.rows.labels import natural_key, refuse_unknown
from hf_finetune.data.splits.splits import ragged
from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs import ranking
from hf_finetune.tasks.outputs.entities.baseline import usual_tags
from hf_finetune.tasks.outputs.entities.checks import check_entities, entity_table, type_notes
from hf_finetune.tasks.outputs.entities.reading import read_entities, refuse_faults, say_odd, texts_of
from hf_finetune.tasks.outputs.entities.schemes import OUTSIDE, parts
from hf_finetune.tasks.outputs.entities.tagged_text import (
    SURE,
    TaggedText,
    TagStatistics,
    cross_entropy,
    error_table,
    mark,
    tag_words,
)
from hf_finetune.tasks.outputs.output import Answer, Floor, Output, Section


@dataclass(frozen=True)
class Tags(Output):
    """Entities; raw outputs are a :class:`TaggedText` per row, truth is an array of (start, end, type) per row.

    ``start`` and ``end`` are characters, ``type`` is an index into ``types``. Tags are those of IOB2.
    """

    names: list[str]  # of the tags: O, and B- and I- of each type
    columns: list[str] = field(default_factory=list, kw_only=True)  # of the entities, and of the words or texts
    scheme: str | None = field(default=None, kw_only=True)  # of the training rows; None for spans of characters
    at_spaces: bool = field(default=True, kw_only=True)  # whether all entities are whole words between spaces

    NAME: ClassVar[str] = "entities"
    METRICS: ClassVar[dict[str, bool]] = {
        "f1": True, "precision": True, "recall": True, "f1_macro": True, "accuracy": True, "loss": False,
    }  # fmt: skip
    CLASS_MEANS: ClassVar[frozenset[str]] = frozenset({"f1_macro"})
    SHARES: ClassVar[frozenset[str]] = frozenset(METRICS) - {"loss"}
    CARD_METRICS: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "f1_macro", "accuracy")
    HUB_METRICS: ClassVar[dict[str, str]] = {
        "f1": "f1", "precision": "precision", "recall": "recall", "accuracy": "accuracy",
    }  # fmt: skip
    FLOOR: ClassVar[Floor] = Floor("majority", "f1", "F1 of finding no entity")
    HAS_CLASSES: ClassVar[bool] = True
    ONE_CLASS: ClassVar[bool] = False
    SMALLEST_SCALE: ClassVar[float] = 1.0
    LINEAR_MODEL: ClassVar[str] = "logistic regression"
    ONNX_CODE: ClassVar[str] = """\
for row, ids in zip(logits, inputs["input_ids"]):
    tokens = tokenizer.convert_ids_to_tokens(ids)
    print([(token, config.id2label[int(tag)]) for token, tag in zip(tokens, row.argmax(axis=1))])"""

    # Labels

    @cached_property
    def types(self) -> list[str]:
        """Return the types of entities."""
        return list(dict.fromkeys(kind for _, kind in map(parts, self.names) if kind))

    @cached_property
    def ids(self) -> dict[tuple[str, int], int]:
        """Return (``B`` or ``I``, type) → tag; the tag B of a type that has I only is I."""
        found = {own: number for number, own in enumerate(self._parts)}
        return {(p, t): found.get((p, t), found.get(("I", t), 0)) for t in range(len(self.types)) for p in "BI"}

    @cached_property
    def _parts(self) -> list[tuple[str, int | None]]:
        """Return the prefix and the type of each tag; no type for ``O``."""
        numbers = {kind: number for number, kind in enumerate(self.types)}
        return [(prefix, numbers.get(kind)) for prefix, kind in map(parts, self.names)]

    @classmethod
    def read(cls, train: Dataset, columns: list[str], options: DataConfig) -> Self:
        """Return the output with the types of the training rows in natural order; print how they are tagged."""
        if len(columns) != 2:
            raise UserError("entities are in one column", where="--label_columns", fix="use --label_column.")
        found, odd = read_entities(train, columns)
        if options.on_bad_row == "error":
            refuse_faults(odd, "train", columns[0])
        types = sorted({kind for row in found for _, _, kind in row}, key=natural_key)
        if not types:
            fix = "name the column of tags or entities with --label_column."
            raise UserError("the training rows have no entity", where=f"column {columns[0]!r}", fix=fix)
        spaces = all(
            (start == 0 or text[start - 1].isspace()) and (end == len(text) or text[end].isspace())
            for text, row in zip(texts_of(train, columns[1]), found, strict=True)
            for start, end, _ in row
        )
        if odd.scheme not in (None, "IOB2"):
            say(f"The tags are {odd.scheme}; they are converted to IOB2.")
        say_odd(odd, "training")
        names = [OUTSIDE, *(f"{prefix}-{kind}" for kind in types for prefix in "BI")]
        return cls(names, columns=columns, scheme=odd.scheme, at_spaces=spaces)

    @classmethod
    def restore(cls, names: list[str], tuned: dict[str, Any]) -> Self:
        return cls(names)

    def read_from(self, columns: list[str], options: DataConfig) -> Self:
        return replace(self, columns=columns, scheme=None)

    def unusable(self, split: Dataset) -> list[tuple[np.ndarray, str]]:
        faults = read_entities(split, self.columns, self.scheme)[1].faults
        reasons = dict.fromkeys(faults.values())
        return [(np.array([faults.get(row) == why for row in range(len(split))]), why) for why in reasons]

    def encode(self, split: Dataset, split_name: str) -> list[Any]:
        found, odd = read_entities(split, self.columns, self.scheme)
        refuse_faults(odd, split_name, self.columns[0])
        numbers = {kind: number for number, kind in enumerate(self.types)}
        refuse_unknown(([kind for *_, kind in row] for row in found), numbers, self.columns[0], split_name)
        if split_name != "train":
            say_odd(odd, split_name)
        return [[[start, end, numbers[kind]] for start, end, kind in row] for row in found]

    def truth_of(self, split: Any) -> np.ndarray:
        return ragged(np.array(cell, dtype=np.int64).reshape(-1, 3) for cell in split["label"][:])

    def describe(self) -> str:
        return f"{len(self.types)} types of entities"

    def spell(self, label: Any) -> str:
        counts = Counter(self.types[int(kind)] for *_, kind in label)
        return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no entity"

    def strata(self, truth: np.ndarray) -> np.ndarray:
        """Return the rarest type of each row, -1 for none."""
        kinds = [np.reshape(row, (-1, 3)).astype(np.int64)[:, 2] for row in truth]
        counts = np.bincount(np.concatenate(kinds), minlength=len(self.types))
        return np.array([min(own, key=lambda kind: counts[kind], default=-1) for own in kinds], dtype=np.int64)

    def empty(self, truth: np.ndarray) -> np.ndarray:
        return np.array([not len(row) for row in truth], dtype=bool)

    summary = entity_table
    notes = type_notes
    check = check_entities

    def counts(self, truth: np.ndarray) -> np.ndarray:
        """Return the entities of each type, shape (types,)."""
        return sum((np.bincount(row[:, 2], minlength=len(self.types)) for row in truth), np.zeros(len(self.types), int))

    # Training

    def settings(self) -> dict[str, Any]:
        return {"entities_at_spaces": self.at_spaces}

    def loss(self, config: Config, splits: Splits) -> Any:
        from hf_finetune.tasks.outputs.entities.loss import TagLoss
        from hf_finetune.tasks.outputs.losses import smoothing

        run = config.run
        for flag, given in (
            ("class_weights", run.class_weights == "balanced"),
            ("logit_adjustment", run.logit_adjustment),
        ):
            if given:
                fix = "leave the flag out; --balanced_sampling reads rows with rare types more often."
                raise UserError("words are not weighed by their tag", where=f"--{flag}", fix=fix)
        return TagLoss(None, smoothing(config), run.focal_gamma)

    # Raw outputs

    def predict(self, model: Any, inputs: dict[str, Any]) -> list[np.ndarray]:
        logits = model(**inputs).logits.float().cpu().numpy()
        mask = inputs["attention_mask"].bool().cpu().numpy()
        return [row[own] for row, own in zip(logits, mask, strict=True)]

    def pool(self, raw: np.ndarray, encoded: Any) -> np.ndarray:
        """Return the words of each row from its windows, which share none."""
        windows: dict[int, list[int]] = {}
        for number, row in enumerate(encoded["row"][:]):
            windows.setdefault(row, []).append(number)
        texts, places, words = (encoded[name][:] for name in ("text", "places", "words"))
        return ragged(
            TaggedText(
                texts[own[0]],
                np.concatenate([np.array(words[n], dtype=np.int64).reshape(-1, 2) for n in own]),
                np.concatenate([raw[n][np.array(places[n], dtype=np.int64)] for n in own]),
            )
            for own in windows.values()
        )

    def gather(self, predictions: Any, labels: Any, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the words as the Trainer evaluates them: their characters are not known, so a word counts as one."""
        rows = np.arange(len(labels)) if rows is None else rows[: len(labels)]
        logits: dict[int, list[np.ndarray]] = {}
        tags: dict[int, list[np.ndarray]] = {}
        for row, values, own in zip(rows.tolist(), predictions, labels, strict=True):
            logits.setdefault(row, []).append(np.asarray(values, dtype=np.float64)[own >= 0])
            tags.setdefault(row, []).append(own[own >= 0])
        raw, truth = [], []
        for row in sorted(logits):
            found = np.concatenate(logits[row])
            words = np.arange(len(found))[:, None] + [0, 1]
            raw.append(TaggedText("", words, found))
            truth.append(self._spans(words, np.concatenate(tags[row]))[:, :3])
        return ragged(raw), ragged(truth)

    def cells(self, raw: np.ndarray) -> list[Any]:
        """Return a list of (start, end, logits …) of the words of each row."""
        return [[np.concatenate(pair) for pair in zip(row.words, row.logits, strict=True)] for row in raw]

    def read_raw(self, cells: list[Any]) -> np.ndarray:
        tables = (np.array([list(word) for word in cell]).reshape(-1, 2 + len(self.names)) for cell in cells)
        return ragged(TaggedText("", table[:, :2].astype(np.int64), table[:, 2:]) for table in tables)

    def arrays(self, raw: np.ndarray) -> list[np.ndarray]:
        return [row.logits for row in raw]

    def example(self) -> np.ndarray:
        """Return one word that is an entity."""
        logits = np.zeros((1, len(self.names)))
        logits[0, next(iter(self.ids.values()))] = SURE
        return ragged([TaggedText("a", np.array([[0, 1]]), logits)])

    def decide(self, raw: np.ndarray) -> np.ndarray:
        """Return the predicted (start, end, type) of each row."""
        return ragged(self._spans(row.words, row.logits.argmax(axis=1))[:, :3] for row in raw)

    def _spans(self, words: np.ndarray, tags: np.ndarray) -> np.ndarray:
        """Return start, end, type, first word and the word after the last one of each entity, shape (entities, 5).

        Tags are read as the pipeline of transformers does: a tag of another type than the one before, or with B, begins an
        entity; others continue it.
        """
        found: list[list[int]] = []
        before = None
        for number, tag in enumerate(tags.tolist()):
            prefix, kind = self._parts[tag]
            if kind is not None and kind == before and prefix != "B":
                found[-1][1], found[-1][4] = int(words[number, 1]), number + 1
            elif kind is not None:
                found.append([*words[number].tolist(), kind, number, number + 1])
            before = kind
        return np.array(found, dtype=np.int64).reshape(-1, 5)

    def tags_of(self, words: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return the true tag of each word, shape (words,)."""
        return tag_words(words, truth, lambda prefix, kind: self.ids[prefix, kind])

    # Scores

    def statistics(self, raw: np.ndarray, truth: np.ndarray) -> TagStatistics:
        types = len(self.types)
        counts = np.zeros((3, len(raw), types))
        words, right, losses = np.zeros((3, len(raw)))
        for row, (found, true, own) in enumerate(zip(self.decide(raw), truth, raw, strict=True)):
            both = set(map(tuple, found.tolist())) & set(map(tuple, true.tolist()))
            counts[0, row] = np.bincount([kind for *_, kind in both], minlength=types)
            counts[1, row] = np.bincount(found[:, 2], minlength=types)
            counts[2, row] = np.bincount(true[:, 2], minlength=types)
            if len(own):
                tags = self.tags_of(own.words, true)
                words[row], right[row] = len(own), (own.logits.argmax(axis=1) == tags).sum()
                losses[row] = cross_entropy(own.logits, tags).sum()
        hits, answered, given = counts
        return TagStatistics(hits, answered, given, words, right, losses)

    def score(self, statistics: TagStatistics, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every metric of weighted rows.

        An entity is right if start, end and type are. ``precision``, ``recall`` and ``f1`` are over all entities,
        ``f1_macro`` is the mean over the types in the resample, ``accuracy`` that of the tags of all words, and ``loss`` the
        mean cross-entropy of a word.
        """
        weights = np.asarray(weights, dtype=np.float64)
        hits, answered, true = (weights @ each for each in (statistics.hits, statistics.answered, statistics.true))
        f1, present = ranking.ratio(2 * hits, answered + true), true > 0
        all_hits, all_answered, all_true = (each.sum(axis=1) for each in (hits, answered, true))
        words, right, losses = (weights @ each for each in (statistics.words, statistics.right, statistics.losses))
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "f1": ranking.ratio(2 * all_hits, all_answered + all_true),
                "precision": ranking.ratio(all_hits, all_answered),
                "recall": ranking.ratio(all_hits, all_true),
                "f1_macro": np.where(present, f1, 0).sum(axis=1) / present.sum(axis=1),
                "accuracy": right / words,
                "loss": losses / words,
            }

    def per_label(self, statistics: TagStatistics) -> dict[str, dict[str, float]]:
        """Return ``precision``, ``recall``, ``f1`` and ``support`` of each type."""
        hits, answered, true = (each.sum(axis=0) for each in (statistics.hits, statistics.answered, statistics.true))
        figures = {
            "precision": ranking.ratio(hits, answered),
            "recall": ranking.ratio(hits, true),
            "f1": ranking.ratio(2 * hits, answered + true),
            "support": true,
        }
        return {kind: {key: float(f[i]) for key, f in figures.items()} for i, kind in enumerate(self.types)}

    def row_losses(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return the mean cross-entropy of the words of each row."""
        return np.array(
            [
                cross_entropy(row.logits, self.tags_of(row.words, true)).mean() if len(row) else 0.0
                for row, true in zip(raw, truth, strict=True)
            ]
        )

    def wrong(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        pairs = zip(self.decide(raw), truth, strict=True)
        return np.array([sorted(found.tolist()) != sorted(true.tolist()) for found, true in pairs], dtype=bool)

    def constant(self, truth: np.ndarray) -> np.ndarray:
        """Return rows without words, in which no entity is found."""
        empty = TaggedText("", np.zeros((0, 2), dtype=np.int64), np.zeros((0, len(self.names))))
        return ragged(empty for _ in truth)

    def marked(self, text: str, cell: Any) -> list[tuple[str, str | None]]:
        return mark(text, cell)

    def sections(self, raw: np.ndarray, truth: np.ndarray) -> dict[str, Section]:
        """Return ``tables``: the number of errors of each kind, with examples."""
        return {"tables": {"Errors by kind": error_table(raw, self.decide(raw), truth, self.types)}}

    def own_baseline(self, train: Dataset) -> tuple[str, Callable[[Dataset], np.ndarray]] | None:
        return "the most frequent tag of each word", usual_tags(self, train)

    # Answers

    def answers(self, raw: np.ndarray) -> dict[str, list[Any]]:
        """Return ``prediction``: ``start``, ``end``, ``label``, ``text`` and ``score`` of each entity."""
        return {"prediction": [self._entities(row) for row in raw]}

    def _entities(self, row: TaggedText) -> list[dict[str, Any]]:
        tags = row.logits.argmax(axis=1)
        best = np.exp(-cross_entropy(row.logits, tags))
        return [
            {
                "start": start,
                "end": end,
                "label": self.types[kind],
                "text": row.text[start:end],
                "score": float(best[first:after].mean()),
            }
            for start, end, kind, first, after in self._spans(row.words, tags).tolist()
        ]

    def pipeline_numbers(self) -> dict[str, Any]:
        return {}

    def comparable(self, raw: Any) -> dict[str, float]:
        return {f"{e['label']} {e['start']}:{e['end']}": e["score"] for e in self._entities(raw)}

    def top(self, raw: np.ndarray, count: int) -> dict[str, list[Any]]:
        raise UserError("the model predicts entities, not one class", where="--top_k", fix="leave it out.")

    def answer(self, raw: Any, most: int) -> Answer:
        found = self._entities(raw)
        words = ", ".join(f"{entity['text']} ({entity['label']})" for entity in found) or "no entity"
        return Answer(words, [], marked=mark(raw.text, found))

    def truth(self, truth: np.ndarray) -> list[Any]:
        return [[{"start": s, "end": e, "label": self.types[kind]} for s, e, kind in row.tolist()] for row in truth]

    def read_truth(self, cells: list[Any]) -> np.ndarray:
        types = {kind: number for number, kind in enumerate(self.types)}
        rows = ([[e["start"], e["end"], types[e["label"]]] for e in cell] for cell in cells)
        return ragged(np.array(row, dtype=np.int64).reshape(-1, 3) for row in rows)

    def in_order(self, names: list[str], raw: np.ndarray, truth: np.ndarray) -> tuple[Self, np.ndarray, np.ndarray]:
        other = replace(self, names=list(names))
        order = [self.names.index(name) for name in names]
        raw = ragged(replace(row, logits=row.logits[:, order]) for row in raw)
        return other, raw, other.read_truth(self.truth(truth))
