"""How the parts of a watcher come together as `weights-sync watch`."""

import argparse
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from weights_sync.errors import ModelError
from weights_sync.log import log
from weights_sync.place import digest_of
from weights_sync.puller import Puller
from weights_sync.versions import Versions
from weights_sync.watch.cluster import Pod, connect
from weights_sync.watch.events import Events
from weights_sync.watch.follow import Follower, parse_reference
from weights_sync.watch.loop import Loop, Pace
from weights_sync.watch.news import News
from weights_sync.watch.predictor import Predictor
from weights_sync.watch.probes import answer_probes
from weights_sync.watch.sighting import safe
from weights_sync.watch.turn import Served, Watcher

_FIRST_WORD_S = 10.0


@dataclass(slots=True)
class Wanted:
    """The URI to serve: the one that is followed, or else the command line's."""

    stated: str
    changed: threading.Event
    followed: str = ""
    known: threading.Event = field(default_factory=threading.Event)

    def uri(self) -> str:
        """Return it, "" where there is none yet."""
        return self.followed or self.stated

    def found(self, uri: str) -> None:
        """Take another URI, and have it looked at."""
        log("followed", source=safe(uri or self.stated) or "nothing")
        self.followed = uri
        self.known.set()
        self.changed.set()


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> NoReturn:
    """Watch until the process ends."""
    if not (options.uri or options.follow):
        parser.error("watch wants URI and DEST, or DEST and --follow")
    changed, pod = threading.Event(), Pod.own()
    events = Events(pod)
    wanted = Wanted(options.uri or "", changed)

    def tell(news: News) -> None:
        log(news.kind, **dict(news.facts))
        events.tell(news)

    directory: Path = options.dest
    watcher = Watcher(
        directory, Predictor(options.predictor, options.model, options.load_timeout), Puller(options), served, tell
    )
    # A turn may pull, load, and load the version before.
    longest_s = 2 * options.deadline + 5 * options.load_timeout + 60
    loop = Loop(watcher.turn, wanted.uri, Pace(options.every), longest_s, tell, changed)
    if options.metrics_port is not None:
        port = answer_probes(options.metrics_port, alive=loop.pulse.alive, ready=Versions(directory).model.is_file)
        log("answering", port=port)
    if options.follow:
        _follow(options.follow, pod, wanted)
    loop.run()
    raise AssertionError("a watcher goes on")


def _follow(text: str, pod: Pod, wanted: Wanted) -> None:
    reference = parse_reference(text, pod)
    connect()  # so that what is not installed or not set up is said now
    follower = Follower(reference, pod.namespace)
    threading.Thread(target=follower.run, args=(wanted.found,), daemon=True).start()
    # Not the command line's first and the followed one a moment later.
    wanted.known.wait(_FIRST_WORD_S)


def served(file: Path) -> Served:
    """Return what a predictor shows for a file: what its card says, or the digest of the file that it prepares."""
    from weights_sync.prepare import is_prepared, read_card  # noqa: PLC0415 - ONNX is slow to import
    from weights_sync.prepare.skeleton import read_skeleton  # noqa: PLC0415

    try:
        model = read_skeleton(file).model
        if is_prepared(model):
            card = read_card(model)
            return Served(card.digest, card.family, card.task)
    except ModelError:
        pass  # the predictor will say what it is
    return Served(f"sha256:{digest_of(file)}")
