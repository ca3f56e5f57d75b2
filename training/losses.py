"""What training minimises: task-aligned assignment of anchors to shapes, and the losses of box, class and mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from network import BINS, Raw, decode_boxes
from torch import Tensor
from torch.nn import functional

CANDIDATES = 9
SCORE_POWER = 0.5
OVERLAP_POWER = 6.0
WEIGHTS = {"box": 7.5, "sides": 1.5, "class": 0.6, "mask": 3.0, "dice": 1.5}
_TINY = 1e-7


@dataclass(frozen=True, slots=True)
class Truth:
    """Shapes of a batch: boxes (B, G, 4) float32 pixels, class_ids (B, G) int64 or -1, points and inside as `Batch`."""

    boxes: Tensor
    class_ids: Tensor
    points: Tensor
    inside: Tensor


@dataclass(frozen=True, slots=True)
class Assignment:
    """The P anchors that answer for a shape: picture, anchor and shape (P,) int64; quality (P,) float32 0..1."""

    picture: Tensor
    anchor: Tensor
    shape: Tensor
    quality: Tensor


def complete_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return the complete IoU (CIoU) of broadcast boxes (..., 4) x1 y1 x2 y2: IoU less centre and aspect penalties."""
    overlap = plain_overlap(first, second)
    size1, size2 = first[..., 2:] - first[..., :2], second[..., 2:] - second[..., :2]
    hull = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    apart = (first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]).square().sum(-1) / 4
    angle1 = torch.atan(size1[..., 0] / (size1[..., 1] + _TINY))
    angle2 = torch.atan(size2[..., 0] / (size2[..., 1] + _TINY))
    aspect = (4 / math.pi**2) * (angle1 - angle2).square()
    with torch.no_grad():
        weight = aspect / (1 - overlap + aspect + _TINY)
    return overlap - apart / (hull.square().sum(-1) + _TINY) - weight * aspect


def plain_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU 0..1 of broadcast boxes (..., 4) x1 y1 x2 y2."""
    meet = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    shared = meet.clamp_min(0).prod(-1)
    area1 = (first[..., 2:] - first[..., :2]).clamp_min(0).prod(-1)
    area2 = (second[..., 2:] - second[..., :2]).clamp_min(0).prod(-1)
    return shared / (area1 + area2 - shared + _TINY)


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, centres: Tensor, truth: Truth) -> Assignment:
    """Return which anchors answer for which shape: for each shape the best `CANDIDATES` by score and overlap.

    scores: (B, A, C) 0..1. boxes: (B, A, 4) pixels. centres: (A, 2) pixels. Only anchors inside a shape's box are
    taken; one wanted by several shapes goes to the shape that it overlaps most.
    """
    real = truth.class_ids >= 0
    columns = truth.class_ids.clamp_min(0)[:, None, :].expand(-1, scores.shape[1], -1)
    overlap = plain_overlap(boxes[:, None], truth.boxes[:, :, None])
    score = scores.gather(2, columns).transpose(1, 2)
    margins = torch.cat([centres - truth.boxes[:, :, None, :2], truth.boxes[:, :, None, 2:] - centres], dim=-1)
    allowed = (margins.amin(-1) > 0) & real[..., None]
    fit = score.pow(SCORE_POWER) * overlap.pow(OVERLAP_POWER) * allowed
    best = fit.topk(CANDIDATES, dim=-1).indices
    wanted = torch.zeros_like(allowed).scatter_(2, best, value=True) & allowed
    owner = torch.where(wanted, overlap, -1.0).argmax(dim=1)
    picture, anchor = wanted.any(dim=1).nonzero(as_tuple=True)
    shape = owner[picture, anchor]
    fit_best = fit.masked_fill(~wanted, 0).amax(-1)
    overlap_best = overlap.masked_fill(~wanted, 0).amax(-1)
    quality = fit[picture, shape, anchor] / (fit_best[picture, shape] + _TINY) * overlap_best[picture, shape]
    return Assignment(picture, anchor, shape, quality)


def side_loss(sides: Tensor, distances: Tensor) -> Tensor:
    """Return (P,) cross entropy of the logits (P, 4 * BINS) with the true distances (P, 4) in strides.

    The truth is spread over the two nearest bins.
    """
    distances = distances.clamp(0, BINS - 1.01)
    lower = distances.long()
    upper_share = distances - lower
    logs = sides.reshape(-1, 4, BINS).log_softmax(-1)
    low = logs.gather(2, lower[..., None])[..., 0]
    high = logs.gather(2, lower[..., None] + 1)[..., 0]
    return -(low * (1 - upper_share) + high * upper_share).mean(-1)


def mask_losses(raw: Raw, chosen: Assignment, truth: Truth, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return (P,) binary cross entropy and (P,) Dice loss of each chosen anchor's mask at its shape's points.

    The prototypes are sampled between their cells, so that masks are right at full resolution after enlarging.
    """
    batch, shapes, points = truth.inside.shape
    span = torch.tensor([size[1], size[0]], dtype=torch.float32)
    places = (truth.points * 2 / span - 1).reshape(batch, 1, shapes * points, 2)
    sampled = functional.grid_sample(raw.prototypes.float(), places, mode="bilinear", align_corners=False)
    sampled = sampled.reshape(batch, -1, shapes, points).permute(0, 2, 1, 3)[chosen.picture, chosen.shape]
    coefficients = raw.coefficients[chosen.picture, chosen.anchor].float()
    logits = torch.einsum("pc,pcn->pn", coefficients, sampled)
    inside = truth.inside[chosen.picture, chosen.shape]
    entropy = functional.binary_cross_entropy_with_logits(logits, inside, reduction="none").mean(-1)
    shares = logits.sigmoid()
    dice = 1 - (2 * (shares * inside).sum(-1) + 1) / (shares.sum(-1) + inside.sum(-1) + 1)
    return entropy, dice


def total_loss(raw: Raw, truth: Truth, grid: tuple[Tensor, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Return the weighted losses by name, and their sum as `total`, for pictures of `size` (height, width)."""
    centres, strides = grid
    boxes = decode_boxes(raw.sides, centres, strides)
    logits = raw.classes.float()
    chosen = assign(logits.detach().sigmoid(), boxes.detach(), centres, truth)
    wanted = torch.zeros_like(logits)
    class_ids = truth.class_ids[chosen.picture, chosen.shape]
    wanted[chosen.picture, chosen.anchor, class_ids] = chosen.quality
    norm = chosen.quality.sum().clamp_min(1)
    true_boxes = truth.boxes[chosen.picture, chosen.shape]
    place, stride = centres[chosen.anchor], strides[chosen.anchor]
    distances = torch.cat([place - true_boxes[:, :2], true_boxes[:, 2:] - place], dim=-1) / stride
    entropy, dice = mask_losses(raw, chosen, truth, size)
    parts = {
        "box": 1 - complete_overlap(boxes[chosen.picture, chosen.anchor], true_boxes),
        "sides": side_loss(raw.sides[chosen.picture, chosen.anchor].float(), distances),
        "mask": entropy,
        "dice": dice,
    }
    losses = {name: WEIGHTS[name] * (part * chosen.quality).sum() / norm for name, part in parts.items()}
    classes = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / norm
    losses["class"] = WEIGHTS["class"] * classes
    losses["total"] = torch.stack(list(losses.values())).sum()
    return losses
