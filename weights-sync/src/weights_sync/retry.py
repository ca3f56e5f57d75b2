"""Trying again: with longer and longer waits, never in step with others, and not for ever."""

import random
import time

from weights_sync.errors import SourceError
from weights_sync.limits import Limits

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0


class Interrupted(Exception):
    """A transfer broke in a way that may pass; `wait_s` is what the server asks for."""

    def __init__(self, reason: str, wait_s: float = 0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Stale(Interrupted):
    """What is here already is not the start of what the server has now."""


class Patience:
    """Counts the tries for `name`, a text without secrets."""

    def __init__(self, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._failures = 0

    def wait(self, error: Interrupted, *, progressed: bool = False) -> None:
        """Wait before the next try; give up after too many tries in a row that brought nothing."""
        self._failures = 1 if progressed else self._failures + 1
        if self._failures >= self._limits.attempts:
            raise SourceError(f"can not download {self._name}: {error}") from error
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (self._failures - 1))
        wait_s = max(error.wait_s, random.uniform(longest / 2, longest))  # noqa: S311 - jitter is no secret
        time.sleep(min(wait_s, self._limits.left_s(f"the download of {self._name} ({error})")))
