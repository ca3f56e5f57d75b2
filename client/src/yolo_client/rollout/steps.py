"""The shares of traffic that a rollout goes through."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def parse_steps(text: str) -> tuple[int, ...]:
    """Return the steps in a comma list of percentages.

    Raises:
        ValueError: they are no whole numbers of 1 to 100 that rise to 100.

    """
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError:
        steps = ()
    rising = all(first < second for first, second in pairwise(steps))
    if not steps or steps[0] < 1 or steps[-1] != 100 or not rising:
        raise ValueError(f"'{text}' are no steps: give percentages that rise to 100, such as 5,25,50,100")
    return steps


def remaining(steps: Sequence[int], percent: int) -> tuple[int, ...]:
    """Return the steps still to go of a canary that has `percent` of the traffic.

    The step that it stands at is watched again: whoever began it did not see its end. A share that is no step is kept
    until the next one, for the same reason.
    """
    later = tuple(step for step in steps if step > percent)
    return (percent, *later) if percent > 0 else later
