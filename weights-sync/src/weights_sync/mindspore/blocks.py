"""The blocks that MindYOLO's networks are made of, with their arguments in its order and under its names."""

import math
from itertools import chain
from typing import Any

import numpy as np

from weights_sync.mindspore.cells import (
    Cell,
    Kernel,
    Signal,
    activate,
    add,
    batch_norm,
    concat,
    conv,
    convolve,
    folded,
    pool,
    pool_with_zeros,
    split,
)
from weights_sync.mindspore.parameters import Floats
from weights_sync.prepare.graph import Editor


def conv_norm_act(cell: Cell, x: Signal, out: int, *args: Any, **options: Any) -> Signal:
    """Convolution, batch norm, activation."""
    return conv(cell, x, out, Kernel(*args, **options))


def numbered(cell: Cell, number: int, x: Signal, out: int, **options: Any) -> Signal:
    """Run a block's first, second… convolution, called `conv1` or `cv1`."""
    return conv(cell.at(f"conv{number}", f"cv{number}"), x, out, Kernel(**options))


def depthwise(cell: Cell, x: Signal, out: int, k: int = 1, s: int = 1, act: bool | str = True) -> Signal:
    """Convolution of each channel by itself."""
    return conv(cell, x, out, Kernel(k=k, s=s, g=math.gcd(x.channels, out), act=act))


def focus(cell: Cell, x: Signal, out: int, k: int = 1, s: int = 1, act: bool | str = True) -> Signal:
    """Four neighbouring pixels as four channels, then a convolution."""
    return conv(cell.at("conv"), reorg(cell.edit, x), out, Kernel(k=k, s=s, act=act))


def reorg(edit: Editor, x: Signal) -> Signal:
    """Four neighbouring pixels as four channels: top left, bottom left, top right, bottom right."""
    ends, axes, steps = (edit.constant(pair, np.int64) for pair in ([1 << 40] * 2, [2, 3], [2, 2]))
    corners = (edit.constant(start, np.int64) for start in ([0, 0], [1, 0], [0, 1], [1, 1]))
    names = [edit.op("Slice", x.name, start, ends, axes, steps) for start in corners]
    return concat(edit, [Signal(name, x.channels) for name in names])


def bottleneck(
    cell: Cell,
    x: Signal,
    out: int,
    shortcut: bool = True,
    k: tuple[int, int] = (1, 3),
    g: tuple[int, int] = (1, 1),
    *,
    e: float = 0.5,
) -> Signal:
    """Two convolutions, around which the input passes where its channels allow."""
    inner = numbered(cell, 1, x, int(out * e), k=k[0], g=g[0])
    result = numbered(cell, 2, inner, out, k=k[1], g=g[1])
    return add(cell.edit, x, result) if shortcut and x.channels == out else result


def residual(cell: Cell, x: Signal, out: int, k: tuple[int, int] = (1, 3), g: tuple[int, int] = (1, 1)) -> Signal:
    """Two convolutions, around which the input passes."""
    inner = numbered(cell, 1, x, out, k=k[0], g=g[0])
    return add(cell.edit, x, numbered(cell, 2, inner, out, k=k[1], g=g[1]))


def c3(cell: Cell, x: Signal, out: int, n: int = 1, shortcut: bool = True, g: int = 1, *, e: float = 0.5) -> Signal:
    """Bottlenecks beside one convolution, joined by another."""
    return _three_convolutions(cell, x, out, n, e, {"shortcut": shortcut, "g": (1, g), "k": (1, 3)})


def c3k(cell: Cell, x: Signal, out: int, n: int = 1, shortcut: bool = True, g: int = 1) -> Signal:
    """C3 with bottlenecks of 3 x 3 pixels."""
    return _three_convolutions(cell, x, out, n, 0.5, {"shortcut": shortcut, "g": (1, g), "k": (3, 3)})


def _three_convolutions(cell: Cell, x: Signal, out: int, n: int, e: float, options: dict[str, Any]) -> Signal:
    hidden = int(out * e)
    inner = numbered(cell, 1, x, hidden)
    for number in range(n):
        inner = bottleneck(cell.at("m").at(number), inner, hidden, e=1.0, **options)
    joined = concat(cell.edit, [inner, numbered(cell, 2, x, hidden)])
    return numbered(cell, 3, joined, out)


def c2f(cell: Cell, x: Signal, out: int, n: int = 1, shortcut: bool = False, g: int = 1, *, e: float = 0.5) -> Signal:
    """Bottlenecks in a row, every result of which reaches the last convolution."""
    hidden = int(out * e)
    found = split(cell.edit, numbered(cell, 1, x, 2 * hidden), hidden)
    for number in range(n):
        part = cell.at("m").at(number)
        found.append(bottleneck(part, found[-1], hidden, shortcut, k=(3, 3), g=(1, g), e=1.0))
    return numbered(cell, 2, concat(cell.edit, found), out)


def c3k2(
    cell: Cell,
    x: Signal,
    out: int,
    n: int = 1,
    c3k_inside: bool = False,
    e: float = 0.5,
    *,
    g: int = 1,
    shortcut: bool = True,
) -> Signal:
    """C2f with narrower bottlenecks, or with C3k in their place."""
    hidden = int(out * e)
    found = split(cell.edit, numbered(cell, 1, x, 2 * hidden), hidden)
    for number in range(n):
        part, last = cell.at("m").at(number), found[-1]
        if c3k_inside:
            found.append(c3k(part, last, hidden, 2, shortcut, g))
        else:
            found.append(bottleneck(part, last, hidden, shortcut, k=(3, 3), g=(1, g)))
    return numbered(cell, 2, concat(cell.edit, found), out)


def sppf(cell: Cell, x: Signal, out: int, k: int = 5, act: bool | str = True) -> Signal:
    """Maxima over three growing neighbourhoods, beside the input."""
    found = [numbered(cell, 1, x, x.channels // 2, act=act)]
    for _ in range(3):
        found.append(pool(cell.edit, found[-1], k, p=k // 2))
    return numbered(cell, 2, concat(cell.edit, found), out, act=act)


def c2psa(cell: Cell, x: Signal, out: int, n: int = 1, e: float = 0.5) -> Signal:
    """Attention over half of the channels."""
    hidden = int(out * e)
    kept, seen = split(cell.edit, numbered(cell, 1, x, 2 * hidden), hidden)
    for number in range(n):
        seen = _attending(cell.at("m").at(number), seen)
    return numbered(cell, 2, concat(cell.edit, [kept, seen]), out)


def psa(cell: Cell, x: Signal, out: int, e: float = 0.5) -> Signal:
    """Attention over half of the channels, once."""
    hidden = int(out * e)
    kept, seen = split(cell.edit, numbered(cell, 1, x, 2 * hidden), hidden)
    return numbered(cell, 2, concat(cell.edit, [kept, _attending(cell, seen)]), out)


def _attending(cell: Cell, x: Signal) -> Signal:
    """Attention, then two convolutions; the input passes around both."""
    x = add(cell.edit, x, attention(cell.at("attn"), x))
    ffn = cell.at("ffn")
    inner = conv(ffn.at(0), x, 2 * x.channels)
    return add(cell.edit, x, conv(ffn.at(1), inner, x.channels, Kernel(act=False)))


def attention(cell: Cell, x: Signal) -> Signal:
    """Let every pixel look at every other; 64 channels a head, keys half as wide as values."""
    edit, heads = cell.edit, max(x.channels // 64, 1)
    width = x.channels // heads
    key = width // 2
    table = conv(cell.at("qkv"), x, x.channels + 2 * key * heads, Kernel(act=False))
    table_name = edit.op("Reshape", table.name, edit.constant([0, heads, width + 2 * key, -1], np.int64))
    sizes = edit.constant([key, key, width], np.int64)
    query, keys, values = edit.ops("Split", [table_name, sizes], 3, axis=2)
    seen = edit.op("MatMul", edit.op("Transpose", query, perm=[0, 1, 3, 2]), keys)
    weights = edit.op("Softmax", edit.op("Mul", seen, edit.constant(key**-0.5, np.float32)), axis=-1)
    mixed = edit.op("MatMul", values, edit.op("Transpose", weights, perm=[0, 1, 3, 2]))
    shape = edit.op("Shape", x.name)
    whole, plain = (Signal(edit.op("Reshape", name, shape), x.channels) for name in (mixed, values))
    place = conv(cell.at("pe"), plain, x.channels, Kernel(k=3, g=x.channels, act=False))
    return conv(cell.at("proj"), add(edit, whole, place), x.channels, Kernel(act=False))


def sppcspc(
    cell: Cell,
    x: Signal,
    out: int,
    n: int = 1,  # noqa: ARG001 - MindYOLO's, which ignores it too
    shortcut: bool = False,  # noqa: ARG001 - the same
    g: int = 1,  # noqa: ARG001 - the same
    *,
    e: float = 0.5,
    k: tuple[int, ...] = (5, 9, 13),
) -> Signal:
    """Maxima over growing neighbourhoods, between convolutions, beside another."""
    hidden = int(2 * out * e)
    inner = numbered(cell, 3, numbered(cell, 1, x, hidden), hidden, k=3)
    inner = numbered(cell, 4, inner, hidden)
    pooled = concat(cell.edit, list(chain([inner], (pool_with_zeros(cell.edit, inner, size) for size in k))))
    inner = numbered(cell, 6, numbered(cell, 5, pooled, hidden), hidden, k=3)
    return numbered(cell, 7, concat(cell.edit, [inner, numbered(cell, 2, x, hidden)]), out)


def downc(cell: Cell, x: Signal, out: int, n: int = 1, k: int = 2) -> Signal:  # noqa: ARG001 - MindYOLO's, ignored
    """Halve the size twice, by a convolution and by maxima, and join both."""
    left = numbered(cell, 2, numbered(cell, 1, x, x.channels), out // 2, k=3, s=k)
    return concat(cell.edit, [left, numbered(cell, 3, pool(cell.edit, x, k, k), out // 2)])


def repconv(cell: Cell, x: Signal, out: int, k: int = 3, s: int = 1, act: bool | str = True) -> Signal:
    """Three branches that were trained apart, as the one convolution they come down to."""
    branches = [_branch(cell, "rbr_dense", x, out, k), _branch(cell, "rbr_1x1", x, out, 1)]
    if x.channels == out and s == 1:
        same = np.eye(out, dtype=np.float32)[:, :, None, None]
        branches.append(folded(same, batch_norm(cell.at("rbr_identity"), out)))
    weights, bias = np.zeros((1, 1, k, k), np.float32), np.zeros(1, np.float32)
    for branch in branches:
        if branch is None:
            return Signal(x.name, out)
        edge = (k - branch[0].shape[-1]) // 2
        weights = weights + np.pad(branch[0], ((0, 0), (0, 0), (edge, edge), (edge, edge)))
        bias = bias + branch[1]
    drawn = convolve(cell.edit, x, weights, bias, Kernel(k=k, s=s))
    return Signal(activate(cell.edit, drawn.name, act), out)


def _branch(cell: Cell, name: str, x: Signal, out: int, k: int) -> tuple[Floats, Floats] | None:
    branch = cell.at(name)
    return folded(branch.at(0).take("weight", out, x.channels, k, k), batch_norm(branch.at(1), out))
