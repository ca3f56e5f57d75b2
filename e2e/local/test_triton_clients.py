"""tritonclient's four clients run every call of the specification and its extensions against both servers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolo_client.local import LocalOptions
from yolo_client.shapes import draw_scene

SCRIPT = Path(__file__).with_name("triton_client.py")


@pytest.fixture(scope="module")
def served(serve: Callable[..., LocalOptions]) -> LocalOptions:
    return serve()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a .npy file of each server's input, of the same scene."""
    folder = tmp_path_factory.mktemp("inputs")
    image = draw_scene(1, 320, 320).image
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    np.save(folder / "transformer.npy", np.array([bytes(encoded)], object))
    np.save(folder / "predictor.npy", image[None])
    return {server: folder / f"{server}.npy" for server in ("transformer", "predictor")}


@pytest.mark.parametrize("server", ["transformer", "predictor"])
@pytest.mark.parametrize("kind", ["http", "grpc", "http_aio", "grpc_aio"])
def test_every_call_of_the_client_is_answered(
    kind: str, server: str, served: LocalOptions, inputs: dict[str, Path]
) -> None:
    seen = run(kind, server, served, inputs[server])
    assert seen["live"] is seen["ready"] is seen["model_ready"] is True
    assert seen["server"]["name"] == f"yolo-{server}"
    assert {"statistics", "model_configuration", "binary_tensor_data"} <= set(seen["server"]["extensions"])
    assert seen["metadata"]["name"] == served.model
    config = seen["config"].get("config", seen["config"])
    assert [entry["name"] for entry in config["output"]] == [entry["name"] for entry in seen["metadata"]["outputs"]]
    index = seen["index"] if isinstance(seen["index"], list) else seen["index"]["models"]
    assert [(entry["name"], entry["state"]) for entry in index] == [(served.model, "READY")]
    assert seen["id"] == "42"
    assert "compute_us" in seen["parameters"]
    (statistics,) = seen["statistics"]["model_stats"]
    assert int(statistics["inference_count"]) >= 1
    assert int(statistics["inference_stats"]["success"]["count"]) >= 1
    assert (seen["ready_unloaded"], seen["ready_loaded"]) == (False, True)
    assert seen["outputs"] == seen["outputs_after_load"] == seen.get("compressed", seen["outputs"])
    assert "no-such-model" in seen["unknown_model"]
    check_outputs(server, seen["outputs"])


def check_outputs(server: str, outputs: dict[str, Any]) -> None:
    if server == "predictor":
        assert outputs["boxes"][0] == 1
        assert outputs["boxes"][2] == 4
        return
    expected = len(draw_scene(1, 320, 320).boxes)
    assert outputs["num_detections"] == [expected]
    assert len(outputs["class_ids"][0]) == expected


def run(kind: str, server: str, served: LocalOptions, array: Path) -> dict[str, Any]:
    ports = {
        "transformer": (served.http_port, served.grpc_port),
        "predictor": (served.predictor_http_port, served.predictor_grpc_port),
    }[server]
    address = f"127.0.0.1:{ports[0] if kind.startswith('http') else ports[1]}"
    command = [sys.executable, str(SCRIPT), kind, address, served.model, str(array)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
