"""Canaries as each of KServe's modes has them, made, weighed, promoted and taken away at a real API server."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from api.objects import component, knative, refuse, revision, route, service, split, take, weights
from api.stage import kubectl

from yolo_client.rollout.api import Api, ClusterFailed, NotFound, object_path
from yolo_client.rollout.patience import Patience
from yolo_client.rollout.services import pods_of, service_path
from yolo_client.rollout.strategies.choose import strategy_of
from yolo_client.rollout.strategies.strategy import Strategy
from yolo_client.rollout.version import Change


@pytest.fixture
def api(namespace) -> Api:
    return Api(namespace.name)


def test_a_split_canary_is_made_weighed_and_taken_away(namespace, api) -> None:
    split(namespace)
    strategy = strategy_of(api, "m", Patience(routed_s=0))
    assert (strategy.percent(), strategy.sources()) == (-1, ("yolo://shapes", ""))
    strategy.create("same")
    assert (strategy.percent(), strategy.sources()) == (0, ("yolo://shapes", "same"))
    canary = namespace.get("inferenceservice", "m-canary")
    assert "--predictor_host=m-canary-predictor-grpc:8081" in canary["spec"]["transformer"]["containers"][0]["args"]
    headless = namespace.get("service", "m-canary-predictor-grpc")
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["spec"]["selector"] == component("m-canary", "predictor")
    assert headless["metadata"]["ownerReferences"][0]["uid"] == canary["metadata"]["uid"]
    strategy.weigh(25)
    assert strategy.percent() == 25
    assert weights(namespace) == {"m-transformer": 75, "m-canary-transformer": 25}
    strategy.roll_back()
    assert weights(namespace) == {"m-transformer": 1}
    assert strategy.percent() == -1
    assert strategy.sources() == ("yolo://shapes", "")


def test_a_collocated_canary_is_told_the_models_name_in_both_containers(namespace, api) -> None:
    namespace.apply(service(), route({"m-predictor": 1}))
    containers = ("kserve-container", "transformer-container")
    namespace.pod("p", "yolo://shapes", "10.89.0.11", component("m", "predictor"), containers=containers)
    strategy_of(api, "m", Patience(routed_s=0)).create("same")
    predictor = namespace.get("inferenceservice", "m-canary")["spec"]["predictor"]
    assert predictor["model"]["args"] == ["--model_name=m"]
    assert predictor["containers"] == [{"name": "transformer-container", "args": ["--model_name=m"]}]
    assert strategy_of(api, "m", Patience()).sources() == ("yolo://shapes", "same")


def test_a_split_canary_is_promoted_once_the_stable_pods_have_its_weights(namespace, api) -> None:
    split(namespace)
    strategy = strategy_of(api, "m", Patience(ready_s=2, routed_s=0))
    strategy.create("same")
    namespace.pod("p", "yolo://shapes", "10.89.0.11", component("m", "predictor"))
    with pytest.raises(ClusterFailed, match="a stable version with the weights same did not come about"):
        strategy.promote()
    assert weights(namespace) == {"m-transformer": 0, "m-canary-transformer": 100}
    namespace.pod("p", "same", "10.89.0.11", component("m", "predictor"))
    strategy.promote()
    assert strategy.sources() == ("same", "")
    assert weights(namespace) == {"m-transformer": 1}


def half_promoted(namespace, api) -> Strategy:
    """Begin to promote a canary whose weights the stable version's pods never get; return its strategy."""
    split(namespace)
    strategy = strategy_of(api, "m", Patience(ready_s=1, routed_s=0))
    strategy.create("same")
    with pytest.raises(ClusterFailed):
        strategy.promote()
    return strategy


def test_who_applied_a_model_can_change_it_again_after_a_promotion(namespace, api) -> None:
    split(namespace)
    take(namespace)
    strategy = strategy_of(api, "m", Patience(ready_s=2, routed_s=0))
    strategy.create("same")
    namespace.pod("p", "same", "10.89.0.11", component("m", "predictor"))
    strategy.promote()
    strategy.hand_back()
    split(namespace, "yolo://others")
    assert strategy.sources() == ("yolo://others", "")


def test_who_applied_a_model_can_change_it_again_after_a_rollback(namespace, api) -> None:
    strategy = half_promoted(namespace, api)
    take(namespace)
    strategy.roll_back()
    strategy.hand_back()
    split(namespace, "yolo://others")
    assert strategy.sources() == ("yolo://others", "")


def test_a_promotion_that_fails_half_way_gives_the_stable_version_its_own_weights_back(namespace, api) -> None:
    strategy = half_promoted(namespace, api)
    strategy.roll_back()
    assert strategy.sources() == ("yolo://shapes", "")


def test_a_rollback_that_can_not_give_the_model_back_has_moved_the_traffic_before(namespace, api) -> None:
    strategy = half_promoted(namespace, api)
    kubectl("-n", namespace.name, "delete", "isvc", "m")
    with pytest.raises(NotFound):
        strategy.roll_back()
    assert weights(namespace) == {"m-transformer": 100, "m-canary-transformer": 0}


def test_a_rollback_leaves_a_model_that_someone_else_edited(namespace, api) -> None:
    strategy = half_promoted(namespace, api)
    edited = {"spec": {"predictor": {"model": {"storageUri": "yolo://mine"}}}}
    kubectl("-n", namespace.name, "patch", "isvc", "m", "--type=merge", "-p", json.dumps(edited))
    strategy.roll_back()
    assert strategy.sources() == ("yolo://mine", "")
    assert weights(namespace) == {"m-transformer": 1}


def test_a_promotion_brings_the_canarys_runtime_and_images_along(namespace, api) -> None:
    split(namespace)
    canary = service("m-canary", transformer={"containers": [{"name": "kserve-container", "image": "t:2"}]})
    canary["spec"]["predictor"]["model"]["runtime"] = "mine"
    namespace.apply(canary)
    namespace.pod("p", "yolo://shapes", "10.89.0.11", component("m", "predictor"))
    strategy = strategy_of(api, "m", Patience(ready_s=2, routed_s=0))
    assert not strategy.promoting()
    # As long as a pod with another image is there, the stable version has not caught up.
    namespace.pod("old", "", "10.89.0.11", component("m", "transformer"))
    namespace.pod("new", "", "10.89.0.11", component("m-canary", "transformer"), image="t:2")
    with pytest.raises(ClusterFailed, match="a stable version with the weights yolo://shapes did not come about"):
        strategy.promote()
    assert strategy.promoting()
    kubectl("-n", namespace.name, "delete", "pod", "old", "--force", "--grace-period=0")
    assert strategy.promote() == Change("mine", "2")
    spec = namespace.get("inferenceservice", "m")["spec"]
    assert spec["predictor"]["model"]["runtime"] == "mine"
    assert spec["transformer"]["containers"][0]["image"] == "t:2"
    assert "--predictor_host=m-predictor-grpc:8081" in spec["transformer"]["containers"][0]["args"]


def test_a_route_that_a_gateway_refuses_is_an_error_and_can_be_taken_back(namespace, api) -> None:
    split(namespace)
    strategy = strategy_of(api, "m", Patience(routed_s=0))
    strategy.create("same")
    refuse(namespace)
    with pytest.raises(ClusterFailed, match="a gateway refuses HTTPRoute m-route with 25 %: BackendNotFound: there is"):
        strategy.weigh(25)
    strategy.roll_back()
    assert weights(namespace) == {"m-transformer": 1}


def test_a_knative_canary_is_read_from_its_revisions(namespace, api) -> None:
    revision(namespace, "r1", "yolo://shapes")
    knative(namespace, 25, "same", latestRolledoutRevision="r1", latestReadyRevision="r2", latestCreatedRevision="r2")
    strategy = strategy_of(api, "m", Patience())
    assert (strategy.percent(), strategy.sources()) == (25, ("yolo://shapes", "same"))
    namespace.pod("old", "yolo://shapes", "10.89.0.11", {"serving.knative.dev/revision": "r1"})
    namespace.pod("new", "same", "10.89.0.11", {"serving.knative.dev/revision": "r2"})
    found = [[pod.name for pod in pods_of(api, each.answering)] for each in strategy.selectors()]
    assert found == [["old"], ["new"]]
    strategy.weigh(50)
    assert strategy.percent() == 50


def test_a_knative_model_whose_weights_are_rolled_out_has_no_canary(namespace, api) -> None:
    revision(namespace, "r1", "yolo://shapes")
    knative(namespace, None, "yolo://shapes", latestRolledoutRevision="r1", latestCreatedRevision="r1")
    strategy = strategy_of(api, "m", Patience())
    assert (strategy.percent(), strategy.sources()) == (-1, ("yolo://shapes", ""))


def test_a_knative_canary_is_a_revision_newer_than_a_broken_one_that_is_there(namespace, api) -> None:
    revision(namespace, "r1", "yolo://shapes")
    names = {"latestRolledoutRevision": "r1", "latestReadyRevision": "r1", "latestCreatedRevision": "r2"}
    knative(namespace, None, "yolo://shapes", **names)
    strategy = strategy_of(api, "m", Patience(ready_s=1))
    with pytest.raises(ClusterFailed, match="a revision with the new weights did not come about"):
        strategy.create("same")
    with ThreadPoolExecutor(1) as controller:
        made = {"components": {"predictor": {**names, "latestCreatedRevision": "r3"}}}
        made_later = controller.submit(lambda: time.sleep(2) or namespace.status("inferenceservice", "m", made))
        strategy_of(api, "m", Patience(ready_s=20)).create("better")
        made_later.result()
    assert strategy.selectors()[1].answering == "serving.knative.dev/revision=r3"


def test_a_knative_rollback_that_was_cut_off_leaves_nothing_on_trial(namespace, api) -> None:
    revision(namespace, "r1", "yolo://shapes")
    knative(namespace, 0, "yolo://shapes", latestRolledoutRevision="r1", latestCreatedRevision="r3")
    strategy = strategy_of(api, "m", Patience())
    assert (strategy.percent(), strategy.sources()) == (-1, ("yolo://shapes", ""))


def test_a_knative_rollback_ends_with_the_old_weights_and_no_split(namespace, api) -> None:
    for name in ("r1", "r3"):
        revision(namespace, name, "yolo://shapes")
    # As it is once Knative has made the revision of the restored spec.
    knative(namespace, 25, "same", latestRolledoutRevision="r1", latestReadyRevision="r3", latestCreatedRevision="r3")
    strategy_of(api, "m", Patience(ready_s=5)).roll_back()
    predictor = namespace.get("inferenceservice", "m")["spec"]["predictor"]
    assert predictor["model"]["storageUri"] == "yolo://shapes"
    assert "canaryTrafficPercent" not in predictor


def test_a_knative_promotion_ends_with_all_traffic_on_the_new_weights(namespace, api) -> None:
    revision(namespace, "r1", "yolo://shapes")
    traffic = [{"revisionName": "r2", "percent": 100, "latestRevision": True}]
    knative(
        namespace,
        100,
        "same",
        latestRolledoutRevision="r2",
        previousRolledoutRevision="r1",
        latestReadyRevision="r2",
        latestCreatedRevision="r2",
        traffic=traffic,
    )
    strategy = strategy_of(api, "m", Patience(ready_s=5))
    assert strategy.sources() == ("yolo://shapes", "same")
    strategy.promote()
    assert "canaryTrafficPercent" not in namespace.get("inferenceservice", "m")["spec"]["predictor"]


def test_a_change_that_meets_another_is_made_again(namespace, api) -> None:
    namespace.apply(service())
    path = service_path(api, "m")
    interference = iter([True, True])

    def change(document: dict) -> dict:
        if next(interference, False):
            kubectl("-n", namespace.name, "annotate", "isvc", "m", f"at={time.time_ns()}", "--overwrite")
        return {**document, "metadata": {**document["metadata"], "labels": {"changed": "yes"}}}

    after = api.edit(path, change)
    assert after["metadata"]["labels"] == {"changed": "yes"}
    assert "at" in after["metadata"]["annotations"]


def test_what_the_cluster_refuses_is_said_in_its_words(namespace, api) -> None:
    namespace.apply(service())
    wrong = {"predictor": {"canaryTrafficPercent": "all"}}
    with pytest.raises(ClusterFailed, match="canaryTrafficPercent") as error:
        api.edit(service_path(api, "m"), lambda document: {**document, "spec": wrong})
    assert "\n" not in str(error.value)


def test_what_is_not_there_may_be_deleted(api) -> None:
    api.delete(object_path("v1", api.namespace, "configmaps", "none"))
