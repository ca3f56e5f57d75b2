"""What pods' documents say of their trouble and their restarts."""

from __future__ import annotations

import pytest

from yolo_client.rollout.pods import Trouble, pod_of, restarted


def pod(uid: str = "1", *, phase="Running", conditions=(), init=(), containers=(), **metadata):
    status = {"phase": phase, "conditions": conditions, "initContainerStatuses": init, "containerStatuses": containers}
    return pod_of({"metadata": {"name": f"pod-{uid}", "uid": uid, **metadata}, "status": status})


def container(name: str = "c", restarts: int = 0, **more):
    return {"name": name, "restartCount": restarts, **more}


def ended(code: int = 1, reason: str = "Error"):
    return {"terminated": {"exitCode": code, "reason": reason}}


def waiting(reason: str, **more):
    return {"waiting": {"reason": reason, **more}}


def test_a_ready_pod_has_no_trouble() -> None:
    found = pod(
        conditions=[{"type": "Ready", "status": "True"}],
        init=[container("storage-initializer", state=ended(0, "Completed"), ready=True)],
        containers=[container(state={"running": {}}, ready=True)],
        annotations={"internal.serving.kserve.io/storage-initializer-sourceuri": "yolo://x"},
    )
    assert found.ready
    assert not found.leaving
    assert found.trouble is None
    assert found.source == "yolo://x"


def test_a_pod_on_its_way_out_is_leaving() -> None:
    assert pod(deletionTimestamp="2026-01-01T00:00:00Z").leaving
    assert not pod().leaving


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_was_evicted_is_not_waited_for(phase) -> None:
    assert pod(phase=phase).leaving


@pytest.mark.parametrize(
    ("kinds", "trouble"),
    [
        (
            {"containers": [container(state=waiting("ErrImagePull", message="not found"))]},
            Trouble("c", "ErrImagePull: not found"),
        ),
        (
            {"containers": [container(state=waiting("InvalidImageName"))]},
            Trouble("c", "InvalidImageName", hopeless=True),
        ),
        (
            {"init": [container("storage-initializer", state=ended(1))], "containers": [container(state={})]},
            Trouble("storage-initializer", "Error (exit code 1)", logged=True),
        ),
        (
            {"init": [container("s", 2, state=waiting("CrashLoopBackOff"), lastState=ended(2))]},
            Trouble("s", "Error (exit code 2)", logged=True, previous=True, hopeless=True),
        ),
        (
            {"containers": [container("c", 1, state=waiting("CrashLoopBackOff"), lastState=ended(137, "OOMKilled"))]},
            Trouble("c", "OOMKilled", logged=True, previous=True),
        ),
        (
            {"containers": [container("c", 1, state={"running": {}}, ready=False, lastState=ended(1))]},
            Trouble("c", "Error (exit code 1)", logged=True, previous=True),
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]},
            Trouble("", "it can not be scheduled: 0/1 nodes are available"),
        ),
        ({"containers": [container(state=waiting("ContainerCreating"))]}, None),
        (
            {
                "init": [container("s", state={"running": {}})],
                "containers": [container(state=waiting("PodInitializing"))],
            },
            None,
        ),
    ],
)
def test_trouble_is_named_where_it_is(kinds, trouble) -> None:
    assert pod(**kinds).trouble == trouble


def test_a_container_that_began_anew_is_named_with_its_reason() -> None:
    before = [pod(containers=[container("c", 1)]), pod("2", containers=[container("c", 0)])]
    after = [
        pod(containers=[container("c", 2, lastState=ended(137, "OOMKilled"))]),
        pod("2", containers=[container("c", 0)]),
        pod("3", containers=[container("c", 0)]),
    ]
    assert restarted(before, after) == ("container c of pod pod-1 ended: OOMKilled",)


def test_a_new_pod_that_began_anew_already_counts() -> None:
    assert restarted([], [pod(containers=[container("c", 1)])]) == (
        "container c of pod pod-1 ended: no reason is given",
    )


def test_restarts_of_before_do_not_count() -> None:
    same = [pod(containers=[container("c", 4)])]
    assert restarted(same, same) == ()
