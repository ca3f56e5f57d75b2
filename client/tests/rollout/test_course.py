"""How a rollout ends, whatever happens on its way."""

from __future__ import annotations

import pytest

from yolo_client.rollout import course
from yolo_client.rollout.api import ClusterFailed
from yolo_client.rollout.course import Failed, Plan, Rollout
from yolo_client.rollout.services import Selector
from yolo_client.rollout.verdict import Action, Decision, Limits
from yolo_client.rollout.version import Change

PROMOTE = Decision(Action.PROMOTE, "it is good")
ROLL_BACK = Decision(Action.ROLL_BACK, "it is bad")


class Strategy:
    """A canary without traffic, and what was done with it."""

    owner = "m"

    def __init__(self, *, claimed: bool = False) -> None:
        self.done: list[str] = []
        self.claimed = claimed

    def percent(self) -> int:
        return 0

    def sources(self) -> tuple[str, str]:
        return "old", "new"

    def promoting(self) -> bool:
        return False

    def selectors(self) -> tuple[Selector, Selector]:
        return Selector("a", "a"), Selector("b", "b")

    def weigh(self, percent: int) -> None:
        self.done.append(f"weigh {percent}")

    def promote(self) -> Change:
        self.done.append("promote")
        return Change()

    def roll_back(self) -> None:
        self.done.append("roll back")

    def hand_back(self) -> None:
        if self.claimed:
            raise ClusterFailed("the cluster does not answer")


class Record:
    """Notes down, or is stopped as it does."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.verdicts: list[str] = []

    def event(self, reason: str, note: str, *, warning: bool = False) -> None:
        """Leave nothing."""

    def report(self, verdict: str, reason: str, _steps: object) -> None:
        if self.error:
            raise self.error
        self.verdicts.append(f"{verdict}: {reason}")


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "wait_until_ready", lambda *_: None)


def run(strategy: Strategy, record: Record, step, monkeypatch: pytest.MonkeyPatch) -> course.Outcome:
    """Run a rollout of one step, which ends with a decision or an error."""

    def take(*_: object) -> Decision:
        if isinstance(step, BaseException):
            raise step
        return step

    monkeypatch.setattr(Rollout, "_step", take)
    plan = Plan("m", "", (100,), 0, 0, Limits(), [])
    return Rollout(None, strategy, record, plan, lambda _: None).run()


def test_an_interrupt_after_the_promotion_does_not_take_it_back(monkeypatch) -> None:
    strategy = Strategy()
    outcome = run(strategy, Record(KeyboardInterrupt()), PROMOTE, monkeypatch)
    assert outcome.promoted
    assert strategy.done == ["promote"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BrokenPipeError(32, "Broken pipe"), "[Errno 32] Broken pipe"),
        (ValueError("no\nmetrics"), "no metrics"),
        (KeyError("spec"), "KeyError: 'spec'"),
    ],
)
def test_whatever_goes_wrong_takes_the_traffic_back_and_is_said_in_one_line(error, words, monkeypatch) -> None:
    strategy, record = Strategy(), Record()
    with pytest.raises(Failed) as failed:
        run(strategy, record, error, monkeypatch)
    assert str(failed.value) == f"the canary was rolled back, because this command failed: {words}"
    assert strategy.done == ["roll back"]
    assert record.verdicts == [f"rolled back: this command failed: {words}"]


@pytest.mark.parametrize(("decision", "done"), [(PROMOTE, "promote"), (ROLL_BACK, "roll back")])
def test_a_claim_that_can_not_be_given_up_is_said_and_changes_nothing(decision, done, monkeypatch, caplog) -> None:
    strategy, record = Strategy(claimed=True), Record()
    outcome = run(strategy, record, decision, monkeypatch)
    assert outcome.promoted is (decision is PROMOTE)
    assert strategy.done == [done]
    assert len(record.verdicts) == 1
    assert "still claimed, and Helm 4 may refuse to change it: the cluster does not answer" in caplog.text


def test_an_interrupt_on_the_way_takes_the_traffic_back(monkeypatch) -> None:
    strategy = Strategy()
    outcome = run(strategy, Record(), KeyboardInterrupt(), monkeypatch)
    assert (outcome.promoted, outcome.reason) == (False, "it was interrupted")
    assert strategy.done == ["roll back"]
