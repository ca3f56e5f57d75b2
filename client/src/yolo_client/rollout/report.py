"""What a rollout says on a terminal, or to a program that reads it."""

from __future__ import annotations

from typing import Protocol, TextIO

import orjson

from yolo_client.rollout.api import Document
from yolo_client.rollout.course import Outcome

_HEAD = ("traffic", "requests", "probes", "errors", "p95 stable", "p95 canary", "agreement", "mean IoU", "then")
_WIDTHS = (7, 8, 6, 6, 10, 10, 9, 8, 0)


class Report(Protocol):
    """Takes what happens as it happens."""

    def step(self, step: Document) -> None:
        """Say what a step showed."""
        ...

    def outcome(self, name: str, outcome: Outcome) -> None:
        """Say how it ended."""
        ...


class TableReport:
    """A line a step, aligned under a head, and the verdict."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._begun = out, False

    def step(self, step: Document) -> None:
        """Print a row."""
        if not self._begun:
            self._row(_HEAD)
            self._begun = True
        agreement, p95 = step["agreement"], step["p95_ms"]
        self._row(
            (
                f"{step['percent']} %",
                str(step["requests"]),
                str(step["probes"]),
                str(step["errors"]),
                _or_dash(p95["stable"], " ms"),
                _or_dash(p95["canary"], " ms"),
                _or_dash(agreement["ratio"]),
                _or_dash(agreement["mean_iou"]),
                step["action"],
            )
        )

    def outcome(self, name: str, outcome: Outcome) -> None:
        """Print the verdict, and what the chart's values must say to agree with it."""
        print(verdict_of(name, outcome), file=self._out, flush=True)
        if outcome.promoted:
            values = values_of(name, outcome)
            print(f"Values for the chart, without the canary:\n\n{values}", end="", file=self._out, flush=True)

    def _row(self, cells: tuple[str, ...]) -> None:
        line = "  ".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
        print(line.rstrip(), file=self._out, flush=True)


class JsonReport:
    """A JSON object a line: each step, then the verdict."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def step(self, step: Document) -> None:
        """Print a step."""
        self._line(step)

    def outcome(self, name: str, outcome: Outcome) -> None:
        """Print the verdict."""
        verdict = "promoted" if outcome.promoted else "rolled back"
        self._line({"verdict": verdict, "model": name, "storageUri": outcome.source, "reason": outcome.reason})

    def _line(self, document: Document) -> None:
        print(orjson.dumps(document).decode(), file=self._out, flush=True)


def verdict_of(name: str, outcome: Outcome) -> str:
    """Return one line on how a rollout ended."""
    if outcome.promoted:
        return f"{name} is promoted to {outcome.source}: {outcome.reason}"
    return f"{name} is rolled back and stays at {outcome.source}: {outcome.reason}"


def values_of(name: str, outcome: Outcome) -> str:
    """Return the chart's values, as YAML, that say what the cluster serves after a promotion."""
    runtime, tag = outcome.change.runtime, outcome.change.tag
    return (
        f"models:\n  {name}:\n    storageUri: {outcome.source}\n"
        + (f"    runtime: {runtime}\n" if runtime else "")
        + (f"# The images are others, too: images.tag, which all models have, would be {tag}\n" if tag else "")
    )


def _or_dash(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:g}{unit}"
