"""What a user wants of a model's preparation."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from weights_sync.limits import MAX_BYTES
from weights_sync.sidecar import beside, read_bytes

CHECKPOINT = ".ckpt"
"""How the name of a MindSpore checkpoint ends."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for; None and False leave it to the file."""

    candidates: int | None = None
    """Most boxes kept for a picture."""
    family: str | None = None
    max_bytes: int = MAX_BYTES
    config: Path | None = None
    """A checkpoint's MindYOLO YAML."""
    dynamic: bool = False
    """Whether a network that was exported for one size is made to take any."""
    sidecar: Path | None = None
    """What overrules the metadata."""

    @property
    def recipe(self) -> str:
        """A text that is another when another graph may come of it: files count by their bytes, wherever they lie."""
        network = sidecar = b""
        if self.config:
            # Here, for it comes with ONNX, which costs a pull without checkpoints more than the rest.
            from weights_sync.mindspore.config import read_config  # noqa: PLC0415

            _, network = read_config(self.config)
        if self.sidecar:
            sidecar = read_bytes(self.sidecar)
        digests = [hashlib.sha256(data).hexdigest() for data in (network, sidecar)]
        return f"{replace(self, max_bytes=0, config=None, sidecar=None)} {digests}"

    def with_beside(self, source: Path) -> "Order":
        """Return the order with the YAML that lies beside a file, where it names none itself."""
        return self.with_yaml(source, beside(source))

    def with_yaml(self, source: Path, found: Path | None) -> "Order":
        """Return the order with the YAML that came with a file: a checkpoint's network, or else a sidecar."""
        if source.suffix == CHECKPOINT:
            return replace(self, config=self.config or found)
        return self if self.config else replace(self, sidecar=self.sidecar or found)
