"""Every error a client can see: one tree, mapped once to REST and gRPC.

A message is one line a person can act on. It never holds a stack trace, a path of the server or an exception class.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar, Final

import grpc

# gRPC carries a message percent-encoded in its trailers, which clients bound at 8 KiB in all.
_MAX_MESSAGE: Final = 600


class ServingError(Exception):
    """Base of the tree; each class carries its HTTP and gRPC status, and how soon a retry makes sense."""

    http_status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    grpc_status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    retry_after_s: ClassVar[int | None] = None

    def __init__(self, message: str) -> None:
        line = " ".join(message[: 4 * _MAX_MESSAGE].split())
        super().__init__(line if len(line) <= _MAX_MESSAGE else f"{line[:_MAX_MESSAGE]}…")

    @property
    def message(self) -> str:
        """The line that clients and logs get."""
        return str(self)


class InvalidRequest(ServingError):
    """A bad picture, tensor, parameter or JSON document."""

    http_status = HTTPStatus.BAD_REQUEST
    grpc_status = grpc.StatusCode.INVALID_ARGUMENT


class Unauthenticated(ServingError):
    """Credentials are missing or wrong."""

    http_status = HTTPStatus.UNAUTHORIZED
    grpc_status = grpc.StatusCode.UNAUTHENTICATED


class Forbidden(ServingError):
    """The caller is known and may not do this."""

    http_status = HTTPStatus.FORBIDDEN
    grpc_status = grpc.StatusCode.PERMISSION_DENIED


class NotFound(ServingError):
    """An unknown model, version or route."""

    http_status = HTTPStatus.NOT_FOUND
    grpc_status = grpc.StatusCode.NOT_FOUND


class NotLoaded(NotFound):
    """A model that there is, and that was not loaded or was unloaded."""


class TooLarge(ServingError):
    """More bytes, pixels or pictures than the limits allow."""

    http_status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    grpc_status = grpc.StatusCode.INVALID_ARGUMENT


class UnsupportedPicture(ServingError):
    """Bytes that are no picture, or one in a format that is not read here."""

    http_status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    grpc_status = grpc.StatusCode.INVALID_ARGUMENT


class Overloaded(ServingError):
    """The queue is full; the same request can succeed a moment later."""

    http_status = HTTPStatus.TOO_MANY_REQUESTS
    grpc_status = grpc.StatusCode.RESOURCE_EXHAUSTED
    retry_after_s = 1


class Unavailable(ServingError):
    """The model is loading, the server is draining, or the predictor is gone."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    grpc_status = grpc.StatusCode.UNAVAILABLE
    retry_after_s = 1


class DeadlineExceeded(ServingError):
    """The request's own time limit passed before its answer was ready."""

    http_status = HTTPStatus.GATEWAY_TIMEOUT
    grpc_status = grpc.StatusCode.DEADLINE_EXCEEDED


class Internal(ServingError):
    """A defect of the server: its log has the trace under the request's id, the client gets this line."""

    http_status = HTTPStatus.INTERNAL_SERVER_ERROR
    grpc_status = grpc.StatusCode.INTERNAL


_BY_GRPC_STATUS: dict[grpc.StatusCode, type[ServingError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def from_grpc(status: grpc.StatusCode, message: str) -> ServingError:
    """Return the error that an upstream server's gRPC status stands for.

    Any other status is a defect there, whose words (a class, a path) are not for clients.
    """
    error = _BY_GRPC_STATUS.get(status)
    return Internal(f"the upstream server failed with {status.name}") if error is None else error(message)
