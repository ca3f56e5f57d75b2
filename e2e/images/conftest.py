"""The three images, built on this machine, or as the archives that `YOLO_IMAGE_ARCHIVES` names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from container import Image

ROOT = Path(__file__).resolve().parents[2]
BUILDER = ROOT / "e2e" / "cluster" / "bare"
NAMES = ("predictor", "transformer", "weights-sync")
_BUILD = '. "$1/lib.sh"; . "$1/images.sh"; dockerfile_image "$2" "$3" "$4" >&2; printf %s "$REPLY"'


@pytest.fixture(scope="session")
def images() -> Iterator[dict[str, Image]]:
    """Return the images by their part's name; where they can't be built or run, the test is skipped."""
    if os.geteuid() != 0:
        pytest.skip("images are run as containers would be: that needs root")
    programs = ("buildah", "unshare", *(() if _archives() else ("debootstrap",)))
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"images need {' and '.join(missing)}")
    with ExitStack() as stack:
        unpacked = {}
        for name in NAMES:
            unpacked[name] = Image(_archive(name))
            stack.callback(unpacked[name].remove)
        yield unpacked


def _archive(name: str) -> Path:
    if folder := _archives():
        return Path(folder) / f"{name}.tar"
    image = f"localhost/yolo-kserve/{name}:dev"
    command = ["bash", "-euo", "pipefail", "-c", _BUILD, "bash", BUILDER, image, ROOT, ROOT / name / "Dockerfile"]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout) / "image.tar"


def _archives() -> str:
    return os.environ.get("YOLO_IMAGE_ARCHIVES", "")
