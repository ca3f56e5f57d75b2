"""One turn of a watcher: source to disk, disk to predictor, and back where the predictor does not serve it.

A turn looks at what there is and not at what the turn before did, so a watcher that was killed anywhere goes on where
things are. Weights on the disk that the predictor was not seen to serve are on trial: a predictor that starts reads the
disk, so they do not stay there while it is away.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from weights_sync import metrics
from weights_sync.errors import (
    ArchiveError,
    AwayError,
    BrokenLoadError,
    ModelError,
    NoVersionError,
    PredictorError,
    RefusedError,
    TooLargeError,
    UnwantedError,
    WeightsError,
)
from weights_sync.metrics import stage
from weights_sync.puller import Puller
from weights_sync.versions import Versions
from weights_sync.watch.news import News
from weights_sync.watch.predictor import Predictor
from weights_sync.watch.sighting import safe, sight
from weights_sync.watch.state import Refused, State


@dataclass(frozen=True, slots=True)
class Served:
    """What a predictor shows for a file."""

    digest: str
    """Its `model.digest`."""
    family: str = ""
    task: str = ""


@dataclass(slots=True)
class Watcher:
    """Keeps the model of `predictor` at what a URI names; `directory` is where both meet."""

    directory: Path
    predictor: Predictor
    puller: Puller
    describe: Callable[[Path], Served]
    """From a model's file to what the predictor will show for it."""
    tell: Callable[[News], None]
    _seen: str = ""
    _described: dict[str, Served] = field(default_factory=dict)

    def turn(self, uri: str) -> None:
        """Have the predictor serve what `uri` names now, or what it served before where that is no good."""
        try:
            served = self.predictor.digest()
        except AwayError as error:
            self._wait_for_predictor(uri, error)
            raise
        try:
            self._bring(uri)
        finally:
            # Also when the source is gone: what is on the disk may be on trial.
            self._have_served(served)

    def _wait_for_predictor(self, uri: str, error: AwayError) -> None:
        """Leave nothing on the disk that a predictor which starts may fail over."""
        state, name = self._state, self._versions.name
        if name and name == state.confirmed:
            return
        if state.confirmed and self._versions.record(name).previous == state.confirmed:
            held = News.of("held", digest=self._digest(name), because=str(error))
            self._roll_back(name)
            self.tell(held)
        else:
            self._bring(uri)

    def _bring(self, uri: str) -> None:
        """Place what the source has, unless that was done or it was refused."""
        with stage("check"):
            sighting = sight(uri, self.puller.limits(), self.puller.site)
        mark = f"{sighting.uri} {self.puller.recipe} {sighting.mark}"
        seen = hashlib.sha256(mark.encode()).hexdigest() if sighting.mark else ""
        state, before = self._state, self._versions.name
        if seen and seen in {self._seen, state.refused.seen}:
            return
        try:
            self.puller.pull(sighting.uri, self.directory, self.puller.limits(), state.refused.source)
        except UnwantedError:
            self._remember(refused=replace(state.refused, seen=seen))
            return
        except (ModelError, ArchiveError, TooLargeError):
            self._remember(refused=Refused(seen))
            raise
        name = self._versions.name
        if name == state.refused.version:
            # The same weights by another way than their sha256 told.
            self._remember(refused=replace(state.refused, seen=seen))
            self._roll_back(name)
            return
        self._seen = seen
        self._remember(refused=Refused())
        if name != before:
            self.tell(News.of("pulled", digest=self._digest(name), source=safe(uri)))

    def _have_served(self, served: str) -> None:
        """Have the predictor serve the version on the disk; `served` is the digest it shows."""
        state, name = self._state, self._versions.name
        if not name or name == state.refused.version:
            return
        digest = self._digest(name)
        if served == digest and state.confirmed in {"", name}:
            self._confirm(name)
            return
        try:
            with stage("load"):
                self.predictor.load(digest)
        except RefusedError as error:
            self._refuse(name, error)
            raise
        except BrokenLoadError as error:
            if state.broken == name:
                self._refuse(name, error)
            else:
                # It may have been told to stop, and not have died of these weights: they get one more try.
                self._remember(broken=name)
                self._roll_back(name)
            raise
        self._confirm(name)
        self.tell(News.of("serving", digest=digest, model=self.predictor.model))

    def _confirm(self, name: str) -> None:
        self._remember(confirmed=name, broken="")
        shown = self._described[name]
        metrics.placed(self.directory, shown.digest, shown.family, shown.task)

    def _refuse(self, name: str, error: WeightsError) -> None:
        """Go back to the version before, on the disk and in the predictor, and remember not to try this one again."""
        versions = self._versions
        digest = self._digest(name)
        self._remember(refused=Refused(self._seen, versions.record(name).source, name), broken="")
        self.tell(News.of("refused", digest=digest, because=str(error)))
        if not self._roll_back(name):
            return
        now = versions.name
        before = self._digest(now)
        try:
            with stage("load"):
                self.predictor.load(before)
        except PredictorError as second:
            self.tell(News.of("rolled back", digest=before, because=f"the predictor does not serve it yet: {second}"))
            return
        self._confirm(now)
        self.tell(News.of("rolled back", digest=before, because=str(error)))

    def _roll_back(self, name: str) -> bool:
        """Place the version before `name` again, if that is still there; return whether something else is, then.

        The source may be pulled anew afterwards.
        """
        self._seen = ""
        versions = self._versions
        try:
            with versions.lock(self.puller.options.deadline):
                if versions.name == name:
                    versions.rollback()
        except NoVersionError:
            return False
        return True

    def _digest(self, name: str) -> str:
        """Return the `model.digest` of the version `name`."""
        if name not in self._described:
            # What came by other hands is no kept version yet.
            kept = self._versions.file(name)
            self._described = {name: self.describe(kept if kept.is_file() else self._versions.model)}
        return self._described[name].digest

    @property
    def _versions(self) -> Versions:
        return Versions(self.directory)

    @property
    def _state(self) -> State:
        return State.read(self._versions.own / "watch.json")

    def _remember(self, **changed: object) -> None:
        before = self._state
        after = replace(before, **changed)  # type: ignore[arg-type] # names of its own fields
        if after != before:
            after.write(self._versions.own / "watch.json")
