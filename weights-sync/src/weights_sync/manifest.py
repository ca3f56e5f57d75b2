"""Checksum files, as `sha256sum` writes them and people put them beside a download."""

import re

_GNU = re.compile(r"\\?([0-9a-fA-F]{64})(?:[ \t]+\*?(.*?))?\s*")
_BSD = re.compile(r"SHA256 \((.+)\) = ([0-9a-fA-F]{64})\s*")


def in_manifest(text: str, name: str) -> str:
    """Return the sha256 (lower hex) that a manifest gives for the file `name`, empty where it gives none.

    A manifest of one bare digest, or of one file under another name, is about the file it lies beside.
    """
    found = {}
    for line in text.splitlines():
        gnu, bsd = _GNU.fullmatch(line), _BSD.fullmatch(line)
        if gnu:
            found[(gnu[2] or "").rpartition("/")[2]] = gnu[1].lower()
        elif bsd:
            found[bsd[1].rpartition("/")[2]] = bsd[2].lower()
    return found.get(name, next(iter(found.values())) if len(found) == 1 else "")
