"""The command line that both servers share: the names KServe passes, and the limits of serving.

Nothing here imports KServe, so that `--help` and a wrong flag answer at once.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server listens, bounds its requests, and stops."""

    host: str = "0.0.0.0"  # noqa: S104 (a pod's servers listen on the pod's address)
    http_port: int = 8080
    grpc_port: int = 8081
    max_body_bytes: int = 64 << 20
    max_connection_age_s: float = 60.0
    drain_delay_s: float = 5.0
    grace_period_s: float = 30.0
    log_level: str = "info"

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> ServerOptions:
        """Return the options that were given on the command line."""
        return cls(**{name: getattr(arguments, name) for name in cls.__slots__})


def parser(program: str, description: str, http_port: int, grpc_port: int) -> argparse.ArgumentParser:
    """Return a parser of the shared flags; a server adds its own."""
    defaults = ServerOptions()
    flags = argparse.ArgumentParser(
        program, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    add = flags.add_argument
    add("--host", default=defaults.host, help="address to listen on")
    add("--http_port", type=_port, default=http_port, help="port of REST and of /metrics")
    add("--grpc_port", type=_port, default=grpc_port, help="port of gRPC")
    add("--max_body_bytes", type=positive, default=defaults.max_body_bytes, help="largest request, decompressed")
    add(
        "--max_connection_age",
        dest="max_connection_age_s",
        type=_seconds,
        default=defaults.max_connection_age_s,
        help="seconds after which a gRPC client is told to connect anew, so that it finds new pods; 0 for never",
    )
    add(
        "--drain_delay",
        dest="drain_delay_s",
        type=_seconds,
        default=defaults.drain_delay_s,
        help="seconds that a terminating server, unready already, still takes requests, so that routes can follow",
    )
    add(
        "--grace_period",
        dest="grace_period_s",
        type=_seconds,
        default=defaults.grace_period_s,
        help="seconds to finish accepted requests in after that, REST and gRPC together",
    )
    add("--log_level", choices=["debug", "info", "warning", "error"], default=defaults.log_level, help="least severity")
    add(
        "--workers",
        type=positive,
        default=1,
        help="accepted because KServe's controller passes it; one process serves all the same",
    )
    return flags


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() else 0
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return port


def positive(text: str) -> int:
    """Return the whole number of at least 1 in a flag's text.

    Raises:
        argparse.ArgumentTypeError: it is none.

    """
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of at least 1")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return seconds
