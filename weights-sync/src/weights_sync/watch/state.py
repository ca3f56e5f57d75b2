"""What a watcher has to know after a restart, as `DIR/.weights-sync/watch.json`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from weights_sync.place import place


@dataclass(frozen=True, slots=True)
class Refused:
    """Weights that are not tried again until the source has others; empty texts where something is not known."""

    seen: str = ""
    """What the source showed when it had them (see `turn`)."""
    source: str = ""
    """sha256 (hex) of the file that was fetched."""
    version: str = ""
    """The version's name, the sha256 (hex) of its file."""


@dataclass(frozen=True, slots=True)
class State:
    """Names of versions, and what was refused."""

    confirmed: str = ""
    """The version that the predictor was last seen to serve."""
    broken: str = ""
    """The version that the predictor went away with while it loaded it, once."""
    refused: Refused = Refused()

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return what is in a file; nothing is known where there is none, or none that can be read."""
        try:
            stated = json.loads(file.read_bytes())
            return cls(stated["confirmed"], stated["broken"], Refused(**stated["refused"]))
        except (OSError, ValueError, TypeError, KeyError):
            return cls()

    def write(self, file: Path) -> None:
        """Replace the file, in one step."""
        place(json.dumps(asdict(self)).encode(), file)
