"""`yolo-kserve rollout` as a person runs it, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

# Few and short steps, and a latency limit that a stalled machine keeps to; a test of slow weights sets `STRICT`.
PACE: Final = ("--steps", "25,100", "--step-seconds", "3", "--routed-seconds", "3", "--ready-seconds", "300")
LIMITS: Final = ("--min-requests", "10", "--max-p95-ratio", "30")
STRICT: Final = ("--max-p95-ratio", "3")


def started(namespace: str, model: str, *arguments: str) -> subprocess.Popen[str]:
    """Begin a rollout of a model."""
    command = [sys.executable, "-m", "yolo_client", "rollout", model, "-n", namespace, "--json", *PACE, *LIMITS]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Wait for a rollout; return its exit status, its steps, and its verdict."""
    out, errors = process.communicate(timeout=900)
    assert not errors, errors
    *steps, verdict = (json.loads(line) for line in out.splitlines())
    return process.returncode, steps, verdict
