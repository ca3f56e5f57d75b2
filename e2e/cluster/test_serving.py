"""Helm installs the chart, KServe serves the model, and pictures that go in at the gateway come back right."""

from __future__ import annotations

import json
import subprocess

import pytest
from helm import Release
from through_gateway import Served

from yolo_client.demo import generated_samples

MODELS = {"shapes": {"storageUri": "yolo://shapes"}, "near": {"storageUri": "yolo://shapes", "topology": "collocated"}}
TOPOLOGIES = {"shapes": "split", "near": "collocated"}
WRITABLE = "/tmp"  # noqa: S108 (in the pods, an emptyDir)


@pytest.fixture(scope="module")
def release(namespace, release) -> Release:
    """Install two models, one in each topology."""
    namespace.kubectl("label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=restricted")
    release.install({"models": MODELS})
    for model in MODELS:
        namespace.wait(f"isvc/{model}", seconds=600)
    return release


@pytest.fixture(params=MODELS, ids=TOPOLOGIES.values())
def served(request, release, namespace, gateway) -> Served:
    """Return a model as clients reach it."""
    model = request.param
    host = f"{model}.{namespace.name}.example.com"
    gateway.routed(host, f"/v2/models/{model}/ready")
    return Served(gateway.address, host, model)


def pods(namespace, model: str) -> list[dict]:
    return namespace.get("pods", "-l", f"serving.kserve.io/inferenceservice={model}")["items"]


def test_every_shape_is_found_by_rest(served) -> None:
    assert served.mistakes_by_rest() == []


def test_grpc_gives_the_answer_that_rest_gives(served) -> None:
    picture = generated_samples()[0].data
    tensors = {tensor.name: tensor.array for tensor in served.by_grpc(picture).outputs}
    with served.rest() as client:
        detections = client.detect(picture, confidence_threshold=0.4).detections
    assert len(detections) > 0
    assert tensors["boxes"][0].tolist() == [list(found.box) for found in detections]
    assert [label.decode() for label in tensors["labels"][0]] == [found.label for found in detections]


def commands_of_notes(notes: str, model: str) -> tuple[str, str, str]:
    """Return what the notes say to type for a model: by the gateway; without it, in one shell and then in another."""
    about = notes.partition(f"== {model}:")[2].partition("\n==")[0]
    by_gateway, _, without = about.partition("Without a gateway:")
    forward, ask = (line.strip() for line in without.splitlines() if line.startswith("  "))
    return "\n".join(line.strip() for line in by_gateway.splitlines() if line.startswith("  ")), forward, ask


@pytest.mark.parametrize("model", MODELS)
def test_the_commands_of_the_notes_work_as_they_stand(model: str, release, tmp_path, eventually) -> None:
    picture = generated_samples()[0]
    (tmp_path / "picture.jpg").write_bytes(picture.data)

    def found(commands: str) -> int:
        shell = ["bash", "-euc", commands]
        said = subprocess.run(shell, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=300).stdout
        return len(json.loads(said[said.index("{") :])["predictions"][0]["detections"])

    by_gateway, forward, ask = commands_of_notes(release.notes, model)
    seen = eventually(lambda: found(by_gateway), "the gateway answers", 60)
    shell = ["bash", "-c", f"exec {forward}"]
    forwarding = subprocess.Popen(shell, stdout=subprocess.DEVNULL)
    try:
        assert eventually(lambda: found(ask), "the forwarded port answers", 60) == seen
    finally:
        forwarding.terminate()
        forwarding.wait(10)


def test_helms_own_test_passes(release) -> None:
    release.helm("test", release.name, "--timeout", "5m")


def test_no_pod_may_do_what_serving_does_not_need(served, namespace) -> None:
    found = pods(namespace, served.model)
    assert found
    for pod in found:
        name, spec = pod["metadata"]["name"], pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"], container["name"]
            assert context["capabilities"]["drop"] == ["ALL"], container["name"]
        for container in spec["containers"]:
            script = (
                "import os, json; who = os.getuid()\n"
                "def writes(path):\n"
                "    try: open(path + '/probe', 'w').close()\n"
                "    except OSError: return False\n"
                "    return True\n"
                "token = os.path.exists('/var/run/secrets/kubernetes.io/serviceaccount/token')\n"
                "print(json.dumps([who, [p for p in ('/', '/app', '/etc', '/home', '/tmp') if writes(p)], token]))"
            )
            said = namespace.kubectl("exec", name, "-c", container["name"], "--", "python", "-c", script)
            assert json.loads(said) == [65532, [WRITABLE], False], container["name"]


def test_kserves_own_host_leads_to_the_model_too(namespace, gateway, release) -> None:
    gateway.routed(f"near-{namespace.name}.example.com", "/v2/models/near/ready")


def test_uninstalling_leaves_nothing(release, namespace, eventually) -> None:
    release.uninstall()
    kinds = namespace.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    # Events tell of what was, and metrics of pods go some seconds after them.
    listed = ",".join(kind for kind in kinds if not kind.startswith("events") and "metrics" not in kind)
    kubernetes_own = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}

    def nothing() -> bool:
        left = {f"{item['kind']}/{item['metadata']['name']}" for item in namespace.get(listed)["items"]}
        assert left == kubernetes_own
        return True

    eventually(nothing, "nothing is left", 180)
    everywhere = namespace.kubectl("api-resources", "--namespaced=false", "--verbs=list", "-o", "name").split()
    ours = f"app.kubernetes.io/instance={release.name}"
    assert namespace.kubectl("get", ",".join(everywhere), "-l", ours, "-o", "name") == ""
