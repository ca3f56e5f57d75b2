"""The `yolo-kserve rollout` command."""

from __future__ import annotations

import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from yolo_client.demo import DemoFailed, generated_samples, samples_in
from yolo_client.interrupts import heed_all

ROLLED_BACK = 3
FAILED = 2


class OnInterrupt(StrEnum):
    """What Ctrl-C leaves."""

    ROLL_BACK = "roll-back"
    LEAVE = "leave"


def rollout(
    name: Annotated[str, typer.Argument(help="The InferenceService.")],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Its namespace; the kubeconfig's otherwise.")
    ] = "",
    context: Annotated[str, typer.Option(help="The kubeconfig's context; its current one otherwise.")] = "",
    to: Annotated[
        str, typer.Option(help="New weights: makes a canary of them; the canary that is there otherwise.")
    ] = "",
    steps: Annotated[
        str, typer.Option(help="The canary's share of the traffic, in percent, step by step.")
    ] = "5,25,50,100",
    step_seconds: Annotated[float, typer.Option(min=0, help="How long each step is watched.")] = 60,
    max_error_rate: Annotated[float, typer.Option(min=0, max=1, help="The most failed answers, as a share.")] = 0.01,
    max_p95_ratio: Annotated[float, typer.Option(min=0, help="The most p95 latency, over the stable version's.")] = 1.5,
    min_agreement: Annotated[float, typer.Option(min=0, max=1, help="The least agreement of the detections.")] = 0.9,
    min_requests: Annotated[
        int, typer.Option(min=1, help="The least requests to judge by; our own make up for it.")
    ] = 50,
    images: Annotated[
        Path | None, typer.Option(help="A folder of pictures to compare by; drawn samples otherwise.")
    ] = None,
    ready_seconds: Annotated[float, typer.Option(min=1, help="How long pods may take to be ready.")] = 300,
    routed_seconds: Annotated[
        float, typer.Option(min=0, help="How long gateways take to follow a route that changed.")
    ] = 10,
    on_interrupt: Annotated[OnInterrupt, typer.Option(help="What Ctrl-C leaves.")] = OnInterrupt.ROLL_BACK,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one line a step and one for the verdict.")
    ] = False,
) -> None:
    """Give new weights more traffic step by step, and promote them or roll them back.

    Each step watches the canary's failures and p95 latency, and how far its detections agree with the stable version's
    on the same pictures. Ends with 0 where it promoted, 3 where it rolled back, 2 where it could do neither.
    """
    # Slow to import, and only here: half a second that no other command should take.
    try:
        from yolo_client.rollout import api, course, patience, record, verdict  # noqa: PLC0415
        from yolo_client.rollout.report import JsonReport, TableReport  # noqa: PLC0415
        from yolo_client.rollout.steps import parse_steps  # noqa: PLC0415
        from yolo_client.rollout.strategies.choose import strategy_of  # noqa: PLC0415
    except ImportError:
        _fail("this command needs more packages: pip install 'yolo-client[rollout]'")
    heed_all()
    # Of each time that it asks the API server again.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        limits = verdict.Limits(max_error_rate, max_p95_ratio, min_agreement, min_requests)
        samples = generated_samples() if images is None else samples_in(images)
        leave = on_interrupt is OnInterrupt.LEAVE
        plan = course.Plan(name, to, parse_steps(steps), step_seconds, ready_seconds, limits, samples, leave)
        cluster = api.Api(namespace, context)
        strategy = strategy_of(cluster, name, patience.Patience(ready_seconds, routed_seconds))
        if dry_run:
            typer.echo(course.intention(strategy, plan))
            return
        report = JsonReport(sys.stdout) if as_json else TableReport(sys.stdout)
        outcome = course.Rollout(cluster, strategy, record.Record(cluster, name), plan, report.step).run()
    except (api.ClusterFailed, course.Interrupted, course.Failed, DemoFailed, ValueError, OSError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted before it was done: run it again to go on from where it stands")
    try:
        report.outcome(name, outcome)
    except OSError:
        _let_go_of_output()
    if not outcome.promoted:
        raise SystemExit(ROLLED_BACK)


def _let_go_of_output() -> None:
    """Send what could not be printed nowhere, where the reader is gone: Python would try again as it ends, and fail."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> NoReturn:
    _let_go_of_output()
    typer.echo(f"error: {message}", err=True)
    raise SystemExit(FAILED)
