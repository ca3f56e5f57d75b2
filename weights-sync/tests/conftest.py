"""Puts the folder of these tests on the path: the networks and the pictures are shared between them."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def assets():
    """Folder of the real weights and pictures."""
    folder = Path(os.environ.get("YOLO_ASSETS") or ROOT.parent / "shared" / "assets")
    if not (folder / "weights").is_dir():
        pytest.skip("no real weights: set YOLO_ASSETS to a folder with weights/, images/ and coco/")
    return folder
