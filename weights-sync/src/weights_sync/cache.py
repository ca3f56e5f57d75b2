"""What a node has fetched and prepared already, shared by the pods on it: the same digest comes over the network once.

`DIR/blobs/SHA256` are files by their content; `DIR/made/KEY` says which of them was made of which source by which
recipe. An entry is checked against its name each time it is taken, so one that was damaged is fetched anew. Taking
one makes a hard link where the file systems are one, a copy elsewhere; so an entry that is pushed out stays with
whoever serves it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from weights_sync.limits import Limits
from weights_sync.lock import locked
from weights_sync.place import digest_of, place, share, written
from weights_sync.transfer import Fetched

MAX_CACHE_BYTES = 20 * 1024**3


@dataclass(frozen=True, slots=True)
class Made:
    """A file that was made of another."""

    file: Path
    digest: str
    """sha256 (hex) of the file."""
    source: str
    """sha256 (hex) of what it was made of."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache in `directory`; of its entries the ones used last are kept, `max_bytes` of them at most."""

    directory: Path
    max_bytes: int = MAX_CACHE_BYTES

    @contextmanager
    def lock(self, name: str, limits: Limits) -> Iterator[None]:
        """Be the only one on this node who works on `name`, a file name."""
        locks = self.directory / "locks"
        with written(locks):
            locks.mkdir(parents=True, exist_ok=True)
        with locked(locks / name, limits.left_s("the wait for the cache")):
            yield

    def fetched(self, digest: str, incoming: Path, limits: Limits, fetch: Callable[[], Fetched]) -> Fetched:
        """Return the file with that sha256 (hex), in `incoming`: from here, or from `fetch` and here from now on."""
        with self.lock(digest, limits):
            file = self.take(digest, incoming, limits)
            if file:
                return Fetched(file, digest)
            found = fetch()
            if found.sha256 == digest and not found.unpacked:
                self.add(found.file, digest)
            return found

    def take(self, digest: str, incoming: Path, limits: Limits) -> Path | None:
        """Return the entry as a file in `incoming`, None where there is none that is whole."""
        entry, file = self._blob(digest), incoming / f"{digest[:32]}.cached"
        try:
            limits.check_size(entry.stat().st_size, "the model")
            share(entry, file)
        except FileNotFoundError:
            return None
        # An entry of another user may be read, and its time not be set.
        with suppress(OSError):
            os.utime(entry)
        if digest_of(file) != digest:
            file.unlink(missing_ok=True)
            with suppress(OSError):
                entry.unlink()
            return None
        return file

    def add(self, file: Path, digest: str) -> None:
        """Keep a file under its sha256 (hex); what was not used for longest goes where there is no room."""
        entry = self._blob(digest)
        with written(self.directory):
            entry.parent.mkdir(parents=True, exist_ok=True)
            if file.stat().st_size <= self.max_bytes:
                share(file, entry)
                os.utime(entry)
                self._make_room(entry)

    def take_made(self, source: str, recipe: str, incoming: Path, limits: Limits) -> Made | None:
        """Return what `recipe` made of the source with that sha256 (hex), None where that is not known here."""
        try:
            stated = json.loads(self._note(source, recipe).read_bytes())
            digest, origin = str(stated["digest"]), str(stated["source"])
        except (OSError, ValueError, LookupError, TypeError):
            return None
        file = self.take(digest, incoming, limits)
        return Made(file, digest, origin) if file else None

    def add_made(self, source: str, recipe: str, made: Made, limits: Limits) -> None:
        """Keep what `recipe` made of the source with that sha256 (hex)."""
        with self.lock(made.digest, limits):
            self.add(made.file, made.digest)
        note = {"digest": made.digest, "source": made.source}
        place(json.dumps(note).encode(), self._note(source, recipe))

    def _blob(self, digest: str) -> Path:
        return self.directory / "blobs" / digest

    def _note(self, source: str, recipe: str) -> Path:
        return self.directory / "made" / key_of(source, recipe)

    def _make_room(self, fresh: Path) -> None:
        """Push out entries, the least recently used first, never `fresh`; two who do so at once push out no more."""
        found = []
        for entry in fresh.parent.iterdir():
            # Another pod may push out the same.
            with suppress(FileNotFoundError):
                stat = entry.stat()
                found.append((stat.st_mtime_ns, stat.st_size, entry))
        total = sum(size for _, size, _ in found)
        for _, size, entry in sorted(found):
            if total <= self.max_bytes:
                return
            if entry != fresh:
                entry.unlink(missing_ok=True)
                total -= size


def key_of(*texts: str) -> str:
    """Return a file name for texts that belong together."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
