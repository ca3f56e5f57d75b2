"""Training data: scenes drawn once into memory-mapped arrays, and batches of them, turned, zoomed and recoloured."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1] / "client" / "src" / "yolo_client"))
from shapes import TRAINING_SEEDS, draw_scene

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 320
PADDING = 114
MAX_SHAPES = 8
POINTS = 160
"""At so many points a shape the predicted mask is compared with the true one; half of them lie along its edge."""


@dataclass(frozen=True, slots=True)
class Store:
    """N letterboxed scenes.

    images: (N, SIZE, SIZE, 3) uint8, RGB. owners: (N, SIZE, SIZE) uint8, 0 is background, k the k-th shape.
    class_ids: (N, MAX_SHAPES) int8, -1 where there is no shape.
    """

    images: npt.NDArray[np.uint8]
    owners: npt.NDArray[np.uint8]
    class_ids: npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Batch:
    """B pictures with at most G shapes each; S is the side in pixels.

    images: (B, S, S, 3) uint8, RGB. boxes: (B, G, 4) float32, x1 y1 x2 y2 in pixels, zeros where there is no shape.
    class_ids: (B, G) int64, -1 where there is no shape. points: (B, G, POINTS, 2) float32, x y in pixels.
    inside: (B, G, POINTS) float32, 1 where the point lies on the visible shape, else 0.
    """

    images: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    points: npt.NDArray[np.float32]
    inside: npt.NDArray[np.float32]


def letterbox(image: npt.NDArray[np.uint8], size: int = SIZE) -> tuple[npt.NDArray[np.uint8], float, int, int]:
    """Return (size, size, 3) uint8 with the picture centred on grey, the scale, and the left and top padding."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    boxed = np.full((size, size, 3), PADDING, np.uint8)
    resized = image if inner == (width, height) else cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    boxed[top : top + inner[1], left : left + inner[0]] = resized
    return boxed, scale, left, top


def _drawn(seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.int8]]:
    """Return one row of a `Store`: seven of ten scenes are square, the others of any aspect and letterboxed."""
    rng = np.random.default_rng((seed, 1))
    height = width = SIZE
    if rng.random() < 0.3:
        long, short = int(rng.integers(SIZE, 2 * SIZE)), rng.uniform(0.55, 1.0)
        height, width = (long, int(long * short)) if rng.random() < 0.4 else (int(long * short), long)
    scene = draw_scene(seed, height, width, max_shapes=MAX_SHAPES)
    image, scale, left, top = letterbox(scene.image)
    if rng.random() < 0.3:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 96))])[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    owner = np.zeros((height, width), np.uint8)
    for index, mask in enumerate(scene.masks):
        owner[mask] = index + 1
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    owners = np.zeros((SIZE, SIZE), np.uint8)
    resized = cv2.resize(owner, inner, interpolation=cv2.INTER_NEAREST_EXACT)
    owners[top : top + inner[1], left : left + inner[0]] = resized
    class_ids = np.full(MAX_SHAPES, -1, np.int8)
    class_ids[: len(scene.class_ids)] = scene.class_ids
    return image, owners, class_ids


def _draw_rows(folder: Path, first: int, last: int) -> None:
    cv2.setNumThreads(1)
    images = np.load(folder / "images.npy", mmap_mode="r+")
    owners = np.load(folder / "owners.npy", mmap_mode="r+")
    class_ids = np.load(folder / "class_ids.npy", mmap_mode="r+")
    for row in range(first, last):
        images[row], owners[row], class_ids[row] = _drawn(TRAINING_SEEDS + row)


def draw_store(folder: Path, count: int, workers: int) -> Store:
    """Return `count` scenes, kept below `folder` for the next time."""
    folder = folder / str(count)
    done = folder / "done"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shapes = {"images": (count, SIZE, SIZE, 3), "owners": (count, SIZE, SIZE), "class_ids": (count, MAX_SHAPES)}
        for name, shape in shapes.items():
            kind = np.int8 if name == "class_ids" else np.uint8
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype=kind, shape=shape).flush()
        step = 250
        with ProcessPoolExecutor(workers) as pool:
            for part in [pool.submit(_draw_rows, folder, n, min(n + step, count)) for n in range(0, count, step)]:
                part.result()
        done.touch()
    return Store(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "owners", "class_ids")))


def _varied(
    rng: np.random.Generator, image: npt.NDArray[np.uint8], owners: npt.NDArray[np.uint8], size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the picture (size, size, 3) and its owners (size, size), mirrored, turned, recoloured, perhaps zoomed."""
    turns = int(rng.integers(4))
    image, owners = np.rot90(image, turns), np.rot90(owners, turns)
    if rng.random() < 0.5:
        image, owners = image[:, ::-1], owners[:, ::-1]
    image = np.ascontiguousarray(image[..., rng.permutation(3)])
    owners = np.ascontiguousarray(owners)
    if rng.random() < 0.35:
        image, owners = _zoomed(rng, image, owners)
    if size != SIZE:
        image = np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
        owners = np.asarray(cv2.resize(owners, (size, size), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    return image, owners


def _zoomed(
    rng: np.random.Generator, image: npt.NDArray[np.uint8], owners: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the picture seen from nearer or farther, or as it was where that would cut a shape beyond recognition."""
    zoom = float(np.exp(rng.uniform(np.log(0.65), np.log(1.6))))
    shift = rng.uniform(-0.5, 0.5, 2) * abs(1 - zoom) * SIZE + (1 - zoom) * SIZE / 2
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    nearest = cv2.warpAffine(owners, matrix, (SIZE, SIZE), flags=cv2.INTER_NEAREST)
    kept = np.bincount(nearest.ravel(), minlength=MAX_SHAPES + 1)[1:]
    whole = np.bincount(owners.ravel(), minlength=MAX_SHAPES + 1)[1:] * zoom * zoom
    if (kept < 0.6 * whole).any():
        return image, owners
    grey = (PADDING, PADDING, PADDING)
    seen = cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderValue=grey)
    return np.asarray(seen, np.uint8), np.asarray(nearest, np.uint8)


def _points(
    rng: np.random.Generator, mask: npt.NDArray[np.bool_], corner: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return (POINTS, 2) float32 x y in pixels and (POINTS,) float32 0 or 1: where, and whether on the shape.

    mask: (h, w) bool, the shape's surroundings, whose first pixel lies at `corner` (x, y).
    """
    height, width = mask.shape
    bits = mask.astype(np.uint8)
    edge = np.flatnonzero(cv2.morphologyEx(bits, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))
    half = POINTS // 2
    chosen = edge[rng.integers(len(edge), size=half)]
    near = np.stack([chosen % width, chosen // width], axis=1) + rng.integers(-2, 3, (half, 2))
    anywhere = np.stack([rng.integers(width, size=POINTS - half), rng.integers(height, size=POINTS - half)], axis=1)
    cells = np.clip(np.concatenate([near, anywhere]), 0, (width - 1, height - 1))
    inside = mask[cells[:, 1], cells[:, 0]].astype(np.float32)
    return (cells + corner + 0.5).astype(np.float32), inside


def _add_shapes(
    rng: np.random.Generator, batch: Batch, row: int, owners: npt.NDArray[np.uint8], class_ids: npt.NDArray[np.int8]
) -> None:
    """Fill one row of the batch with the boxes, classes and mask points of the shapes that `owners` shows."""
    size = owners.shape[0]
    for index, class_id in enumerate(class_ids):
        if class_id < 0:
            break
        mask = owners == index + 1
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if len(rows) == 0:
            continue
        x1, y1, x2, y2 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        pad = 2 + (x2 - x1 + y2 - y1) // 32
        left, top = max(x1 - pad, 0), max(y1 - pad, 0)
        around = mask[top : min(y2 + pad, size), left : min(x2 + pad, size)]
        batch.boxes[row, index] = (x1, y1, x2, y2)
        batch.class_ids[row, index] = class_id
        batch.points[row, index], batch.inside[row, index] = _points(rng, around, (left, top))


def make_batch(rng: np.random.Generator, store: Store, rows: npt.NDArray[np.int64], size: int) -> Batch:
    """Return the scenes of these rows, each varied at random, at `size` pixels a side."""
    count = len(rows)
    batch = Batch(
        images=np.empty((count, size, size, 3), np.uint8),
        boxes=np.zeros((count, MAX_SHAPES, 4), np.float32),
        class_ids=np.full((count, MAX_SHAPES), -1, np.int64),
        points=np.zeros((count, MAX_SHAPES, POINTS, 2), np.float32),
        inside=np.zeros((count, MAX_SHAPES, POINTS), np.float32),
    )
    for row, source in enumerate(rows):
        image, owners = _varied(rng, store.images[source], store.owners[source], size)
        batch.images[row] = image
        _add_shapes(rng, batch, row, owners, store.class_ids[source])
    return batch


def shuffled_rows(rng: np.random.Generator, count: int, batch_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield (batch_size,) int64 rows without end; every row comes once before any comes again."""
    while True:
        order = rng.permutation(count)
        for first in range(0, count - batch_size + 1, batch_size):
            yield order[first : first + batch_size]
