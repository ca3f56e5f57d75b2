"""Placing files so that a reader sees the whole of the new one or the whole of the old one."""

import os
import tempfile
from pathlib import Path

from weights_sync.errors import SourceError


def place(data: bytes, dest: Path) -> None:
    """Write `dest` under a temporary name, flush it to the disk, then rename it."""
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{dest.name}.", dir=dest.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files for their owner alone; a server under another user reads these.
            temporary.chmod(0o644)
            temporary.replace(dest)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(dest.parent)
    except OSError as error:
        raise SourceError(f"can not write {dest}: {error.strerror}") from error


def _sync_directory(directory: Path) -> None:
    """Flush the rename itself."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
