"""The pod of docs/how-to/watch.md, as it stands: a ConfigMap names weights, and the running predictor serves them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
import shapes_variants
import yaml
from helm import ROOT
from in_cluster import file_server

GUIDE = ROOT / "docs" / "how-to" / "watch.md"
# Sources that the guide has no need to allow: the file server is at a private address, and speaks plain HTTP.
ALLOWED = [{"name": f"WEIGHTS_SYNC_ALLOW_{what}", "value": "true"} for what in ("HTTP", "PRIVATE")]


def manifests(namespace: str) -> list[dict]:
    """Return the guide's manifests, with this clone's images, in a namespace."""
    text = "---\n".join(re.findall(r"^```yaml\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL))
    text = re.sub(r"ghcr\.io/(\S+?):[\d.]+", r"localhost/\1:dev", text).replace(
        "namespace: models", f"namespace: {namespace}"
    )
    objects = list(yaml.safe_load_all(text))
    (pod,) = (each for each in objects if each["kind"] == "Pod")
    pod["spec"]["initContainers"][0]["env"] += ALLOWED
    return objects


@pytest.fixture(scope="module")
def weights(namespace) -> str:
    """Serve another version of the weights in the cluster, and some that are none; return where."""
    return file_server(namespace, {"new.onnx": shapes_variants.same(), "bad.onnx": b"no model" * 100})


@pytest.fixture(scope="module")
def pod(namespace, weights) -> str:
    """Start the guide's pod; return its name."""
    namespace.apply(*manifests(namespace.name))
    namespace.wait("pod/street", seconds=300)
    return "street"


def served(namespace, pod: str) -> str:
    """Return the digest of the weights that the predictor serves, and fail where it is not ready."""
    server = f"/api/v1/namespaces/{namespace.name}/pods/{pod}:8080/proxy/v2"
    namespace.kubectl("get", "--raw", f"{server}/health/ready")
    return json.loads(namespace.kubectl("get", "--raw", f"{server}/models/street"))["properties"]["model.digest"]


def follow(namespace, uri: str) -> None:
    patch = json.dumps({"data": {"uri": uri}})
    namespace.kubectl("patch", "configmap", "street", "--type", "merge", "-p", patch)


def reasons(namespace) -> set[str]:
    return {each["reason"] for each in namespace.get("events", "--field-selector=involvedObject.name=street")["items"]}


@pytest.mark.timeout(600)
def test_the_predictor_serves_what_the_config_map_names_without_a_restart(
    pod, namespace, weights, eventually: Callable
) -> None:
    before = served(namespace, pod)
    follow(namespace, f"{weights}/new.onnx")
    eventually(lambda: served(namespace, pod) != before, "the new weights are served", 120)
    after = served(namespace, pod)

    follow(namespace, f"{weights}/bad.onnx")
    eventually(lambda: "WeightsSyncFailed" in reasons(namespace), "the watcher refused what is no model", 120)
    assert served(namespace, pod) == after
    assert {"WeightsPulled", "WeightsServing"} <= reasons(namespace)

    follow(namespace, "yolo://shapes")
    eventually(lambda: served(namespace, pod) == before, "the first weights are served again", 120)
    statuses = namespace.get("pod", pod)["status"]
    containers = [*statuses["containerStatuses"], *statuses["initContainerStatuses"]]
    assert [each["restartCount"] for each in containers] == [0, 0]
