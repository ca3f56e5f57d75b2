"""A TIFF's first page under a table of contents that names no more than the picture needs."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from servekit.errors import InvalidRequest
from yolo_transformer.containers import Bare
from yolo_transformer.formats import UPRIGHT, Format

_WIDTH, _HEIGHT, _ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 274, 322, 323
# Where the strips or the tiles begin, and how long they are.
_PIECES: Final = ((273, 279), (324, 325))
_PICTURE_TAGS: Final = frozenset({
    *(_WIDTH, _HEIGHT, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, _TILE_WIDTH, _TILE_HEIGHT),
    *(324, 325, 332, 338, 339, 347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532),
})  # fmt: skip
_TYPE_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8}
_WHOLE_NUMBERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
# At most one strip a row and plane, at the longest side there is; a page has some twenty tags.
_MAX_VALUES: Final = 65_536
_MAX_TAGS: Final = 4096


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file writes its tables: struct formats of a count, of an entry's head and of an offset, and its magic."""

    count: str
    entry: str
    offset: str
    magic: bytes

    @property
    def inline(self) -> int:
        """The bytes of a value that stands in its entry."""
        return struct.calcsize(self.offset)

    @property
    def entry_size(self) -> int:
        return struct.calcsize(self.entry) + self.inline


def bare_tiff(data: bytes) -> Bare:
    """Return the TIFF's first page alone, its orientation taken out; a page of tiles counts at least as one tile.

    Raises:
        InvalidRequest: it is cut short, or its table of contents is damaged or made to exhaust a reader.

    """
    layout = _layout(data)
    try:
        entries = _entries(data, layout)
        sizes = {tag: max(_values(data, entries, tag, layout), default=0) for tag in (_WIDTH, _HEIGHT)}
        tile = {tag: max(_values(data, entries, tag, layout), default=0) for tag in (_TILE_WIDTH, _TILE_HEIGHT)}
        orientation = min(_values(data, entries, _ORIENTATION, layout), default=UPRIGHT)
        end = max(_end_of_pixels(data, entries, layout), default=0)
    except struct.error:
        raise InvalidRequest("the TIFF is damaged or cut short: its table of contents is not all there") from None
    if end > len(data):
        raise InvalidRequest("the TIFF is cut short: some of its pixels lie beyond its end")
    return Bare(
        _with_table(data, [entries[tag] for tag in sorted(_PICTURE_TAGS & entries.keys())], layout),
        Format.TIFF,
        max(sizes[_HEIGHT], tile[_TILE_HEIGHT]) if sizes[_HEIGHT] else 0,
        max(sizes[_WIDTH], tile[_TILE_WIDTH]) if sizes[_WIDTH] else 0,
        orientation if 1 <= orientation <= 8 else UPRIGHT,
    )


def _layout(data: bytes) -> _Layout:
    order = "<" if data[:2] == b"II" else ">"
    if b"+" in data[2:4]:
        return _Layout(f"{order}Q", f"{order}HHQ", f"{order}Q", data[:8])
    return _Layout(f"{order}H", f"{order}HHI", f"{order}I", data[:4])


def _entries(data: bytes, layout: _Layout) -> dict[int, bytes]:
    """Return the first page's entries, by tag, of the tags that matter here."""
    (start,) = struct.unpack_from(layout.offset, data, len(layout.magic))
    if start > len(data):
        raise struct.error
    (count,) = struct.unpack_from(layout.count, data, start)
    if count > _MAX_TAGS:
        raise InvalidRequest(f"the TIFF is damaged: its page has more than {_MAX_TAGS} tags")
    start += struct.calcsize(layout.count)
    entries = {}
    for position in range(start, start + count * layout.entry_size, layout.entry_size):
        tag, kind, number = struct.unpack_from(layout.entry, data, position)
        if tag not in _PICTURE_TAGS and tag != _ORIENTATION:
            continue
        # A reader would copy each tag's values, and several tags can claim the same bytes.
        if number > _MAX_VALUES:
            raise InvalidRequest("the TIFF is damaged: one of its tags claims more values than a picture needs")
        size = number * _TYPE_SIZES.get(kind, 1)
        (values_at,) = struct.unpack_from(layout.offset, data, position + layout.entry_size - layout.inline)
        if size > layout.inline and values_at + size > len(data):
            raise struct.error
        entries[tag] = data[position : position + layout.entry_size]
    return entries


def _values(data: bytes, entries: dict[int, bytes], tag: int, layout: _Layout) -> tuple[int, ...]:
    """Return a tag's values; none where it is missing or holds no whole numbers."""
    entry = entries.get(tag, b"")
    if not entry:
        return ()
    _, kind, number = struct.unpack_from(layout.entry, entry)
    if kind not in _WHOLE_NUMBERS:
        return ()
    values = f"{layout.entry[0]}{number}{_WHOLE_NUMBERS[kind]}"
    if struct.calcsize(values) <= layout.inline:
        return struct.unpack_from(values, entry, len(entry) - layout.inline)
    (start,) = struct.unpack_from(layout.offset, entry, len(entry) - layout.inline)
    return struct.unpack_from(values, data, start)


def _end_of_pixels(data: bytes, entries: dict[int, bytes], layout: _Layout) -> list[int]:
    ends = []
    for starts, lengths in _PIECES:
        pieces = zip(_values(data, entries, starts, layout), _values(data, entries, lengths, layout), strict=False)
        ends += [start + length for start, length in pieces]
    return ends


def _with_table(data: bytes, entries: list[bytes], layout: _Layout) -> bytes:
    """Return the file with a table of these entries at its end: offsets count from its start, so the pixels stay."""
    start = len(data) + len(data) % 2
    head = layout.magic + struct.pack(layout.offset, start)
    table = struct.pack(layout.count, len(entries)) + b"".join(entries) + bytes(layout.inline)
    return b"".join([head, data[len(head) :], bytes(start - len(data)), table])
