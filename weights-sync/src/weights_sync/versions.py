"""The versions of a model in a directory, and which of them is served.

`DIR/model.onnx` is an ordinary file, for volumes without links and readers that hold it open; it is replaced by rename.
Every version lies in `DIR/.weights-sync/versions/SHA256/` as `model.onnx`, the same file by a hard link, with a
`record.json` of where it came from and which version it replaced. A version appears there whole, by one rename, before
it is served; so whatever is interrupted leaves the version before, the new one, or both.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from weights_sync.errors import NoVersionError
from weights_sync.lock import locked
from weights_sync.place import digest_of, place, share, sync, written

MODEL_FILE = "model.onnx"
_RECORD_FILE = "record.json"


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a version; empty texts where it is not."""

    source: str = ""
    """sha256 (hex) of the file that was fetched."""
    origin: str = ""
    """sha256 (hex) of the URI it came from, which may hold secrets."""
    etag: str = ""
    """What the server calls this content."""
    recipe: str = ""
    """What was done to the fetched file, as a digest of the code and the options."""
    previous: str = ""
    """sha256 (hex) of the version that this one replaced."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The model directory `directory`; changes to it are made under the lock."""

    directory: Path

    @property
    def model(self) -> Path:
        """The file that a server reads."""
        return self.directory / MODEL_FILE

    @property
    def own(self) -> Path:
        """Where all that no server reads lies."""
        return self.directory / ".weights-sync"

    @property
    def incoming(self) -> Path:
        """Where what is not whole yet lies, on the same file system."""
        return self.own / "incoming"

    @property
    def name(self) -> str:
        """The version that is served, "" for none: the sha256 (hex) of its file."""
        with written(self.directory):
            for digest in self._digests():
                if self.model.is_file() and self.file(digest).samefile(self.model):
                    return digest
            return digest_of(self.model) if self.model.is_file() else ""

    @property
    def count(self) -> int:
        """How many versions there are to serve; a model that lies there by itself is one."""
        return max(len(self._digests()), int(self.model.is_file()))

    @contextmanager
    def lock(self, wait_s: float) -> Iterator[None]:
        """Make the directory where it is missing, and be its only writer."""
        with written(self.directory):
            self.incoming.mkdir(parents=True, exist_ok=True)
            self._all.mkdir(exist_ok=True)
        with locked(self.own / "lock", wait_s):
            yield

    def serve(self, file: Path, digest: str, record: Record) -> None:
        """Make `file`, which lies in `incoming`, the model that is served; keep the one before it, and no others.

        `digest` is the sha256 (hex) of the file.
        """
        with written(self.directory):
            if self._is_whole(digest):
                file.unlink()
            else:
                self._add(file, digest)
            self._switch(digest, record)

    def serve_again(self, wanted: Record) -> bool:
        """Serve the whole version with that source and recipe; return whether there is one."""
        with written(self.directory):
            for digest in self._digests():
                record = self.record(digest)
                if (record.source, record.recipe) == (wanted.source, wanted.recipe) and self._is_whole(digest):
                    self._switch(digest, wanted)
                    return True
        return False

    def served(self) -> Record:
        """Return what is known of the model that is served, if it is whole."""
        with written(self.directory):
            digest = self._served()
            return self.record(digest) if digest and self._is_whole(digest) else Record()

    def rollback(self) -> str:
        """Serve the version before the one that is served; return its name, the sha256 (hex) of its file."""
        with written(self.directory):
            previous = self.record(self._served()).previous
            if not previous:
                raise NoVersionError(f"{self.directory} has no version before the one that is served")
            if not self._is_whole(previous):
                raise NoVersionError(f"the version before, {previous[:12]}, is not whole: pull it again")
            share(self.file(previous), self.model)
            return previous

    def record(self, digest: str) -> Record:
        """Return what is known of the version `digest`."""
        try:
            return Record(**json.loads((self._all / digest / _RECORD_FILE).read_bytes()))
        except (OSError, TypeError, ValueError):
            return Record()

    @property
    def _all(self) -> Path:
        return self.own / "versions"

    def file(self, digest: str) -> Path:
        """Return where the version `digest` lies, if it is kept."""
        return self._all / digest / MODEL_FILE

    def _digests(self) -> list[str]:
        return [path.parent.name for path in sorted(self._all.glob(f"*/{MODEL_FILE}"))]

    def _is_whole(self, digest: str) -> bool:
        file = self.file(digest)
        return file.is_file() and digest_of(file) == digest

    def _served(self) -> str:
        """Return the name of the version that is served, "" for none; it may have been damaged since."""
        if not self.model.is_file():
            return ""
        for digest in self._digests():
            if self.file(digest).samefile(self.model):
                return digest
        digest = digest_of(self.model)
        if not self._is_whole(digest):
            # It came by other hands, and is a version from now on.
            found = self.incoming / MODEL_FILE
            share(self.model, found)
            self._add(found, digest)
        return digest

    def _switch(self, digest: str, record: Record) -> None:
        """Serve the version `digest`; what it replaces is written down before."""
        before = self._served()
        if before and not self._is_whole(before):
            before = self.record(before).previous
        previous = before if before != digest else self.record(digest).previous
        place(json.dumps(asdict(replace(record, previous=previous))).encode(), self._all / digest / _RECORD_FILE)
        share(self.file(digest), self.model)
        for other in self._all.iterdir():
            if other.name not in {digest, previous}:
                shutil.rmtree(other, ignore_errors=True)

    def _add(self, file: Path, digest: str) -> None:
        """Move `file` to be the version `digest`, in one step."""
        fresh = self.incoming / "version"
        for stale in (fresh, self._all / digest):
            shutil.rmtree(stale, ignore_errors=True)
        fresh.mkdir()
        file.chmod(0o644)
        sync(file)
        file.rename(fresh / MODEL_FILE)
        sync(fresh)
        fresh.rename(self._all / digest)
        sync(self._all)
