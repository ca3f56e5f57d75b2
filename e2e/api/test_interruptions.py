"""What becomes of a canary whose rollout is told to end, or whose cluster, terminal or reader goes away."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from api.objects import weights
from api.runs import LIMITS, start, wait_for_traffic


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_rollout_takes_the_traffic_back(namespace, collocated, number) -> None:
    collocated("same")
    process = start(namespace, *LIMITS, "--step-seconds", "60")
    wait_for_traffic(namespace, process)
    time.sleep(1)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "m is rolled back and stays at yolo://shapes: it was interrupted" in out
    assert weights(namespace)["m-canary-predictor"] == 0


def test_an_interrupted_rollout_can_be_told_to_leave_the_canary(namespace, collocated) -> None:
    collocated("same")
    process = start(namespace, *LIMITS, "--step-seconds", "60", "--on-interrupt", "leave")
    wait_for_traffic(namespace, process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.splitlines() == ["error: the canary keeps 5 % of the traffic"]


def test_a_rollout_whose_reader_is_gone_takes_the_traffic_back(namespace, collocated) -> None:
    collocated("same")
    process = start(namespace, *LIMITS, "--step-seconds", "3")
    wait_for_traffic(namespace, process)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 2
    (line,) = errors.splitlines()
    assert line == "error: the canary was rolled back, because this command failed: [Errno 32] Broken pipe"
    assert weights(namespace)["m-canary-predictor"] == 0


def test_a_terminal_that_goes_away_does_not_end_what_nohup_started(namespace, collocated) -> None:
    collocated("same")
    process = start(namespace, *LIMITS, "--step-seconds", "60", before=("nohup",))
    wait_for_traffic(namespace, process)
    process.send_signal(signal.SIGHUP)
    time.sleep(3)
    assert process.poll() is None
    assert weights(namespace)["m-canary-predictor"] == 5
    process.terminate()
    process.communicate(timeout=60)


def test_an_api_server_that_is_started_anew_is_waited_for(namespace, collocated) -> None:
    collocated("same")
    process = start(namespace, *LIMITS, "--step-seconds", "6")
    wait_for_traffic(namespace, process)
    file = Path(os.environ["API_SERVER_PID_FILE"])
    before = file.read_text()
    os.kill(int(before), signal.SIGKILL)
    out, errors = process.communicate(timeout=280)
    assert process.returncode == 0, out + errors
    assert file.read_text() != before
    assert not errors
