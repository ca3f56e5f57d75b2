"""What is kept of every request: one log line, and its place in the metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import structlog

from servekit.errors import Internal, ServingError
from servekit.inference import RequestContext
from servekit.metrics import REQUEST_SECONDS, REQUESTS_IN_FLIGHT

_log = structlog.get_logger("servekit.request")
# Probes and scrapes come every few seconds from every node.
_QUIET: Final = frozenset({"live", "ready", "model_ready", "metrics"})
_TRACE_HEADERS: Final = (
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
)
_MAX_ID_LENGTH: Final = 128
_MAX_TRACE_LENGTH: Final = 512  # what the trace context standard asks of tracestate


def context_from(headers: Mapping[str, str]) -> RequestContext:
    """Return the context that a request's headers (or gRPC metadata) ask for.

    What could not travel on as gRPC metadata or stand in a log is dropped; a request id is made up in its place.
    """
    request_id = headers.get("x-request-id", "")
    found = ((name, headers.get(name, "")) for name in _TRACE_HEADERS)
    trace = tuple((name, value) for name, value in found if _is_plain(value, _MAX_TRACE_LENGTH))
    if _is_plain(request_id, _MAX_ID_LENGTH):
        return RequestContext(request_id, trace=trace)
    return RequestContext(trace=trace)


def _is_plain(value: str, max_length: int) -> bool:
    return 0 < len(value) <= max_length and value.isascii() and value.isprintable()


class Observation:
    """A request from its arrival to its answer."""

    def __init__(self, protocol: str, call: str, context: RequestContext) -> None:
        self.protocol = protocol
        self.call = call
        self.context = context
        self.model = ""
        self._begun = time.perf_counter_ns()
        REQUESTS_IN_FLIGHT.labels(protocol).inc()

    def failure(self, error: Exception) -> ServingError:
        """Return the error that the client may see; a defect's trace goes to the log only."""
        if isinstance(error, ServingError):
            return error
        _log.error("defect", call=self.call, request_id=self.context.request_id, exc_info=error)
        return Internal(f"internal error: the server's log tells more under request id {self.context.request_id}")

    def finish(self, code: str, error: str = "") -> None:
        """Count the request and log it."""
        elapsed_ns = time.perf_counter_ns() - self._begun
        REQUESTS_IN_FLIGHT.labels(self.protocol).dec()
        REQUEST_SECONDS.labels(self.protocol, self.call, self.model, code).observe(elapsed_ns / 1e9)
        if self.call in _QUIET:
            return
        fields: dict[str, object] = {
            "protocol": self.protocol,
            "call": self.call,
            "model": self.model,
            "code": code,
            "ms": round(elapsed_ns / 1e6, 3),
            "request_id": self.context.request_id,
        }
        fields.update({f"{stage}_ms": round(ns / 1e6, 3) for stage, ns in self.context.durations_ns.items()})
        if error:
            fields["error"] = error
        _log.info("request", **fields)
