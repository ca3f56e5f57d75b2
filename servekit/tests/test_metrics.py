"""Metrics as other programs rely on them."""

from __future__ import annotations

import math
from itertools import pairwise

from servekit.metrics import REQUEST_SECONDS


def test_buckets_of_requests_are_fine_enough_to_tell_half_as_slow_again() -> None:
    *bounds, last = REQUEST_SECONDS._upper_bounds
    assert (bounds[0], bounds[-1], last) == (0.001, 30, math.inf)
    assert max(after / before for before, after in pairwise(bounds)) < 1.7
