"""Convolutions and what little stands between them, with their parameters from the checkpoint, as ONNX nodes."""

import re
from dataclasses import dataclass

import numpy as np

from weights_sync.mindspore.parameters import Floats, Parameters
from weights_sync.prepare.graph import Editor

LEAKY = re.compile(r"nn\.LeakyReLU\((?:alpha=)?([0-9.]*)\)")
MINDSPORE_LEAK = 0.2
EPSILON = 1e-3
"""What MindYOLO's batch norms add to the variance."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A value on its way through the network, (B, channels, H, W) float32."""

    name: str
    channels: int


@dataclass(frozen=True, slots=True)
class Cell:
    """A module of the network: where its parameters are, and the graph it is drawn into."""

    edit: Editor
    parameters: Parameters
    path: str

    def at(self, *names: str | int) -> "Cell":
        """Return a part, under the first of its names that the checkpoint has: MindYOLO changed some."""
        paths = [f"{self.path}.{name}" for name in names]
        return Cell(self.edit, self.parameters, next(filter(self.parameters.has, paths), paths[0]))

    def take(self, name: str, *shape: int) -> Floats | None:
        """Return a parameter; None where the checkpoint has none of this shape, which is noted."""
        return self.parameters.take(f"{self.path}.{name}", shape)


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a convolution does, in MindYOLO's words and order: kernel, stride, padding, groups, dilation, activation."""

    k: int = 1
    s: int = 1
    p: int | None = None
    g: int = 1
    d: int = 1
    act: bool | str | None = True
    momentum: float = 0.97
    eps: float = EPSILON

    @property
    def padding(self) -> int:
        """Pixels added on each side; as many as keep the size at stride one, unless said otherwise."""
        return (self.d * (self.k - 1) + 1) // 2 if self.p is None else self.p


def conv(cell: Cell, x: Signal, out: int, kernel: Kernel | None = None) -> Signal:
    """Convolution, batch norm (folded into it) and activation: `conv.weight`, `bn.*`."""
    kernel = kernel or Kernel()
    weights = cell.at("conv").take("weight", out, x.channels // kernel.g, kernel.k, kernel.k)
    both = folded(weights, batch_norm(cell.at("bn"), out, kernel.eps))
    if both is None:
        return Signal(x.name, out)
    drawn = convolve(cell.edit, x, *both, kernel)
    return Signal(activate(cell.edit, drawn.name, kernel.act), out)


def plain_conv(cell: Cell, x: Signal, out: int) -> Signal:
    """Convolution of one pixel with a bias, and nothing behind it: the last layer of a head."""
    weights, bias = cell.take("weight", out, x.channels, 1, 1), cell.take("bias", out)
    if weights is None or bias is None:
        return Signal(x.name, out)
    return convolve(cell.edit, x, weights, bias, Kernel())


def folded(weights: Floats | None, norm: tuple[Floats, Floats] | None) -> tuple[Floats, Floats] | None:
    """Return weights and bias of a convolution with its batch norm in it."""
    if weights is None or norm is None:
        return None
    scale, shift = norm
    return weights * scale[:, None, None, None], shift


def batch_norm(cell: Cell, channels: int, eps: float = EPSILON) -> tuple[Floats, Floats] | None:
    """Return the factor and the summand, (channels,), that a trained batch norm comes down to."""
    parts = [cell.take(name, channels) for name in ("gamma", "beta", "moving_mean", "moving_variance")]
    gamma, beta, mean, variance = (part if part is None else part.astype(np.float64) for part in parts)
    if gamma is None or beta is None or mean is None or variance is None:
        return None
    scale = gamma / np.sqrt(variance + eps)
    return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)


def convolve(edit: Editor, x: Signal, weights: Floats, bias: Floats, kernel: Kernel) -> Signal:
    """Append a convolution of given weights, (out, in / groups, k, k)."""
    stored = [edit.constant(array, np.float32) for array in (weights, bias)]
    pads, sides = [kernel.padding] * 4, {"strides": [kernel.s] * 2, "dilations": [kernel.d] * 2}
    name = edit.op("Conv", x.name, *stored, kernel_shape=[kernel.k] * 2, pads=pads, group=kernel.g, **sides)
    return Signal(name, len(bias))


def activate(edit: Editor, value: str, act: bool | str | None) -> str:
    """Append an activation: SiLU for true, none for false, another by its MindSpore name."""
    if act is True or act == "nn.SiLU()":
        return edit.op("Mul", value, edit.op("Sigmoid", value))
    if act is False or act is None or act == "nn.Identity()":
        return value
    if act == "nn.ReLU()":
        return edit.op("Relu", value)
    found = LEAKY.fullmatch(str(act))
    if found is None:
        raise ValueError("its activation is none of nn.SiLU(), nn.ReLU(), nn.LeakyReLU(…)")
    return edit.op("LeakyRelu", value, alpha=float(found[1] or MINDSPORE_LEAK))


def concat(edit: Editor, signals: list[Signal]) -> Signal:
    """Join along the channels."""
    name = edit.op("Concat", *(signal.name for signal in signals), axis=1)
    return Signal(name, sum(signal.channels for signal in signals))


def add(edit: Editor, first: Signal, second: Signal) -> Signal:
    """Add two signals of one shape."""
    if first.channels != second.channels:
        raise ValueError(f"it adds {first.channels} channels and {second.channels}")
    return Signal(edit.op("Add", first.name, second.name), first.channels)


def split(edit: Editor, x: Signal, channels: int) -> list[Signal]:
    """Cut into signals of `channels` each."""
    count = x.channels // channels
    sizes = edit.constant([channels] * count, np.int64)
    return [Signal(name, channels) for name in edit.ops("Split", [x.name, sizes], count, axis=1)]


def pool(edit: Editor, x: Signal, k: int, s: int = 1, p: int = 0) -> Signal:
    """Take the maximum of every `k` x `k` pixels, of `p` more on each side that never win."""
    return Signal(edit.op("MaxPool", x.name, kernel_shape=[k, k], pads=[p] * 4, strides=[s, s]), x.channels)


def pool_with_zeros(edit: Editor, x: Signal, k: int, s: int = 1) -> Signal:
    """Take the maximum of every `k` x `k` pixels, around which MindYOLO's own pooling puts zeros, which may win."""
    padded = edit.op("Pad", x.name, edit.constant([0, 0, k // 2, k // 2] * 2, np.int64))
    return pool(edit, Signal(padded, x.channels), k, s)


def enlarge(edit: Editor, x: Signal, factor: int) -> Signal:
    """Repeat every pixel `factor` times in both directions."""
    scales = edit.constant([1, 1, factor, factor], np.float32)
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return Signal(edit.op("Resize", x.name, "", scales, **attributes), x.channels)
