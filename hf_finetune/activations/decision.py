"""Decide from measured times whether caching activations pays."""

from __future__ import annotations

from dataclasses import dataclass

# A cache that costs so little compared with one pass is written for later runs: another head, rate or seed.
_NEGLIGIBLE = 0.02


@dataclass(frozen=True)
class Cost:
    """Seconds per row, measured on a few rows.

    Args:
        compute: loading a row and running the frozen stages.
        write: writing its activations.
        read: reading them back.
    """

    compute: float
    write: float
    read: float


@dataclass(frozen=True)
class Decision:
    """Whether to cache activations, and why; ``impossible`` if they cannot be cached even on request."""

    cache: bool
    why: str
    impossible: bool = False


def decide(cost: Cost, passes: float, size: int, room: int) -> Decision:
    """Compare the time of the passes that are saved with the time of writing and reading.

    Args:
        cost: seconds per row.
        passes: how often each row is read in this run.
        size: bytes to write.
        room: bytes that may be written.
    """
    figures = f"the frozen stages take {_ms(cost.compute)} per row, reading their output {_ms(cost.read)}"
    if size > room:
        return Decision(
            False, f"{_gb(size)} are needed and {_gb(max(room, 0))} are available (--activation_cache_max_gb)", True
        )
    times = f"over {passes:g} epochs" if passes > 1 else "once"
    without = passes * cost.compute
    with_store = cost.compute + cost.write + passes * cost.read
    if with_store < without:
        return Decision(True, f"{figures}, {times}; {_gb(size)}")
    if cost.write + passes * cost.read < _NEGLIGIBLE * cost.compute:
        return Decision(True, f"{figures}, so later runs save this time; {_gb(size)}")
    return Decision(False, f"{figures}, writing it {_ms(cost.write)}: {times} this saves no time")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
