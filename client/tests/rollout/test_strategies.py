"""What each way of serving two versions makes of the cluster's documents."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_client.rollout.api import ClusterFailed
from yolo_client.rollout.services import complaint_of, mode_of, source_of
from yolo_client.rollout.strategies import copies, knative, routes

BACKENDS = routes.Backends("m-transformer", "m-canary-transformer")
percents = st.integers(0, 100)


def service(**spec) -> dict:
    model = {"modelFormat": {"name": "yolo"}, "storageUri": "yolo://old", "args": ["--threads=2"]}
    predictor = {"minReplicas": 2, "maxReplicas": 4, "model": model}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "m", "namespace": "ns", "uid": "1", "resourceVersion": "7"},
        "spec": {"predictor": predictor, **spec},
    }


def ref(name: str, weight: int | None = None, port: int = 80) -> dict:
    return {"name": name, "port": port} | ({} if weight is None else {"weight": weight})


def route(*rules) -> dict:
    return {"metadata": {"name": "m-route"}, "spec": {"hostnames": ["m.ns"], "rules": list(rules)}}


def choice(version: str) -> dict:
    return [{"headers": [{"name": "x-yolo-version", "value": version}]}]


PLAIN = route({"backendRefs": [ref("m-transformer")]}, {"backendRefs": [ref("m-transformer", 100, 8081)]})
DIVIDED = route(
    {"matches": choice("canary"), "backendRefs": [ref("m-canary-transformer", 100)]},
    {"matches": choice("stable"), "backendRefs": [ref("m-transformer", 100)]},
    {"backendRefs": [ref("m-transformer", 90), ref("m-canary-transformer", 10)], "timeouts": {"request": "60s"}},
)


@pytest.mark.parametrize("before", [PLAIN, DIVIDED], ids=["plain", "divided"])
@given(percents)
def test_a_route_gives_the_canary_the_share_that_it_was_told(before, percent) -> None:
    untouched = copy.deepcopy(before)
    after = routes.weighted(before, BACKENDS, percent)
    assert before == untouched
    assert routes.percent_of(after, BACKENDS) == percent
    assert routes.weighted(after, BACKENDS, percent) == after


def test_rules_of_a_route_keep_their_ports_and_everything_else() -> None:
    first, second = routes.weighted(PLAIN, BACKENDS, 5)["spec"]["rules"]
    assert first["backendRefs"] == [ref("m-transformer", 95), ref("m-canary-transformer", 5)]
    assert second["backendRefs"] == [ref("m-transformer", 95, 8081), ref("m-canary-transformer", 5, 8081)]
    by_header, also_by_header, divided = routes.weighted(DIVIDED, BACKENDS, 50)["spec"]["rules"]
    assert [by_header, also_by_header] == DIVIDED["spec"]["rules"][:2]
    assert divided["timeouts"] == {"request": "60s"}


def test_a_route_without_the_canary_leads_nowhere_else() -> None:
    rules = routes.without_canary(DIVIDED, BACKENDS)["spec"]["rules"]
    assert rules == [
        {"matches": choice("stable"), "backendRefs": [ref("m-transformer", 100)]},
        {"backendRefs": [ref("m-transformer", 1)], "timeouts": {"request": "60s"}},
    ]


@given(percents)
def test_a_route_that_had_a_canary_and_lost_it_is_as_if_it_never_had(percent) -> None:
    after = routes.without_canary(routes.weighted(PLAIN, BACKENDS, percent), BACKENDS)
    assert after == routes.without_canary(PLAIN, BACKENDS)
    assert routes.percent_of(after, BACKENDS) == 0


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (route({"backendRefs": [ref("other")]}), "no rule that leads to m-transformer"),
        (route(), "no rule that leads to m-transformer"),
        (
            route(
                {"backendRefs": [ref("m-transformer", 90), ref("m-canary-transformer", 10)]},
                {"backendRefs": [ref("m-transformer", 1)]},
            ),
            "different weights",
        ),
    ],
)
def test_a_route_that_can_not_be_read_is_named(broken, message) -> None:
    with pytest.raises(ClusterFailed, match=message):
        routes.percent_of(broken, BACKENDS)


def test_a_route_whose_weights_are_all_zero_gives_the_canary_nothing() -> None:
    assert routes.percent_of(route({"backendRefs": [ref("m-transformer", 0)]}), BACKENDS) == 0


def revisions(percent=None, **names) -> dict:
    predictor = service()["spec"]["predictor"] | ({} if percent is None else {"canaryTrafficPercent": percent})
    status = {"components": {"predictor": names}}
    return {**service(predictor=predictor), "status": status}


@pytest.mark.parametrize(
    ("percent", "rolled_out", "previous", "created", "stable"),
    [
        (None, "r1", "", "r1", "r1"),
        (0, "r1", "", "r2", "r1"),
        (25, "r1", "r0", "r2", "r1"),
        (100, "r1", "r0", "r2", "r1"),  # KServe has not noticed yet
        (100, "r2", "r1", "r2", "r1"),  # KServe takes the canary for rolled out
    ],
)
def test_the_stable_revision_is_the_one_before_the_canary(percent, rolled_out, previous, created, stable) -> None:
    document = revisions(
        percent, latestRolledoutRevision=rolled_out, previousRolledoutRevision=previous, latestCreatedRevision=created
    )
    assert knative.stable_revision(document) == stable


def test_a_service_that_never_served_has_no_stable_revision() -> None:
    with pytest.raises(ClusterFailed, match="no revision that was rolled out"):
        knative.stable_revision(service())


def test_a_revision_with_new_weights_gets_its_share_until_it_gets_everything() -> None:
    changed = knative.with_source(service(), "yolo://new", 0)
    assert source_of(changed) == "yolo://new"
    assert changed["spec"]["predictor"]["canaryTrafficPercent"] == 0
    assert changed["spec"]["predictor"]["model"]["args"] == ["--threads=2"]
    assert "canaryTrafficPercent" not in knative.without_percent(changed)["spec"]["predictor"]
    assert knative.without_percent(service()) == service()


def split_service() -> dict:
    container = {
        "name": "kserve-container",
        "args": ["--predictor_host=m-predictor-grpc.ns.svc.cluster.local:8081"],
        "env": [{"name": "NOT_OURS", "value": "other-m-predictor-grpc"}],
    }
    spread = {"labelSelector": {"matchLabels": {"serving.kserve.io/inferenceservice": "m", "component": "transformer"}}}
    transformer = {
        "containers": [container],
        "labels": {"yolo-kserve/track": "stable"},
        "topologySpreadConstraints": [spread],
    }
    before = service(transformer=transformer)
    before["metadata"]["labels"] = {"helm.sh/chart": "c", "app.kubernetes.io/managed-by": "Helm", "team": "a"}
    before["metadata"]["annotations"] = {
        "meta.helm.sh/release-name": "r",
        "serving.kserve.io/deploymentMode": "Standard",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    return before


def test_a_copied_service_has_new_weights_and_calls_its_own_predictor_by_the_models_name() -> None:
    before = split_service()
    canary = copies.canary_service(before, "yolo://new", collocated=False)
    container = canary["spec"]["transformer"]["containers"][0]
    assert canary["metadata"]["name"] == "m-canary"
    assert source_of(canary) == "yolo://new"
    assert container["args"] == ["--predictor_host=m-canary-predictor-grpc.ns.svc.cluster.local:8081", "--model_name=m"]
    assert container["env"] == [{"name": "NOT_OURS", "value": "other-m-predictor-grpc"}]
    assert canary["spec"]["predictor"]["model"]["args"] == ["--threads=2", "--model_name=m"]
    assert canary["spec"]["transformer"]["labels"]["yolo-kserve/track"] == "canary"
    (spread,) = canary["spec"]["transformer"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"]["serving.kserve.io/inferenceservice"] == "m-canary"
    assert before == split_service()


def test_a_copied_service_belongs_to_no_helm_release_and_is_known_as_ours() -> None:
    canary = copies.canary_service(split_service(), "yolo://new", collocated=False)
    assert canary["metadata"]["labels"] == {
        "team": "a",
        "yolo-kserve/stable": "m",
        "yolo-kserve/track": "canary",
        "app.kubernetes.io/managed-by": "yolo-kserve-rollout",
    }
    assert canary["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "Standard"}
    assert "uid" not in canary["metadata"]
    assert copies.is_ours(canary)
    assert not copies.is_ours(split_service())


@pytest.mark.parametrize("given_name", [["--model_name=x"], ["--model_name", "x"]])
def test_a_model_name_that_is_given_stays(given_name) -> None:
    before = split_service()
    before["spec"]["transformer"]["containers"][0]["args"] = list(given_name)
    canary = copies.canary_service(before, "a://", collocated=False)
    assert canary["spec"]["transformer"]["containers"][0]["args"] == given_name


def test_a_copied_collocated_service_tells_both_servers_the_models_name() -> None:
    canary = copies.canary_service(service(), "yolo://new", collocated=True)
    predictor = canary["spec"]["predictor"]
    assert predictor["model"]["args"] == ["--threads=2", "--model_name=m"]
    assert predictor["containers"] == [{"name": "transformer-container", "args": ["--model_name=m"]}]
    assert predictor["labels"]["yolo-kserve/track"] == "canary"
    assert "transformer" not in canary["spec"]


def test_what_a_collocated_service_says_of_its_transformer_stays_and_other_containers_are_left_alone() -> None:
    before = service()
    transformer = {"name": "transformer-container", "args": ["--workers=1"], "resources": {"limits": {"cpu": "1"}}}
    before["spec"]["predictor"]["containers"] = [{"name": "log-shipper"}, transformer]
    predictor = copies.canary_service(before, "yolo://new", collocated=True)["spec"]["predictor"]
    assert predictor["containers"] == [
        {"name": "log-shipper"},
        {**transformer, "args": ["--workers=1", "--model_name=m"]},
    ]
    assert transformer["args"] == ["--workers=1"]


@pytest.mark.parametrize(
    ("cluster_ip", "kept"),
    [
        ({"clusterIP": "None", "clusterIPs": ["None"]}, True),
        ({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}, False),
    ],
)
def test_a_copied_headless_service_finds_the_canarys_pods_and_goes_with_the_canary(cluster_ip, kept) -> None:
    selector = {"serving.kserve.io/inferenceservice": "m", "app": "isvc.m-predictor"}
    headless = {
        "metadata": {"name": "m-predictor-grpc", "namespace": "ns", "uid": "2"},
        "spec": {"selector": selector, "ports": [{"port": 8081}], **cluster_ip},
    }
    canary = copies.canary_service(split_service(), "a://", collocated=False)
    canary["metadata"]["uid"] = "9"
    made = copies.headless_service(headless, "m", canary)
    assert made["metadata"]["name"] == "m-canary-predictor-grpc"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "9"
    assert made["spec"]["selector"] == {
        "serving.kserve.io/inferenceservice": "m-canary",
        "app": "isvc.m-canary-predictor",
    }
    assert (made["spec"].get("clusterIP") == "None") is kept


def test_a_service_without_a_storage_uri_has_nothing_to_roll_out() -> None:
    bare = service()
    del bare["spec"]["predictor"]["model"]["storageUri"]
    with pytest.raises(ClusterFailed, match=r"m has no predictor\.model\.storageUri"):
        source_of(bare)


@pytest.mark.parametrize(
    ("status", "annotation", "mode"),
    [
        ("Knative", "Standard", "Knative"),
        ("Serverless", "", "Knative"),
        ("", "Serverless", "Knative"),
        ("", "RawDeployment", "Standard"),
        ("", "", "Standard"),
    ],
)
def test_the_mode_is_what_kserve_says_or_else_what_was_asked_for(status, annotation, mode) -> None:
    document = {"metadata": {"annotations": {"serving.kserve.io/deploymentMode": annotation} if annotation else {}}}
    assert mode_of({**document, "status": {"deploymentMode": status} if status else {}}) == mode


def test_kserves_complaint_is_passed_on() -> None:
    conditions = [
        {"type": "Ready", "status": "True", "message": "fine"},
        {"type": "PredictorReady", "status": "False", "reason": "NoRuntime", "message": "no runtime fits"},
    ]
    assert complaint_of({"status": {"conditions": conditions}}) == "NoRuntime: no runtime fits"
    assert complaint_of({}) == ""
