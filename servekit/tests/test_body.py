from __future__ import annotations

import gzip
import zlib

import pytest

from servekit.errors import InvalidRequest, TooLarge
from servekit.rest.body import decompress


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_read_up_to_the_limit_and_no_further(encoding, compress):
    body = compress(b"x" * 1000)
    assert decompress(body, encoding, 1000) == b"x" * 1000
    with pytest.raises(TooLarge):
        decompress(body, encoding, 999)


def test_a_bomb_is_refused_without_being_unpacked():
    bomb = gzip.compress(bytes(50 << 20))
    with pytest.raises(TooLarge):
        decompress(bomb, "gzip", 1000)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b""),
        ("gzip", b"no gzip"),
        ("gzip", zlib.compress(b"x")),
        ("gzip", gzip.compress(b"x" * 100)[:-1]),
        ("gzip", gzip.compress(b"x") + b"y"),
        ("gzip", gzip.compress(b"x") + gzip.compress(b"y")),
        ("gzip", gzip.compress(b"x")[:-8] + bytes(8)),
        ("deflate", gzip.compress(b"x")),
        ("br", b"x"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x"))),
    ],
)
def test_a_damaged_or_unknown_encoding_is_refused(encoding, body):
    with pytest.raises(InvalidRequest):
        decompress(body, encoding, 1000)
