"""Entities: schemes of tags, formats of annotation tools, scores as seqeval has them, kinds of errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_finetune.config.options import DataConfig
from hf_finetune.data.splits.splits import ragged
from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs.entities.reading import read_entities
from hf_finetune.tasks.outputs.entities.schemes import entities, find_scheme
from hf_finetune.tasks.outputs.entities.tagged_text import TaggedText, errors_of, mark
from hf_finetune.tasks.outputs.entities.tags import Tags

PEOPLE = Tags(["O", "B-per", "I-per", "B-loc", "I-loc"])


@pytest.mark.parametrize(
    ("scheme", "tags", "found", "broken"),
    [
        ("IOB2", "O B-a I-a O B-a B-a", [(1, 3, "a"), (4, 5, "a"), (5, 6, "a")], 0),
        ("IOB2", "I-a I-a O B-b I-a", [(0, 2, "a"), (3, 4, "b"), (4, 5, "a")], 2),
        ("IOB1", "I-a I-a O I-b I-a B-a", [(0, 2, "a"), (3, 4, "b"), (4, 5, "a"), (5, 6, "a")], 0),
        ("BIOES", "S-a B-a I-a E-a O S-b", [(0, 1, "a"), (1, 4, "a"), (5, 6, "b")], 0),
        ("BIOES", "U-a B-a L-a L-a O", [(0, 1, "a"), (1, 3, "a"), (3, 4, "a")], 1),
        ("BIOES", "B-a O I-b S-b", [(0, 1, "a"), (2, 3, "b"), (3, 4, "b")], 3),
        ("IO", "person person O place", [(0, 2, "person"), (3, 4, "place")], 0),
    ],
)
def test_schemes(scheme, tags, found, broken):
    assert find_scheme([tags.split()]) == scheme or broken
    assert entities(tags.split(), scheme) == (found, broken)


def sequences(random, count):
    return [[PEOPLE.names[tag] for tag in random.integers(0, 5, random.integers(1, 9))] for _ in range(count)]


def whole(tags):
    """The same entities with correct tags."""
    found = ["O"] * len(tags)
    for first, after, kind in entities(tags)[0]:
        found[first:after] = [f"B-{kind}", *[f"I-{kind}"] * (after - first - 1)]
    return found


def scored(true, predicted):
    words = [np.arange(len(tags))[:, None] + [0, 1] for tags in true]
    rows = zip(words, predicted, strict=True)
    raw = ragged(TaggedText("", w, 9 * np.eye(5)[[PEOPLE.names.index(tag) for tag in p]]) for w, p in rows)
    spans = (
        PEOPLE._spans(w, np.array([PEOPLE.names.index(tag) for tag in t]))[:, :3]
        for w, t in zip(words, true, strict=True)
    )
    statistics = PEOPLE.statistics(raw, ragged(spans))
    return {name: float(value) for name, (value,) in PEOPLE.score(statistics, np.ones((1, len(true)))).items()}


def test_scores_are_those_of_seqeval():
    """In its strict mode for entities that are tagged correctly, and in its default mode for any tags."""
    pytest.importorskip("seqeval")
    from seqeval.metrics import accuracy_score, sequence_labeling, v1
    from seqeval.scheme import IOB2

    random = np.random.default_rng(0)
    for _ in range(300):
        true, predicted = [whole(tags) for tags in sequences(random, 4)], None
        predicted = [random.permutation(tags).tolist() if random.random() < 0.7 else tags for tags in true]
        found = scored(true, predicted)
        lenient = sequence_labeling.precision_recall_fscore_support(true, predicted, average="micro", zero_division=0)
        corrected = [whole(tags) for tags in predicted]
        options = {"average": "micro", "scheme": IOB2, "zero_division": 0}
        strict = v1.precision_recall_fscore_support(true, corrected, **options)
        for expected in (lenient, strict):
            assert [found["precision"], found["recall"], found["f1"]] == pytest.approx(expected[:3])
        assert found["accuracy"] == pytest.approx(accuracy_score(true, predicted))


def test_weights_of_rows_are_repetitions():
    random = np.random.default_rng(1)
    true, predicted = [whole(t) for t in sequences(random, 12)], sequences(random, 12)
    predicted = [(p * 9)[: len(t)] for p, t in zip(predicted, true, strict=True)]
    rows = random.integers(0, 12, 12)
    repeated = scored([true[row] for row in rows], [predicted[row] for row in rows])
    words = ragged(
        TaggedText("", np.arange(len(p))[:, None] + [0, 1], 9 * np.eye(5)[[PEOPLE.names.index(tag) for tag in p]])
        for p in predicted
    )
    truth = ragged(
        PEOPLE._spans(np.arange(len(t))[:, None] + [0, 1], np.array([PEOPLE.names.index(tag) for tag in t]))[:, :3]
        for t in true
    )
    weights = np.bincount(rows, minlength=12)[None]
    found = PEOPLE.score(PEOPLE.statistics(words, truth), weights)
    assert {name: float(value) for name, (value,) in found.items()} == pytest.approx(repeated)


TEXT = "Ada met Bob in New York."
SPANS = [(0, 3, "per"), (8, 11, "per"), (15, 23, "loc")]


@pytest.mark.parametrize(
    "cell",
    [
        [{"start": start, "end": end, "label": kind} for start, end, kind in SPANS],
        [{"start_offset": start, "end_offset": end, "label": kind} for start, end, kind in SPANS],
        [{"start": start, "end": end, "labels": [kind]} for start, end, kind in SPANS],
        json.dumps([list(span) for span in SPANS]),
        json.dumps([{"start": start, "end": end, "type": kind} for start, end, kind in reversed(SPANS)]),
    ],
    ids=["objects", "doccano", "Label Studio", "lists", "any order"],
)
def test_spans_of_annotation_tools(cell):
    split = Dataset.from_list([{"text": TEXT, "label": cell}])
    found, odd = read_entities(split, ["label", "text"])
    assert found == [SPANS]
    assert not odd.faults


@pytest.mark.parametrize(
    ("entity", "found"),
    [
        ({"start": 6, "end": 9, "text": "Ada"}, (4, 7)),
        ({"start": 3, "end": 9, "text": "🚒 Ada"}, (2, 7)),
        ({"start": 14, "end": 17, "text": "Bob"}, (12, 15)),
        ({"start": 4, "end": 7, "text": "Ada"}, (4, 7)),
        ({"start": 4, "end": 7, "text": "ada"}, (4, 7)),
        ({"start": 4, "end": 7}, (4, 7)),
    ],
)
def test_offsets_that_count_an_emoji_as_two_characters(entity, found):
    split = Dataset.from_list([{"text": "💩 🚒 Ada met Bob", "label": [entity | {"labels": ["per"]}]}])
    assert read_entities(split, ["label", "text"])[0] == [[(*found, "per")]]


def test_tags_of_words():
    words = ["Ada", "met", "Bob", "in", "New", "York", "."]
    tags = ["B-per", "O", "B-per", "O", "B-loc", "I-loc", "O"]
    names = sorted(set(tags))
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))})
    for split in (
        Dataset.from_dict({"tokens": [words], "ner_tags": [tags]}),
        Dataset.from_dict({"tokens": [words], "ner_tags": [[names.index(tag) for tag in tags]]}, features=features),
    ):
        found, odd = read_entities(split, ["ner_tags", "tokens"])
        assert found == [SPANS]
        assert (odd.scheme, odd.broken) == ("IOB2", 0)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"text": "ab", "label": '[{"start": 0, "end": 5, "label": "x"}]'}, "row 1: an entity from 0 to 5 in a text of 2 characters"),
        ({"text": "ab", "label": '[{"start": 1, "end": 1, "label": "x"}]'}, "row 1: an entity from 1 to 1 in a text of 2 characters"),
        ({"text": "ab", "label": '[{"start": -1, "end": 1, "label": "x"}]'}, "row 1: an entity from -1 to 1 in a text of 2 characters"),
        ({"text": "ab", "label": '[{"start": 0, "end": 1}]'}, "row 1: {'start': 0, 'end': 1} is not an entity with start, end and label"),
        ({"text": "ab", "label": '[[0, "1", "x"]]'}, "row 1: [0, '1', 'x'] is not an entity with start, end and label"),
        ({"text": "ab", "label": "[[0, 1, "}, "row 1: [[0, 1, is not an entity with start, end and label"),
        ({"text": ["a", "b"], "label": ["O"]}, "row 1: 2 words and 1 tags"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(row, what):
    split = Dataset.from_list([row])
    with pytest.raises(UserError) as caught:
        Tags.read(split, ["label", "text"], DataConfig())
    assert caught.value.what == what
    assert caught.value.fix == "fix the row, or leave such rows out with --on_bad_row skip."


def test_of_overlapping_entities_the_longer_one_is_kept(capsys):
    cell = json.dumps([[0, 3, "per"], [0, 11, "loc"], [8, 11, "per"], [15, 23, "loc"]])
    split = Dataset.from_list([{"text": TEXT, "label": cell}])
    output = Tags.read(split, ["label", "text"], DataConfig())
    assert output.types == ["loc", "per"] or output.types == ["loc"]
    assert output.encode(split, "train") == [[[0, 11, 0], [15, 23, 0]]]
    assert "2 entities of the training rows overlap a longer one, and are left out." in capsys.readouterr().out


def test_a_type_that_training_rows_lack_is_refused():
    train = Dataset.from_list([{"tokens": ["Ada"], "tags": ["B-per"]}])
    other = Dataset.from_list([{"tokens": ["Rome"], "tags": ["B-loc"]}])
    output = Tags.read(train, ["tags", "tokens"], DataConfig())
    with pytest.raises(UserError, match="the label 'loc' does not occur in the training rows"):
        output.encode(other, "test")


def test_kinds_of_errors():
    true = [[0, 3, 0], [8, 11, 0], [15, 23, 1], [30, 32, 1]]
    found = [[0, 3, 1], [8, 10, 0], [15, 23, 1], [40, 42, 0]]
    assert sorted(kind for kind, *_ in errors_of(found, true)) == ["missed", "spurious", "wrong boundary", "wrong type"]


def test_a_text_in_parts():
    entities = [{"start": 15, "end": 23, "label": "loc"}, {"start": 0, "end": 3, "label": "per"}]
    assert mark(TEXT, entities) == [("Ada", "per"), (" met Bob in ", None), ("New York", "loc"), (".", None)]
    assert mark("", []) == []


def test_predictions_are_written_and_read_back():
    random = np.random.default_rng(0)
    words = np.array([[0, 3], [4, 7], [8, 11]])
    raw = ragged(
        [TaggedText("Ada met Bob", words, random.normal(size=(3, 5))), TaggedText("", words[:0], np.zeros((0, 5)))]
    )
    again = PEOPLE.read_raw(PEOPLE.cells(raw))
    for one, other in zip(raw, again, strict=True):
        assert np.array_equal(one.words, other.words)
        assert np.array_equal(one.logits, other.logits)
    truth = ragged([np.array([[0, 3, 0], [8, 11, 1]]), np.zeros((0, 3), dtype=int)])
    assert all(np.array_equal(a, b) for a, b in zip(PEOPLE.read_truth(PEOPLE.truth(truth)), truth, strict=True))
    other, moved, changed = PEOPLE.in_order(["O", "B-loc", "I-loc", "B-per", "I-per"], raw, truth)
    (one, none), (same, empty) = (o.answers(r)["prediction"] for o, r in ((PEOPLE, raw), (other, moved)))
    assert [entity | {"score": pytest.approx(entity["score"])} for entity in one] == same
    assert none == empty == []
    assert other.truth(changed) == PEOPLE.truth(truth)
