"""A network's parameters in a checkpoint: found by name, checked by shape, each asked for once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from weights_sync.errors import UnsupportedModelError
from weights_sync.mindspore.checkpoint import Array

Floats = npt.NDArray[np.float32]

LAYER = re.compile(r"((?:[^.]+\.)*?)\d+\.")
DERIVED = frozenset({"stride", "anchors", "anchor_grid", "convert_matrix"})
"""What heads store and can do without."""
SHOWN = 3


@dataclass(slots=True)
class Parameters:
    """The tensors of one network, without what an optimizer or a moving average left beside them."""

    tensors: Mapping[str, Array]
    """By name, in the network: `0.conv.weight`."""
    prefix: str
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def take(self, name: str, shape: tuple[int, ...]) -> Floats | None:
        """Return a tensor as float32, or None, noting the problem, where there is none of that shape."""
        found = self.tensors.get(name)
        self.used.add(name)
        if found is None:
            self.missing.append(self.prefix + name)
        elif found.shape != shape:
            self.wrong.append(f"{self.prefix}{name} is {list(found.shape)}, not {list(shape)}")
        else:
            return found.astype(np.float32)
        return None

    def get(self, name: str) -> Array | None:
        """Return a tensor that may be absent, as it is."""
        self.used.add(name)
        return self.tensors.get(name)

    def has(self, place: str) -> bool:
        """Tell whether anything is stored under a place."""
        return any(name.startswith(f"{place}.") for name in self.tensors)

    def check(self, config: str) -> None:
        """Refuse a checkpoint that is not of the network that was built, naming the first differences."""
        unused = [name for name in self.tensors if name not in self.used and name.split(".")[-1] not in DERIVED]
        problems = (
            ("it lacks", self.missing),
            ("of other shapes are", self.wrong),
            ("no row of the YAML has", [self.prefix + name for name in unused]),
        )
        found = "; ".join(f"{what} {len(names)}, {_first(names)}" for what, names in problems if names)
        if found:
            raise UnsupportedModelError(f"the checkpoint's parameters do not fit {config}: {found}")


def find_parameters(tensors: Mapping[str, Array]) -> Parameters:
    """Return the parameters of the network's numbered layers, under the shortest prefix that has any.

    An optimizer's moments and an average's copies have the same names behind longer prefixes.
    """
    prefixes = {found[1] for name in tensors if (found := LAYER.match(name))}
    if not prefixes:
        raise UnsupportedModelError(
            f"the checkpoint holds no MindYOLO network: its {len(tensors)} parameters are {_first(list(tensors))},"
            " none of a numbered layer such as model.model.0.conv.weight"
        )
    prefix = min(prefixes, key=lambda text: (text.count("."), text))
    own = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
    return Parameters({name: array for name, array in own.items() if name[:1].isdigit()}, prefix)


def _first(names: list[str]) -> str:
    more = ", …" if len(names) > SHOWN else ""
    return ", ".join(repr(name[:80])[1:-1] for name in names[:SHOWN]) + more
