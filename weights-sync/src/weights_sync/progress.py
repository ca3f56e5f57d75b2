"""How far a transfer is: a bar on a terminal, one JSON line every few seconds elsewhere."""

import json
import sys
import time
from collections.abc import Callable
from typing import TextIO

_BAR_PERIOD_S = 0.1
_LINE_PERIOD_S = 5.0
_BAR_WIDTH = 30


class Progress:
    """Reports on one transfer of `source`, a text without secrets, to standard error."""

    def __init__(
        self, source: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._bar = self._stream.isatty()
        self._period_s = _BAR_PERIOD_S if self._bar else _LINE_PERIOD_S
        self._started_s = self._said_s = clock()
        self._first = self._last = -1

    def at(self, done: int, total: int | None) -> None:
        """Say that `done` of `total` bytes (None: unknown) are here, if it is time to say something."""
        now = self._clock()
        if self._first < 0 or done < self._last:
            self._first, self._started_s = done, now
        self._last = done
        if now - self._said_s < self._period_s:
            return
        self._said_s = now
        rate = (done - self._first) / max(now - self._started_s, 1e-9)
        if self._bar:
            self._stream.write(f"\r{_bar(done, total)}  {rate / 1e6:.1f} MB/s  {self._source[-40:]}\x1b[K")
        else:
            facts = {"bytes": done, "total_bytes": total, "bytes_per_s": round(rate), "source": self._source}
            self._stream.write(json.dumps({"event": "progress", **facts}) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Take the bar away, so that what follows stands alone."""
        if self._bar:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _bar(done: int, total: int | None) -> str:
    if not total:
        return f"{done / 1e6:.1f} MB"
    filled = min(_BAR_WIDTH, _BAR_WIDTH * done // total)
    return f"{'█' * filled}{'░' * (_BAR_WIDTH - filled)} {100 * done // total:3d} %  {total / 1e6:.1f} MB"
