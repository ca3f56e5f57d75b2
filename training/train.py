# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "faster-coco-eval>=1.6",
#   "numpy>=2",
#   "onnx>=1.17",
#   "onnxruntime>=1.20",
#   "onnxscript>=0.5",
#   "opencv-python-headless>=4.10",
#   "torch>=2.7",
# ]
# ///
"""Train the embedded `shapes` model from nothing and write it as ONNX: `uv run training/train.py`."""

from __future__ import annotations

import argparse
import copy
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from evaluate import evaluate
from export import export
from losses import Truth, total_loss
from network import ShapeNet, anchor_grid
from scenes import SIZE, Store, draw_store, make_batch, shuffled_rows
from shapes import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scenes import Batch
    from torch import Tensor

MODEL = Path(__file__).parents[1] / "weights-sync" / "src" / "weights_sync" / "models" / "shapes.onnx"
log = logging.getLogger("train")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. The learning rate follows the clock, so that training ends in time on any machine."""

    minutes: float = 30.0
    scenes: int = 12_000
    batch_size: int = 16
    peak_rate: float = 2.5e-3
    decay: float = 0.02
    coarse_share: float = 0.4
    coarse_size: int = 224
    average: float = 0.998

    def again(self, minutes: float) -> Recipe:
        """Return the recipe for a second round from trained weights: gentler, and at full size only."""
        return replace(self, minutes=minutes, peak_rate=self.peak_rate * 0.4, coarse_share=0.0)


class Averaged:
    """A slowly following copy of a network, which is better than the network itself."""

    def __init__(self, network: ShapeNet, decay: float, steps: int = 0) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        self.decay = decay
        self.steps = steps

    @torch.no_grad()
    def follow(self, network: ShapeNet) -> None:
        """Move the copy a little towards the network; the first steps move it more."""
        self.steps += 1
        share = 1 - self.decay * (1 - math.exp(-self.steps / 300))
        pairs = zip(self.network.state_dict().values(), network.state_dict().values(), strict=True)
        mine, theirs = zip(*((a, b) for a, b in pairs if a.is_floating_point()), strict=True)
        torch._foreach_lerp_(list(mine), list(theirs), share)


def learning_share(progress: float) -> float:
    """Return the share 0..1 of the peak learning rate at this progress 0..1: a short warm-up, then a cosine."""
    warm = min(1.0, progress / 0.03 + 0.01)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def batches(store: Store, recipe: Recipe, clock: Clock) -> Iterator[Batch]:
    """Yield batches made one ahead in a thread, coarse ones in the first part of the time."""
    rng = np.random.default_rng(7)
    rows = shuffled_rows(rng, len(store.images), recipe.batch_size)

    def make() -> Batch:
        coarse = clock.progress() < recipe.coarse_share
        return make_batch(rng, store, next(rows), recipe.coarse_size if coarse else SIZE)

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(make)
        while True:
            ready = following.result()
            following = pool.submit(make)
            yield ready


@dataclass(slots=True)
class Clock:
    """Knows how much of the training time has gone."""

    minutes: float
    started_s: float

    def progress(self) -> float:
        """Return 0 at the start, 1 when the time is over."""
        return (time.monotonic() - self.started_s) / (60 * self.minutes)


def step(network: ShapeNet, optimiser: torch.optim.Optimizer, batch: Batch) -> dict[str, Tensor]:
    """Learn from one batch and return its losses by name."""
    images = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float().div(255)
    truth = Truth(*(torch.from_numpy(a) for a in (batch.boxes, batch.class_ids, batch.points, batch.inside)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = network(images.contiguous(memory_format=torch.channels_last))
    size = (images.shape[2], images.shape[3])
    losses = total_loss(raw, truth, anchor_grid(*size), size)
    optimiser.zero_grad()
    losses["total"].backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimiser.step()
    return losses


def make_optimiser(network: ShapeNet, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW that decays the convolutions' weights only."""
    heavy = [p for p in network.parameters() if p.ndim > 1]
    light = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": heavy, "weight_decay": recipe.decay}, {"params": light, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate, fused=True)


def train(recipe: Recipe, store: Store, output: Path, export_every_minutes: float, weights: Path | None) -> ShapeNet:
    """Return the trained network; a usable model lies at `output` from the first export on.

    Training starts from `weights`, a file that an earlier run saved, or from nothing.
    """
    torch.manual_seed(7)
    network = ShapeNet(len(LABELS)).to(memory_format=torch.channels_last)
    log.info("%d parameters", sum(p.numel() for p in network.parameters()))
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    averaged = Averaged(network, recipe.average, steps=0 if weights is None else 600)
    optimiser = make_optimiser(network, recipe)
    clock = Clock(recipe.minutes, time.monotonic())
    exported_s = clock.started_s
    for number, batch in enumerate(batches(store, recipe, clock)):
        progress = clock.progress()
        if progress >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = recipe.peak_rate * learning_share(progress)
        losses = step(network, optimiser, batch)
        averaged.follow(network)
        if number % 50 == 0:
            parts = " ".join(f"{name} {float(loss.detach()):.3f}" for name, loss in losses.items())
            log.info("step %d %.1f%% size %d: %s", number, 100 * progress, batch.images.shape[1], parts)
        if time.monotonic() - exported_s > 60 * export_every_minutes:
            exported_s = time.monotonic()
            export(averaged.network, output)
    return averaged.network


def main() -> None:
    """Draw the scenes, train, export, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=Recipe().minutes)
    parser.add_argument("--scenes", type=int, default=Recipe().scenes)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("/tmp/yolo-kserve-shapes"))  # noqa: S108  # a cache
    parser.add_argument("--output", type=Path, default=MODEL)
    parser.add_argument("--resume", type=Path, help="weights.pt of an earlier run, for a second round")
    parser.add_argument("--export-every-minutes", type=float, default=4.0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.workers)
    store = draw_store(arguments.store, arguments.scenes, arguments.workers)
    recipe = Recipe(minutes=arguments.minutes, scenes=arguments.scenes)
    if arguments.resume is not None:
        recipe = recipe.again(arguments.minutes)
    network = train(recipe, store, arguments.output, arguments.export_every_minutes, arguments.resume)
    torch.save(network.state_dict(), arguments.store / "weights.pt")
    export(network, arguments.output)
    log.info("%s", evaluate(arguments.output, pictures=400))


if __name__ == "__main__":
    main()
