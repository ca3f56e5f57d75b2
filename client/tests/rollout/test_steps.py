"""The shares that a rollout goes through, from its beginning or from where it stood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_client.rollout.steps import parse_steps, remaining

rising = st.sets(st.integers(1, 99)).map(lambda steps: (*sorted(steps), 100))


@given(rising)
def test_steps_that_rise_to_100_are_read(steps) -> None:
    assert parse_steps(",".join(map(str, steps))) == steps


@pytest.mark.parametrize(
    "text", ["", "5", "5,25", "25,5,100", "5,5,100", "0,100", "-5,100", "5,101", "five,100", "5,,100"]
)
def test_what_does_not_rise_to_100_is_refused_by_name(text) -> None:
    with pytest.raises(ValueError, match="rise to 100") as error:
        parse_steps(text)
    assert f"'{text}'" in str(error.value)


@given(rising, st.integers(-1, 100))
def test_a_rollout_that_is_taken_up_again_watches_where_it_stands_and_goes_on(steps, percent) -> None:
    left = remaining(steps, percent)
    assert left[-1] == 100
    assert list(left) == sorted(set(left))
    assert percent <= 0 or left[0] == percent
    assert set(left) <= {*steps, percent}
    assert {step for step in steps if step > percent} <= set(left)
