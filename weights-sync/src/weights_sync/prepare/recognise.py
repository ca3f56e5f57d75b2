"""Which family a network is of: by what its head looks like, for file names and metadata are often wrong or absent."""

from weights_sync.errors import UnsupportedModelError
from weights_sync.prepare.facts import Facts
from weights_sync.prepare.families import FAMILIES, Family

TASKS = frozenset({"detect", "segment"})


def recognise(facts: Facts, family: str | None = None) -> Family:
    """Return the family that a network is of, or the one of the given name."""
    task = facts.metadata.get("task", "detect")
    if task not in TASKS:
        raise UnsupportedModelError(f"the model does {task[:40]!r}; detection and segmentation are served")
    if family is not None and family not in FAMILIES:
        raise UnsupportedModelError(f"no family {family[:40]!r}; there are {', '.join(FAMILIES)}")
    for candidate in FAMILIES.values():
        if candidate.fits(facts) if candidate.name == family else family is None and candidate.matches(facts):
            return candidate
    output = facts.predictions
    height, width = facts.size
    known = family or ", ".join(FAMILIES)
    raise UnsupportedModelError(
        f"the model is no YOLO of a family known here ({known}): its output {output.name[:40]} is {list(output.shape)}"
        f" for a picture of {height} x {width}"
    )
