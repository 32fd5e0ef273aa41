"""The loss is a mean over the rows of a whole step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hf_finetune.training.loss import ClassificationLoss, balanced_weights

ROWS, CLASSES = 8, 3


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, 5, generator=generator)
    return features, torch.tensor([0, 1, 2, 0, 0, 1, 0, 0])


def logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(seed))


def gradient(loss, features, labels, sizes, items) -> torch.Tensor:
    """Gradient of a linear layer, accumulated over batches of these sizes."""
    torch.manual_seed(1)
    layer = nn.Linear(5, CLASSES)
    for rows, targets in zip(features.split(sizes), labels.split(sizes), strict=True):
        loss({"logits": layer(rows)}, targets, num_items_in_batch=items).backward()
    return layer.weight.grad


@pytest.mark.parametrize("sizes", [[1] * 8, [4, 4], [3, 3, 2], [7, 1]], ids=str)
@pytest.mark.parametrize("weights", [None, np.array([0.5, 1.0, 3.0])], ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_step_has_one_gradient_however_it_is_cut(sizes, weights, smoothing, batch):
    loss = ClassificationLoss(weights, smoothing)
    whole = gradient(loss, *batch, [ROWS], torch.tensor(ROWS))
    torch.testing.assert_close(gradient(loss, *batch, sizes, torch.tensor(ROWS)), whole, rtol=1e-5, atol=1e-7)
    assert whole.abs().max() > 0.01


def test_without_a_number_of_rows_the_batch_is_the_step(batch):
    loss = ClassificationLoss()
    torch.testing.assert_close(gradient(loss, *batch, [ROWS], None), gradient(loss, *batch, [ROWS], ROWS))


def test_it_is_the_mean_cross_entropy(batch):
    _, labels = batch
    found = ClassificationLoss()({"logits": logits()}, labels)
    torch.testing.assert_close(found, functional.cross_entropy(logits(), labels))


def test_a_value_computed_by_hand():
    found = ClassificationLoss()({"logits": torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0]])}, torch.tensor([0, 0]))
    assert found.item() == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_label_smoothing_is_that_of_torch(smoothing, batch):
    _, labels = batch
    found = ClassificationLoss(label_smoothing=smoothing)({"logits": logits()}, labels)
    torch.testing.assert_close(found, functional.cross_entropy(logits(), labels, label_smoothing=smoothing))
    assert found != functional.cross_entropy(logits(), labels)


def test_soft_labels_are_probabilities(batch):
    _, labels = batch
    soft = functional.softmax(logits(1), dim=1)
    found = ClassificationLoss()({"logits": logits()}, soft)
    torch.testing.assert_close(found, -(soft * functional.log_softmax(logits(), dim=1)).sum(dim=1).mean())
    hard = functional.one_hot(labels, CLASSES).float()
    torch.testing.assert_close(
        ClassificationLoss()({"logits": logits()}, hard), ClassificationLoss()({"logits": logits()}, labels)
    )


def test_soft_labels_are_weighed_by_class(batch):
    _, labels = batch
    weights = np.array([0.5, 1.0, 3.0])
    hard = functional.one_hot(labels, CLASSES).float()
    loss = ClassificationLoss(weights)
    torch.testing.assert_close(loss({"logits": logits()}, hard), loss({"logits": logits()}, labels))


def test_weighted_rows_are_divided_by_their_number_and_not_by_their_weights(batch):
    _, labels = batch
    weights = np.array([0.5, 1.0, 3.0])
    found = ClassificationLoss(weights)({"logits": logits()}, labels)
    each = functional.cross_entropy(logits(), labels, reduction="none") * torch.tensor(weights)[labels]
    torch.testing.assert_close(found, each.mean().float())


def test_half_precision_logits_are_summed_in_float32(batch):
    _, labels = batch
    half = logits().to(torch.bfloat16)
    found = ClassificationLoss()({"logits": half}, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, functional.cross_entropy(half.float(), labels))


@pytest.mark.parametrize("counts", [[5, 2, 1], [100, 1], [7, 7, 7], [3, 0, 9]])
def test_balanced_weights_average_to_1_over_the_rows(counts):
    weights = balanced_weights(np.array(counts))
    assert (weights * counts).sum() / sum(counts) == pytest.approx(1.0)


def test_balanced_weights_give_every_class_the_same_sum():
    counts = np.array([6, 3, 1])
    assert balanced_weights(counts) == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert balanced_weights(counts) * counts == pytest.approx([10 / 3] * 3)


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], [6, 3, 1])
    want = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_weights(np.bincount(labels)) == pytest.approx(want)


def test_a_class_without_rows_weighs_nothing_and_changes_nothing_for_the_others():
    assert balanced_weights(np.array([3, 0, 9])) == pytest.approx([2.0, 0.0, 2 / 3])
