"""`yolo-kserve rollout` while it runs, and how it is told to be quick."""

from __future__ import annotations

import subprocess
import sys
import time

from api.objects import weights

# A machine that stalls for a second is no slow canary.
LIMITS = ("--min-requests", "8", "--max-p95-ratio", "30", "--ready-seconds", "60", "--routed-seconds", "0")
FAST = ("--step-seconds", "1", *LIMITS)


def start(namespace, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Begin a rollout of the test's model."""
    command = [*before, sys.executable, "-m", "yolo_client", "rollout", "m", "-n", namespace.name, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_traffic(namespace, process: subprocess.Popen[str]) -> None:
    """Return once the canary of a running rollout has traffic."""
    for _ in range(600):
        assert process.poll() is None, process.communicate()
        if weights(namespace).get("m-canary-predictor"):
            return
        time.sleep(0.1)
    raise AssertionError("the canary never got traffic")
