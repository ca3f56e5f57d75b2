"""What fetching may do: bytes, time, and where it may go."""

import time
from dataclasses import dataclass, field

from weights_sync.errors import DeadlineError, TooLargeError

MAX_BYTES = 2 * 1024**3 - 1
"""Size of the largest file; also what one ONNX file can hold."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one pull may do; the deadline runs from the moment this is made."""

    max_bytes: int = MAX_BYTES
    allow_http: bool = False
    """Whether plain HTTP may leave this machine."""
    allow_private: bool = False
    """Whether a redirect may lead to a private, loopback or link-local address."""
    attempts: int = 5
    """Tries in a row that bring no byte before a transfer is given up."""
    deadline_s: float = 1800
    """Seconds for all of it: waiting, fetching, trying again."""
    started_s: float = field(default_factory=time.monotonic)

    def left_s(self, what: str) -> float:
        """Return the seconds left, or say that `what` took too long."""
        left = self.started_s + self.deadline_s - time.monotonic()
        if left <= 0:
            raise DeadlineError(f"{what} was not done in {self.deadline_s:g} seconds: allow more with --deadline")
        return left

    def check_size(self, size: int, what: str) -> None:
        """Refuse what is over the limit of bytes."""
        if size > self.max_bytes:
            raise TooLargeError(f"{what} has {size} bytes; the limit is {self.max_bytes}")
