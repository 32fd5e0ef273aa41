"""The loss is a mean over the rows of a whole step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hf_finetune.config import parse
from hf_finetune.data import Splits
from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs import MultiLabel, Regression, SingleLabel
from hf_finetune.tasks.outputs.losses import (
    ClassificationLoss,
    MultiLabelLoss,
    RegressionLoss,
    balanced_weights,
    logit_offsets,
)
from hf_finetune.training.sampling import sampling_classes

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
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_a_step_has_one_gradient_however_it_is_cut(sizes, weights, smoothing, gamma, batch):
    loss = ClassificationLoss(weights, smoothing, gamma, np.array([0.0, -0.5, -2.0]))
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


# Focal loss


def test_the_focal_loss_of_one_class_computed_by_hand():
    """Probabilities 3/4 and 1/3 of what is right: (1/4)^2 log(4/3) and (2/3)^2 log 3."""
    rows = torch.tensor([[np.log(3.0), 0.0], [np.log(2.0), 0.0]])
    found = ClassificationLoss(focal_gamma=2.0)({"logits": rows}, torch.tensor([0, 1]))
    assert found.item() == pytest.approx((np.log(4 / 3) / 16 + np.log(3) * 4 / 9) / 2)


def test_the_focal_loss_of_several_classes_computed_by_hand():
    """Sigmoid probabilities 3/4, 1/3, 1/2; the first two classes apply, so p is 3/4, 1/3, 1/2."""
    rows = torch.tensor([[np.log(3.0), np.log(0.5), 0.0]])
    labels = torch.tensor([[1.0, 1.0, 0.0]])
    terms = [np.log(4 / 3) / 16, np.log(3) * 4 / 9, np.log(2) / 4]
    found = MultiLabelLoss(focal_gamma=2.0)({"logits": rows}, labels)
    assert found.item() == pytest.approx(sum(terms) / 3)
    weighted = MultiLabelLoss(np.array([10.0, 1.0, 5.0]), 2.0)({"logits": rows}, labels)
    assert weighted.item() == pytest.approx((10 * terms[0] + terms[1] + terms[2]) / 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, np.array([0.5, 1.0, 3.0])], ids=["plain", "weighted"])
def test_a_tiny_gamma_is_nearly_cross_entropy(smoothing, weights, batch):
    """So weights and smoothing mean the same with the focal loss as without."""
    _, labels = batch
    plain = ClassificationLoss(weights, smoothing)({"logits": logits()}, labels)
    focal = ClassificationLoss(weights, smoothing, 1e-5)({"logits": logits()}, labels)
    torch.testing.assert_close(focal, plain, rtol=1e-3, atol=0)
    assert ClassificationLoss(weights, smoothing, 2.0)({"logits": logits()}, labels) < plain


def test_the_focal_loss_takes_mixed_labels(batch):
    _, labels = batch
    loss = ClassificationLoss(focal_gamma=2.0)
    hard = functional.one_hot(labels, CLASSES).float()
    torch.testing.assert_close(loss({"logits": logits()}, hard), loss({"logits": logits()}, labels))
    other = functional.one_hot(labels.flip(0), CLASSES).float()
    mixed = loss({"logits": logits()}, 0.3 * hard + 0.7 * other)
    torch.testing.assert_close(mixed, 0.3 * loss({"logits": logits()}, hard) + 0.7 * loss({"logits": logits()}, other))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("loss", [ClassificationLoss, MultiLabelLoss])
def test_certain_rows_have_a_loss_and_a_gradient_that_are_numbers(loss, gamma):
    rows = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    labels = torch.tensor([0, 0]) if loss is ClassificationLoss else torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = loss(focal_gamma=gamma)({"logits": rows}, labels)
    found.backward()
    assert torch.isfinite(found)
    assert torch.isfinite(rows.grad).all()
    assert rows.grad[1].abs().max() > 0.1


# Logit adjustment


def test_logits_are_adjusted_by_the_logarithm_of_the_share_of_the_class():
    """Shares 3/4 and 1/4, equal logits: the adjusted probabilities are the shares."""
    assert logit_offsets(np.array([6, 2]), 1.0) == pytest.approx(np.log([3 / 4, 1 / 4]))
    loss = ClassificationLoss(logit_offsets=logit_offsets(np.array([6, 2]), 1.0))
    found = loss({"logits": torch.zeros(2, 2)}, torch.tensor([0, 1]))
    assert found.item() == pytest.approx((np.log(4 / 3) + np.log(4)) / 2)


def test_tau_scales_the_adjustment():
    """tau 2: weights 9/10 and 1/10 on equal logits."""
    loss = ClassificationLoss(logit_offsets=logit_offsets(np.array([3, 1]), 2.0))
    assert loss({"logits": torch.zeros(1, 2)}, torch.tensor([1])).item() == pytest.approx(np.log(10))


def test_a_class_without_rows_is_adjusted_by_a_number():
    assert logit_offsets(np.array([7, 0]), 1.0) == pytest.approx(np.log([7 / 8, 1 / 8]))


# From the flags


def some_splits(output, labels):
    from datasets import Dataset

    rows = Dataset.from_dict({"id": [str(i) for i in range(len(labels))], "label": labels})
    return Splits(rows, None, None, output, "here")


SINGLE, MULTI, REGRESSION = SingleLabel(["a", "b"]), MultiLabel(["a", "b"]), Regression(["y"])
LABELS = {
    SINGLE.NAME: [0, 0, 0, 1],
    MULTI.NAME: [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]],
    REGRESSION.NAME: [[1.0], [2.0], [3.0], [5.0]],
}


def output_for(splits):
    return splits.output.for_training(splits.output.truth_of(splits.train))


def from_flags(output, *flags):
    splits = some_splits(output, LABELS[output.NAME])
    config = parse(["--model_name_or_path", "m", "--train_file", "a.csv", *flags])
    return output_for(splits).loss(config, splits), sampling_classes(config, splits)


@pytest.mark.parametrize(
    "flag", ["--class_weights=balanced", "--balanced_sampling", "--focal_gamma=2", "--logit_adjustment=1"]
)
def test_numbers_have_no_imbalance(flag):
    with pytest.raises(UserError) as caught:
        from_flags(REGRESSION, flag)
    assert caught.value.where == flag.partition("=")[0]


@pytest.mark.parametrize("flag", ["--logit_adjustment=1", "--label_smoothing_factor=0.1"])
def test_several_classes_a_row_refuse_what_one_class_has(flag):
    with pytest.raises(UserError) as caught:
        from_flags(MULTI, flag)
    assert caught.value.where == flag.partition("=")[0]


def test_flags_reach_the_loss(capsys):
    loss, _ = from_flags(SINGLE, "--focal_gamma", "2", "--logit_adjustment", "1", "--label_smoothing_factor", "0.1")
    assert (loss.focal_gamma, loss.label_smoothing) == (2.0, 0.1)
    assert loss.logit_offsets.tolist() == pytest.approx([np.log(3 / 4), np.log(1 / 4)])
    said = capsys.readouterr().out
    assert "Focal loss with gamma 2." in said
    assert "Logit adjustment in training, tau 1: a -0.29, b -1.39." in said
    loss, _ = from_flags(MULTI, "--focal_gamma", "2", "--class_weights", "balanced")
    assert loss.focal_gamma == 2.0
    assert loss.weights.tolist() == pytest.approx([1 / 3, 3.0])


def test_rows_are_drawn_by_their_class_and_of_several_by_the_rarest(capsys):
    assert from_flags(SINGLE, "--balanced_sampling")[1].tolist() == [0, 0, 0, 1]
    assert "each class gives 2 of the 4 rows of an epoch; classes have 1 to 3 training rows." in capsys.readouterr().out
    assert from_flags(MULTI, "--balanced_sampling")[1].tolist() == [1, 2, 0, 1]
    assert from_flags(SINGLE)[1] is None


def test_the_head_of_several_classes_begins_at_how_frequent_they_are():
    splits = some_splits(MULTI, LABELS[MULTI.NAME])
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    before = model[0].bias.tolist()
    config = parse(["--model_name_or_path", "m", "--train_file", "a.csv"])
    output_for(splits).start(model, config, splits)
    assert model[1].bias.tolist() == pytest.approx([np.log(4 / 2), np.log(2 / 4)])
    assert model[0].bias.tolist() == before
    weighted = parse(["--model_name_or_path", "m", "--train_file", "a.csv", "--class_weights", "balanced"])
    output_for(splits).start(model, weighted, splits)
    assert model[1].bias.tolist() == pytest.approx([np.log(4 / 2 / 3), np.log(2 / 4 * 3)])


def test_a_head_without_a_bias_and_one_class_a_row_stay_as_they_are():
    bare = torch.nn.Linear(3, 2, bias=False)
    config = parse(["--model_name_or_path", "m", "--train_file", "a.csv"])
    output_for(some_splits(MULTI, LABELS[MULTI.NAME])).start(bare, config, some_splits(MULTI, LABELS[MULTI.NAME]))
    single = torch.nn.Linear(3, 2)
    before = single.bias.tolist()
    output_for(some_splits(SINGLE, LABELS[SINGLE.NAME])).start(single, config, some_splits(SINGLE, LABELS[SINGLE.NAME]))
    assert single.bias.tolist() == before


def test_numbers_are_standardised_by_the_mean_and_deviation_of_the_training_rows():
    loss = RegressionLoss([2.0, 10.0], [4.0, 5.0])
    labels = torch.tensor([[6.0, 0.0], [2.0, 10.0]])  # one deviation above and two below the mean, then the mean
    right = {"logits": torch.tensor([[1.0, -2.0], [0.0, 0.0]])}
    assert loss(right, labels).item() == 0
    off = {"logits": torch.tensor([[1.5, -2.0], [0.0, 1.0]])}
    assert loss(off, labels).item() == pytest.approx((0.25 + 1) / 4)
    assert loss(off, labels, num_items_in_batch=8).item() == pytest.approx((0.25 + 1) / 8)
