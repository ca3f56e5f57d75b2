"""Being told to end, by whatever signal."""

import signal


def heed_all() -> None:
    """Have SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, and Ctrl-C too where it would be ignored."""
    # A CI job that is cancelled gets SIGTERM; SIGINT is ignored in what a script starts in the background.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    # A terminal that goes away, unless nohup said that it should not matter.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
