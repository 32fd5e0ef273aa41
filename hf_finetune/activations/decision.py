"""Whether keeping activations pays: a measured estimate, and the sentence that says so."""

from __future__ import annotations

from dataclasses import dataclass

# Keeping what costs next to nothing serves later runs: another head, another rate, another seed.
_NEXT_TO_NOTHING = 0.02


@dataclass(frozen=True)
class Cost:
    """Seconds a row, measured on a few rows.

    Args:
        compute: reading a row and running the frozen stages.
        write: keeping what they gave.
        read: getting it back.
    """

    compute: float
    write: float
    read: float


@dataclass(frozen=True)
class Decision:
    """Whether activations are kept, and why; ``impossible`` where they cannot be."""

    keep: bool
    why: str
    impossible: bool = False


def decide(cost: Cost, passes: float, size: int, room: int) -> Decision:
    """Weigh the passes that are saved against writing and reading.

    Args:
        cost: of a row.
        passes: how often each row is read in this run.
        size: bytes that are to be written.
        room: bytes that may be.
    """
    figures = f"the frozen stages take {_ms(cost.compute)} a row, reading what they gave {_ms(cost.read)}"
    if size > room:
        return Decision(
            False, f"{_gb(size)} would be needed and {_gb(max(room, 0))} may be used (--activation_cache_max_gb)", True
        )
    times = f"over {passes:g} epochs" if passes > 1 else "once"
    without = passes * cost.compute
    with_store = cost.compute + cost.write + passes * cost.read
    if with_store < without:
        return Decision(True, f"{figures}, {times}; {_gb(size)}")
    if cost.write + passes * cost.read < _NEXT_TO_NOTHING * cost.compute:
        return Decision(True, f"{figures}, so that later runs get them for nothing; {_gb(size)}")
    return Decision(False, f"{figures}, writing it {_ms(cost.write)}: {times} nothing is gained")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
