"""Tables of detections for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from yolo_client.client import Answer

_STAGES = ("preprocess_us", "queue_us", "compute_us", "postprocess_us")


def print_answers(console: Console, answers: Sequence[tuple[str, Answer]]) -> None:
    """Print every detection with its score and box, and the time of each stage by picture."""
    detections = Table("picture", "label", "score", "x1", "y1", "x2", "y2", title="Detections", title_justify="left")
    for name, answer in answers:
        for found in answer.detections:
            detections.add_row(name, found.label, f"{found.score:.2f}", *(f"{edge:.0f}" for edge in found.box))
    console.print(detections)
    times = Table("picture", *(stage.removesuffix("_us") for stage in _STAGES), "round trip", title_justify="left")
    times.title = "Milliseconds by stage"
    for name, answer in answers:
        stages = (f"{answer.stages_us.get(stage, 0) / 1000:.1f}" for stage in _STAGES)
        times.add_row(name, *stages, f"{answer.elapsed_s * 1000:.1f}")
    console.print(times)
