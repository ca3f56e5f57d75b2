"""Pulling as the command's options say, for one time or for a watcher."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weights_sync import metrics
from weights_sync.cache import Cache
from weights_sync.catalogue import Site
from weights_sync.errors import UnsupportedModelError
from weights_sync.limits import Limits
from weights_sync.order import Order
from weights_sync.pull import pull, pull_as_it_is, recipe_of
from weights_sync.signatures import Signatures

if TYPE_CHECKING:
    from weights_sync.prepare import Card


@dataclass(frozen=True, slots=True)
class Puller:
    """The options of a pull, as the command parsed them."""

    options: argparse.Namespace

    @property
    def site(self) -> Site:
        """What the options say of where models are and whom to trust."""
        options = self.options
        signatures = Signatures(
            options.signature_policy,
            options.signature_key,
            options.signature_certificates,
            options.signature_identity,
            options.signature_issuer,
        )
        cache = Cache(Path(options.cache), options.cache_bytes) if options.cache else None
        return Site(options.catalogue, options.mirror, cache, signatures)

    @property
    def order(self) -> Order:
        """What the options want of the preparation."""
        options = self.options
        return Order(
            options.candidates, options.family, options.max_bytes, options.config, options.dynamic, options.sidecar
        )

    @property
    def recipe(self) -> str:
        """What the options and this release do to the file, how large it may be, and whom they trust with it."""
        options = self.options
        done = recipe_of(self.order.recipe)
        return f"{options.as_it_is} {done} {options.max_bytes} {self.site.signatures.recipe}"

    def limits(self) -> Limits:
        """Return the options' limits, from now on."""
        options = self.options
        return Limits(
            options.max_bytes, options.allow_http, options.allow_private, options.attempts, deadline_s=options.deadline
        )

    def pull(self, uri: str, directory: Path, limits: Limits, unwanted: str = "") -> "Card | str":
        """Place what a URI names; return its card, or the sha256 (hex) of a file that was left as it is."""
        options = self.options
        if options.as_it_is:
            if options.sidecar or options.config:
                raise UnsupportedModelError("no server reads --sidecar or --config: leave out --as-it-is, or them")
            digest = pull_as_it_is(uri, directory, limits=limits, site=self.site, unwanted=unwanted)
            metrics.placed(directory, f"sha256:{digest}", "", "")
            return digest
        card = pull(
            uri,
            directory,
            limits=limits,
            order=self.order,
            site=self.site,
            unwanted=unwanted,
        )
        metrics.placed(directory, card.digest, card.family, card.task)
        return card
