"""The network: an anchor-free detector with distance distributions, mask coefficients and mask prototypes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
BINS = 16
"""Each side of a box is a distribution over 0..BINS - 1 strides from the anchor."""
COEFFICIENTS = 32
"""Mask coefficients an anchor, which is also the number of prototypes."""


@dataclass(frozen=True, slots=True)
class Raw:
    """What the network says before decoding, all float; A anchors, fine level first, row by row.

    sides: (B, A, 4 * BINS), logits. classes: (B, A, C), logits. coefficients: (B, A, COEFFICIENTS).
    prototypes: (B, COEFFICIENTS, H / 4, W / 4).
    """

    sides: Tensor
    classes: Tensor
    coefficients: Tensor
    prototypes: Tensor


class ConvUnit(nn.Module):
    """Convolution, normalisation, SiLU; keeps the size, or halves it with stride 2."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
        self.fused = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated features."""
        x = self.conv(x)
        return functional.silu(x if self.fused else self.norm(x), inplace=True)

    def fuse(self) -> None:
        """Fold the normalisation into the convolution: same output in evaluation, one operator fewer."""
        scale = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        fused = nn.Conv2d(
            self.conv.in_channels, self.conv.out_channels, self.conv.kernel_size, self.conv.stride, self.conv.padding
        )
        fused.weight.data = self.conv.weight.data * scale[:, None, None, None]
        fused.bias.data = self.norm.bias.data - self.norm.running_mean * scale
        self.conv, self.fused = fused, True


class SplitStage(nn.Module):
    """Half the channels pass through `depth` pairs of convolutions; all the outputs on the way are joined."""

    def __init__(self, inputs: int, outputs: int, depth: int = 1, *, residual: bool = True) -> None:
        super().__init__()
        self.half = outputs // 2
        self.residual = residual
        self.enter = ConvUnit(inputs, outputs, 1)
        self.pairs = nn.ModuleList(
            nn.Sequential(ConvUnit(self.half, self.half), ConvUnit(self.half, self.half)) for _ in range(depth)
        )
        self.leave = ConvUnit(outputs + depth * self.half, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H, W)."""
        parts = list(self.enter(x).split(self.half, dim=1))
        for pair in self.pairs:
            step = pair(parts[-1])
            parts.append(parts[-1] + step if self.residual else step)
        return self.leave(torch.cat(parts, dim=1))


class PooledContext(nn.Module):
    """Joins features with three widening maxima of themselves, so that each place sees most of the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = ConvUnit(channels, channels // 2, 1)
        self.leave = ConvUnit(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, H, W)."""
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(functional.max_pool2d(parts[-1], 5, 1, 2))
        return self.leave(torch.cat(parts, dim=1))


class Branch(nn.Module):
    """Two convolutions and a projection, at one level: (B, inputs, H, W) to (B, H * W, outputs)."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvUnit(inputs, hidden), ConvUnit(hidden, hidden))
        self.project = nn.Conv2d(hidden, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one row an anchor."""
        return self.project(self.body(x)).flatten(2).transpose(1, 2)


class ShapeNet(nn.Module):
    """Detects and segments; `forward` gives `Raw` for pictures (B, 3, H, W) float 0..1 RGB, H and W multiples of 32."""

    def __init__(self, classes: int, widths: tuple[int, int, int, int, int] = (16, 32, 64, 80, 96)) -> None:
        super().__init__()
        w2, w4, w8, w16, w32 = widths
        self.to4 = nn.Sequential(ConvUnit(3, w2, 3, 2), ConvUnit(w2, w4, 3, 2), SplitStage(w4, w4))
        self.to8 = nn.Sequential(ConvUnit(w4, w8, 3, 2), SplitStage(w8, w8, 2))
        self.to16 = nn.Sequential(ConvUnit(w8, w16, 3, 2), SplitStage(w16, w16, 2))
        self.to32 = nn.Sequential(ConvUnit(w16, w32, 3, 2), SplitStage(w32, w32), PooledContext(w32))
        self.up16 = SplitStage(w32 + w16, w16, residual=False)
        self.up8 = SplitStage(w16 + w8, w8, residual=False)
        self.halve16 = ConvUnit(w8, w8, 3, 2)
        self.down16 = SplitStage(w8 + w16, w8, residual=False)
        self.halve32 = ConvUnit(w8, w8, 3, 2)
        self.down32 = SplitStage(w8 + w32, w8, residual=False)
        self.side_branches = nn.ModuleList(Branch(w8, 40, 4 * BINS) for _ in STRIDES)
        self.class_branches = nn.ModuleList(Branch(w8, 40, classes) for _ in STRIDES)
        self.mask_branches = nn.ModuleList(Branch(w8, 28, COEFFICIENTS) for _ in STRIDES)
        self.prototype_enter = ConvUnit(w8, 40, 1)
        self.prototype_body = nn.Sequential(ConvUnit(40 + w4, 48), nn.Conv2d(48, COEFFICIENTS, 1))
        for side, scores in zip(self.side_branches, self.class_branches, strict=True):
            nn.init.constant_(side.project.bias, 1.0)
            nn.init.constant_(scores.project.bias, -5.5)

    def forward(self, images: Tensor) -> Raw:
        """Return what each anchor says, undecoded."""
        x4 = self.to4(images)
        x8 = self.to8(x4)
        x16 = self.to16(x8)
        x32 = self.to32(x16)
        n16 = self.up16(torch.cat([_double(x32), x16], dim=1))
        p8 = self.up8(torch.cat([_double(n16), x8], dim=1))
        p16 = self.down16(torch.cat([self.halve16(p8), n16], dim=1))
        p32 = self.down32(torch.cat([self.halve32(p16), x32], dim=1))
        levels = (p8, p16, p32)
        return Raw(
            sides=torch.cat([b(p) for b, p in zip(self.side_branches, levels, strict=True)], dim=1),
            classes=torch.cat([b(p) for b, p in zip(self.class_branches, levels, strict=True)], dim=1),
            coefficients=torch.cat([b(p) for b, p in zip(self.mask_branches, levels, strict=True)], dim=1),
            prototypes=self.prototype_body(torch.cat([_double(self.prototype_enter(p8)), x4], dim=1)),
        )

    def fuse(self) -> ShapeNet:
        """Fold every normalisation into its convolution and return self; only for evaluation."""
        for module in list(self.modules()):
            if isinstance(module, ConvUnit) and not module.fused:
                module.fuse()
        return self.eval()


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def anchor_grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return (A, 2) float32 anchor centres x y in pixels and (A, 1) float32 strides for pictures of this size."""
    centres, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        centres.append((torch.stack([x, y], dim=2).reshape(-1, 2).float() + 0.5) * stride)
        strides.append(torch.full((centres[-1].shape[0], 1), float(stride)))
    return torch.cat(centres), torch.cat(strides)


def decode_sides(sides: Tensor) -> Tensor:
    """Return (..., 4) float32, the expected left, top, right, bottom in strides, of (..., 4 * BINS) logits."""
    shares = sides.float().reshape(*sides.shape[:-1], 4, BINS).softmax(dim=-1)
    return (shares * torch.arange(BINS, dtype=torch.float32)).sum(dim=-1)


def decode_boxes(sides: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Return (B, A, 4) float32 x1 y1 x2 y2 in pixels."""
    distances = decode_sides(sides) * strides
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)
