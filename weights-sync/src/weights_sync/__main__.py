"""The `weights-sync` command."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from weights_sync import metrics
from weights_sync.cache import MAX_CACHE_BYTES
from weights_sync.catalogue import Site, catalogue
from weights_sync.errors import UnsupportedModelError, WeightsError
from weights_sync.limits import MAX_BYTES
from weights_sync.log import log
from weights_sync.place import place, place_pieces
from weights_sync.pull import rollback, verify
from weights_sync.puller import Puller
from weights_sync.signatures import POLICIES
from weights_sync.stop import end_when_told
from weights_sync.versions import MODEL_FILE, Versions
from weights_sync.watch.options import add_watch_options

if TYPE_CHECKING:
    from onnx import ModelProto

    from weights_sync.prepare import Card
    from weights_sync.quantise.report import Report

MODEL_COLUMNS = ("model", "family", "task", "labels", "size", "versions", "digest")
MAX_LOSS = 0.05
_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
CATALOGUE_COLUMNS = ("name", "family", "task", "licence", "bytes", "source")


def script() -> int:
    """Run the command as a process of its own, which ends at once when it is told to."""
    # Whoever stops a watcher gets what was asked for; whoever stops anything else does not.
    end_when_told(0 if sys.argv[1:2] == ["watch"] else None)
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. Errors are one line on standard error."""
    parser = _parser()
    options = parser.parse_args(_with_verb(sys.argv[1:] if arguments is None else arguments))
    try:
        try:
            table = options.run(parser, options)
        except WeightsError as error:
            metrics.failed(error)
            raise
        finally:
            if options.metrics_file:
                metrics.write(options.metrics_file)
    except WeightsError as error:
        sys.stderr.write(f"weights-sync: {error}\n")
        return 1
    sys.stdout.write(_aligned(table))
    return 0


def _with_verb(arguments: Sequence[str]) -> Sequence[str]:
    """Return the arguments with `pull` before bare pairs: KServe gives its storage initializers no verb."""
    return ["pull", *arguments] if arguments and "://" in arguments[0] else arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="weights-sync", description="Fetch, verify, prepare and place YOLO weights.")
    parser.set_defaults(metrics_file=None)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    pulling = surgery, places, _, _ = _pulling()

    verb = verbs.add_parser("pull", parents=pulling, help=f"place prepared models as DEST/{MODEL_FILE}")
    verb.add_argument("pairs", nargs="+", metavar="URI DEST", help="where from, and the directory to place it in")
    verb.add_argument("--metrics_file", type=Path, metavar="FILE", help="where to leave the metrics, for node_exporter")
    verb.set_defaults(run=_pull)

    verb = verbs.add_parser("watch", parents=pulling, help="follow a source, and have the predictor load what is new")
    add_watch_options(verb)
    verb.set_defaults(run=_watch)

    verb = verbs.add_parser("prepare", parents=[surgery], help="turn a YOLO model into the graph that is served")
    verb.add_argument("model", type=Path, metavar="MODEL", help="the ONNX file, or a MindSpore checkpoint (.ckpt)")
    verb.add_argument("dest", type=Path, metavar="DEST", help=f"a directory, for DEST/{MODEL_FILE}, or an .onnx file")
    verb.add_argument("--quantise", choices=("fp16", "int8"), help="make it smaller, and compare it with what it was")
    verb.add_argument("--calibrate", type=Path, metavar="DIR", help="pictures to quantise and compare with")
    verb.add_argument("--max-loss", type=float, default=MAX_LOSS, help="of mAP50-95, 0 to 1 (%(default)s)")
    verb.set_defaults(run=_prepare)

    verb = verbs.add_parser("verify", help=f"check that DIR/{MODEL_FILE} is a whole prepared model")
    verb.add_argument("directory", type=Path, metavar="DIR")
    verb.set_defaults(run=_verify)

    verb = verbs.add_parser("rollback", help="serve the version before the one that is served")
    verb.add_argument("directory", type=Path, metavar="DIR")
    verb.set_defaults(run=_rollback)

    verb = verbs.add_parser("list", parents=[places], help="show the models that yolo://NAME can name")
    verb.set_defaults(run=_list)
    return parser


def _pulling() -> tuple[argparse.ArgumentParser, ...]:
    """Return the flags of a pull in groups, some of which other verbs have too: surgery, places, trust, fetching."""
    surgery = argparse.ArgumentParser(add_help=False)
    surgery.add_argument("--candidates", type=int, help="most boxes kept for a picture (1000)")
    surgery.add_argument("--family", help="overrule the recognition of the model's family")
    surgery.add_argument("--config", type=Path, help="a checkpoint's MindYOLO YAML (the .yaml of its name beside it)")
    surgery.add_argument("--sidecar", type=Path, help="a YAML that overrules the metadata (the one beside the model)")
    surgery.add_argument("--dynamic", action="store_true", help="make a network of one picture size take any")
    surgery.add_argument("--max-bytes", type=int, default=MAX_BYTES, help="size of the largest model (%(default)s)")

    places = argparse.ArgumentParser(add_help=False)
    places.add_argument(
        "--catalogue", default="", metavar="FILE", help="models with a name, beside those of this package"
    )
    places.add_argument(
        "--mirror", default="", metavar="URI", help="where the catalogue's web files lie as HOST/PATH, asked first"
    )

    trust = argparse.ArgumentParser(add_help=False)
    trust.add_argument("--cache", metavar="DIR", help="what this node has fetched and prepared, shared by its pods")
    trust.add_argument(
        "--cache-bytes", type=int, default=MAX_CACHE_BYTES, metavar="N", help="the most of it (%(default)s)"
    )
    trust.add_argument(
        "--signature-policy", default="", choices=POLICIES, help="for models nobody trusted signed (require)"
    )
    trust.add_argument("--signature-key", default="", metavar="FILE", help="public key of who is trusted")
    trust.add_argument(
        "--signature-certificates", default="", metavar="FILES", help="certificates of who is trusted, joined by :"
    )
    trust.add_argument("--signature-identity", default="", metavar="WHO", help="who is trusted at Sigstore")
    trust.add_argument("--signature-issuer", default="", metavar="URL", help="who vouches for the identity")

    fetching = argparse.ArgumentParser(add_help=False)
    fetching.add_argument("--allow-http", action="store_true", help="let plain HTTP leave this machine")
    fetching.add_argument("--allow-private", action="store_true", help="let redirects lead to private addresses")
    fetching.add_argument("--as-it-is", action="store_true", help="leave the preparing to the predictor")
    fetching.add_argument("--attempts", type=int, default=5, help="tries in a row that bring nothing (%(default)s)")
    fetching.add_argument("--deadline", type=float, default=1800, metavar="SECONDS", help="for a pull (%(default)s)")
    groups = surgery, places, trust, fetching
    for group in groups:
        _heed_environment(group)
    return groups


def _heed_environment(group: argparse.ArgumentParser) -> None:
    """Have WEIGHTS_SYNC_ALLOW_HTTP stand for --allow-http, and so on: KServe passes a storage initializer no flags."""
    for action in group._actions:  # noqa: SLF001 (argparse has no other list of them)
        said = os.environ.get(f"WEIGHTS_SYNC_{action.dest.upper()}")
        if not said or not action.option_strings:
            continue
        is_switch = action.nargs == 0
        if is_switch and said.lower() not in _SWITCH:
            group.error(f"WEIGHTS_SYNC_{action.dest.upper()} is {said!r}: say true or false")
        # A text is read like one on the command line.
        group.set_defaults(**{action.dest: _SWITCH[said.lower()] if is_switch else said})


def _pull(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[tuple[str, ...]]:
    if len(options.pairs) % 2:
        parser.error(f"pull wants pairs of URI and DEST; {options.pairs[-1]!r} stands alone")
    puller = Puller(options)
    limits = puller.limits()
    rows: list[tuple[str, ...]] = [MODEL_COLUMNS]
    for uri, dest in zip(options.pairs[::2], options.pairs[1::2], strict=True):
        file = Path(dest) / MODEL_FILE
        found = puller.pull(uri, file.parent, limits)
        rows.append(_row(file, found))
    if not sys.stderr.isatty():
        models = [dict(zip(MODEL_COLUMNS, row, strict=True)) for row in rows[1:]]
        log("pulled", **metrics.summary(), models=models)
    return rows


def _watch(parser: argparse.ArgumentParser, options: argparse.Namespace) -> NoReturn:
    # Here, for it is the only verb that has a use for all that.
    from weights_sync.watch.command import run  # noqa: PLC0415

    run(parser, options)


def _prepare(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[tuple[str, ...]]:
    # Here, for ONNX costs the other verbs more time and memory than they need themselves.
    from weights_sync.make import make  # noqa: PLC0415
    from weights_sync.prepare import read_card  # noqa: PLC0415

    if bool(options.quantise) != bool(options.calibrate):
        parser.error("--quantise and --calibrate go together: a model is quantised and measured with pictures")
    dest = options.dest if options.dest.suffix == ".onnx" else options.dest / MODEL_FILE
    prepared = make(options.model, Puller(options).order.with_beside(options.model))
    if not options.quantise:
        place_pieces(prepared.pieces(), dest)
        return [MODEL_COLUMNS, _row(dest, read_card(prepared.model))]
    model, found = _quantise(prepared.model, options)
    place(model.SerializeToString(), dest)
    place(found.json().encode(), dest.with_suffix(".quantisation.json"))
    return [MODEL_COLUMNS, _row(dest, read_card(model)), (), *found.rows()]


def _quantise(prepared: "ModelProto", options: argparse.Namespace) -> "tuple[ModelProto, Report]":
    try:
        from weights_sync.prepare.skeleton import loaded  # noqa: PLC0415
        from weights_sync.quantise import quantise  # noqa: PLC0415
    except ImportError as error:
        raise UnsupportedModelError(
            "quantising needs ONNX Runtime and OpenCV: install weights-sync with its extra, weights-sync[quantise]"
        ) from error
    return quantise(loaded(prepared), options.quantise, options.calibrate, options.max_loss)


def _rollback(_parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[tuple[str, ...]]:
    return [("model", "sha256"), (str(options.directory / MODEL_FILE), rollback(options.directory))]


def _verify(_parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[tuple[str, ...]]:
    return [MODEL_COLUMNS, _row(options.directory / MODEL_FILE, verify(options.directory))]


def _list(_parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[tuple[str, ...]]:
    site = Site(options.catalogue, options.mirror)
    rows: list[tuple[str, ...]] = [CATALOGUE_COLUMNS]
    for entry in catalogue(site).values():
        size = str(entry.bytes or "-")
        facts = (text or "-" for text in (entry.family, entry.task, entry.licence))
        rows.append((entry.name, *facts, size, site.sources(entry)[0]))
    return rows


def _row(file: Path, found: "Card | str") -> tuple[str, ...]:
    """Return what a table says of a model: of its card, or of no more than its sha256 (hex)."""
    versions = str(Versions(file.parent).count)
    if isinstance(found, str):
        return (str(file), "-", "-", "-", "-", versions, f"sha256:{found}")
    height, width = found.size
    size = f"{width}x{height}" + (" or any" if found.dynamic else "")
    return (str(file), found.family, found.task, str(len(found.labels)), size, versions, found.digest)


def _aligned(rows: Iterable[tuple[str, ...]]) -> str:
    """Return tables as text, each column as wide as its widest cell; an empty row begins another table."""
    text = ""
    for _, table in groupby(rows, key=bool):
        lines = list(table)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for row in lines:
            text += "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
    return text


if __name__ == "__main__":
    sys.exit(script())
