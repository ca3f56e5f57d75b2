"""An API server with KServe's webhooks takes every sample and overlay."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helm import ROOT

MANIFESTS = ROOT / "manifests"


@pytest.mark.parametrize("sample", sorted((MANIFESTS / "samples").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_sample_is_taken_and_given_back(sample: Path, namespace) -> None:
    objects = sample.read_text()
    done = namespace.kubectl("apply", "--server-side", "-f", "-", stdin=objects)
    assert done.count(" serverside-applied\n") == objects.count("\nkind:")
    namespace.kubectl("delete", "-f", "-", stdin=objects)


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_an_overlay_is_accepted(overlay: str, namespace) -> None:
    build = [str(ROOT / ".ci" / "tools" / "run"), "kustomize", "build", str(MANIFESTS / "overlays" / overlay)]
    made = subprocess.run(build, check=True, capture_output=True, text=True, timeout=900).stdout
    taken = namespace.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=made)
    assert "clusterservingruntime" in taken
