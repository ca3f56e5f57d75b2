"""An API server with KServe's webhooks takes every sample and overlay; nothing is made of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helm import ROOT

MANIFESTS = ROOT / "manifests"
DRY_RUN = ("apply", "--server-side", "--dry-run=server", "-f", "-")


@pytest.mark.parametrize("sample", sorted((MANIFESTS / "samples").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_sample_is_accepted(sample: Path, namespace) -> None:
    done = namespace.kubectl(*DRY_RUN, stdin=sample.read_text())
    assert done.count("serverside-applied (server dry run)") == sample.read_text().count("\nkind:")


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_an_overlay_is_accepted(overlay: str, namespace) -> None:
    build = [str(ROOT / ".ci" / "tools" / "run"), "kustomize", "build", str(MANIFESTS / "overlays" / overlay)]
    made = subprocess.run(build, check=True, capture_output=True, text=True, timeout=900).stdout
    assert "clusterservingruntime" in namespace.kubectl(*DRY_RUN, stdin=made)
