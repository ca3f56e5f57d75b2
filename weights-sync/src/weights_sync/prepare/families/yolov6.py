"""YOLOv6: no anchors; rows of x y w h, an objectness that is always one, classes, for each grid cell.

Its first release (0.1) has YOLOX's head, decoding and all, and wants other pixels: only names tell the two apart.
"""

import re

from weights_sync.prepare.facts import Facts

GRIDS = ((8, 16, 32), (8, 16, 32, 64))
HEAD = re.compile(r"(?:.*\.)?detect\.(?:cls|reg|obj)_preds\.\d+\.(?:weight|bias)")
"""What YOLOv6's authors call the weights of the last layers; YOLOX's call theirs `head.cls_preds.0.weight`."""


def fits(facts: Facts) -> bool:
    """Tell by one row for each cell of the usual grids."""
    _, rows, columns = facts.predictions.shape
    return rows in {facts.cells(strides) for strides in GRIDS} and isinstance(columns, int) and columns > 5


def matches(facts: Facts) -> bool:
    """Tell by the rows, and a head that decodes its boxes from distances, with no exponential, or by its weights."""
    ops = facts.head_ops()
    return fits(facts) and "Sigmoid" in ops and ("Exp" not in ops or named(facts))


def named(facts: Facts) -> bool:
    """Tell whether the weights have the names of this family's."""
    return any(HEAD.fullmatch(tensor.name) for tensor in facts.model.graph.initializer)
