"""Writes JSON schemas of the kinds that the chart makes, for kubeconform: `make.py DIRECTORY`.

They come from the projects' own Go modules, at the versions in go.mod: the CRDs of KServe, the Gateway API and the
Prometheus operator, and Kubernetes's OpenAPI document. Unlike an API server, they refuse fields they do not know.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as Loader
except ImportError:
    from yaml import SafeLoader as Loader  # type: ignore[assignment] # the same, slower

HERE = Path(__file__).parent
CRDS = {
    "github.com/kserve/kserve": ["test/crds/serving.kserve.io_all_crds.yaml", "test/crds/gatewayapi_httproute.yaml"],
    "github.com/prometheus-operator/prometheus-operator": [
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
}
KUBERNETES = "k8s.io/kubernetes"
KINDS = {"ConfigMap", "NetworkPolicy", "Pod", "PodDisruptionBudget", "Service", "ServiceAccount"}


def main(directory: Path) -> None:
    """Write every schema as `directory/GROUP/KIND_VERSION.json`."""
    folders = module_folders([*CRDS, KUBERNETES])
    for module, files in CRDS.items():
        for file in files:
            for name, schema in custom_schemas(folders[module] / file):
                write(directory / name, schema)
    for name, schema in kubernetes_schemas(folders[KUBERNETES] / "api/openapi-spec/swagger.json"):
        write(directory / name, schema)


def module_folders(modules: list[str]) -> dict[str, Path]:
    """Return where the Go modules lie, fetched and checked against go.sum."""
    command = ["go", "mod", "download", "-json", *modules]
    output = subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True).stdout  # noqa: S603 (Go, with words of ours)
    decoder, found, at = json.JSONDecoder(), {}, 0
    while at < len(output.rstrip()):
        module, at = decoder.raw_decode(output, at)
        found[module["Path"]] = Path(module["Dir"])
        at += 1
    return found


def custom_schemas(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and schema of every version of the CRDs in a file."""
    for crd in yaml.load_all(file.read_text(encoding="utf-8"), Loader):
        if crd and crd["kind"] == "CustomResourceDefinition":
            spec = crd["spec"]
            for version in spec["versions"]:
                name = f"{spec['group']}/{spec['names']['kind'].lower()}_{version['name']}.json"
                yield name, closed(version["schema"]["openAPIV3Schema"], root=True)


def kubernetes_schemas(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and schema of Kubernetes's own kinds, in each of their versions."""
    definitions = {name: closed(schema) for name, schema in json.loads(file.read_bytes())["definitions"].items()}
    for definition in definitions.values():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            if kind["kind"] in KINDS:
                name = f"{kind['group'] or kind['version']}/{kind['kind'].lower()}_{kind['version']}.json"
                yield name, {**definition, "definitions": definitions}


def closed(schema: Any, *, root: bool = False) -> Any:
    """Return an OpenAPI schema as a JSON schema that refuses unknown fields."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    result = {
        key: closed(value) for key, value in schema.items() if key not in {"description", "default", "properties"}
    }
    if isinstance(schema.get("properties"), dict):
        result["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        if root:
            result["properties"]["metadata"] = {"type": "object"}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    return result


def write(file: Path, schema: dict[str, Any]) -> None:
    """Write a schema as a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(schema), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
