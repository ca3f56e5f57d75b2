"""The cluster does what the other tests build on: names, routes, weights, metrics, and KServe's own answers."""

from __future__ import annotations

import collections
import subprocess

import pytest
from in_cluster import PYTHON
from kubernetes import client


def echo(name: str) -> str:
    """Return the manifests of an echo server that calls itself NAME, with a Service on port 80 and, as h2c, 81."""
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: echo
        image: localhost/echo:1
        imagePullPolicy: Never
        args: [-name, {name}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
        resources: {{requests: {{cpu: 20m, memory: 16Mi}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports:
  - {{name: http, port: 80, targetPort: 8080}}
  - {{name: h2c, port: 81, targetPort: 8080, appProtocol: kubernetes.io/h2c}}
"""


def route(host: str, *rules: str) -> str:
    """Return the manifest of an HTTPRoute of a host with rules, each in YAML's flow style."""
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {host.partition(".")[0]}}}
spec:
  parentRefs: [{{name: kserve-ingress-gateway, namespace: kserve}}]
  hostnames: [{host}]
  rules: [{", ".join(rules)}]
"""


@pytest.fixture(scope="module")
def versions(namespace) -> None:
    """Start two echo servers, `old` and `new`."""
    namespace.apply(echo("old"), echo("new"))
    for name in ("old", "new"):
        namespace.rolled_out(name)


def test_every_node_is_ready(api):
    nodes = client.CoreV1Api().list_node().items
    ready = [each.status for node in nodes for each in node.status.conditions if each.type == "Ready"]
    assert ready
    assert set(ready) == {"True"}


def test_a_pod_resolves_a_service_and_reaches_it(namespace, versions):
    script = """
import socket, time, urllib.request
for attempt in range(50):  # kube-proxy follows some tenths of a second after Ready
    try:
        urllib.request.urlopen("http://old/", timeout=2).read()
        print(socket.gethostbyname("old"))
        break
    except OSError:
        time.sleep(0.2)
"""
    container = {"name": "python", "image": PYTHON, "command": ["python", "-c", script]}
    spec = {"restartPolicy": "Never", "containers": [container]}
    namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asks"}, "spec": spec})
    namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/asks", "--timeout=60s")
    service = namespace.get("service", "old")["spec"]["clusterIP"]
    assert namespace.kubectl("logs", "asks").strip() == service


def test_the_gateway_splits_by_weight(namespace, gateway, versions):
    host = "weights.example.com"
    namespace.apply(
        route(host, "{backendRefs: [{name: old, port: 80, weight: 80}, {name: new, port: 80, weight: 20}]}")
    )
    gateway.routed(host)
    counts = collections.Counter(gateway.request(host).raise_for_status().json()["name"] for _ in range(100))
    assert 15 <= counts["new"] <= 25
    assert counts["old"] + counts["new"] == 100


def test_the_gateway_sends_a_header_to_its_version(namespace, gateway, versions):
    host = "header.example.com"
    namespace.apply(
        route(
            host,
            "{matches: [{headers: [{name: x-yolo-version, value: canary}]}], backendRefs: [{name: new, port: 80}]}",
            "{backendRefs: [{name: old, port: 80}]}",
        )
    )
    gateway.routed(host)
    marked = {"x-yolo-version": "canary"}
    assert {gateway.request(host, headers=marked).json()["name"] for _ in range(5)} == {"new"}
    assert {gateway.request(host).json()["name"] for _ in range(5)} == {"old"}


def test_the_gateway_speaks_http_2_to_an_h2c_port(namespace, gateway, versions):
    host = "h2c.example.com"
    namespace.apply(route(host, "{backendRefs: [{name: old, port: 81}]}"))
    assert gateway.routed(host).json()["protocol"] == "HTTP/2.0"


def test_an_inference_service_becomes_ready_and_is_routed(namespace, gateway):
    namespace.apply(inference_service("answers", replicas=1))
    namespace.wait("isvc/answers")
    host = f"answers-{namespace.name}.example.com"
    answer = gateway.routed(host, "/v1/models/answers:predict", method="POST", json={"instances": [1]})
    assert answer.json() == {"predictions": ["answers"]}


def test_kserves_webhook_refuses_more_replicas_than_the_most(namespace):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        namespace.apply(inference_service("refused", replicas=9))
    assert "denied the request" in refused.value.stderr


def test_the_metrics_api_serves_what_a_pod_uses(namespace, versions, eventually):
    metrics = client.CustomObjectsApi()

    def used() -> list[dict]:
        return metrics.list_namespaced_custom_object("metrics.k8s.io", "v1beta1", namespace.name, "pods")["items"]

    for container in eventually(used, "the pods have metrics")[0]["containers"]:
        assert container["usage"].keys() == {"cpu", "memory"}


def inference_service(name: str, replicas: int) -> str:
    """Return the manifest of an InferenceService whose predictor is an echo server, with at most two replicas."""
    return f"""
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: {name}}}
spec:
  predictor:
    minReplicas: {replicas}
    maxReplicas: 2
    containers:
    - name: kserve-container
      image: localhost/echo:1
      imagePullPolicy: Never
      args: [-name, {name}]
      ports: [{{containerPort: 8080, protocol: TCP}}]
      readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
"""
