"""`python -m yolo_transformer`: the transformer's process."""

from __future__ import annotations

import argparse
import os
from functools import partial

from servekit import flags
from servekit.cpus import available_cpus


def main() -> None:
    """Serve the predictor's models until told to stop."""
    parser = _parser()
    arguments = parser.parse_args()

    # After the flags: KServe and OpenCV take seconds to import.
    import cv2  # noqa: PLC0415

    from servekit.executor import BoundedExecutor  # noqa: PLC0415
    from servekit.server import Server, StartupFailed, exit_with  # noqa: PLC0415
    from yolo_transformer.images import PictureLimits  # noqa: PLC0415
    from yolo_transformer.people import add_routes  # noqa: PLC0415
    from yolo_transformer.pictures import RequestLimits  # noqa: PLC0415
    from yolo_transformer.predictor import Predictor  # noqa: PLC0415
    from yolo_transformer.repository import PredictorModels  # noqa: PLC0415

    cv2.setNumThreads(1)  # the executor's threads are the parallelism
    executor = BoundedExecutor("picture", arguments.concurrency, arguments.max_waiting)
    limits = RequestLimits(arguments.max_batch, PictureLimits(max_pixels=arguments.max_pixels))

    cache, redis_url = None, arguments.redis_url or os.environ.get("YOLO_REDIS_URL", "")
    if redis_url:
        from yolo_transformer.cache import ResultCache  # noqa: PLC0415

        try:
            cache = ResultCache(redis_url, arguments.cache_seconds, executor)
        except ValueError as error:
            parser.error(f"--redis_url: {error}")
    predictor = Predictor(arguments.predictor_host, arguments.predictor_request_timeout_seconds)
    repository = PredictorModels(predictor, executor, limits, cache)
    server = Server("yolo-transformer", repository, flags.ServerOptions.from_arguments(arguments))
    add_routes(server.rest)
    names = [name.strip() for name in arguments.model_name.split(",") if name.strip()]
    try:
        server.serve(partial(repository.connect, names))
    except StartupFailed as error:
        exit_with(error)


def _parser() -> argparse.ArgumentParser:
    parser = flags.parser(
        "yolo-transformer", "Pictures in, detections out, over the Open Inference Protocol.", 8080, 8081
    )
    cpus = available_cpus()
    add = parser.add_argument
    add("--model_name", default="", help="comma list of the predictor's models to serve; all of them by default")
    add("--predictor_host", required=True, help="host:port of the predictor's gRPC")
    add("--predictor_request_timeout_seconds", type=float, default=60.0, help="longest wait for the predictor")
    add("--concurrency", type=int, default=cpus, help="pictures decoded at the same time")
    add("--max_waiting", type=int, default=128, help="requests that may wait for that")
    add("--max_batch", type=int, default=16, help="pictures in one request")
    add("--max_pixels", type=int, default=50_000_000, help="pixels of one picture")
    add(
        "--redis_url",
        default="",
        help="Redis to keep results in for the same pictures; where the URL has a password, set YOLO_REDIS_URL instead",
    )
    add("--cache_seconds", type=flags.positive, default=3600, help="how long Redis keeps a result")
    return parser


if __name__ == "__main__":
    main()
