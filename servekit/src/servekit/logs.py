"""Structured logs: one JSON line an event, on standard error."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer


def configure(level: str = "info") -> None:
    """Have every logger, the libraries' included, write JSON lines from `level` on."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without locals: they would put request bodies into the log.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    # uvicorn and the SDK would write several lines a request below this.
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[_ToStructlog()], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "kserve", "kserve.trace"):
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True
        library.setLevel(max(number, logging.WARNING))


def _dumps(event: dict[str, Any], **_: object) -> bytes:
    try:
        return orjson.dumps(event, default=str)
    except TypeError:  # a text from a file name that is no Unicode, or a number beyond 64 bits
        return json.dumps(event, default=str).encode()


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        logger.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
