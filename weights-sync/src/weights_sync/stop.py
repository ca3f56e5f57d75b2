"""Ending at once when told to, also as the first process of a container and in the middle of anything."""

import os
import signal
import threading

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def end_when_told(status: int | None = None) -> None:
    """Have SIGTERM and SIGINT end this process with that exit status, or the signal's own (128 and its number).

    Nothing is tidied up, and nothing needs it: models are placed by renames that a kill at any step leaves whole, locks
    are freed by the system. A handler would have to wait until the main thread is back from a library; a thread that
    takes the blocked signals does not. Called before any other thread starts, for those take over what is blocked.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    threading.Thread(target=_wait, args=(status,), daemon=True).start()


def _wait(status: int | None) -> None:
    number = signal.sigwait(_SIGNALS)
    os._exit(128 + number if status is None else status)
