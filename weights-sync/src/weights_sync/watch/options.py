"""What `weights-sync watch` takes beside the options of a pull."""

import argparse
import re
from pathlib import Path

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}
_TIME = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")


def add_watch_options(verb: argparse.ArgumentParser) -> None:
    """Add them to the verb."""
    verb.add_argument("uri", nargs="?", metavar="URI", help="where from; not needed with --follow")
    verb.add_argument("dest", type=Path, metavar="DEST", help="the directory that the predictor reads")
    verb.add_argument("--predictor", default="http://127.0.0.1:8080", metavar="URL", help="who loads it (%(default)s)")
    verb.add_argument("--model", required=True, metavar="NAME", help="the predictor's name for the model in DEST")
    verb.add_argument("--every", type=seconds, default=60.0, metavar="TIME", help="between looks, as 30s or 5m (60s)")
    verb.add_argument("--load_timeout", type=seconds, default=300.0, metavar="TIME", help="for a load (300s)")
    verb.add_argument(
        "--follow",
        metavar="OBJECT",
        help="take the URI from configmap/NAME[#KEY], annotation[#KEY] or annotation/INFERENCESERVICE[#KEY] in"
        " Kubernetes; a URI on the command line is served while there is none",
    )
    verb.add_argument("--metrics_port", type=int, metavar="PORT", help="answer /metrics, /healthz and /readyz there")


def seconds(text: str) -> float:
    """Read a time: `90`, `90s`, `1.5m`, `1h`."""
    match = _TIME.fullmatch(text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 30s, 5m or 1h")
    return float(match[1]) * _UNITS_S[match[2]]
