"""`yolo-kserve rollout` against a real API server: its requests, its reading of answers, and pods behind its proxy."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from api.objects import canary_service, component, refuse, route, service, services, split, weights
from api.runs import FAST, LIMITS, start, wait_for_traffic
from api.stage import ADDRESSES, NOBODY, kubectl
from rollouts import STRICT

from yolo_client.rollout.api import Api, NotFound
from yolo_client.rollout.services import service_path

RBAC = Path(__file__).resolve().parents[2] / "docs/how-to/rollout-rbac.yaml"


def steps_of(done: subprocess.CompletedProcess[str]) -> list[dict]:
    assert done.stdout, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_canary_as_good_as_the_stable_version_is_promoted(namespace, collocated, rollout) -> None:
    collocated("same")
    done = rollout("--json", *FAST)
    assert done.returncode == 0, done.stdout + done.stderr
    *steps, verdict = steps_of(done)
    assert [step["percent"] for step in steps] == [0, 5, 25, 50, 100]
    assert [step["action"] for step in steps] == ["go on"] * 4 + ["promote"]
    assert all(step["agreement"]["ratio"] == 1 and step["agreement"]["stable"] > 0 for step in steps)
    assert all(step["probes"] >= 8 for step in steps)
    assert (verdict["verdict"], verdict["storageUri"]) == ("promoted", "same")
    predictor = namespace.get("inferenceservice", "m")["spec"]["predictor"]
    assert (predictor["model"]["storageUri"], predictor["maxReplicas"]) == ("same", 4)
    assert services(namespace) == ["m"]
    assert weights(namespace) == {"m-predictor": 1}


def test_the_verdict_stands_in_events_and_in_a_config_map(namespace, collocated, rollout) -> None:
    collocated("same", percent=50)
    assert rollout(*FAST).returncode == 0
    reasons = [reason for reason, _ in namespace.events()]
    assert reasons == ["RolloutStep", "RolloutStep", "RolloutPromoted"]
    held = namespace.get("configmap", "m-rollout")
    assert held["data"]["verdict"] == "promoted"
    assert [step["percent"] for step in json.loads(held["data"]["steps"])] == [50, 100]
    uid = namespace.get("inferenceservice", "m")["metadata"]["uid"]
    assert held["metadata"]["ownerReferences"][0]["uid"] == uid
    assert namespace.get("events.events.k8s.io")["items"][0]["regarding"]["uid"] == uid


def test_a_canary_that_calls_things_by_other_names_never_gets_traffic(namespace, collocated, rollout) -> None:
    collocated("shuffled")
    done = rollout("--json", *FAST)
    assert done.returncode == 3, done.stdout + done.stderr
    *steps, verdict = steps_of(done)
    assert [step["percent"] for step in steps] == [0]
    assert steps[0]["agreement"]["ratio"] == 0
    assert steps[0]["agreement"]["matched"] == 0
    assert "agree with the stable version's by 0.000" in verdict["reason"]
    assert services(namespace) == ["m", "m-canary"]
    assert weights(namespace) == {"m-predictor": 100, "m-canary-predictor": 0}
    assert ("RolloutRolledBack", verdict["reason"]) in namespace.events()


def test_a_slow_canary_is_rolled_back_although_its_answers_are_right(collocated, rollout) -> None:
    collocated("slow")
    done = rollout("--json", *FAST, *STRICT)
    assert done.returncode == 3, done.stdout + done.stderr
    verdict = steps_of(done)[-1]
    assert "times the stable version's" in verdict["reason"]
    assert steps_of(done)[0]["agreement"]["ratio"] > 0.95


def test_a_rollout_goes_on_from_where_the_canary_stands(collocated, rollout) -> None:
    collocated("same", percent=25)
    *steps, _ = steps_of(rollout("--json", *FAST))
    assert [step["percent"] for step in steps] == [25, 50, 100]


def test_the_table_has_a_row_a_step_and_ends_with_the_charts_values(collocated, rollout) -> None:
    collocated("same", percent=50)
    done = rollout(*FAST)
    head, *rows = done.stdout.splitlines()
    assert head.split()[:4] == ["traffic", "requests", "probes", "errors"]
    assert [row.split()[0] for row in rows[:2]] == ["50", "100"]
    assert rows[1].endswith("promote")
    assert done.stdout.endswith("models:\n  m:\n    storageUri: same\n")


def test_a_canary_that_has_only_another_runtime_is_evaluated_and_the_values_name_it(
    namespace, collocated, rollout
) -> None:
    collocated("yolo://shapes", percent=50)
    namespace.apply(canary_service("yolo://shapes", runtime="mine"))
    done = rollout(*FAST)
    assert done.returncode == 0, done.stderr
    _, *rows = done.stdout.splitlines()
    assert [row.split()[0] for row in rows[:2]] == ["50", "100"]
    assert done.stdout.endswith("models:\n  m:\n    storageUri: yolo://shapes\n    runtime: mine\n")
    assert namespace.get("inferenceservice", "m")["spec"]["predictor"]["model"]["runtime"] == "mine"


def test_a_promotion_that_was_cut_off_is_ended(namespace, collocated, rollout) -> None:
    collocated("same", percent=100)
    promoted = service()
    promoted["spec"]["predictor"]["model"] = canary_service("same")["spec"]["predictor"]["model"]
    namespace.apply(promoted)
    assert "(standard): same is promoted, which was under way" in rollout("--dry-run").stdout
    done = rollout(*FAST)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("m is promoted to same: its promotion was under way")
    assert services(namespace) == ["m"]


def test_a_canary_that_the_gateway_refuses_to_route_to_is_rolled_back(namespace, collocated, rollout) -> None:
    collocated("same")
    refuse(namespace)
    done = rollout(*FAST)
    assert done.returncode == 3, done.stderr
    assert "a gateway refuses HTTPRoute m-route with 5 %: BackendNotFound: there is no such Service" in done.stdout
    assert weights(namespace)["m-canary-predictor"] == 0


def test_a_canary_is_made_from_new_weights_and_taken_away_when_it_fails(namespace, serve, rollout) -> None:
    namespace.apply(service(), route({"m-predictor": 1}))
    namespace.pod("stable-0", "yolo://shapes", serve("yolo://shapes"), component("m", "predictor"))
    done = rollout("--to", "shuffled", *FAST, "--ready-seconds", "3")
    assert done.returncode == 3, done.stderr
    assert "the canary does not become ready: no pod of the canary came up (after 3 seconds)" in done.stdout
    assert services(namespace) == ["m"]
    assert weights(namespace) == {"m-predictor": 1}


def test_a_pod_that_can_not_start_is_named_with_its_reason(namespace, collocated, rollout) -> None:
    collocated("same")
    waiting = {"waiting": {"reason": "InvalidImageName", "message": "couldn't parse image name"}}
    broken = {
        "name": "kserve-container",
        "ready": False,
        "restartCount": 0,
        "image": "",
        "imageID": "",
        "state": waiting,
    }
    not_ready = {"conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [broken]}
    namespace.pod("canary-0", "same", ADDRESSES["same"], component("m-canary", "predictor"), **not_ready)
    done = rollout(*FAST)
    assert done.returncode == 3
    assert "pod canary-0: container kserve-container: InvalidImageName: couldn't parse image name" in done.stdout


def test_a_canary_whose_container_ends_is_rolled_back(namespace, collocated, rollout) -> None:
    collocated("same")
    process = start(namespace, *LIMITS, "--step-seconds", "6")
    wait_for_traffic(namespace, process)
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    status = {
        "name": "kserve-container",
        "ready": True,
        "restartCount": 1,
        "image": "",
        "imageID": "",
        "lastState": ended,
    }
    namespace.status("pod", "canary-0", {"containerStatuses": [{**status, "state": {"running": {}}}]})
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 3
    assert "the canary restarted: container kserve-container of pod canary-0 ended: OOMKilled" in out


def test_a_canary_that_has_no_ready_pod_as_a_step_ends_is_rolled_back(namespace, collocated) -> None:
    collocated("same")
    process = start(namespace, *LIMITS, "--step-seconds", "4", "--ready-seconds", "3")
    wait_for_traffic(namespace, process)
    status = {"name": "kserve-container", "ready": False, "restartCount": 0, "image": "", "imageID": ""}
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "the registry is away"}}
    not_ready = {
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{**status, "state": waiting}],
    }
    namespace.status("pod", "canary-0", not_ready)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert "the canary has no pod that is ready: pod canary-0: container kserve-container: ErrImagePull" in out
    assert weights(namespace)["m-canary-predictor"] == 0


def test_what_can_not_be_noted_is_said_and_changes_nothing(namespace, collocated, rollout) -> None:
    role = yaml.safe_load(RBAC.read_text())
    role["rules"] = [rule for rule in role["rules"] if not {"events", "configmaps"} & {*rule["resources"]}]
    namespace.apply(role)
    kubectl("-n", namespace.name, "create", "rolebinding", "r", "--role=yolo-kserve-rollout", "--user=rollout")
    collocated("same", percent=50)
    done = rollout("--json", *FAST, env={**os.environ, "KUBECONFIG": os.environ["ROLLOUT_KUBECONFIG"]})
    assert done.returncode == 0, done.stderr
    assert steps_of(done)[-1]["verdict"] == "promoted"
    event, *_, report, last = done.stderr.splitlines()
    assert event.startswith("the Event RolloutStep could not be written: not allowed to create that: ")
    assert report.startswith("the ConfigMap m-rollout could not be written: not allowed to ")
    assert last.startswith("the Event RolloutPromoted could not be written: ")


def test_a_pod_that_can_not_be_reached_is_named_with_the_reason(namespace, rollout) -> None:
    namespace.apply(service(), canary_service("same"), route({"m-predictor": 100, "m-canary-predictor": 0}))
    namespace.pod("canary-0", "same", NOBODY, component("m-canary", "predictor"))
    done = rollout(*FAST)
    assert done.returncode == 3, done.stderr
    assert "no server answers at http://canary-0: error trying to reach service: dial tcp" in done.stdout
    assert "connection refused" in done.stdout


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(namespace, collocated, rollout) -> None:
    collocated("same", percent=25)
    before = namespace.get("inferenceservice", "m")
    done = rollout("--dry-run")
    assert done.returncode == 0
    assert done.stdout == "m (standard): same in place of yolo://shapes, from 25 % over 25 %, 50 %, 100 %\n"
    assert namespace.get("inferenceservice", "m") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "InferenceService m has no canary: --to URI makes one"),
        (("--to", "yolo://shapes"), "m has the weights yolo://shapes already"),
        (("--steps", "5,25"), "'5,25' are no steps: give percentages that rise to 100, such as 5,25,50,100"),
        (("--images", "/nowhere"), "there is no picture at /nowhere"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(namespace, rollout, arguments, message) -> None:
    namespace.apply(service())
    done = rollout(*arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"error: {message}"]
    assert not done.stdout


def test_an_unknown_model_is_said_in_one_line(namespace, rollout) -> None:
    done = rollout()
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"error: there is no InferenceService m in namespace {namespace.name}"]


def test_without_a_kubeconfig_one_line_says_so(namespace, rollout, tmp_path) -> None:
    done = rollout(env={**os.environ, "KUBECONFIG": str(tmp_path / "none")})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no cluster: ")


def test_a_cluster_that_does_not_answer_is_named_in_one_line(namespace, rollout, tmp_path) -> None:
    text = Path(os.environ["KUBECONFIG"]).read_text().replace("10.89.0.1:6443", "10.89.0.1:6444")
    (tmp_path / "config").write_text(text)
    done = rollout(env={**os.environ, "KUBECONFIG": str(tmp_path / "config")})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the cluster at https://10.89.0.1:6444 does not answer: ")


def test_someone_without_rights_is_told_what_is_missing(namespace, rollout) -> None:
    namespace.apply(service())
    done = rollout(env={**os.environ, "KUBECONFIG": os.environ["ROLLOUT_KUBECONFIG"]})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: not allowed to read that: inferenceservices.serving.kserve.io")
    assert 'User "rollout"' in line


def test_the_documented_role_is_enough(namespace, collocated, rollout) -> None:
    kubectl("-n", namespace.name, "apply", "-f", str(RBAC))
    kubectl("-n", namespace.name, "create", "rolebinding", "r", "--role=yolo-kserve-rollout", "--user=rollout")
    collocated("same", percent=50)
    done = rollout(*FAST, env={**os.environ, "KUBECONFIG": os.environ["ROLLOUT_KUBECONFIG"]})
    assert done.returncode == 0, done.stderr


def test_a_split_rollout_reaches_both_transformers(namespace, serve, rollout) -> None:
    split(namespace)
    for name, version in (("m", "yolo://shapes"), ("m-canary", "shuffled")):
        for kind in ("predictor", "transformer"):
            namespace.pod(f"{name}-{kind}", version, serve(version), component(name, kind))
    done = rollout("--to", "shuffled", "--json", *FAST)
    assert done.returncode == 3, done.stderr
    assert steps_of(done)[0]["agreement"]["ratio"] == 0
    with pytest.raises(NotFound):
        Api(namespace.name).get(service_path(Api(namespace.name), "m-canary"))


def test_a_model_without_a_route_is_told_to_have_one(namespace, rollout) -> None:
    namespace.apply(service())
    done = rollout("--to", "same", *FAST)
    assert done.returncode == 2
    assert "there is no HTTPRoute m-route" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_split_model_in_knative_mode_is_refused(namespace, rollout) -> None:
    split(namespace)
    namespace.status("inferenceservice", "m", {"deploymentMode": "Knative"})
    done = rollout("--to", "same")
    assert done.returncode == 2
    assert "in Knative mode" in done.stderr
