"""Writes what base and components install, from the chart: what Helm makes of it, less what is Helm's own.

The kustomizations beside these files are written by hand; manifests/tests shows that they make what the chart makes.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent

# Whose release an object is of, and what the namespace is: kustomize and kubectl have ways of their own to say it.
HELMS: Final = re.compile(
    r"^( *(app\.kubernetes\.io/(instance|managed-by|version)|helm\.sh/chart):|  namespace: default$|# Source: ).*\n",
    re.MULTILINE,
)
HEADER: Final = "# Made from the chart by manifests/generate.py: make generate\n"
# Which namespace a kustomization is for is not known here.
ALERTS: Final = {"enabled": True, "allNamespaces": True}


@dataclass(frozen=True, slots=True)
class Piece:
    """One file: what a template of the chart makes with values."""

    file: str
    template: str
    values: Mapping[str, Any]


def runtimes(device: str, mode: str) -> dict[str, Any]:
    """Return values that make the runtimes of one device and mode, and no others; KServe chooses the base's."""
    others = {} if (device, mode) == ("cpu", "Standard") else {"autoSelect": ""}
    return {"runtimes": {"devices": [device], "modes": [mode], **others}}


def model(topology: str) -> dict[str, Any]:
    """Return values for one model, whose name the components replace."""
    return {"models": {"model": {"storageUri": "yolo://shapes", "topology": topology}}}


def pieces() -> list[Piece]:
    """Return every file that is generated."""
    found = [
        Piece("base/service-account.yaml", "serviceaccount", {}),
        Piece("base/storage-container.yaml", "storagecontainer", {}),
        Piece("base/runtimes.yaml", "servingruntimes", runtimes("cpu", "Standard")),
        Piece("components/gpu-runtimes/runtimes.yaml", "servingruntimes", runtimes("gpu", "Standard")),
        Piece("components/knative-runtimes/runtimes.yaml", "servingruntimes", runtimes("cpu", "Knative")),
        Piece("components/knative-gpu-runtimes/runtimes.yaml", "servingruntimes", runtimes("gpu", "Knative")),
        Piece(
            "components/pod-monitor/pod-monitor.yaml", "podmonitor", {"monitoring": {"podMonitor": {"enabled": True}}}
        ),
        Piece("components/alerts/rules.yaml", "prometheusrules", {"monitoring": {"rules": ALERTS}}),
        Piece("components/dashboard/dashboard.yaml", "dashboard", {"monitoring": {"dashboard": {"enabled": True}}}),
    ]
    for topology, suffix in {"split": "", "collocated": "-collocated"}.items():
        for name, template in {
            "route": "httproutes",
            "network-policies": "networkpolicies",
            "disruption-budgets": "poddisruptionbudgets",
        }.items():
            found.append(Piece(f"components/{name}{suffix}/{name}.yaml", template, model(topology)))
    return found


def rendered(piece: Piece) -> str:
    """Return the text of a file."""
    command = [
        *(str(ROOT / ".ci" / "tools" / "run"), "helm", "template", "yolo-kserve", "charts/yolo-kserve"),
        *("--set", "checkPrerequisites=false", "--show-only", f"templates/{piece.template}.yaml", "--values", "-"),
    ]
    values = json.dumps(piece.values)
    made = subprocess.run(command, cwd=ROOT, check=True, input=values, capture_output=True, text=True)  # noqa: S603 (Helm, with words of ours)
    text = HELMS.sub("", made.stdout)
    return HEADER + re.sub(r"\n{2,}(?=---|\Z)", "\n", text)


if __name__ == "__main__":
    for piece in pieces():
        (HERE / piece.file).write_text(rendered(piece), encoding="utf-8")
