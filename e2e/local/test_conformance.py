"""The protocol's own OpenAPI document, put to both servers by schemathesis."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from yolo_client.local import LocalOptions

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = Path(os.environ.get("OIP_DOCUMENT", ROOT.parent / "shared" / "conformance" / "open_inference_rest.yaml"))


@pytest.fixture(scope="module")
def served(serve: Callable[..., LocalOptions]) -> LocalOptions:
    return serve()


@pytest.fixture(scope="module")
def document(served: LocalOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the document with the served model among the values of its placeholders, so that calls get through."""
    if not DOCUMENT.is_file():
        pytest.skip(f"no protocol document at {DOCUMENT}: OIP_DOCUMENT names it")
    content = yaml.safe_load(DOCUMENT.read_text())
    names = {"MODEL_NAME": [served.model, "nope", "a b", "é"], "MODEL_VERSION": ["1", "2", "latest"]}
    for path in content["paths"].values():
        for parameter in path.get("parameters", []):
            parameter["schema"]["enum"] = names[parameter["name"]]
    file = tmp_path_factory.mktemp("conformance") / "document.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize("server", ["transformer", "predictor"])
def test_no_request_is_answered_with_a_server_error_or_outside_the_schema(
    server: str, served: LocalOptions, document: Path
) -> None:
    port = served.http_port if server == "transformer" else served.predictor_http_port
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", str(document)),
        *("--url", f"http://127.0.0.1:{port}", "--max-examples", "150", "--seed", "1"),
        *("--checks", "not_a_server_error,response_schema_conformance,content_type_conformance"),
        *("--phases", "examples,coverage,fuzzing"),
    ]
    # Its working folder takes what it remembers of a run.
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=document.parent)
    assert done.returncode == 0, done.stdout[-4000:]
