"""Fetch, verify, prepare, place: one model from a URI to a directory."""

import tempfile
from pathlib import Path

from weights_sync.errors import DamagedModelError
from weights_sync.prepare import CANDIDATES, Card, is_prepared, prepare_file, read_card
from weights_sync.prepare.checks import check_whole, read_model
from weights_sync.sources import Limits, fetch

MODEL_FILE = "model.onnx"


def pull(
    uri: str,
    directory: Path,
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    candidates: int = CANDIDATES,
    family: str | None = None,
) -> Card:
    """Place the prepared model of `uri` as `directory/model.onnx`; return its card.

    A reader sees the whole of the new model or the whole of the one before; on an error the one before stays.
    """
    with tempfile.TemporaryDirectory(prefix="weights-sync-") as scratch:
        source = fetch(uri, Path(scratch), limits)
        dest = directory / MODEL_FILE
        return prepare_file(source, dest, candidates=candidates, family=family, max_bytes=limits.max_bytes)


def verify(directory: Path) -> Card:
    """Check that `directory/model.onnx` is a whole prepared model; return its card."""
    model, _ = read_model(directory / MODEL_FILE)
    if not is_prepared(model):
        raise DamagedModelError(f"{directory / MODEL_FILE} is not prepared: run `weights-sync prepare`")
    check_whole(model)
    return read_card(model)
