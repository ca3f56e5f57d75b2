"""When a watcher takes its turns: every so often, at once when it is told of a change, later where things fail."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from weights_sync import metrics
from weights_sync.errors import AwayError, WeightsError
from weights_sync.watch.news import News

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 900.0
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait between turns."""

    every_s: float

    def wait_s(self, failures: int, *, away: bool) -> float:
        """Return the wait after that many failures in a row, without jitter.

        A predictor that is `away` is likely starting: it is asked soon, and then less and less often.
        """
        if not failures:
            return self.every_s
        first, longest = (_FIRST_WAIT_S, self.every_s) if away else (self.every_s, max(self.every_s, _LONGEST_WAIT_S))
        return min(longest, first * 2.0 ** min(failures - 1, 20))


@dataclass(slots=True)
class Pulse:
    """Whether the watcher goes on: it says until when it will be heard of again."""

    until_s: float = field(default_factory=lambda: time.monotonic() + 60)

    def expect(self, within_s: float) -> None:
        """Promise to be heard of within that time."""
        self.until_s = time.monotonic() + within_s

    def alive(self) -> bool:
        """Tell whether the last promise was kept."""
        return time.monotonic() < self.until_s


@dataclass(slots=True)
class Loop:
    """Takes turns for ever; `changed` is set where a turn should not wait, `uri` says for what."""

    turn: Callable[[str], None]
    uri: Callable[[], str]
    pace: Pace
    turn_s: float
    """The longest that a turn may take."""
    tell: Callable[[News], None]
    changed: threading.Event = field(default_factory=threading.Event)
    pulse: Pulse = field(default_factory=Pulse)
    _failures: int = 0
    _away: bool = False

    def run(self) -> None:
        """Return never."""
        while True:
            self.pulse.expect(self.turn_s)
            self.changed.clear()
            self._turn()
            wait_s = self.pace.wait_s(self._failures, away=self._away) * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - jitter is no secret
            self.pulse.expect(wait_s + self.turn_s)
            self.changed.wait(wait_s)

    def _turn(self) -> None:
        uri = self.uri()
        if not uri:
            return
        try:
            self.turn(uri)
        except WeightsError as error:
            away = isinstance(error, AwayError)
            self._failures = self._failures + 1 if away == self._away else 1
            self._away = away
            metrics.failed(error)
            self.tell(News.of("failed", because=str(error)))
        else:
            self._failures, self._away = 0, False
            metrics.LAST_SUCCESS.set_to_current_time()
