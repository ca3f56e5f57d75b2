"""Prints what fills images: images.py ARCHIVE…, each written by `docker save` or `buildah push … docker-archive:`."""

from __future__ import annotations

import json
import sys
import tarfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import IO

_PACKAGES = "site-packages"
_SHARE = 0.02
"""Parts of an image smaller than this are printed as one."""


def main(archives: list[str]) -> None:
    """Print a table in Markdown: one row an image."""
    print("| image | MB | what fills it, in MB |\n| --- | --- | --- |")
    for archive in archives:
        parts = stored(Path(archive))
        total = parts.total()
        large = [(name, size) for name, size in parts.most_common() if size >= _SHARE * total]
        rest = total - sum(size for _, size in large)
        filling = ", ".join(f"{name} {megabytes(size)}" for name, size in [*large, ("the rest", rest)])
        print(f"| {Path(archive).stem} | {megabytes(total)} | {filling} |")


def stored(archive: Path) -> Counter[str]:
    """Return the bytes of the files in every layer, by what they belong to: what a node stores, uncompressed."""
    parts = Counter[str]()
    with tarfile.open(archive) as image:
        manifest = json.load(_open(image, "manifest.json"))
        for layer in manifest[0]["Layers"]:
            with tarfile.open(fileobj=_open(image, layer)) as entries:
                for entry in entries:
                    if entry.isfile():
                        parts[part_of(PurePosixPath(entry.name))] += entry.size
    return parts


def part_of(path: PurePosixPath) -> str:
    """Return what a file belongs to: a Python package with the libraries bundled beside it, or the base image."""
    if _PACKAGES not in path.parts or path.parts[0] != "app":
        return "base"
    return path.parts[path.parts.index(_PACKAGES) + 1].partition("-")[0].removesuffix(".libs")


def megabytes(size: int) -> int:
    """Return millions of bytes."""
    return round(size / 1e6)


def _open(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        member = archive.extractfile(name)
    except KeyError:
        member = None
    if member is None:
        raise SystemExit(f"error: {str(archive.name)!r} holds no {name}: it is no archive of an image")
    return member


if __name__ == "__main__":
    main(sys.argv[1:])
