"""A batch that does not fit into memory is split into parts that give the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_finetune.errors import UserError
from hf_finetune.training.fit_in_memory import FitInMemory, split_batch


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))


def batch_of(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {"inputs": torch.randn(rows, 4, generator=generator), "labels": torch.arange(rows)}


def backward_in(capacity, seen=None):
    """Return a backward pass that fails with more than ``capacity`` rows, after it added the last layer's gradients."""

    def backward(model, part):
        loss = model(part["inputs"]).square().sum()
        if seen is not None:
            seen.append(len(part["labels"]))
        if len(part["labels"]) > capacity:
            (gradient,) = torch.autograd.grad(loss, model[1].weight)
            grown = model[1].weight.grad
            model[1].weight.grad = gradient if grown is None else grown + gradient
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        loss.backward()
        return loss.detach()

    return backward


def gradients(model, batches, fit, capacity, seen=None):
    model.zero_grad()
    backward = backward_in(capacity, seen)
    losses = [fit.step(model, batch, backward, closes=batch is batches[-1]) for batch in batches]
    return [parameter.grad.clone() for parameter in model.parameters()], [float(loss) for loss in losses]


def test_parts_contain_all_rows_in_order():
    found = split_batch(batch_of(7), 4)
    assert [part["labels"].tolist() for part in found] == [[0, 1, 2, 3], [4, 5, 6]]
    assert split_batch(found[0], 4)[0] is found[0]


@pytest.mark.parametrize(("capacity", "found"), [(100, None), (8, 8), (5, 4), (1, 1)])
def test_gradients_and_losses_are_those_of_the_whole_batch(model, capacity, found):
    batches = [batch_of(16, 1), batch_of(16, 2), batch_of(16, 3)]
    wanted, losses = gradients(model, batches, FitInMemory(), 100)
    fit = FitInMemory()
    summed, shares = gradients(model, batches, fit, capacity)
    assert shares == pytest.approx(losses, rel=1e-5)
    for got, expected in zip(summed, wanted, strict=True):
        torch.testing.assert_close(got, expected)
    assert found is None or fit.at_once == found


def test_a_failing_later_batch_does_not_count_earlier_ones_twice(model):
    batches = [batch_of(4, 1), batch_of(4, 2), batch_of(16, 3)]  # only the last is too large
    wanted, _ = gradients(model, batches, FitInMemory(), 100)
    seen = []
    summed, _ = gradients(model, batches, FitInMemory(), 8, seen)
    assert seen == [4, 4, 16, 4, 4, 8, 8]
    for got, expected in zip(summed, wanted, strict=True):
        torch.testing.assert_close(got, expected)


def test_the_number_of_rows_is_kept_for_the_next_steps(model):
    fit, seen = FitInMemory(), []
    for _ in range(2):
        gradients(model, [batch_of(16)], fit, 4, seen)
    assert seen == [16, 8, 4, 4, 4, 4, 4, 4, 4, 4]


def test_the_number_of_rows_is_printed_in_one_line(model, capsys):
    gradients(model, [batch_of(16)], FitInMemory(), 8)
    said = capsys.readouterr().out
    assert said == "Out of memory with 16 rows at once: 8 from now on. A step still has the same number of rows.\n"


def test_a_single_row_that_does_not_fit_is_an_error(model):
    with pytest.raises(UserError, match="a single row does not fit into memory"):
        gradients(model, [batch_of(4)], FitInMemory(), 0)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory. Tried to allocate 20 MiB"), torch.OutOfMemoryError()]
)
def test_each_error_of_full_memory_is_known(error, model):
    fit, failed = FitInMemory(), []

    def backward(model, part):
        if len(part["labels"]) > 2:
            failed.append(len(part["labels"]))
            raise error
        return model(part["inputs"]).sum()

    fit.step(model, batch_of(4), backward, closes=True)
    assert (failed, fit.at_once) == ([4], 2)


def test_other_errors_are_not_treated_as_out_of_memory(model):
    def backward(model, part):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        FitInMemory().step(model, batch_of(4), backward, closes=True)


def test_checkpoints_and_finished_phases_save_the_number_of_rows(tmp_path):
    from transformers import TrainerControl, TrainerState

    found, resumed, following = FitInMemory(4), FitInMemory(), FitInMemory()
    TrainerState(stateful_callbacks=[found, TrainerControl()]).save_to_json(tmp_path / "state.json")
    resumed.on_train_begin(None, TrainerState.load_from_json(tmp_path / "state.json"), TrainerControl())
    assert resumed.at_once == 4
    following.load(tmp_path)  # no file of an earlier phase
    assert following.at_once > 1_000_000
    found.save(tmp_path)
    following.load(tmp_path)
    assert following.at_once == 4
