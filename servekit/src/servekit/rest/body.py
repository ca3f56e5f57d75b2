"""Request bodies, bounded in bytes before and after decompression, and JSON answers."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from servekit.errors import InvalidRequest, ServingError, TooLarge

_GZIP_FROM_BYTES: Final = 8192  # below that the answer fits a few packets anyway
_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}


async def read(request: Request, max_bytes: int) -> bytes:
    """Return the whole body, decompressed.

    Raises:
        TooLarge: it is, or becomes, larger than `max_bytes`.
        InvalidRequest: its encoding is unknown or damaged.

    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise _too_large(max_bytes)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in {"", "identity"}:
        return body
    return await asyncio.to_thread(decompress, body, encoding, max_bytes)


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return the decompressed body; it never takes more than `max_bytes` and one byte.

    Raises:
        TooLarge: it would become larger than `max_bytes`.
        InvalidRequest: the encoding is unknown, or the body is damaged or cut short.

    """
    window_bits = _WINDOW_BITS.get(encoding)
    if window_bits is None:
        raise InvalidRequest(f"content encoding '{encoding[:20]}' is not read here: send gzip, deflate or none")
    engine = zlib.decompressobj(window_bits)
    try:
        plain = engine.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is no {encoding} data") from error
    if len(plain) > max_bytes:
        raise _too_large(max_bytes)
    if not engine.eof:
        raise InvalidRequest(f"the {encoding} body is cut short")
    if engine.unused_data:
        raise InvalidRequest(f"something follows the {encoding} data: send one member")
    return plain


def parse_object(body: bytes | memoryview) -> dict[str, Any]:
    """Return the JSON object in `body`.

    Raises:
        InvalidRequest: it is no JSON object.

    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is no JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    return document


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether a client that sent this header reads gzip."""
    for choice in accept_encoding.lower().split(","):
        coding, _, weight = choice.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def json_response(document: object, accept_encoding: str = "", status: int = 200) -> Response:
    """Return a JSON answer, compressed where that pays and the client accepts it."""
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = {}
    if len(body) >= _GZIP_FROM_BYTES and accepts_gzip(accept_encoding):
        body = gzip.compress(body, compresslevel=1, mtime=0)
        headers = {"content-encoding": "gzip", "vary": "accept-encoding"}
    return Response(body, status, headers, "application/json")


def error_response(error: ServingError) -> Response:
    """Return the protocol's error object with the error's status."""
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return Response(orjson.dumps({"error": error.message}), error.http_status, headers, "application/json")


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {max_bytes} bytes")
