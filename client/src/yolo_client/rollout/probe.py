"""The same pictures to both versions: what each finds, how long it takes, and how often it fails."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from yolo_client.client import Answer, Client, Detection, RequestFailed
from yolo_client.demo import Sample
from yolo_client.rollout.agreement import Agreement, compare, total
from yolo_client.rollout.traffic import Traffic
from yolo_client.rollout.verdict import Limits, too_many_failed

# Before asking again where no answer came: the pictures go through the API server, which no client's request does.
_PAUSES_S: Final = (1.0, 3.0, 6.0)
# A pod that is silent for half a minute is asked once more.
_AGAIN_S: Final = 45.0
# What stalls a machine for a moment stalls a few answers of one version, which are the slowest of only so many.
_ROUNDS: Final = 3


@dataclass(slots=True)
class Answers:
    """What one version said of pictures.

    found: by picture, its first answer's detections. seconds: what the server itself took for each answer. errors: how
    many requests it did not answer, or refused. refusal: the last reason.
    """

    found: dict[str, tuple[Detection, ...]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    refusal: str = ""

    @property
    def requests(self) -> int:
        """How many pictures were sent."""
        return len(self.seconds) + self.errors

    @property
    def p95_s(self) -> float:
        """The time that 95 % of the answers took at most, the nearest rank; NaN without answers."""
        return sorted(self.seconds)[math.ceil(0.95 * len(self.seconds)) - 1] if self.seconds else math.nan

    def take(self, picture: str, answer: Answer) -> None:
        """Note an answer."""
        self.found.setdefault(picture, answer.detections)
        self.seconds.append(sum(answer.stages_us.values()) / 1e6 or answer.elapsed_s)


@dataclass(frozen=True, slots=True)
class Probe:
    """What both versions said of the same pictures."""

    stable: Answers = field(default_factory=Answers)
    canary: Answers = field(default_factory=Answers)

    @property
    def agreement(self) -> Agreement:
        """The agreement on what the stable version answered; in what the canary did not, it saw nothing."""
        return total(compare(found, self.canary.found.get(name, ())) for name, found in self.stable.found.items())


def ask(
    stable: Sequence[Client],
    canary: Sequence[Client],
    samples: Sequence[Sample],
    requests: int,
    limits: Limits,
    answered: Traffic,
) -> Probe:
    """Send `requests` pictures, but each at least once, to both versions in turn, and to the pods of each in turn.

    As many again, up to twice, while the canary's p95 is out of its limit. No more once so many failed, with what the
    canary `answered` to clients, that the others can not make up for it: it may have traffic until then.

    A picture that the stable version refuses is no evidence against the canary and is left out. The stable version may
    have no pods left; then only the canary's times and failures are known.
    """
    probe, planned = Probe(), max(requests, len(samples))
    ours, theirs = itertools.cycle(stable), itertools.cycle(canary)
    for rounds in range(1, _ROUNDS + 1):
        for sample in itertools.islice(itertools.cycle(samples), planned):
            failures = answered.errors + probe.canary.errors
            if too_many_failed(failures, answered.requests + rounds * planned, limits):
                return probe
            if stable and not _send(next(ours), sample, probe.stable):
                continue
            _send(next(theirs), sample, probe.canary)
        if not probe.canary.p95_s > limits.max_p95_ratio * probe.stable.p95_s:
            break
    return probe


def _send(client: Client, sample: Sample, answers: Answers) -> bool:
    # One failure decides most rollouts as it is: those after it need not be waited for.
    until = time.monotonic() + _AGAIN_S
    for pause in (*(() if answers.errors else _PAUSES_S), 0):
        try:
            answers.take(sample.name, client.detect(sample.data, use_cache=False))
        except RequestFailed as error:
            failure = error
        else:
            return True
        if failure.status or time.monotonic() > until:
            break
        time.sleep(pause)
    answers.errors += 1
    answers.refusal = str(failure)
    return False
