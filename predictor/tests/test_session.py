"""ONNX Runtime as it is set up here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from servekit.errors import InvalidRequest
from yolo_predictor.session import Session, SessionOptions, session_options


def test_a_provider_that_is_not_installed_is_named(graph) -> None:
    with pytest.raises(InvalidRequest, match="provider 'tensorrt' is not in"):
        Session(graph, SessionOptions("tensorrt", 1))


def test_auto_takes_a_provider_that_is_there(graph) -> None:
    assert "CPUExecutionProvider" in Session(graph, SessionOptions("auto", 1)).providers


def test_bytes_that_onnx_runtime_refuses_end_in_one_line() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        Session(b"no graph", SessionOptions("cpu", 1))
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("pool", ["intra_op", "inter_op"])
def test_idle_threads_do_not_spin(pool) -> None:
    options = session_options(SessionOptions("cpu", 4))
    assert options.get_session_config_entry(f"session.{pool}.allow_spinning") == "0"
    assert options.intra_op_num_threads == 4


def test_help_answers_without_loading_the_frameworks() -> None:
    code = (
        "import sys, runpy; sys.argv=['p','--help']\ntry: runpy.run_module('yolo_predictor', run_name='__main__')\n"
        "except SystemExit: pass\nprint('kserve' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False False\n")
