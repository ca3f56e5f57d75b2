from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = Path(__file__).with_name("triton_calls.py")


@pytest.mark.skipif(importlib.util.find_spec("tritonclient") is None, reason="tritonclient is not installed")
def test_tritons_own_clients_get_on_with_the_server(server):
    command = [sys.executable, str(_PROGRAM), str(server.http_port), str(server.grpc_port)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
