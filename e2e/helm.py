"""The project's chart on a cluster, installed as a user installs it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
CHART: Final = ROOT / "charts" / "yolo-kserve"

# The images of this clone, requests that let a suite's pods fit on one small node, and an orderly but quick end.
BASE: Final[Mapping[str, Any]] = {
    "images": {"registry": "localhost", "tag": "dev", "pullPolicy": "Never"},
    "runtimes": {"devices": ["cpu"]},
    "modelDefaults": {
        component: {
            "resources": {
                "requests": {"cpu": "50m", "memory": "192Mi"},
                "limits": {"cpu": "2", "memory": "1Gi"},
            }
        }
        for component in ("predictor", "transformer")
    },
    "drain": {"preStopSeconds": 5, "delaySeconds": 2, "graceSeconds": 20},
}


# A storage container that also fetches from a file server in the cluster, at a private address by plain HTTP.
IN_CLUSTER: Final[Mapping[str, Any]] = {
    "modelDefaults": {"storageContainerName": "yolo-weights-sync"},
    "storageContainer": {
        "prefixes": ["yolo://", "http://files."],
        "env": [{"name": f"WEIGHTS_SYNC_ALLOW_{what}", "value": "true"} for what in ("HTTP", "PRIVATE")],
    },
    "networkPolicy": {"weights": [{"to": [{"podSelector": {}}]}]},
}


@dataclass(slots=True)
class Release:
    """A release of the chart in a namespace; `version` is Helm's own, 3 or 4, `notes` what it printed last."""

    namespace: str
    name: str = "yolo"
    version: int = 4
    notes: str = ""

    def install(self, values: Mapping[str, Any], *arguments: str) -> None:
        """Install or upgrade."""
        merged = yaml.safe_dump(over(BASE, values))
        install = ("upgrade", "--install", self.name, str(CHART), "--values", "-")
        self.notes = self.helm(*install, *arguments, stdin=merged)

    def uninstall(self) -> None:
        """Take everything away that was installed, if it was; pods end some time later."""
        self.helm("uninstall", self.name, "--ignore-not-found")

    def helm(self, *arguments: str, stdin: str | None = None) -> str:
        """Return what Helm printed; what it says when it fails is the error's text."""
        program = "helm3" if self.version == 3 else "helm"
        command = [str(ROOT / ".ci" / "tools" / "run"), program, "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return one map of values laid over another, key by key."""
    result = dict(base)
    for key, value in values.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = over(result[key], value) if both else value
    return result
