"""A rollout from its first step to its verdict."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from yolo_client.demo import Sample
from yolo_client.rollout.api import Api, ClusterFailed, Document
from yolo_client.rollout.probe import Probe
from yolo_client.rollout.readiness import NotReady, absence_of, wait_until_ready
from yolo_client.rollout.record import Record
from yolo_client.rollout.step import Memory, clients_tell, document_of, observe, probe
from yolo_client.rollout.steps import remaining
from yolo_client.rollout.strategies.strategy import Strategy
from yolo_client.rollout.verdict import Action, Decision, Limits, Observation, decide
from yolo_client.rollout.version import Change
from yolo_client.rollout.watch import Watch, watch

_log = logging.getLogger(__name__)
# For a pod that fails a readiness probe as a step ends, which says nothing yet.
_RETURN_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to roll out and how: `source` is empty for the canary that is there, `seconds` the time of a step."""

    name: str
    source: str
    steps: tuple[int, ...]
    seconds: float
    ready_s: float
    limits: Limits
    samples: Sequence[Sample]
    leave_on_interrupt: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a rollout ended: `source` is where the weights come from that are served now, `change` what else is new."""

    promoted: bool
    reason: str
    source: str
    change: Change = field(default_factory=Change)


class Interrupted(Exception):
    """The person who began the rollout stopped it, and the canary was left as it is; the message says how."""


class Failed(Exception):
    """Something that nobody foresaw went wrong, and the canary was taken back; the message says what in one line."""


class Rollout:
    """One canary's way to all of the traffic, or back to none of it."""

    def __init__(
        self, api: Api, strategy: Strategy, record: Record, plan: Plan, tell: Callable[[Document], None]
    ) -> None:
        self._api, self._strategy, self._record, self._plan, self._tell = api, strategy, record, plan, tell
        self._memory = Memory()
        self._reports: list[Document] = []

    def run(self) -> Outcome:
        """Take the canary through the steps that it has before it.

        Raises:
            ClusterFailed: there is nothing to roll out, or the cluster does not do its part.
            Interrupted: by Ctrl-C, where the plan says to leave the canary then.
            Failed: the canary was taken back for another reason than what it did.

        """
        percent, (stable, canary) = self._strategy.percent(), self._strategy.sources()
        self._check(percent, stable)
        if self._strategy.promoting():
            # An earlier run had decided to promote, and was cut off as it did.
            return self._promoted("its promotion was under way", canary, self._strategy.promote())
        change = Change()
        try:
            if self._plan.source:
                self._create()
            decision = self._go(percent)
            if decision.action is Action.PROMOTE:
                change = self._strategy.promote()
        except NotReady as error:
            decision = Decision(Action.ROLL_BACK, f"the canary does not become ready: {error}")
        except ClusterFailed as error:
            decision = Decision(Action.ROLL_BACK, str(error))
        except KeyboardInterrupt:
            if self._plan.leave_on_interrupt:
                raise Interrupted(f"the canary keeps {max(0, self._strategy.percent())} % of the traffic") from None
            decision = Decision(Action.ROLL_BACK, "it was interrupted")
        except Exception as error:
            reason = f"this command failed: {_words_of(error)}"
            self._roll_back(reason, stable)
            raise Failed(f"the canary was rolled back, because {reason}") from error
        if decision.action is Action.PROMOTE:
            return self._promoted(decision.reason, self._plan.source or canary, change)
        return self._roll_back(decision.reason, stable)

    def _check(self, percent: int, stable: str) -> None:
        if self._plan.source == stable:
            raise ClusterFailed(f"{self._plan.name} has the weights {stable} already")
        if self._plan.source and percent >= 0:
            raise ClusterFailed(
                f"there is a canary already, with {percent} % of the traffic: go on with it without --to"
            )
        if not self._plan.source and percent < 0:
            raise ClusterFailed(f"InferenceService {self._plan.name} has no canary: --to URI makes one")

    def _create(self) -> None:
        self._strategy.create(self._plan.source)
        self._record.event("RolloutBegun", f"a canary with the weights {self._plan.source} is on trial")

    def _go(self, percent: int) -> Decision:
        _, canary = self._strategy.selectors()
        wait_until_ready(self._api, canary, self._strategy.owner, self._plan.ready_s)
        decision = Decision(Action.GO_ON, "")
        # Without traffic first: what a look at the answers can tell, no client needs to find out.
        for step in remaining(self._plan.steps, percent) if percent > 0 else (0, *self._plan.steps):
            if step != percent:
                self._strategy.weigh(step)
            decision = self._step(step)
            if decision.action is not Action.GO_ON:
                break
        return decision

    def _step(self, percent: int) -> Decision:
        plan, selectors = self._plan, self._strategy.selectors()
        stable, canary = (Watch(self._api, each) for each in selectors)
        failure = watch(stable, canary, plan.seconds, plan.limits) if percent else ""
        wait_s = min(_RETURN_S, plan.ready_s)
        absence = "" if failure else absence_of(self._api, selectors[1], self._strategy.owner, wait_s)
        # Where the verdict stands already, the canary need not keep its traffic for pictures.
        seen = self._observe(stable, canary, asked=not (failure or absence))
        seen = replace(seen, restarts=canary.restarts(), absence=absence)
        last = percent == plan.steps[-1]
        decision = Decision(Action.ROLL_BACK, failure) if failure else decide(seen, plan.limits, last=last)
        report = {**document_of(percent, seen), "action": decision.action.value, "reason": decision.reason}
        self._reports.append(report)
        self._tell(report)
        self._record.event(
            "RolloutStep", f"{percent} %: {decision.reason}", warning=decision.action is Action.ROLL_BACK
        )
        return decision

    def _observe(self, stable: Watch, canary: Watch, *, asked: bool) -> Observation:
        plan, traffic = self._plan, (stable.traffic, canary.traffic)
        told = clients_tell(*traffic, self._memory, plan.limits) and not (stable.caches or canary.caches)
        requests = 0 if told else plan.limits.min_requests
        probed = probe(stable, canary, plan.name, plan.samples, requests, plan.limits) if asked else Probe()
        seen, self._memory = observe(*traffic, probed, self._memory, plan.limits, by_clients=told)
        return seen

    def _promoted(self, reason: str, source: str, change: Change) -> Outcome:
        self._settle("promoted", "RolloutPromoted", f"{source} is promoted: {reason}")
        return Outcome(promoted=True, reason=reason, source=source, change=change)

    def _roll_back(self, reason: str, source: str) -> Outcome:
        try:
            self._strategy.roll_back()
        except ClusterFailed as error:
            raise ClusterFailed(f"rolling back failed: {error}; it was to be done because {reason}") from error
        self._settle("rolled back", "RolloutRolledBack", reason, warning=True)
        return Outcome(promoted=False, reason=reason, source=source)

    def _settle(self, verdict: str, event: str, reason: str, *, warning: bool = False) -> None:
        # The traffic is where it belongs: nothing that goes wrong from here on, no Ctrl-C either, changes that.
        with suppress(KeyboardInterrupt):
            try:
                self._strategy.hand_back()
            except ClusterFailed as error:
                _log.warning("what was changed is still claimed, and Helm 4 may refuse to change it: %s", error)
            self._record.report(verdict, reason, self._reports)
            self._record.event(event, reason, warning=warning)


def _words_of(error: Exception) -> str:
    # What is no failure of the world around is a defect, whose name is all that helps.
    name = "" if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: "
    return name + " ".join(str(error).split())


def intention(strategy: Strategy, plan: Plan) -> str:
    """Return one line on what `Rollout.run` would do now.

    Raises:
        ClusterFailed: there is nothing to roll out.

    """
    percent = strategy.percent()
    way = type(strategy).__name__.lower()
    if plan.source:
        shares = ", ".join(f"{step} %" for step in plan.steps)
        return f"{plan.name} ({way}): a canary with {plan.source}, compared without traffic, then with {shares}"
    if percent < 0:
        raise ClusterFailed(f"InferenceService {plan.name} has no canary: --to URI makes one")
    shares = ", ".join(f"{step} %" for step in remaining(plan.steps, percent))
    stable, canary = strategy.sources()
    if strategy.promoting():
        return f"{plan.name} ({way}): {canary} is promoted, which was under way"
    return f"{plan.name} ({way}): {canary} in place of {stable}, from {percent} % over {shares}"
