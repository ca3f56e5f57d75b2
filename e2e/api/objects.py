"""What a test puts into the API server: the objects that the chart and KServe would make, and what became of them."""

from __future__ import annotations

from api.stage import SOURCE


def model(source: str) -> dict:
    return {"name": "kserve-container", "modelFormat": {"name": "yolo"}, "storageUri": source}


def service(name: str = "m", mode: str = "Standard", **spec) -> dict:
    annotations = {"serving.kserve.io/deploymentMode": mode}
    predictor = {"minReplicas": 2, "maxReplicas": 4, "model": model("yolo://shapes")}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"predictor": predictor, **spec},
    }


def canary_service(source: str, **more: str) -> dict:
    document = service("m-canary")
    document["spec"]["predictor"]["model"] = model(source) | more
    return document


def route(shares: dict[str, int]) -> dict:
    refs = [{"name": name, "port": 80, "weight": weight} for name, weight in shares.items()]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "m-route"},
        "spec": {"rules": [{"matches": [{"path": {"value": "/"}}], "backendRefs": refs}]},
    }


def refuse(namespace) -> None:
    """Have a gateway refuse a route, as it is and however it changes."""
    _say(namespace, "False", "BackendNotFound", "there is no such Service")


def take(namespace) -> None:
    """Have a gateway take a route, as it is and however it changes."""
    _say(namespace, "True", "ResolvedRefs", "")


def _say(namespace, status: str, reason: str, message: str) -> None:
    condition = {
        "type": "ResolvedRefs",
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 99,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    parent = {"parentRef": {"name": "gateway"}, "controllerName": "example.com/gateway", "conditions": [condition]}
    namespace.status("httproute", "m-route", {"parents": [parent]})


def split(namespace, source: str = "yolo://shapes") -> None:
    arguments = ["--model_name=m", "--predictor_host=m-predictor-grpc:8081"]
    container = {"name": "kserve-container", "image": "none", "args": arguments}
    document = service(transformer={"containers": [container]})
    document["spec"]["predictor"]["model"]["storageUri"] = source
    selector = {"serving.kserve.io/inferenceservice": "m", "component": "predictor"}
    headless = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "m-predictor-grpc"},
        "spec": {"clusterIP": "None", "selector": selector, "ports": [{"port": 8081}]},
    }
    namespace.apply(document, headless, route({"m-transformer": 1}))


def component(service_name: str, kind: str) -> dict[str, str]:
    return {"serving.kserve.io/inferenceservice": service_name, "component": kind}


def knative(namespace, percent: int | None, source: str, **names: str) -> None:
    document = service(mode="Knative")
    document["spec"]["predictor"]["model"]["storageUri"] = source
    if percent is not None:
        document["spec"]["predictor"]["canaryTrafficPercent"] = percent
    namespace.apply(document)
    namespace.status("inferenceservice", "m", {"deploymentMode": "Knative", "components": {"predictor": names}})


def revision(namespace, name: str, source: str) -> None:
    namespace.apply(
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Revision",
            "metadata": {"name": name, "annotations": {SOURCE: source}},
            "spec": {"containers": [{"image": "none"}]},
        }
    )


def weights(namespace) -> dict[str, int]:
    (rule,) = namespace.get("httproute", "m-route")["spec"]["rules"]
    return {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}


def services(namespace) -> list[str]:
    return [each["metadata"]["name"] for each in namespace.get("inferenceservices")["items"]]
