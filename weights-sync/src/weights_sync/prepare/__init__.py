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
from weights_sync.prepare.card import Card, is_prepared, read_card
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
    candidates: int = CANDIDATES,
    family: str | None = None,
    max_bytes: int = checks.MAX_BYTES,
    digest: str | None = None,
    dynamic: bool = False,
    sidecar: Sidecar | None = None,
) -> ModelProto:
    """Return the prepared graph of a model, or the model itself where it is one already.

    `candidates` is the most boxes kept for a picture; `family` overrules the recognition; `digest` is the sha256 (hex)
    of the file that `source` was read from; `dynamic` has the graph take pictures of any size; what `sidecar` says
    overrules the metadata. Raises `weights_sync.errors.ModelError` for what is damaged or no YOLO, `TooLargeError` over
    `max_bytes`, and nothing else.
    """
    if not 0 < candidates <= MAX_CANDIDATES:
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
            read_card(model)
            return model
        digest = digest or hashlib.sha256(data).hexdigest()
        digest = "sha256:" + (sidecar.digest(digest) if sidecar else digest)
        return assemble(model, candidates, family, digest, dynamic=dynamic, sidecar=sidecar)
