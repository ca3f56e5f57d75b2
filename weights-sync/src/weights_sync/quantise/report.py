"""What quantising has cost and brought, as a table and as JSON."""

import json
from dataclasses import asdict, dataclass

from weights_sync.quantise.accuracy import CONFIDENT, SAME, Agreement


@dataclass(frozen=True, slots=True)
class Cost:
    """What a graph takes."""

    bytes: int
    cpu_ms: float
    """For one picture on one core, the median."""


@dataclass(frozen=True, slots=True)
class Report:
    """A quantised graph against the float32 one, over pictures."""

    kind: str
    """fp16 or int8."""
    calibrated_on: int
    """Pictures that the ranges were taken from; 0 where none are needed."""
    measured_on: int
    """Pictures that the two graphs were compared on."""
    seen_before: bool
    """Whether those are the same pictures, which flatters."""
    damaged: int
    """Files of the folder that could not be read."""
    agreement: Agreement
    mask_overlap: float | None
    """Mean intersection over union of the pairs' masks; None for a detector."""
    before: Cost
    after: Cost

    @property
    def loss(self) -> float:
        """What is missing to the float32 graph's detections: 0 for none, 1 for all."""
        return 1 - self.agreement.mean_ap

    def json(self) -> str:
        """Return all of it, and the loss."""
        return json.dumps(asdict(self) | {"loss": self.loss}, indent=2) + "\n"

    def card(self) -> str:
        """Return what stands in the model itself."""
        card = {"kind": self.kind, "loss": round(self.loss, 4), "pictures": self.measured_on}
        return json.dumps(card | {"calibrated_on": self.calibrated_on})

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table for people."""
        agreement, masks = self.agreement, self.mask_overlap
        again = ", the same" if self.seen_before else ", others" if self.calibrated_on else ""
        damaged = f"; {self.damaged} damaged files left out" if self.damaged else ""
        calibrated = [("calibrated on", f"{self.calibrated_on} pictures")] if self.calibrated_on else []
        found = f"{agreement.found} of {agreement.wanted} found again, {agreement.extra} more"
        return [
            ("quantised to", self.kind),
            *calibrated,
            ("measured on", f"{self.measured_on} pictures{again}{damaged}"),
            ("detections", f"{found} (score {CONFIDENT}, overlap {SAME})"),
            ("mean overlap", f"{agreement.overlap:.4f}"),
            *([] if masks is None else [("mean overlap of masks", f"{masks:.4f}")]),
            ("mean change of score", f"{agreement.score_change:.4f}"),
            ("mAP50-95", f"{agreement.mean_ap:.4f}, the float32 model's detections taken for the truth"),
            ("loss", f"{self.loss:.4f}"),
            ("size", f"{self.before.bytes} to {self.after.bytes} bytes"),
            ("CPU", f"{self.before.cpu_ms:.1f} to {self.after.cpu_ms:.1f} ms a picture, on one core"),
        ]
