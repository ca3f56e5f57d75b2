"""`python -m yolo_predictor`: the predictor's process."""

from __future__ import annotations

from pathlib import Path

from servekit import flags
from servekit.cpus import available_cpus


def main() -> None:
    """Serve the models of a directory until told to stop."""
    parser = flags.parser("yolo-predictor", "Tensors in, candidates out, over the Open Inference Protocol.", 9080, 9081)
    cpus = available_cpus()
    parser.add_argument("--model_name", default="model", help="name of a model that lies alone in the directory")
    parser.add_argument("--model_dir", type=Path, default=Path("/mnt/models"), help="where the models are")
    parser.add_argument("--provider", default="auto", choices=["auto", "tensorrt", "cuda", "openvino", "cpu"])
    parser.add_argument("--threads", type=int, default=cpus, help="threads of one run")
    parser.add_argument("--concurrency", type=int, default=cpus, help="runs at the same time")
    parser.add_argument("--max_waiting", type=int, default=128, help="requests that may wait for a run")
    parser.add_argument("--max_batch", type=int, default=64, help="pictures in one request")
    arguments = parser.parse_args()

    # After the flags: KServe and ONNX Runtime take seconds to import.
    from servekit.executor import BoundedExecutor  # noqa: PLC0415
    from servekit.server import Server, StartupFailed, exit_with  # noqa: PLC0415
    from yolo_predictor.model import Limits  # noqa: PLC0415
    from yolo_predictor.repository import ModelDirectory  # noqa: PLC0415
    from yolo_predictor.session import SessionOptions  # noqa: PLC0415

    repository = ModelDirectory(
        arguments.model_dir,
        arguments.model_name,
        SessionOptions(arguments.provider, arguments.threads),
        BoundedExecutor("session", arguments.concurrency, arguments.max_waiting),
        Limits(max_batch=arguments.max_batch),
    )
    server = Server("yolo-predictor", repository, flags.ServerOptions.from_arguments(arguments))
    try:
        server.serve(repository.load_all)
    except StartupFailed as error:
        exit_with(error)


if __name__ == "__main__":
    main()
