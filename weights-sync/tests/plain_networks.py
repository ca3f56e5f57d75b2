"""MindYOLO's networks in plain numpy, parameters made up as they are asked for: a second opinion on the ONNX ones.

Written layer by layer from the papers' drawings, with batch norms where they are trained, nothing folded.
"""

import math

import numpy as np


class Invented:
    """Random parameters by name, kept for the checkpoint."""

    def __init__(self, seed=1):
        self.random, self.tensors = np.random.default_rng(seed), {}

    def __call__(self, name, *shape, low=-1.0, high=1.0):
        array = self.random.uniform(low, high, shape).astype(np.float32)
        assert self.tensors.setdefault(f"model.model.{name}", array) is array
        return array.astype(np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def correlate(x, weights, stride=1, padding=0, groups=1):
    """(B, C, H, W) with (out, C / groups, k, k)."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    parts = zip(np.split(windows, groups, 1), np.split(weights, groups, 0), strict=True)
    sums = [np.tensordot(window, weight, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2) for window, weight in parts]
    return np.concatenate(sums, 1)


def maxima(x, k, *, around=-np.inf):
    """Of every k x k pixels, the size kept."""
    edge = k // 2
    padded = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)), constant_values=around)
    return np.lib.stride_tricks.sliding_window_view(padded, (k, k), (2, 3)).max((4, 5))


def halved(x):
    """Of every 2 x 2 pixels, the greatest."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels, height // 2, 2, width // 2, 2).max((3, 5))


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


def doubled(x):
    return x.repeat(2, 2).repeat(2, 3)


class Network:
    """The blocks, over one set of invented parameters."""

    def __init__(self, seed=1):
        self.w = Invented(seed)

    def convolved(self, name, x, out, k=1, s=1, *, p=None, groups=1):
        spread = (x.shape[1] // groups * k * k) ** -0.5
        weights = self.w(f"{name}.weight", out, x.shape[1] // groups, k, k, low=-2 * spread, high=2 * spread)
        return correlate(x, weights, s, k // 2 if p is None else p, groups)

    def normalised(self, name, x):
        out, per_channel = x.shape[1], (-1, 1, 1)
        gamma, beta = self.w(f"{name}.gamma", out, low=0.6, high=1.4), self.w(f"{name}.beta", out)
        mean = self.w(f"{name}.moving_mean", out, low=-0.2, high=0.2)
        variance = self.w(f"{name}.moving_variance", out, low=0.3, high=1.2)
        x = (x - mean.reshape(per_channel)) / np.sqrt(variance.reshape(per_channel) + 1e-3)
        return x * gamma.reshape(per_channel) + beta.reshape(per_channel)

    def cba(self, name, x, out, k=1, s=1, *, p=None, groups=1, act=silu):
        """Convolve, normalise, activate."""
        x = self.normalised(f"{name}.bn", self.convolved(f"{name}.conv", x, out, k, s, p=p, groups=groups))
        return act(x) if act else x

    def last(self, name, x, out):
        """Convolve one pixel, with a bias."""
        spread = x.shape[1] ** -0.5
        weights = self.w(f"{name}.weight", out, x.shape[1], 1, 1, low=-spread, high=spread)
        return correlate(x, weights) + self.w(f"{name}.bias", out).reshape(-1, 1, 1)

    def bottleneck(self, name, x, out, k, shortcut, hidden):
        inner = self.cba(f"{name}.conv1", x, hidden, k[0])
        inner = self.cba(f"{name}.conv2", inner, out, k[1])
        return x + inner if shortcut else inner

    def c3(self, name, x, out, n, shortcut=True, k=(1, 3)):
        half = out // 2
        left = self.cba(f"{name}.conv1", x, half)
        for i in range(n):
            left = self.bottleneck(f"{name}.m.{i}", left, half, k, shortcut, half)
        right = self.cba(f"{name}.conv2", x, half)
        return self.cba(f"{name}.conv3", np.concatenate([left, right], 1), out)

    def c2f(self, name, x, out, n, shortcut=False):
        half = out // 2
        parts = np.split(self.cba(f"{name}.cv1", x, out), 2, 1)
        for i in range(n):
            parts.append(self.bottleneck(f"{name}.m.{i}", parts[-1], half, (3, 3), shortcut, half))
        return self.cba(f"{name}.cv2", np.concatenate(parts, 1), out)

    def c3k2(self, name, x, out, n, inner, e=0.5):
        half = int(out * e)
        parts = np.split(self.cba(f"{name}.cv1", x, 2 * half), 2, 1)
        for i in range(n):
            part = f"{name}.m.{i}"
            if inner:
                parts.append(self.c3(part, parts[-1], half, 2, k=(3, 3)))
            else:
                parts.append(self.bottleneck(part, parts[-1], half, (3, 3), shortcut=True, hidden=half // 2))
        return self.cba(f"{name}.cv2", np.concatenate(parts, 1), out)

    def sppf(self, name, x, out):
        first = self.cba(f"{name}.conv1", x, x.shape[1] // 2)
        # Three maxima of 5 x 5 in a row are one of 5, of 9 and of 13.
        parts = [first, maxima(first, 5), maxima(first, 9), maxima(first, 13)]
        return self.cba(f"{name}.conv2", np.concatenate(parts, 1), out)

    def c2psa(self, name, x, n):
        half = x.shape[1] // 2
        kept, seen = np.split(self.cba(f"{name}.cv1", x, 2 * half), 2, 1)
        for i in range(n):
            seen = seen + self.attention(f"{name}.m.{i}.attn", seen)
            inner = self.cba(f"{name}.m.{i}.ffn.0", seen, 2 * half)
            seen = seen + self.cba(f"{name}.m.{i}.ffn.1", inner, half, act=None)
        return self.cba(f"{name}.cv2", np.concatenate([kept, seen], 1), x.shape[1])

    def sppcspc(self, name, x, out):
        inner = self.cba(f"{name}.cv4", self.cba(f"{name}.cv3", self.cba(f"{name}.cv1", x, out), out, 3), out)
        parts = [inner, *(maxima(inner, k, around=0) for k in (5, 9, 13))]
        inner = self.cba(f"{name}.cv6", self.cba(f"{name}.cv5", np.concatenate(parts, 1), out), out, 3)
        return self.cba(f"{name}.cv7", np.concatenate([inner, self.cba(f"{name}.cv2", x, out)], 1), out)

    def repconv(self, name, x, out):
        dense = self.normalised(f"{name}.rbr_dense.1", self.convolved(f"{name}.rbr_dense.0", x, out, 3))
        point = self.normalised(f"{name}.rbr_1x1.1", self.convolved(f"{name}.rbr_1x1.0", x, out))
        return silu(dense + point + (self.normalised(f"{name}.rbr_identity", x) if x.shape[1] == out else 0))

    def downc(self, name, x, out):
        left = self.cba(f"{name}.cv2", self.cba(f"{name}.cv1", x, x.shape[1]), out // 2, 3, 2)
        return np.concatenate([left, self.cba(f"{name}.cv3", halved(x), out // 2)], 1)

    def attention(self, name, x):
        batch, channels, height, width = x.shape
        heads = channels // 64
        table = self.cba(f"{name}.qkv", x, 2 * channels, act=None)
        table = table.reshape(batch, heads, 128, height * width)
        query, key, value = table[:, :, :32], table[:, :, 32:64], table[:, :, 64:]
        scores = np.einsum("bhdi,bhdj->bhij", query, key) / math.sqrt(32)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("bhij,bhdj->bhdi", scores / scores.sum(-1, keepdims=True), value).reshape(x.shape)
        mixed = mixed + self.cba(f"{name}.pe", value.reshape(x.shape), channels, 3, groups=channels, act=None)
        return self.cba(f"{name}.proj", mixed, channels, act=None)

    def prototypes(self, name, x, width, masks, *, learned):
        x = self.cba(f"{name}.cv1", x, width, 3)
        if learned:
            weights = self.w(f"{name}.upsample.weight", width, width, 2, 2, low=-0.2, high=0.2)
            grown = np.einsum("bchw,cdij->bdhiwj", x, weights)
            batch, _, height, wide = x.shape
            x = grown.reshape(batch, width, 2 * height, 2 * wide)
            x = x + self.w(f"{name}.upsample.bias", width).reshape(-1, 1, 1)
        else:
            x = doubled(x)
        return self.cba(f"{name}.cv3", self.cba(f"{name}.cv2", x, width, 3), masks)

    def anchor_head(self, name, levels, classes, anchors, masks=0, *, implicit=False):
        """Rows, one box at a time."""
        count = 3 * (5 + classes + masks)
        found = []
        for i, level in enumerate(levels):
            x = level + self.w(f"{name}.ia.{i}.implicit", 1, level.shape[1], 1, 1) if implicit else level
            raw = self.last(f"{name}.m.{i}", x, count)
            raw = raw * self.w(f"{name}.im.{i}.implicit", 1, count, 1, 1) if implicit else raw
            batch, _, height, width = raw.shape
            raw = raw.reshape(batch, 3, -1, height, width)
            for anchor in range(3):
                for row in range(height):
                    for column in range(width):
                        cell, stride = raw[:, anchor, :, row, column], 8 << i
                        sure = sigmoid(cell[:, : 5 + classes])
                        centre = (sure[:, :2] * 2 - 0.5 + [column, row]) * stride
                        size = (sure[:, 2:4] * 2) ** 2 * anchors[i][anchor]
                        found.append(np.concatenate([centre, size, sure[:, 4:], cell[:, 5 + classes :]], 1))
        return np.stack(found, 1)

    def free_head(self, name, levels, classes, masks=0, *, thin=False):
        """Columns, one grid at a time."""
        first, bins, found = levels[0].shape[1], 16, []
        self.w.tensors[f"model.model.{name}.dfl.conv.weight"] = np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1)
        for i, x in enumerate(levels):
            box, stride = self.branch(f"{name}.cv2.{i}", x, max(16, first // 4, 64), 64), 8 << i
            score = self.branch(f"{name}.cv3.{i}", x, max(first, classes), classes, thin=thin)
            rest = self.branch(f"{name}.cv4.{i}", x, max(first // 4, masks), masks) if masks else score[:, :0]
            batch, _, height, width = box.shape
            chances = np.exp(box.reshape(batch, 4, bins, height, width))
            sides = (chances * np.arange(bins).reshape(-1, 1, 1)).sum(2) / chances.sum(2)
            down, along = np.mgrid[:height, :width] + 0.5
            left, top, right, bottom = along - sides[:, 0], down - sides[:, 1], along + sides[:, 2], down + sides[:, 3]
            boxes = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1) * stride
            grid = np.concatenate([boxes, sigmoid(score), rest], 1)
            found.append(grid.reshape(batch, -1, height * width))
        return np.concatenate(found, 2)

    def branch(self, name, x, width, out, *, thin=False):
        for i in range(2):
            if thin:
                x = self.cba(f"{name}.{i}.0", x, x.shape[1], 3, groups=x.shape[1])
                x = self.cba(f"{name}.{i}.1", x, width)
            else:
                x = self.cba(f"{name}.{i}", x, width, 3)
        return self.last(f"{name}.2", x, out)


def yolov5(net, x, wide, deep, head):
    """Return what `head` makes of the three levels; `wide` scales channels, `deep` repeats."""
    x = net.cba("1", net.cba("0", x, wide(64), 6, 2, p=2), wide(128), 3, 2)
    x = net.c3("2", x, wide(128), deep(3))
    eighth = net.c3("4", net.cba("3", x, wide(256), 3, 2), wide(256), deep(6))
    sixteenth = net.c3("6", net.cba("5", eighth, wide(512), 3, 2), wide(512), deep(9))
    x = net.c3("8", net.cba("7", sixteenth, wide(1024), 3, 2), wide(1024), deep(3))
    top = net.cba("10", net.sppf("9", x, wide(1024)), wide(512))
    x = net.c3("13", np.concatenate([doubled(top), sixteenth], 1), wide(512), deep(3), shortcut=False)
    middle = net.cba("14", x, wide(256))
    small = net.c3("17", np.concatenate([doubled(middle), eighth], 1), wide(256), deep(3), shortcut=False)
    x = np.concatenate([net.cba("18", small, wide(256), 3, 2), middle], 1)
    medium = net.c3("20", x, wide(512), deep(3), shortcut=False)
    x = np.concatenate([net.cba("21", medium, wide(512), 3, 2), top], 1)
    return head("24", [small, medium, net.c3("23", x, wide(1024), deep(3), shortcut=False)])


def yolov8(net, x, wide, deep, head):
    x = net.c2f("2", net.cba("1", net.cba("0", x, wide(64), 3, 2), wide(128), 3, 2), wide(128), deep(3), shortcut=True)
    eighth = net.c2f("4", net.cba("3", x, wide(256), 3, 2), wide(256), deep(6), shortcut=True)
    sixteenth = net.c2f("6", net.cba("5", eighth, wide(512), 3, 2), wide(512), deep(6), shortcut=True)
    x = net.c2f("8", net.cba("7", sixteenth, wide(1024), 3, 2), wide(1024), deep(3), shortcut=True)
    top = net.sppf("9", x, wide(1024))
    middle = net.c2f("12", np.concatenate([doubled(top), sixteenth], 1), wide(512), deep(3))
    small = net.c2f("15", np.concatenate([doubled(middle), eighth], 1), wide(256), deep(3))
    medium = net.c2f("18", np.concatenate([net.cba("16", small, wide(256), 3, 2), middle], 1), wide(512), deep(3))
    x = np.concatenate([net.cba("19", medium, wide(512), 3, 2), top], 1)
    return head("22", [small, medium, net.c2f("21", x, wide(1024), deep(3))])


def yolov11(net, x, wide, deep, head):
    n = deep(2)
    x = net.c3k2("2", net.cba("1", net.cba("0", x, wide(64), 3, 2), wide(128), 3, 2), wide(256), n, inner=False, e=0.25)
    eighth = net.c3k2("4", net.cba("3", x, wide(256), 3, 2), wide(512), n, inner=False, e=0.25)
    sixteenth = net.c3k2("6", net.cba("5", eighth, wide(512), 3, 2), wide(512), n, inner=True)
    x = net.c3k2("8", net.cba("7", sixteenth, wide(1024), 3, 2), wide(1024), n, inner=True)
    top = net.c2psa("10", net.sppf("9", x, wide(1024)), n)
    middle = net.c3k2("13", np.concatenate([doubled(top), sixteenth], 1), wide(512), n, inner=False)
    small = net.c3k2("16", np.concatenate([doubled(middle), eighth], 1), wide(256), n, inner=False)
    x = np.concatenate([net.cba("17", small, wide(256), 3, 2), middle], 1)
    medium = net.c3k2("19", x, wide(512), n, inner=False)
    x = np.concatenate([net.cba("20", medium, wide(512), 3, 2), top], 1)
    return head("23", [small, medium, net.c3k2("22", x, wide(1024), n, inner=True)])


def yolov7_parts(net, x, head):
    """Return what `head` makes of the blocks that YOLOv3 and YOLOv7 add, in an order of our own."""
    x = net.cba("2", halved(net.cba("0", x, 16, 3, act=leaky)), 16)
    for number in range(2):
        x = net.bottleneck(f"3.{number}", x, 16, (1, 3), shortcut=True, hidden=8)
    corners = [x[..., down::2, along::2] for along in (0, 1) for down in (0, 1)]
    x = halved(net.cba("4.conv", np.concatenate(corners, 1), 24, 3))
    eighth = net.repconv("7", net.repconv("6", x, 24), 16)
    sixteenth = net.sppcspc("9", net.downc("8", eighth, 32), 16)
    x = np.concatenate([maxima(halved(sixteenth), k, around=0) for k in (5, 3)], 1)
    return head("14", [eighth, sixteenth, x])
