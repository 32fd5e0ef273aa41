"""When the activation cache is on, and the reason that is printed."""

from __future__ import annotations

import pytest

from hf_finetune.activations.decision import Cost, decide

GB = 10**9


@pytest.mark.parametrize(
    ("cost", "passes", "size", "room", "keep", "impossible", "why"),
    [
        pytest.param(
            Cost(0.010, 0.001, 0.0005), 3, 2 * GB, 3 * GB, True, False,
            "the frozen stages take 10 ms per row, reading their output 0.5 ms, over 3 epochs; 2.0 GB",
            id="keep",
        ),
        pytest.param(
            Cost(0.010, 0.001, 0.0005), 2.5, 1_500_000, 3 * GB, True, False,
            "the frozen stages take 10 ms per row, reading their output 0.5 ms, over 2.5 epochs; 1.5 MB",
            id="half an epoch more",
        ),
        pytest.param(
            Cost(0.001, 0.002, 0.0008), 3, 2 * GB, 3 * GB, False, False,
            "the frozen stages take 1 ms per row, reading their output 0.8 ms, writing it 2 ms: "
            "over 3 epochs this saves no time",
            id="not worth it",
        ),
        pytest.param(
            Cost(0.010, 0.002, 0.0005), 1, 2 * GB, 3 * GB, False, False,
            "the frozen stages take 10 ms per row, reading their output 0.5 ms, writing it 2 ms: once this saves no time",
            id="one epoch",
        ),
        pytest.param(
            Cost(0.010, 0.0001, 0.00005), 1, 2 * GB, 3 * GB, True, False,
            "the frozen stages take 10 ms per row, reading their output 0.05 ms, "
            "so later runs save this time; 2.0 GB",
            id="next to nothing",
        ),
        pytest.param(
            Cost(0.010, 0.001, 0.0005), 30, 2 * GB, GB, False, True,
            "2.0 GB are needed and 1.0 GB are available (--activation_cache_max_gb)",
            id="no room",
        ),
        pytest.param(
            Cost(0.010, 0.001, 0.0005), 30, 5_000_000, -3_000_000, False, True,
            "5.0 MB are needed and 0.0 MB are available (--activation_cache_max_gb)",
            id="less than no room",
        ),
        pytest.param(Cost(0.010, 0.001, 0.0005), 30, GB, GB, True, False, None, id="just enough room"),
        # 10 + 1 + 3 w = 3 · 10 holds at w = 19/3 ms
        pytest.param(Cost(0.010, 0.001, 0.0063), 3, GB, GB, True, False, None, id="just worth it"),
        pytest.param(Cost(0.010, 0.001, 0.0064), 3, GB, GB, False, False, None, id="just not worth it"),
    ],
)  # fmt: skip
def test_decisions(cost, passes, size, room, keep, impossible, why):
    decision = decide(cost, passes, size, room)
    assert (decision.cache, decision.impossible) == (keep, impossible)
    assert why is None or decision.why == why
