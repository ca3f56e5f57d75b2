"""What each way of serving two versions makes of the cluster's documents."""

from __future__ import annotations

import copy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from yolo_client.rollout.api import ClusterFailed
from yolo_client.rollout.course import Outcome
from yolo_client.rollout.pods import pod_of
from yolo_client.rollout.report import values_of
from yolo_client.rollout.services import complaint_of, mode_of, run_the_same, source_of
from yolo_client.rollout.strategies import copies, knative, routes
from yolo_client.rollout.version import Change, change, has_version, version_of, with_version

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


def seen(generation: int, **statuses: str) -> dict:
    """Return a route of generation 2 of which a gateway has seen one."""
    conditions = [
        {"type": kind, "status": status, "reason": "Why", "message": f"{kind} it is", "observedGeneration": generation}
        for kind, status in statuses.items()
    ]
    return {"metadata": {"generation": 2}, "status": {"parents": [{"conditions": conditions}]}}


@pytest.mark.parametrize("kind", ["Accepted", "ResolvedRefs"])
def test_a_route_that_a_gateway_refuses_is_told_with_its_reason(kind) -> None:
    assert routes.refusal_of(seen(2, Programmed="True", **{kind: "False"})) == f"Why: {kind} it is"


@pytest.mark.parametrize(
    "route_as_seen", [{"metadata": {"generation": 2}}, seen(2, Accepted="True"), seen(1, Accepted="False")]
)
def test_a_route_is_not_refused_where_no_gateway_says_so_of_it_as_it_is(route_as_seen) -> None:
    assert routes.refusal_of(route_as_seen) == ""


def test_a_gateway_follows_once_it_has_seen_the_route_as_it_is_and_none_need_not() -> None:
    assert not routes.is_followed(seen(1, Accepted="True"))
    assert routes.is_followed(seen(2, Accepted="True"))
    assert routes.is_followed({"metadata": {"generation": 2}})


def with_images(tag: str, **model) -> dict:
    """Return an InferenceService whose containers' images have a tag, but for a sidecar's."""
    document = split_service()
    document["spec"]["predictor"]["model"] |= model
    (container,) = document["spec"]["transformer"]["containers"]
    container["image"] = f"registry:5000/transformer:{tag}"
    document["spec"]["transformer"]["containers"].append({"name": "sidecar"})
    document["spec"]["predictor"]["containers"] = [{"name": "transformer-container", "image": f"t:{tag}"}]
    return document


@pytest.mark.parametrize(
    "other",
    [with_images("1", storageUri="yolo://new"), with_images("1", runtime="mine"), with_images("2")],
    ids=["weights", "runtime", "images"],
)
def test_a_version_is_told_by_its_weights_its_runtime_and_its_images(other) -> None:
    before = with_images("1")
    assert not has_version(before, version_of(other))
    changed = with_version(before, version_of(other))
    assert has_version(changed, version_of(other))
    assert changed["spec"]["transformer"]["labels"] == {"yolo-kserve/track": "stable"}
    assert with_version(changed, version_of(before)) == before == with_images("1")


def test_containers_that_a_version_does_not_know_keep_their_images() -> None:
    changed = with_version(with_images("1"), version_of(service()))
    assert changed["spec"]["transformer"] == with_images("1")["spec"]["transformer"]


def test_what_changed_beside_the_weights_is_told() -> None:
    before = version_of(with_images("1", runtime="old"))
    assert change(before, version_of(with_images("1", runtime="old", storageUri="yolo://new"))) == Change()
    assert change(before, version_of(with_images("1", runtime="new"))) == Change(runtime="new")
    assert change(before, version_of(with_images("2", runtime="old"))) == Change(tag="2")


def test_the_charts_values_name_a_runtime_and_a_tag_where_those_are_new() -> None:
    outcome = Outcome(promoted=True, reason="", source="yolo://new", change=Change("mine", "2"))
    text = values_of("m", outcome)
    assert yaml.safe_load(text) == {"models": {"m": {"storageUri": "yolo://new", "runtime": "mine"}}}
    assert text.splitlines()[-1] == "# The images are others, too: images.tag, which all models have, would be 2"


def test_pods_are_compared_by_the_images_of_their_servers_alone() -> None:
    def pod(image: str, sidecar: str = "s:1"):
        containers = [{"name": "kserve-container", "image": image}, {"name": "sidecar", "image": sidecar}]
        return pod_of({"metadata": {"name": "p", "uid": "1"}, "spec": {"containers": containers}})

    assert run_the_same([pod("a:2", "s:2")], [pod("a:2")])
    assert not run_the_same([pod("a:2"), pod("a:1")], [pod("a:2")])
    assert run_the_same([pod("a:1")], [])
