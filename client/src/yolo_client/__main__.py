"""The `yolo-kserve` command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import orjson
import typer
from rich.console import Console

from yolo_client import demo
from yolo_client.client import Answer, Client, RequestFailed
from yolo_client.interrupts import heed_all
from yolo_client.local import EMBEDDED_WEIGHTS, LocalOptions, LocalServers, LocalServersFailed
from yolo_client.report import print_answers
from yolo_client.rollout.command import rollout

app = typer.Typer(
    help="YOLO detection and segmentation, served the KServe way.", no_args_is_help=True, add_completion=False
)

app.command()(rollout)

Model = Annotated[str, typer.Option(help="Name that the model is served under.")]
Weights = Annotated[str, typer.Option(help="Where the weights are: a file, or a URI such as yolo://yolox-nano.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
HttpPort = Annotated[int, typer.Option(help="The transformer's REST port.")]
GrpcPort = Annotated[int, typer.Option(help="The transformer's gRPC port.")]
PredictorHttpPort = Annotated[int, typer.Option(help="The predictor's REST port.")]
PredictorGrpcPort = Annotated[int, typer.Option(help="The predictor's gRPC port.")]


@app.command()
def up(
    model: Model = "shapes",
    weights: Weights = EMBEDDED_WEIGHTS,
    host: Host = "127.0.0.1",
    http_port: HttpPort = 8080,
    grpc_port: GrpcPort = 8081,
    predictor_http_port: PredictorHttpPort = 9080,
    predictor_grpc_port: PredictorGrpcPort = 9081,
) -> None:
    """Serve a model with both servers on this machine until Ctrl-C."""
    options = LocalOptions(model, weights, host, http_port, grpc_port, predictor_http_port, predictor_grpc_port)
    console = Console(stderr=True)

    def serve() -> None:
        with LocalServers(options) as servers:
            console.print(f"Serving [bold]{model}[/] at {options.url} (gRPC on port {grpc_port}). Ctrl-C stops.")
            servers.wait()

    _run(serve)


@app.command("demo")
def run_demo(
    weights: Weights = EMBEDDED_WEIGHTS,
    images: Annotated[Path | None, typer.Option(help="A folder of pictures, or one; drawn samples otherwise.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the annotated pictures.")] = Path("out"),
    http_port: HttpPort = 8080,
    grpc_port: GrpcPort = 8081,
    predictor_http_port: PredictorHttpPort = 9080,
    predictor_grpc_port: PredictorGrpcPort = 9081,
) -> None:
    """Start both servers, send pictures, show and check what they find, and stop."""
    embedded = weights == EMBEDDED_WEIGHTS
    options = LocalOptions(
        "shapes" if embedded else "model",
        weights,
        http_port=http_port,
        grpc_port=grpc_port,
        predictor_http_port=predictor_http_port,
        predictor_grpc_port=predictor_grpc_port,
    )
    console = Console()
    _run(lambda: demo.run(options, images, out, console))
    if embedded and images is None:
        console.print(
            "A real checkpoint: make demo WEIGHTS=path.onnx IMAGES=dir, or WEIGHTS=yolo://yolox-nano",
            soft_wrap=True,
        )


@app.command()
def detect(
    images: Annotated[list[Path], typer.Argument(help="Pictures.", exists=True, dir_okay=False)],
    url: Annotated[str, typer.Option(help="Where the transformer answers.")] = "http://127.0.0.1:8080",
    model: Annotated[str, typer.Option(help="Name of the model; the first one served otherwise.")] = "",
    conf: Annotated[float, typer.Option(help="Least score of a detection.")] = 0.25,
    iou: Annotated[float, typer.Option(help="Overlap from which two boxes of a class are one object.")] = 0.65,
    out: Annotated[Path | None, typer.Option(help="Folder for annotated pictures.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line a picture.")] = False,
) -> None:
    """Detect what is in pictures, and draw it."""

    def send() -> None:
        with Client(url, model) as client:
            answers = [
                (
                    path,
                    client.detect(
                        path.read_bytes(), confidence_threshold=conf, iou_threshold=iou, return_image=out is not None
                    ),
                )
                for path in images
            ]
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            for path, answer in answers:
                (out / f"{path.stem}.jpg").write_bytes(answer.annotated)
        if as_json:
            for path, answer in answers:
                typer.echo(_json_line(path, answer))
        else:
            print_answers(Console(), [(path.name, answer) for path, answer in answers])

    _run(send)


def _json_line(path: Path, answer: Answer) -> str:
    return orjson.dumps({"image": str(path), "detections": answer.detections, **answer.stages_us}).decode()


def _run(action: Callable[[], None]) -> None:
    """Run a command; what can go wrong ends in one line, and being told to end in another."""
    heed_all()
    try:
        action()
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped")
        raise SystemExit(130) from None
    except (LocalServersFailed, RequestFailed, demo.DemoFailed, OSError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise SystemExit(1)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
