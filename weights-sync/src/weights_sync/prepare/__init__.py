"""Turn a YOLO export into the prepared graph: uint8 pictures in, the K best candidates out.

Input `images` uint8 [B, H, W, 3], RGB, letterboxed. Outputs, best first: `boxes` float32 [B, K, 4] (x1 y1 x2 y2 in
letterbox pixels), `scores` float32 [B, K], `class_ids` int32 [B, K]; for segmentation also `mask_coefficients`
float16 [B, K, C] and `prototypes` float16 [B, C, h, w]. What the graph says about itself is its card.
"""

import hashlib

from onnx import ModelProto

from weights_sync.errors import (
    DamagedModelError,
    ModelError,
    SidecarError,
    SourceError,
    TooLargeError,
    UnsupportedModelError,
    WeightsError,
)
from weights_sync.prepare import checks
from weights_sync.prepare.assemble import assemble
from weights_sync.prepare.card import PREPARED_FORMAT, Card, is_prepared, metadata, read_card
from weights_sync.prepare.graph import shape_of
from weights_sync.sidecar import Sidecar

__all__ = [
    "CANDIDATES",
    "Card",
    "DamagedModelError",
    "ModelError",
    "Sidecar",
    "SourceError",
    "TooLargeError",
    "UnsupportedModelError",
    "WeightsError",
    "is_prepared",
    "prepare_model",
    "read_card",
]

CANDIDATES = 1000
MAX_CANDIDATES = 100_000


def prepare_model(
    source: bytes | ModelProto,
    *,
    candidates: int | None = None,
    family: str | None = None,
    max_bytes: int = checks.MAX_BYTES,
    digest: str | None = None,
    dynamic: bool = False,
    sidecar: Sidecar | None = None,
) -> ModelProto:
    """Return the prepared graph of a model, or the model itself where it is one already.

    `candidates` is the most boxes kept for a picture, 1000 where nothing is said; `family` overrules the recognition;
    `digest` is the sha256 (hex) of the file that `source` was read from; `dynamic` has the graph take pictures of any
    size; what `sidecar` says overrules the metadata. Notes of bytes in a file (`notes`) stay notes. Raises
    `weights_sync.errors.ModelError` for what is damaged or no YOLO, `TooLargeError` over `max_bytes`, and nothing else.
    """
    if candidates is not None and not 0 < candidates <= MAX_CANDIDATES:
        raise UnsupportedModelError(f"the number of candidates must be 1 to {MAX_CANDIDATES}, not {candidates}")
    with checks.damage_named():
        if isinstance(source, ModelProto):
            checks.check_size(source.ByteSize(), max_bytes)
            model, data = source, b"" if digest else source.SerializeToString(deterministic=True)
        else:
            model, data = checks.parse(source, max_bytes), source
        checks.check_graph(model)
        if is_prepared(model):
            if sidecar:
                raise SidecarError(f"the model is prepared already: {sidecar.name} goes with the one it was made of")
            checks.check_contract(model)
            _check_asked(model, candidates, family, dynamic=dynamic)
            return model
        if stated := metadata(model).get("yolo.prepared"):
            raise UnsupportedModelError(
                f"the model was prepared in format {stated[:20]!r}, and {PREPARED_FORMAT!r} is served:"
                " prepare the file it was made of"
            )
        digest = digest or hashlib.sha256(data).hexdigest()
        digest = "sha256:" + (sidecar.digest(digest) if sidecar else digest)
        return assemble(model, candidates or CANDIDATES, family, digest, dynamic=dynamic, sidecar=sidecar)


def _check_asked(prepared: ModelProto, candidates: int | None, family: str | None, *, dynamic: bool) -> None:
    """Refuse what is asked of a prepared graph and is not what it is: its head is gone, it can not be made another."""
    card = read_card(prepared)
    kept = next(shape_of(output) for output in prepared.graph.output if output.name == "boxes")[1:2]
    asked = {
        f"the family {family}": family not in {None, card.family},
        "any picture size": dynamic and not card.dynamic,
        f"{candidates} candidates": candidates is not None and any(isinstance(k, int) and k > candidates for k in kept),
    }
    for what, is_other in asked.items():
        if is_other:
            raise UnsupportedModelError(
                f"the model is prepared already, as {card.family}: ask for {what[:60]} with the file it was made of"
            )
