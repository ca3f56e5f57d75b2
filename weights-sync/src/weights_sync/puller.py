"""Pulling as the command's options say, for one time or for a watcher."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weights_sync import metrics
from weights_sync.catalogue import Site
from weights_sync.limits import Limits
from weights_sync.pull import pull, pull_as_it_is

if TYPE_CHECKING:
    from weights_sync.prepare import Card


@dataclass(frozen=True, slots=True)
class Puller:
    """The options of a pull, as the command parsed them."""

    options: argparse.Namespace

    @property
    def site(self) -> Site:
        """What the options say of the catalogue, and the environment where they say nothing."""
        stated = {"catalogue": self.options.catalogue, "mirror": self.options.mirror}
        return Site(**{name: value for name, value in stated.items() if value is not None})

    @property
    def recipe(self) -> str:
        """What the options do to the file."""
        options = self.options
        return f"{options.as_it_is} {options.candidates} {options.family}"

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
            digest = pull_as_it_is(uri, directory, limits=limits, site=self.site, unwanted=unwanted)
            metrics.placed(directory, f"sha256:{digest}", "", "")
            return digest
        card = pull(
            uri,
            directory,
            limits=limits,
            candidates=options.candidates,
            family=options.family,
            site=self.site,
            unwanted=unwanted,
        )
        metrics.placed(directory, card.digest, card.family, card.task)
        return card
