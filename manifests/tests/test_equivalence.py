"""The kustomizations make what the chart makes, and the samples say nothing else than the chart does.

Run by `make chart`: they need Helm and kustomize, which are built from Go modules.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFESTS = Path(__file__).resolve().parents[1]
ROOT = MANIFESTS.parent
NAMESPACE = "default"
SHAPES = {"storageUri": "yolo://shapes"}
YOLOX = {"enabled": True, "storageUri": "yolo://yolox-nano"}
COLLOCATED = {**SHAPES, "topology": "collocated"}
NO_MODELS = {"runtimes": {"devices": ["cpu"]}}
# Kustomize and kubectl have ways of their own to say these.
HELMS = {"helm.sh/chart", *(f"app.kubernetes.io/{what}" for what in ("managed-by", "instance", "version"))}


def tool(*command: str, stdin: str | None = None) -> list[dict[str, Any]]:
    run = str(ROOT / ".ci" / "tools" / "run")
    done = subprocess.run([run, *command], cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def by_helm(values: dict[str, Any]) -> dict[str, Any]:
    command = ("helm", "template", "yolo-kserve", "charts/yolo-kserve", "--namespace", NAMESPACE, "--skip-tests")
    objects = tool(*command, "--set", "checkPrerequisites=false", "--values", "-", stdin=json.dumps(values))
    return by_name(objects)


def by_kustomize(folder: Path) -> dict[str, Any]:
    return by_name(tool("kustomize", "build", str(folder)))


def by_name(objects: list[dict[str, Any]]) -> dict[str, Any]:
    for each in objects:
        each["metadata"].pop("namespace", None)
    named = {f"{each['kind']}/{each['metadata']['name']}": without_helms(each) for each in objects}
    assert len(named) == len(objects)
    return named


def without_helms(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_helms(each) for key, each in value.items() if key not in HELMS}
    return [without_helms(each) for each in value] if isinstance(value, list) else value


def test_the_overlay_for_cpus_is_the_chart_without_models() -> None:
    assert by_kustomize(MANIFESTS / "overlays" / "cpu") == by_helm(NO_MODELS)


def test_the_overlay_for_gpus_is_the_chart_without_models_for_both_devices() -> None:
    assert by_kustomize(MANIFESTS / "overlays" / "gpu") == by_helm({})


def test_images_in_an_overlay_reach_what_the_charts_values_reach(tmp_path) -> None:
    copy = shutil.copytree(MANIFESTS, tmp_path / "manifests")
    for overlay in (copy / "overlays").rglob("kustomization.yaml"):
        content = yaml.safe_load(overlay.read_text())
        for image in content.get("images", []):
            image["newName"] = image["name"].replace("ghcr.io", "registry.example.org/vision")
            image["newTag"] = image["newTag"].replace("0.1.0", "1.2.3")
        overlay.write_text(yaml.safe_dump(content))
    values = {"images": {"registry": "registry.example.org/vision", "tag": "1.2.3"}}
    assert by_kustomize(copy / "overlays" / "gpu") == by_helm(values)


SWITCHES = {
    "gpu-runtimes": {"runtimes": {"devices": ["cpu", "gpu"]}},
    "knative-runtimes": {"runtimes": {"devices": ["cpu"], "modes": ["Standard", "Knative"]}},
    "pod-monitor": {**NO_MODELS, "monitoring": {"podMonitor": {"enabled": True}}},
    "alerts": {**NO_MODELS, "monitoring": {"rules": {"enabled": True, "allNamespaces": True}}},
    "dashboard": {**NO_MODELS, "monitoring": {"dashboard": {"enabled": True}}},
}


def kustomization(folder: Path, **content: list[str]) -> Path:
    """Write a kustomization in a copy of the manifests, for kustomize takes no path from outside; return its folder."""
    mine = shutil.copytree(MANIFESTS, folder / "manifests").parent / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return mine


@pytest.mark.parametrize("component", SWITCHES)
def test_a_component_is_a_switch_of_the_chart(component, tmp_path) -> None:
    mine = kustomization(tmp_path, resources=["../manifests/base"], components=[f"../manifests/components/{component}"])
    assert by_kustomize(mine) == by_helm(SWITCHES[component])


def test_runtimes_for_gpus_in_knative_mode_are_the_charts(tmp_path) -> None:
    names = ("gpu-runtimes", "knative-runtimes", "knative-gpu-runtimes")
    components = [f"../manifests/components/{name}" for name in names]
    mine = kustomization(tmp_path, resources=["../manifests/base"], components=components)
    assert by_kustomize(mine) == by_helm({"runtimes": {"modes": ["Standard", "Knative"]}})


@pytest.mark.parametrize(
    ("topology", "components"),
    [
        ("split", ["route", "network-policies", "disruption-budgets"]),
        ("collocated", ["route-collocated", "network-policies-collocated", "disruption-budgets-collocated"]),
    ],
)
def test_the_components_of_a_model_take_its_name_and_are_the_charts(topology, components, tmp_path) -> None:
    mine = kustomization(
        tmp_path, resources=["model.yaml"], components=[f"../manifests/components/{name}" for name in components]
    )
    sample = (MANIFESTS / "samples" / f"{topology}.yaml").read_text()
    (mine / "model.yaml").write_text(sample.replace("shapes", "yolox-nano"))
    made = by_kustomize(mine)
    charts = by_helm({"models": {"yolox-nano": {"storageUri": "yolo://yolox-nano", "topology": topology}}})
    kinds = {"HTTPRoute", "NetworkPolicy", "PodDisruptionBudget"}

    def of_kinds(objects: dict[str, Any]) -> dict[str, Any]:
        return {name: each for name, each in objects.items() if each["kind"] in kinds}

    assert of_kinds(made) == of_kinds(charts)
    assert len(of_kinds(made)) == (7 if topology == "split" else 4)


def test_the_readmes_kustomization_of_a_model_works(tmp_path) -> None:
    text = (MANIFESTS / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    mine = kustomization(tmp_path)
    (mine / "kustomization.yaml").write_text(text)
    shutil.copy(MANIFESTS / "samples" / "split.yaml", mine)
    made = by_kustomize(mine)
    assert made["HTTPRoute/shapes-route"]["spec"]["hostnames"] == ["shapes.vision.example.org"]
    assert len(made) == 9


SAMPLES: dict[str, dict[str, Any]] = {
    "shapes": {"models": {"shapes": COLLOCATED}},
    "split": {"models": {"shapes": SHAPES}},
    "collocated": {"models": {"shapes": COLLOCATED}},
    "gpu": {"models": {"shapes": {**SHAPES, "device": "gpu"}}},
    "canary-split": {"models": {"shapes": {**SHAPES, "canary": YOLOX}}},
    "canary-collocated": {"models": {"shapes": {**COLLOCATED, "canary": YOLOX}}},
    "knative": {"models": {"shapes": {**COLLOCATED, "mode": "Knative", "predictor": {"minReplicas": 0}}}},
    "keda": {
        "models": {"shapes": {**COLLOCATED, "predictor": {"autoscaling": {"class": "keda"}}}},
        "monitoring": {"prometheusUrl": "http://prometheus-operated.monitoring:9090"},
    },
    "weights-https": {
        "models": {
            "street": {
                **COLLOCATED,
                "storageUri": f"https://models.example.org/street.onnx#sha256={'0123456789abcdef' * 4}",
                "storageContainerName": "yolo-weights-sync",
            }
        },
        "storageContainer": {"prefixes": ["yolo://", "https://models.example.org/"]},
    },
}
# What the chart has no values for.
OTHER_SAMPLES = {"custom-container", "weights-signed"}


def sample(name: str) -> dict[str, Any]:
    return by_name(list(yaml.safe_load_all((MANIFESTS / "samples" / f"{name}.yaml").read_text())))


def test_every_sample_is_known_here() -> None:
    assert {file.stem for file in (MANIFESTS / "samples").glob("*.yaml")} == {*SAMPLES, *OTHER_SAMPLES}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_says_what_the_chart_says_only_shorter(name) -> None:
    charts = by_helm(SAMPLES[name])
    for object_name, said in sample(name).items():
        assert list(contradictions(said, charts[object_name], object_name)) == []


@pytest.mark.parametrize("name", OTHER_SAMPLES)
def test_other_samples_have_the_charts_images(name) -> None:
    def images(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["image"]} if "image" in value else set()
            return own.union(*(images(each) for each in value.values()))
        return set().union(*(images(each) for each in value)) if isinstance(value, list) else set()

    # The one that reads signatures is not published: people build it.
    own = {image for image in images(sample(name)) if not image.endswith("-signing")}
    assert own <= images(by_helm(NO_MODELS))


def contradictions(said: Any, charts: Any, where: str) -> list[str]:
    """Return what `said` has that the chart's object has not: elements of lists by their name, if they have one."""
    if isinstance(said, dict) and isinstance(charts, dict):
        return [
            line for key, value in said.items() for line in contradictions(value, charts.get(key), f"{where}.{key}")
        ]
    if isinstance(said, list) and isinstance(charts, list):
        if all(isinstance(each, dict) and "name" in each for each in said):
            named = {each["name"]: each for each in charts}
            pairs = [(each, named.get(each["name"])) for each in said]
        elif all(isinstance(each, str) for each in said):
            # In the samples a name is short, so that they work in any namespace.
            texts = [each.replace(f".{NAMESPACE}.svc.cluster.local", "") for each in charts]
            pairs = [(each, each if each in texts else None) for each in said]
        else:
            pairs = list(zip(said, charts, strict=True))
        return [line for one, other in pairs for line in contradictions(one, other, f"{where}[]")]
    return [] if said == charts else [f"{where}: {said!r}, and the chart has {charts!r}"]
