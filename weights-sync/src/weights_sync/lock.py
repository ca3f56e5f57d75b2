"""One writer at a time in a directory, over processes and over pods that share a volume."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EAGAIN
from pathlib import Path

from weights_sync.errors import BusyError
from weights_sync.place import written

_POLL_S = 0.1


@contextmanager
def locked(file: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock `file`, after a wait of at most `wait_s`; the system frees it when its holder dies.

    On a file system that knows no locks the writers go on without: the renames keep each model whole all the same.
    """
    with written(file.parent):
        handle = os.open(file, os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        _take(handle, file.parent, time.monotonic() + wait_s)
        yield
    finally:
        os.close(handle)


def _take(handle: int, directory: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {EACCES, EAGAIN}:
                return
            if time.monotonic() >= until:
                raise BusyError(f"another weights-sync is still at work in {directory}: try again later") from error
            time.sleep(_POLL_S)
        else:
            return
