"""A strategy is a list of phases over stages."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from hf_finetune.errors import UserError
from hf_finetune.models import Stage
from hf_finetune.strategies.phases import Phase, Rates, check_name, frozen_depths, make_phases

RATES = Rates(
    learning_rate=1e-3, head_learning_rate=5e-3, probe_learning_rate=2e-2, layer_decay=0.5, epochs=3, probe_epochs=7
)
RESNET = [Stage(name, (), ()) for name in ("stem", "layer1", "layer2", "layer3", "layer4", "head")]
BERT = [Stage(name, (), ()) for name in ("embeddings", "block1", "block2", "head")]
STEMLESS = [Stage(name, (), ()) for name in ("block1", "block2", "head")]
ALL = {stage.name for stage in RESNET}


def only(strategy: str, stages=RESNET) -> Phase:
    (phase,) = make_phases(strategy, stages, RATES)
    return phase


def refused(strategy: str, stages=RESNET) -> UserError:
    with pytest.raises(UserError) as caught:
        make_phases(strategy, stages, RATES)
    return caught.value


def test_full_trains_everything_in_one_phase():
    assert only("full") == Phase("full", frozenset(ALL), 1e-3, 5e-3, 0.5, 3)


def test_head_trains_the_last_stage_at_the_rate_of_a_linear_probe():
    assert only("head") == Phase("head", frozenset({"head"}), 2e-2, 2e-2, 1.0, 7)


def test_lp_ft_is_a_linear_probe_and_then_full_fine_tuning():
    assert make_phases("lp_ft", RESNET, RATES) == [only("head"), only("full")]


def test_gradual_unfreezes_one_stage_per_phase_from_the_head_down():
    phases = make_phases("gradual", BERT, RATES)
    assert [phase.name for phase in phases] == ["head", "above-block1", "above-embeddings", "full"]
    assert [len(phase.trains) for phase in phases] == [1, 2, 3, 4]
    assert all(before.trains < after.trains for before, after in pairwise(phases))
    assert phases[0] == only("head")
    assert phases[1:] == [replace(only(f"freeze:{depth}", BERT), epochs=1) for depth in (1, 0)] + [
        replace(only("full", BERT), epochs=1)
    ]


@pytest.mark.parametrize(("epochs", "lengths"), [(6, [7, 1, 1, 4]), (2.5, [7, 1, 1, 1]), (3.5, [7, 1, 1, 1.5])])
def test_the_last_phase_of_gradual_gets_the_remaining_epochs(epochs, lengths):
    assert [phase.epochs for phase in make_phases("gradual", BERT, replace(RATES, epochs=epochs))] == lengths


@pytest.mark.parametrize(
    ("stages", "frozen"),
    [
        (2, [0]),
        (6, [4, 3, 2, 1, 0]),
        (8, [6, 5, 4, 3, 2, 1, 0]),
        (14, [11, 9, 7, 6, 4, 2, 0]),
        (26, [21, 18, 14, 11, 7, 4, 0]),
    ],
)
def test_deep_networks_unfreeze_several_stages_per_phase(stages, frozen):
    assert frozen_depths(stages) == frozen


def test_phases_have_unique_names():
    names = [phase.name for phase in make_phases("gradual", [Stage(f"block{i}", (), ()) for i in range(40)], RATES)]
    assert len(set(names)) == len(names) == 8


def test_lora_trains_adapters_and_the_head():
    phase = only("lora")
    assert phase.adapters
    assert phase.trains == {"head"}
    assert (phase.learning_rate, phase.head_learning_rate, phase.epochs) == (1e-3, 5e-3, 3)


@pytest.mark.parametrize("strategy", ["full", "head", "lp_ft", "gradual", "freeze:1"])
def test_no_other_strategy_has_adapters(strategy):
    assert not any(phase.adapters for phase in make_phases(strategy, RESNET, RATES))


@pytest.mark.parametrize(
    ("strategy", "frozen"),
    [
        ("freeze:0", {"stem"}),
        ("freeze:1", {"stem", "layer1"}),
        ("freeze:4", {"stem", "layer1", "layer2", "layer3", "layer4"}),
        ("freeze:stem", {"stem"}),
        ("freeze:layer2", {"stem", "layer1", "layer2"}),
        ("freeze:stage 2", {"stem", "layer1", "layer2"}),
        ("freeze:Block2", {"stem", "layer1", "layer2"}),
    ],
)
def test_everything_up_to_a_stage_or_depth_is_frozen(strategy, frozen):
    phase = only(strategy)
    assert phase.trains == ALL - frozen
    assert (phase.learning_rate, phase.head_learning_rate, phase.layer_decay, phase.epochs) == (1e-3, 5e-3, 0.5, 3)


def test_the_phase_is_named_after_the_last_frozen_stage():
    assert only("freeze:2").name == "above-layer2"
    assert only("freeze:embeddings", BERT).name == "above-embeddings"


def test_freezing_no_block_of_a_model_without_a_stem_freezes_nothing():
    phase = only("freeze:0", STEMLESS)
    assert phase.trains == {"block1", "block2", "head"}
    assert phase.name == "full"


@pytest.mark.parametrize("strategy", ["freeze:head", "freeze:Head"])
def test_freezing_the_head_leaves_nothing_to_train(strategy):
    error = refused(strategy)
    assert error.what == "no stage would train; the stages are stem, layer1, layer2, layer3, layer4, head"
    assert error.where == f"--strategy {strategy}"


@pytest.mark.parametrize("strategy", ["freeze:5", "freeze:100"])
def test_a_depth_beyond_the_blocks_is_refused(strategy):
    assert refused(strategy).fix == "give a depth of 0 to 4."


@pytest.mark.parametrize("strategy", ["freeze:neck", "freeze:", "freeze:-1", "freeze:layer9", "freeze:²", "freeze:1.5"])
def test_an_unknown_stage_lists_the_available_ones(strategy):
    assert "the stages are stem, layer1, layer2, layer3, layer4, head" in refused(strategy).what


@pytest.mark.parametrize("strategy", ["", "Full", "freeze", "lp-ft", "linear_probe", "qlora", " full"])
def test_an_unknown_strategy_lists_the_available_ones(strategy):
    with pytest.raises(UserError) as caught:
        check_name(strategy)
    assert caught.value.what == f"there is no strategy {strategy!r}"
    assert caught.value.fix.endswith("full, head, freeze:STAGE, freeze:DEPTH, lp_ft, gradual or lora.")
    assert str(refused(strategy)) == str(caught.value)


@pytest.mark.parametrize("strategy", ["full", "head", "lp_ft", "gradual", "lora", "freeze:3", "freeze:layer2"])
def test_known_strategies_pass_before_any_model_is_read(strategy):
    check_name(strategy)


def test_rates_decay_from_the_head_down():
    rates = [only("full", BERT).rate(BERT, index) for index in range(4)]
    assert rates == pytest.approx([1e-3 * 0.5**3, 1e-3 * 0.5**2, 1e-3 * 0.5, 5e-3])


def test_without_decay_the_whole_backbone_has_one_rate():
    phase = Phase("full", frozenset(), 1e-3, 5e-3, 1.0, 1)
    assert [phase.rate(BERT, index) for index in range(4)] == [1e-3, 1e-3, 1e-3, 5e-3]


def test_the_rate_of_the_head_does_not_decay():
    assert Phase("full", frozenset(), 1e-3, 5e-3, 0.1, 1).rate(STEMLESS, 2) == 5e-3
