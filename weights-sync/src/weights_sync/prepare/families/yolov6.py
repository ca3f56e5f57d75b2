"""YOLOv6: no anchors; rows of x y w h, an objectness that is always one, classes, for each grid cell."""

from weights_sync.prepare.facts import Facts

GRIDS = ((8, 16, 32), (8, 16, 32, 64))


def fits(facts: Facts) -> bool:
    """Tell by one row for each cell of the usual grids."""
    _, rows, columns = facts.predictions.shape
    return rows in {facts.cells(strides) for strides in GRIDS} and isinstance(columns, int) and columns > 5


def matches(facts: Facts) -> bool:
    """Tell by the rows, and a head that decodes its boxes from distances: with arithmetic, and no exponential."""
    ops = facts.head_ops()
    return fits(facts) and "Sigmoid" in ops and "Exp" not in ops
