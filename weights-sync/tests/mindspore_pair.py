"""A checkpoint of a small network and its MindYOLO YAML, as files that tests spoil."""

import copy
from functools import cache

import numpy as np
import plain_networks
import pytest
import yaml
from mindspore_writer import checkpoint

from weights_sync.errors import UnsupportedModelError
from weights_sync.mindspore import read_network

NETWORK = {
    "stride": [8, 16],
    "anchors": [[10, 13, 16, 30], [33, 23, 30, 61]],
    "backbone": [[-1, 1, "ConvNormAct", [8, 8, 8, 0]], [-1, 1, "ConvNormAct", [16, 2, 2, 0]]],
    "head": [[[0, 1], 1, "YOLOv5Head", ["nc", "anchors", "stride"]]],
}


@cache
def parameters():
    """Return those of NETWORK, for two classes."""
    net = plain_networks.Network()
    fine = net.cba("0", np.zeros((1, 3, 16, 16)), 8, 8, 8, p=0)
    coarse = net.cba("1", fine, 16, 2, 2, p=0)
    for number, level in enumerate((fine, coarse)):
        net.last(f"2.m.{number}", level, 2 * (5 + 2))
    return net.w.tensors


class Pair:
    """A checkpoint and its YAML on disk, to be spoilt."""

    def __init__(self, folder):
        self.file, self.config = folder / "net.ckpt", folder / "net.yaml"
        self.network, self.tensors = copy.deepcopy(NETWORK), dict(parameters())

    def read(self, **fields):
        self.file.write_bytes(checkpoint(self.tensors))
        self.config.write_text(yaml.safe_dump({"nc": 2, "network": self.network} | fields))
        return read_network(self.file, self.config)

    def refused(self, reason, kind=UnsupportedModelError, **fields):
        with pytest.raises(kind, match=reason) as caught:
            self.read(**fields)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000


def detector(pair):
    """Give the pair a third level, as the families that are prepared have."""
    net = plain_networks.Network()
    levels = [net.cba("0", np.zeros((1, 3, 32, 32)), 8, 8, 8, p=0)]
    for number, width in ((1, 16), (2, 8)):
        levels.append(net.cba(str(number), levels[-1], width, 2, 2, p=0))
    for number, level in enumerate(levels):
        net.last(f"3.m.{number}", level, 3 * 7)
    pair.tensors = net.w.tensors
    pair.network["backbone"].append([-1, 1, "ConvNormAct", [8, 2, 2, 0]])
    pair.network["head"] = [[[0, 1, 2], 1, "YOLOv5Head", ["nc", 3, "stride"]]]
    pair.network |= {"stride": [8, 16, 32], "anchors": 3}
    grid = np.full((3, 1, 3, 1, 1, 2), 20, np.float32)
    pair.tensors["model.model.3.anchor_grid"] = grid
