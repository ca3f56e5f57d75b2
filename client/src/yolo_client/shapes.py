"""Draws scenes of shapes with exact ground truth: what the embedded `shapes` model was trained on and is tested with.

A scene depends on nothing but its seed and its size. Seeds below `TRAINING_SEEDS` were never shown to the model.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

LABELS: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross", "ring", "hexagon", "heart")
TRAINING_SEEDS = 1_000_000
"""The first seed that training uses; tests, demos and evaluation stay below it."""
MIN_VISIBLE = 0.6
"""The least share of a shape's area that later shapes and the border of the picture leave to be seen."""
MIN_DIAMETER = 0.14
"""The least diameter of a shape's circumscribed circle, as a share of the picture's shorter side."""

_SUPERSAMPLING = 4
_PLACEMENT_TRIES = 12
_COLOUR_TRIES = 14
_MIN_CONTRAST = 26.0

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture and what a person sees in it. N shapes, from the hindmost to the foremost.

    image: (H, W, 3) uint8, RGB. boxes: (N, 4) float32, the tight x1 y1 x2 y2 of each mask in pixels, x2 and y2
    exclusive. class_ids: (N,) int64, indices into `LABELS`. masks: (N, H, W) bool, the visible pixels, disjoint.
    visible: (N,) float32, the share of each shape's whole area that its mask holds, `MIN_VISIBLE`..1.
    """

    image: npt.NDArray[np.uint8]
    boxes: Floats
    class_ids: npt.NDArray[np.int64]
    masks: Bools
    visible: Floats


@dataclass(frozen=True, slots=True)
class _Stamp:
    """One shape rasterised: alpha (h, w) float32 0..1 whose first pixel lies at row `top`, column `left`."""

    class_id: int
    alpha: Floats
    top: int
    left: int
    diameter: float
    area: int


def draw_scene(seed: int, height: int = 320, width: int = 320, *, max_shapes: int = 8) -> Scene:
    """Return the scene of this seed and size, with 1 to `max_shapes` shapes; `max_shapes` is 1..100."""
    rng = np.random.default_rng(seed)
    canvas = _background(rng, height, width)
    owners = np.full((height, width), -1, np.int8)
    stamps: list[_Stamp] = []
    count, shadows = int(rng.integers(1, max_shapes + 1)), rng.random() < 0.4
    for _ in range(count):
        stamp = _place(rng, owners, stamps, count)
        if stamp is not None:
            _paint(rng, canvas, stamp, shadow=shadows)
            inside, rows, columns = _clip(stamp, height, width)
            owners[rows, columns][inside > 0.5] = len(stamps)
            stamps.append(stamp)
    image = _camera(rng, canvas)
    masks = owners == np.arange(len(stamps), dtype=np.int8)[:, None, None]
    return Scene(
        image=image,
        boxes=np.array([_tight_box(mask) for mask in masks], np.float32).reshape(-1, 4),
        class_ids=np.array([stamp.class_id for stamp in stamps], np.int64),
        masks=masks,
        visible=np.array([mask.sum() / stamp.area for mask, stamp in zip(masks, stamps, strict=True)], np.float32),
    )


def _tight_box(mask: Bools) -> tuple[float, float, float, float]:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _regular(corners: int, radii: tuple[float, ...] = (1.0,)) -> npt.NDArray[np.float64]:
    """Return (corners, 2) float64 points around the origin whose distances from it cycle through `radii`."""
    angles = np.arange(corners) * (2 * math.pi / corners) - math.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.resize(np.array(radii), corners)[:, None]


def _cross(arm: float) -> npt.NDArray[np.float64]:
    reach = math.sqrt(1 - arm * arm)
    quarter = np.array([[arm, -reach], [arm, -arm], [reach, -arm]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, n) for n in range(4)])


def _heart() -> npt.NDArray[np.float64]:
    t = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 2.5
    return np.stack([16 * np.sin(t) ** 3, y], axis=1) / 16.5


def _contours(rng: np.random.Generator, label: str) -> list[npt.NDArray[np.float64]]:
    """Return the closed outlines of a shape within the unit circle; a second one is a hole."""
    round_outline = _regular(72)
    if label == "ring":
        return [round_outline, round_outline * rng.uniform(0.45, 0.64)]
    if label == "star":
        return [_regular(10, (1.0, rng.uniform(0.42, 0.54)))]
    if label in ("cross", "heart"):
        return [_cross(rng.uniform(0.26, 0.36)) if label == "cross" else _heart()]
    corners = {"square": 4, "triangle": 3, "hexagon": 6}
    return [_regular(corners[label]) if label in corners else round_outline]


def _stamp(rng: np.random.Generator, height: int, width: int, count: int) -> _Stamp:
    """Return a random shape at a random place, turned, scaled, slightly squeezed and sheared."""
    class_id = int(rng.integers(len(LABELS)))
    largest = 0.62 if count <= 2 else 0.5 if count <= 5 else 0.38
    diameter = min(height, width) * math.exp(rng.uniform(math.log(MIN_DIAMETER), math.log(largest)))
    angle = rng.uniform(0, 2 * math.pi)
    squeeze, shear = rng.uniform(0.9, 1.0), rng.uniform(-0.1, 0.1)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    bend = np.array([[1.0, shear], [0.0, squeeze]])
    margin = 0.36 * diameter
    centre = np.array([rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)])
    contours = [c @ bend @ turn * (diameter / 2) + centre for c in _contours(rng, LABELS[class_id])]
    left, top = (np.floor(contours[0].min(axis=0)) - 1).astype(int)
    right, bottom = (np.ceil(contours[0].max(axis=0)) + 1).astype(int)
    fine = np.zeros(((bottom - top) * _SUPERSAMPLING, (right - left) * _SUPERSAMPLING), np.uint8)
    points = [np.round((c - (left, top)) * _SUPERSAMPLING - 0.5).astype(np.int32) for c in contours]
    cv2.fillPoly(fine, points, 255)
    coarse = cv2.resize(fine, (int(right - left), int(bottom - top)), interpolation=cv2.INTER_AREA)
    alpha = coarse.astype(np.float32) / 255
    return _Stamp(class_id, alpha, int(top), int(left), diameter, int((alpha > 0.5).sum()))


def _clip(stamp: _Stamp, height: int, width: int) -> tuple[Floats, slice, slice]:
    """Return the alpha inside the picture, and the rows and columns of the picture where it lies."""
    rows = slice(max(stamp.top, 0), min(stamp.top + stamp.alpha.shape[0], height))
    columns = slice(max(stamp.left, 0), min(stamp.left + stamp.alpha.shape[1], width))
    inner_rows = slice(rows.start - stamp.top, rows.stop - stamp.top)
    inner_columns = slice(columns.start - stamp.left, columns.stop - stamp.left)
    return stamp.alpha[inner_rows, inner_columns], rows, columns


def _place(rng: np.random.Generator, owners: npt.NDArray[np.int8], stamps: list[_Stamp], count: int) -> _Stamp | None:
    """Return a shape that leaves itself and all earlier ones recognisable, or None when no room was found."""
    height, width = owners.shape
    seen = np.array([np.count_nonzero(owners == index) for index in range(len(stamps))], np.int64)
    needed = np.array([MIN_VISIBLE * stamp.area for stamp in stamps])
    for _ in range(_PLACEMENT_TRIES):
        stamp = _stamp(rng, height, width, count)
        alpha, rows, columns = _clip(stamp, height, width)
        inside = alpha > 0.5
        hidden = np.bincount(owners[rows, columns][inside] + 1, minlength=len(stamps) + 1)[1:]
        if inside.sum() >= MIN_VISIBLE * stamp.area and bool((seen - hidden >= needed).all()):
            return stamp
    return None


def _contrasting(rng: np.random.Generator, around: Floats) -> Floats:
    """Return (2, 3) float32 RGB 0..255: two colours that stand out from nearly all pixels of `around` (h, w, 3)."""
    hue, saturation, value = np.moveaxis(rng.random((_COLOUR_TRIES, 1, 3), np.float32), 2, 0)
    tried = cv2.cvtColor(np.stack([hue * 360, np.sqrt(saturation), 0.1 + 0.9 * value], axis=2), cv2.COLOR_HSV2RGB)
    step = max(1, min(around.shape[:2]) // 10)
    nearby = cv2.cvtColor(np.ascontiguousarray(around[::step, ::step]) / 255, cv2.COLOR_RGB2Lab).reshape(1, -1, 3)
    distances = np.linalg.norm(cv2.cvtColor(tried, cv2.COLOR_RGB2Lab) - nearby, axis=2)
    contrast = np.minimum(np.percentile(distances, 12, axis=1), _MIN_CONTRAST)
    best = np.argsort(-contrast, kind="stable")[:2]
    return np.asarray(tried[best, 0] * 255, np.float32)


def _paint(rng: np.random.Generator, canvas: Floats, stamp: _Stamp, *, shadow: bool) -> None:
    """Blend the shape into the canvas (H, W, 3) float32 RGB 0..255: plain, shaded or striped, perhaps with a rim."""
    alpha, rows, columns = _clip(stamp, *canvas.shape[:2])
    under = canvas[rows, columns]
    first, second = _contrasting(rng, under)
    along = _ramp(alpha.shape[0], alpha.shape[1], stamp.diameter, rng.uniform(0, 2 * math.pi))
    style = rng.random()
    blend = np.zeros_like(along)
    if style < 0.35:
        blend = 0.8 * (along - along.min()) / max(float(np.ptp(along)), 1e-6)
    elif style < 0.5:
        blend = np.where(np.sin(along * rng.uniform(20, 45)) > 0, np.float32(0.35), np.float32(0))
    fill = first + (second - first) * blend[..., None]
    if rng.random() < 0.3:
        rim = max(3, round(0.05 * stamp.diameter) * 2 + 1)
        core = cv2.erode(alpha, np.ones((rim, rim), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        rim_colour = second if rng.random() < 0.5 else first * np.float32(rng.uniform(0.3, 0.6))
        fill += (rim_colour - fill) * (1 - core[..., None])
    if shadow:
        _shade(rng, canvas, stamp)
    opacity = alpha[..., None] * np.float32(1.0 if rng.random() < 0.8 else rng.uniform(0.8, 1.0))
    under += (fill - under) * opacity


def _shade(rng: np.random.Generator, canvas: Floats, stamp: _Stamp) -> None:
    """Darken the canvas where the shape's soft shadow falls; shadows are no part of any mask."""
    pad = math.ceil(stamp.diameter * 0.12)
    offset = round(stamp.diameter * 0.05)
    soft = cv2.GaussianBlur(np.pad(stamp.alpha, pad), (0, 0), max(stamp.diameter * 0.04, 0.5))
    shifted = _Stamp(stamp.class_id, soft, stamp.top - pad + offset, stamp.left - pad + offset, stamp.diameter, 0)
    alpha, rows, columns = _clip(shifted, *canvas.shape[:2])
    canvas[rows, columns] *= 1 - np.float32(rng.uniform(0.2, 0.5)) * alpha[..., None]


def _ramp(height: int, width: int, unit: float, angle: float) -> Floats:
    """Return (height, width) float32: how far each pixel lies towards `angle`, in units of `unit`."""
    x = np.arange(width, dtype=np.float32) * np.float32(math.cos(angle) / unit)
    y = np.arange(height, dtype=np.float32) * np.float32(math.sin(angle) / unit)
    return x[None] + y[:, None]


def _clouds(rng: np.random.Generator, height: int, width: int, channels: int = 1) -> Floats:
    """Return (H, W, channels) float32 0..1: smooth noise of several octaves."""
    total = np.zeros((height, width, channels), np.float32)
    cells = int(rng.integers(2, 5))
    for octave in range(4):
        n = min(cells << octave, height, width)
        grid = rng.random((n, n, channels), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR).reshape(total.shape) * 0.5**octave
    return np.asarray((total - total.min()) / np.ptp(total), np.float32)


def _pattern(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Return (H, W) float32 0..1: one of eight backdrops."""
    short = min(height, width)
    angle = rng.uniform(0, 2 * math.pi)
    u, v = _ramp(height, width, short, angle), _ramp(height, width, short, angle + math.pi / 2)
    kind = int(rng.integers(8))
    pitch = rng.uniform(12, 60)
    field: Any = _clouds(rng, height, width)[..., 0] if kind >= 6 else u
    if kind == 0:
        field = np.full_like(u, 0.5)
    elif kind == 1:
        field = (u - u.min()) / np.ptp(u)
    elif kind == 2:
        field = np.hypot(u - u.mean() - rng.uniform(-0.5, 0.5), v - v.mean())
    elif kind == 3:
        field = 0.5 + np.sin(u * pitch) * rng.choice([0.5, 4.0])
    elif kind == 4:
        field = 0.5 + 3 * np.sin(u * pitch) * np.sin(v * pitch)
    elif kind == 5:
        field = np.maximum(np.cos(u * pitch), np.cos(v * pitch)) > 0.93
    elif kind == 6:
        field = (field - 0.5) * 8 + 0.5
    return np.asarray(np.clip(field, 0, 1), np.float32)


def _background(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Return (H, W, 3) float32 RGB 0..255: a two-coloured backdrop, perhaps with clouds and idle strokes."""
    first = np.clip(rng.uniform(20, 235) + rng.normal(0, 1, 3) * rng.uniform(5, 60), 0, 255).astype(np.float32)
    change = (rng.normal(0, 1, 3) * rng.uniform(5, 60)).astype(np.float32)
    canvas = _pattern(rng, height, width)[..., None] * change
    canvas += first
    if rng.random() < 0.5:
        canvas += (_clouds(rng, height, width, 3) - 0.5) * np.float32(rng.uniform(15, 110))
    np.clip(canvas, 0, 255, out=canvas)
    if rng.random() < 0.5:
        _scribble(rng, canvas)
    return canvas


def _scribble(rng: np.random.Generator, canvas: Floats) -> None:
    """Draw bars, open arcs and polylines, which look like no shape of `LABELS`, into the canvas."""
    height, width, short = *canvas.shape[:2], min(canvas.shape[:2])
    for _ in range(int(rng.integers(1, 9))):
        centre = rng.uniform((0, 0), (width, height))
        under = canvas[min(int(centre[1]), height - 1), min(int(centre[0]), width - 1)]
        colour = tuple(float(c) for c in np.clip(under + rng.normal(0, 45, 3), 0, 255))
        thickness = max(1, round(short * rng.uniform(0.004, 0.025)))
        where = (int(centre[0]), int(centre[1]))
        if rng.random() < 0.4:
            radius, start = round(short * rng.uniform(0.05, 0.4)), rng.uniform(0, 360)
            cv2.ellipse(canvas, where, (radius, radius), start, 0, rng.uniform(40, 170), colour, thickness)
        else:
            steps = np.cumsum(rng.normal(0, 0.15 * short, (int(rng.integers(2, 5)), 2)), axis=0)
            path = np.round(centre + steps).astype(np.int32)
            cv2.polylines(canvas, [path], isClosed=False, color=colour, thickness=thickness)


def _camera(rng: np.random.Generator, canvas: Floats) -> npt.NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB: the canvas (0..255) as a camera takes it: soft, dimmed or bright, noisy."""
    height, width = canvas.shape[:2]
    scale = min(height, width) / 320
    if rng.random() < 0.5:
        canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 1.1) * max(scale, 0.5)), np.float32)
    canvas *= np.float32(rng.uniform(0.75, 1.15))
    canvas += np.float32(rng.uniform(-20, 20))
    if rng.random() < 0.6:
        channels = 3 if rng.random() < 0.5 else 1
        canvas += rng.standard_normal((height, width, channels), np.float32) * np.float32(rng.uniform(1, 11))
    return np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)
