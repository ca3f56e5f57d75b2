"""A watcher that is told by objects of a real Kubernetes API, with the permissions that the how-to gives it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from patience import PATIENCE_S, wait_for

ROOT = Path(__file__).resolve().parents[2]
HOW_TO = ROOT / "docs" / "how-to" / "watch.md"
NAMESPACE = "models"


def documents(kind: str) -> list[dict[str, Any]]:
    """Return the objects of a kind in the how-to."""
    blocks = re.findall(r"```yaml\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    return [item for block in blocks for item in yaml.safe_load_all(block) if item and item.get("kind") == kind]


@pytest.fixture(scope="module")
def core(control_plane) -> Any:
    """Return the admin's API, with the how-to's permissions and a pod in a namespace."""
    from kubernetes import client  # noqa: PLC0415 - seconds that a skipped test has no use for

    core = control_plane.api()
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    for account in documents("ServiceAccount"):
        core.create_namespaced_service_account(NAMESPACE, account)
    core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": "stranger"}})
    rights = client.RbacAuthorizationV1Api(core.api_client)
    for role in documents("Role"):
        rights.create_namespaced_role(NAMESPACE, role)
    for binding in documents("RoleBinding"):
        rights.create_namespaced_role_binding(NAMESPACE, binding)
    return core


@pytest.fixture(scope="module")
def predictor(free_ports, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """Return the address of a predictor, and its folder of models."""
    models = tmp_path_factory.mktemp("models")
    pull = [sys.executable, "-m", "weights_sync", "pull", "yolo://shapes", models / "first"]
    subprocess.run(pull, check=True)
    http_port, grpc_port = free_ports(2)
    command = [sys.executable, "-m", "yolo_predictor", "--model_dir", models, "--host", "127.0.0.1"]
    command += ["--http_port", str(http_port), "--grpc_port", str(grpc_port), "--drain_delay", "0"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    url = f"http://127.0.0.1:{http_port}"
    try:
        wait_for(lambda: digest(url, "first"))
        yield url, models
    finally:
        process.kill()
        process.wait()


def digest(url: str, model: str) -> str:
    try:
        answer = httpx2.get(f"{url}/v2/models/{model}", timeout=10)
    except httpx2.TransportError:
        return ""
    return answer.json().get("properties", {}).get("model.digest", "")


class Watcher:
    """A watcher's process in a pod that is there in name only."""

    def __init__(self, folder: Path, model: str, predictor: tuple[str, Path], kubeconfig: Path) -> None:
        self.url, self.models = predictor
        self.model, self.log, self.kubeconfig = model, folder / "watcher.log", kubeconfig
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, uid: str = "") -> None:
        # Nothing but what is followed brings it to look again in time.
        command = [sys.executable, "-m", "weights_sync", "watch", *arguments, "--predictor", self.url, "--every", "1h"]
        own = {"KUBECONFIG": str(self.kubeconfig), "POD_NAME": self.model, "POD_NAMESPACE": NAMESPACE, "POD_UID": uid}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--model", self.model], stderr=log, stdout=log, env={**os.environ, **own}
            )

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(PATIENCE_S) == 0

    def lines(self, event: str) -> list[dict[str, str]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    @property
    def dest(self) -> str:
        return str(self.models / self.model)

    @property
    def digest(self) -> str:
        return digest(self.url, self.model)


@pytest.fixture
def watcher(tmp_path, predictor, control_plane, core, request) -> Iterator[Watcher]:
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_").replace("_", "-"))[:40].strip("-")
    account = "stranger" if "stranger" in name else documents("ServiceAccount")[0]["metadata"]["name"]
    watcher = Watcher(tmp_path, name, predictor, control_plane.account(NAMESPACE, account))
    yield watcher
    watcher.stop()


@pytest.fixture
def weights(tmp_path) -> dict[str, str]:
    """Return URIs of two files of weights by their digests."""
    import hashlib  # noqa: PLC0415
    import importlib.util  # noqa: PLC0415

    spec = importlib.util.spec_from_file_location("tiny", ROOT / "weights-sync" / "tests" / "tiny_networks.py")
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    found = {}
    for author in ("one", "two"):
        file = tmp_path / f"{author}.onnx"
        file.write_bytes(tiny.yolov8(author=author).SerializeToString())
        found[f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"] = file.as_uri()
    return found


def events(core: Any, pod: str) -> dict[str, Any]:
    found = core.list_namespaced_event(NAMESPACE, field_selector=f"involvedObject.name={pod}").items
    return {event.reason: event for event in found}


def configmap(name: str, uri: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"uri": uri}}


def test_what_a_config_map_names_is_served_and_said_on_the_pod(watcher, core, weights):
    (one, first), (two, second) = weights.items()
    core.create_namespaced_config_map(NAMESPACE, configmap(watcher.model, first))
    watcher.start(watcher.dest, "--follow", f"configmap/{watcher.model}", uid="1234-5678")
    wait_for(lambda: watcher.digest == one)
    core.patch_namespaced_config_map(watcher.model, NAMESPACE, {"data": {"uri": second}})
    wait_for(lambda: watcher.digest == two)

    # Neither an object that is gone nor nonsense in it takes the weights away.
    core.delete_namespaced_config_map(watcher.model, NAMESPACE)
    wait_for(lambda: watcher.lines("followed")[-1]["source"] == "nothing")
    core.create_namespaced_config_map(NAMESPACE, configmap(watcher.model, "nonsense://x"))
    wait_for(lambda: "WeightsSyncFailed" in events(core, watcher.model))
    assert watcher.digest == two
    core.patch_namespaced_config_map(watcher.model, NAMESPACE, {"data": {"uri": first}})
    wait_for(lambda: watcher.digest == one)

    said = events(core, watcher.model)
    assert {"WeightsPulled", "WeightsServing", "WeightsSyncFailed"} <= set(said)
    serving = said["WeightsServing"]
    assert (serving.type, serving.involved_object.kind, serving.involved_object.uid) == ("Normal", "Pod", "1234-5678")
    assert serving.source.component == "weights-sync"
    assert said["WeightsSyncFailed"].type == "Warning"
    assert "can not read nonsense: URIs" in said["WeightsSyncFailed"].message


def test_an_annotation_of_the_own_pod_is_followed(watcher, core, weights):
    (one, first), (two, second) = weights.items()
    pod = {"metadata": {"name": watcher.model, "annotations": {"yolo-kserve/weights": first}}}
    spec = {"spec": {"containers": [{"name": "predictor", "image": "none"}]}}
    core.create_namespaced_pod(NAMESPACE, pod | spec)
    watcher.start(watcher.dest, "--follow", "annotation")
    wait_for(lambda: watcher.digest == one)
    change = {"metadata": {"annotations": {"yolo-kserve/weights": second}}}
    core.patch_namespaced_pod(watcher.model, NAMESPACE, change)
    wait_for(lambda: watcher.digest == two)


def test_an_annotation_of_an_inference_service_is_followed(watcher, core, weights):
    from kubernetes import client  # noqa: PLC0415

    (one, first), (two, second) = weights.items()
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
    names = {"plural": "inferenceservices", "singular": "inferenceservice", "kind": "InferenceService"}
    crd = {
        "metadata": {"name": "inferenceservices.serving.kserve.io"},
        "spec": {"group": "serving.kserve.io", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    client.ApiextensionsV1Api(core.api_client).create_custom_resource_definition(crd)
    where = ("serving.kserve.io", "v1beta1", NAMESPACE, "inferenceservices")
    service = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    metadata = {"name": watcher.model, "annotations": {"example.com/uri": first}}
    custom = client.CustomObjectsApi(core.api_client)

    def created() -> bool:
        try:
            custom.create_namespaced_custom_object(*where, {**service, "metadata": metadata, "spec": {}})
        except client.ApiException as error:
            assert error.status == 404  # noqa: PT017 - the API takes a moment to serve a new kind
            return False
        return True

    wait_for(created)
    watcher.start(watcher.dest, "--follow", f"annotation/{watcher.model}#example.com/uri")
    wait_for(lambda: watcher.digest == one)
    change = {"metadata": {"annotations": {"example.com/uri": second}}}
    custom.patch_namespaced_custom_object(*where, watcher.model, change)
    wait_for(lambda: watcher.digest == two)


def test_a_change_made_while_the_api_was_away_for_the_watcher_is_not_missed(watcher, core, weights, control_plane):
    (one, first), (two, second) = weights.items()
    core.create_namespaced_config_map(NAMESPACE, configmap(watcher.model, first))
    watcher.start(watcher.dest, "--follow", f"configmap/{watcher.model}")
    wait_for(lambda: watcher.digest == one)
    control_plane.stop_api()
    wait_for(lambda: watcher.lines("not followed"))
    assert watcher.digest == one
    control_plane.start_api()
    core.patch_namespaced_config_map(watcher.model, NAMESPACE, {"data": {"uri": second}})
    wait_for(lambda: watcher.digest == two)


def test_a_stranger_serves_what_the_command_line_says_and_says_once_what_it_may_not(watcher, core, weights):
    (one, first), (_, second) = weights.items()
    core.create_namespaced_config_map(NAMESPACE, configmap(watcher.model, second))
    watcher.start(first, watcher.dest, "--follow", f"configmap/{watcher.model}")
    wait_for(lambda: watcher.digest == one)
    wait_for(lambda: watcher.lines("serving"))
    (refused,) = watcher.lines("not followed")
    assert refused["because"] == (
        f"the API answered 403 Forbidden; configmaps/{watcher.model} in {NAMESPACE} needs `list` and `watch`"
    )
    (mute,) = watcher.lines("no events")
    assert mute["because"].startswith("the API answered 403 Forbidden; allow `create` and `patch` of events")


def test_news_that_repeats_is_counted_on_one_event(control_plane, core, monkeypatch):
    from weights_sync.watch.cluster import Pod  # noqa: PLC0415
    from weights_sync.watch.events import Events  # noqa: PLC0415
    from weights_sync.watch.news import News  # noqa: PLC0415

    monkeypatch.setenv("KUBECONFIG", str(control_plane.account(NAMESPACE, "yolo-weights")))
    now = [0.0]
    news = [News.of("failed", because=f"reason {number}") for number in range(40)]
    teller = Events(Pod("repeats", NAMESPACE, ""), clock=lambda: now[0])
    for _ in range(10):
        teller.tell(news[0])
    now[0] = 61
    teller.tell(news[0])
    (event,) = core.list_namespaced_event(NAMESPACE, field_selector="involvedObject.name=repeats").items
    assert event.count == 11
    for each in news:
        teller.tell(each)
    written = core.list_namespaced_event(NAMESPACE, field_selector="involvedObject.name=repeats").items
    assert len(written) == 21
