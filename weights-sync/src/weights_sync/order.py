"""What a user wants of a model's preparation."""

from dataclasses import dataclass
from pathlib import Path

from weights_sync.limits import MAX_BYTES


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for; None and False leave it to the file."""

    candidates: int | None = None
    """Most boxes kept for a picture."""
    family: str | None = None
    max_bytes: int = MAX_BYTES
    config: Path | None = None
    """A checkpoint's MindYOLO YAML; the .yaml of its name beside it by default."""
    dynamic: bool = False
    """Whether a network that was exported for one size is made to take any."""
