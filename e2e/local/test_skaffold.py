"""skaffold.yaml fits Skaffold's own schema, and names files and images that are there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT.parent / "shared" / "conformance" / "skaffold-v4beta14.schema.json"
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
CHART_VALUES: dict[str, Any] = yaml.safe_load((ROOT / "charts" / "yolo-kserve" / "values.yaml").read_text())


@pytest.fixture(scope="module")
def validator() -> jsonschema_rs.Validator:
    file = Path(os.environ.get("SKAFFOLD_SCHEMA", SCHEMA))
    if not file.is_file():
        pytest.skip(f"no schema of Skaffold's at {file}: SKAFFOLD_SCHEMA names it")
    return jsonschema_rs.validator_for(json.loads(file.read_text()))


def test_it_fits_the_schema(validator) -> None:
    assert CONFIG["apiVersion"] == "skaffold/v4beta14"
    assert [error.message for error in validator.iter_errors(CONFIG)] == []


def test_the_schema_refuses_what_skaffold_does_not_know(validator) -> None:
    assert not validator.is_valid({**CONFIG, "artifacts": []})


def test_each_image_has_its_dockerfile_and_build_arguments_that_it_takes() -> None:
    for artifact in CONFIG["build"]["artifacts"]:
        dockerfile = ROOT / artifact["context"] / artifact["docker"]["dockerfile"]
        text = dockerfile.read_text()
        for argument in artifact["docker"].get("buildArgs", {}):
            assert f"\nARG {argument}=" in text


def test_the_images_are_those_of_the_charts_values() -> None:
    images = CHART_VALUES["images"]
    charts = {f"{images['registry']}/{images[name]}" for name in ("predictor", "transformer", "weightsSync")}
    assert {artifact["image"] for artifact in CONFIG["build"]["artifacts"]} == charts


def test_what_it_deploys_is_there() -> None:
    kustomize = next(profile for profile in CONFIG["profiles"] if profile["name"] == "kustomize")["manifests"]
    (release,) = CONFIG["deploy"]["helm"]["releases"]
    paths = [release["chartPath"], *kustomize["kustomize"]["paths"], *kustomize["rawYaml"]]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_patches_of_profiles_find_what_they_change() -> None:
    for profile in CONFIG["profiles"]:
        for patch in profile.get("patches", []):
            found: Any = CONFIG
            *parents, last = patch["path"].strip("/").split("/")
            for step in parents:
                found = found[int(step)] if isinstance(found, list) else found[step]
            assert patch["op"] == "add" or last in found, patch["path"]
