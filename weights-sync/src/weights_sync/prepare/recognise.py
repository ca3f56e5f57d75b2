"""Which family a network is of: by what its head looks like, for file names and metadata are often wrong or absent."""

import re

from weights_sync.errors import UnsupportedModelError
from weights_sync.prepare.facts import Facts
from weights_sync.prepare.families import FAMILIES, Family

TASKS = frozenset({"detect", "segment"})
NAMED = re.compile(r"\byolo[-_ ]?v?(\d{1,2})", re.IGNORECASE)


def recognise(facts: Facts, family: str | None = None) -> Family:
    """Return the family that a network is of, or the one of the given name."""
    task = facts.metadata.get("task", "detect")
    if task not in TASKS:
        raise UnsupportedModelError(f"the model does {task[:40]!r}; detection and segmentation are served")
    names = dict.fromkeys(name for candidate in FAMILIES for name in candidate.names)
    if family is not None and family not in names:
        raise UnsupportedModelError(f"no family {family[:40]!r}; there are {', '.join(names)}")
    for candidate in FAMILIES:
        if candidate.matches(facts) if family is None else family in candidate.names and candidate.fits(facts):
            return candidate
    height, width = facts.size
    raise UnsupportedModelError(
        f"the model is no YOLO of a family known here ({family or ', '.join(names)}): its outputs are {facts.listing}"
        f" for a picture of {height} x {width}"
    )


def called(facts: Facts, kind: Family, family: str | None = None) -> str:
    """Return what a model is called among those that share its kind of head: as the user says, or its metadata."""
    if family is not None:
        return family
    told = NAMED.search(facts.metadata.get("description", "")[:200])
    number = told.group(1) if told else ""
    return next((name for name in kind.names if number and name.strip("yolvu") == number), kind.names[0])
