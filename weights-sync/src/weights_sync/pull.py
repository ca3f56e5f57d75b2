"""Fetch, verify, prepare, place: one model from a URI to a directory."""

import hashlib
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from weights_sync.cache import Cache, Made, key_of
from weights_sync.catalogue import Site
from weights_sync.errors import DamagedModelError, SourceError, UnsupportedModelError, UnwantedError, WeightsError
from weights_sync.limits import Limits
from weights_sync.metrics import stage
from weights_sync.order import CHECKPOINT, Order
from weights_sync.place import digest_of, place_pieces, written
from weights_sync.sidecar import beside
from weights_sync.sources import fetch, local_file, promised, split_digest
from weights_sync.transfer import Fetched
from weights_sync.versions import MODEL_FILE, Record, Versions

if TYPE_CHECKING:
    from weights_sync.prepare import Card

# weights_sync.prepare is imported where it is needed: ONNX costs a pull without it more time and memory than the rest.
# ruff: noqa: PLC0415

_AS_IT_IS = "as it is"


def pull(
    uri: str,
    directory: Path,
    *,
    limits: Limits | None = None,
    order: Order | None = None,
    site: Site | None = None,
    unwanted: str = "",
) -> "Card":
    """Place the prepared model of `uri` as `directory/model.onnx`; return its card.

    `unwanted` is the sha256 (hex) of a file that is refused with `UnwantedError`.

    A reader sees the whole of the new model or the whole of the one before; on an error the one before stays.
    """
    from weights_sync.make import make
    from weights_sync.prepare import read_card
    from weights_sync.prepare.skeleton import read_skeleton

    limits, site = limits or Limits(), site or Site()
    here, wanted = local_file(uri), replace(order or Order(), max_bytes=limits.max_bytes)

    def completed(file: Path, yaml: Path | None) -> Order:
        whole = wanted.with_yaml(file, yaml)
        if yaml and whole != wanted:
            site.signatures.check_unsigned(yaml)
        return whole

    # What lies beside a file of this machine may change while the file does not: it is a part of the recipe.
    wanted = completed(here, beside(here)) if here else wanted

    def prepare(fetched: Fetched, incoming: Path) -> Made:
        file = incoming / "prepared.onnx"
        known = "" if fetched.unpacked else fetched.sha256
        prepared = make(fetched.file, completed(fetched.file, fetched.yaml), known)
        return Made(file, place_pieces(prepared.pieces(), file), prepared.source)

    _pull(uri, Versions(directory), limits, recipe_of(wanted.recipe), prepare, site=site, unwanted=unwanted)
    return read_card(read_skeleton(directory / MODEL_FILE).model)


def pull_as_it_is(
    uri: str, directory: Path, *, limits: Limits | None = None, site: Site | None = None, unwanted: str = ""
) -> str:
    """Place the file of `uri` as `directory/model.onnx`, for a server that prepares it; return its sha256 (hex).

    `unwanted` is the sha256 (hex) of a file that is refused with `UnwantedError`.
    """

    def keep(fetched: Fetched, incoming: Path) -> Made:
        if fetched.file.suffix == CHECKPOINT:
            raise _unprepared()
        if fetched.file.parent == incoming:
            return Made(fetched.file, fetched.sha256, fetched.sha256)
        file = incoming / MODEL_FILE
        with written(file):
            shutil.copyfile(fetched.file, file)
            return Made(file, digest_of(file), fetched.sha256)

    if split_digest(uri)[0].partition("?")[0].endswith(CHECKPOINT):
        raise _unprepared()
    _pull(uri, Versions(directory), limits or Limits(), _AS_IT_IS, keep, site=site, unwanted=unwanted)
    return Versions(directory).name


def _unprepared() -> UnsupportedModelError:
    return UnsupportedModelError("no server prepares a checkpoint itself: pull it without --as-it-is")


def verify(directory: Path) -> "Card":
    """Check that `directory/model.onnx` is a whole prepared model; return its card."""
    from weights_sync.prepare import is_prepared, read_card
    from weights_sync.prepare.checks import check_whole
    from weights_sync.prepare.skeleton import read_skeleton

    model = read_skeleton(directory / MODEL_FILE).model
    if not is_prepared(model):
        raise DamagedModelError(f"{directory / MODEL_FILE} is not prepared: run `weights-sync prepare`")
    check_whole(model)
    return read_card(model)


def rollback(directory: Path, *, limits: Limits | None = None) -> str:
    """Serve the version before the one that is served; return the sha256 (hex) of its file."""
    versions = Versions(directory)
    if not versions.model.is_file():
        raise SourceError(f"there is no {versions.model}")
    with versions.lock((limits or Limits()).deadline_s):
        return versions.rollback()


def _pull(
    uri: str,
    versions: Versions,
    limits: Limits,
    recipe: str,
    make: Callable[[Fetched, Path], Made],
    *,
    site: Site | None,
    unwanted: str,
) -> Record:
    """Serve what `make` makes of the fetched file, unless that is here already."""
    site = site or Site()
    trust = site.signatures.recipe
    # What was taken without a look at its signature is not what is wanted by who looks.
    recipe = key_of(recipe, trust) if trust else recipe
    wanted = Record(promised(uri, site), key_of(uri), recipe=recipe)
    _check_wanted(wanted.source, unwanted)
    with versions.lock(limits.left_s("the pull")):
        # Whoever had to wait for another writer may find the work done.
        if wanted.source and versions.serve_again(wanted):
            return wanted
        try:
            with _alone(site.cache, wanted, limits):
                record = _served_anew(uri, versions, limits, wanted, make, site=site, unwanted=unwanted)
        except WeightsError as error:
            # What a broken transfer has brought is of use to the next one; what was refused is not.
            if not isinstance(error, SourceError):
                shutil.rmtree(versions.incoming, ignore_errors=True)
            raise
        shutil.rmtree(versions.incoming, ignore_errors=True)
        return record


def _served_anew(
    uri: str,
    versions: Versions,
    limits: Limits,
    wanted: Record,
    make: Callable[[Fetched, Path], Made],
    *,
    site: Site,
    unwanted: str,
) -> Record:
    """Serve the model of `uri`: the one that is served if it is still that, what the node has, or what is fetched."""
    served = versions.served()
    known = served.etag if (served.origin, served.recipe) == (wanted.origin, wanted.recipe) else ""
    if not known and _serve_made(versions, wanted, limits, site.cache):
        return wanted
    with stage("pull"):
        fetched = fetch(uri, versions.incoming, limits, known=known, site=site)
    if fetched.unchanged:
        return served
    _check_wanted(fetched.source, unwanted)
    site.signatures.check(fetched.file, fetched.signature)
    record = replace(wanted, source=fetched.source, etag=fetched.etag)
    # A file that was here already may have its weights in other files, which its digest says nothing of.
    found = fetched.file.parent == versions.incoming
    if found and (versions.serve_again(record) or _serve_made(versions, record, limits, site.cache)):
        return record
    with stage("prepare"):
        made = make(fetched, versions.incoming)
    record = record if found or fetched.unpacked else replace(record, source=made.source)
    if site.cache and (found or fetched.unpacked):
        site.cache.add_made(record.source, record.recipe, made, limits)
    versions.serve(made.file, made.digest, record)
    return record


def _check_wanted(found: str, unwanted: str) -> None:
    if unwanted and found == unwanted:
        raise UnwantedError(f"the source still has the weights that were refused: sha256 {unwanted}")


def _serve_made(versions: Versions, wanted: Record, limits: Limits, cache: Cache | None) -> bool:
    """Serve what the node has of that source and recipe; return whether there is any."""
    made = cache.take_made(wanted.source, wanted.recipe, versions.incoming, limits) if cache else None
    if made:
        versions.serve(made.file, made.digest, wanted)
    return made is not None


def _alone(cache: Cache | None, wanted: Record, limits: Limits) -> AbstractContextManager[None]:
    """Be the only one on this node who makes what is wanted, where that is known before."""
    if not cache or not wanted.source:
        return nullcontext()
    return cache.lock(key_of(wanted.source, wanted.recipe), limits)


@cache
def recipe_of(options: str) -> str:
    """Return a digest of how models are prepared: the options, and the code, which changes from release to release."""
    digest = hashlib.sha256(options.encode())
    names = ("make.py", "mindspore", "plain_yaml.py", "prepare", "sidecar.py")
    entries = [resources.files("weights_sync").joinpath(name) for name in names]
    while entries:
        entry = entries.pop()
        if entry.is_dir():
            entries += sorted(entry.iterdir(), key=lambda entry: entry.name)
        elif entry.name.endswith(".py"):
            digest.update(entry.read_bytes())
    return digest.hexdigest()
