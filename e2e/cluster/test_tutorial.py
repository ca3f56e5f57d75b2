"""The tutorial's commands, typed as they stand into the shell that it opens, do what it says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from helm import ROOT, Release

TUTORIAL = ROOT / "docs" / "tutorials" / "cluster.md"
NAMESPACE = "vision"
OPENS, CLOSES = "e2e/cluster/run bash", "e2e/cluster/down"


def commands() -> list[str]:
    """Return the tutorial's blocks for the shell that it opens, and closes before the cluster goes."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    lines = [block.strip() for block in blocks]
    return lines[lines.index(OPENS) + 1 : lines.index(CLOSES)]


@pytest.fixture
def cleared() -> Iterator[None]:
    """Leave nothing of the tutorial behind where it ends early."""
    yield
    Release(NAMESPACE).uninstall()
    delete = ["kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false"]
    subprocess.run(delete, check=True)


@pytest.mark.timeout(900)
def test_the_tutorial_holds_word_for_word(cleared) -> None:
    shell = ["bash", "-c", "\n".join(["set -euo pipefail; exec 2>&1", *commands()])]
    done = subprocess.run(shell, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True, timeout=850)
    assert done.returncode == 0, done.stdout
    for said in ('["circle",', "rolled back", "promoted", "\nyolo://shapes#sha256="):
        assert said in done.stdout, done.stdout
    assert (ROOT / "out" / "tutorial" / "annotated.jpg").read_bytes().startswith(b"\xff\xd8")
