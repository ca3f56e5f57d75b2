"""`yolo-kserve rollout` as a person runs it, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

# Short steps, and a latency limit that a machine shared with other work keeps to.
LIMITS: Final = ("--step-seconds", "5", "--min-requests", "10", "--max-p95-ratio", "3", "--ready-seconds", "400")


def rollout(namespace: str, model: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a rollout of a model to its end."""
    command = [sys.executable, "-m", "yolo_client", "rollout", model, "-n", namespace, "--json"]
    return subprocess.run([*command, *LIMITS, *arguments], capture_output=True, text=True, timeout=1500, check=False)


def steps_of(done: subprocess.CompletedProcess[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a rollout's steps and its verdict."""
    assert not done.stderr, done.stderr
    *steps, verdict = (json.loads(line) for line in done.stdout.splitlines())
    return steps, verdict
