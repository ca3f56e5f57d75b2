"""Writes the Grafana dashboard from the list of its panels; `make generate` runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SELECTED = 'namespace=~"$namespace",isvc=~"$isvc"'
PODS = 'namespace=~"$namespace",pod=~"($isvc)-(predictor|transformer)-.+"'
CONTAINERS = 'container=~"kserve-container|transformer-container"'
CALLS = f'server="transformer",{SELECTED},call=~"infer|predict|detect|segment"'
FAILED = ',code=~"5..|UNAVAILABLE|INTERNAL|UNKNOWN|DEADLINE_EXCEEDED"'
REJECTED = ',code=~"429|RESOURCE_EXHAUSTED"'
WINDOW = "[$__rate_interval]"


def requests(more: str = "") -> str:
    """Return the query for requests per second, by service and version."""
    return f"sum by (isvc, track) (rate(yolo_request_seconds_count{{{CALLS}{more}}}{WINDOW}))"


def quantile(share: float) -> str:
    """Return the query for a quantile of the requests' times."""
    return f"histogram_quantile({share}, sum by (isvc, le) (rate(yolo_request_seconds_bucket{{{CALLS}}}{WINDOW})))"


def stages(server: str) -> str:
    """Return the query for the mean time of each of a server's stages."""
    selected = f'{{server="{server}",{SELECTED}}}{WINDOW}'
    total, count = f"rate(yolo_stage_seconds_sum{selected})", f"rate(yolo_stage_seconds_count{selected})"
    return f"sum by (isvc, stage) ({total}) / sum by (isvc, stage) ({count})"


# By row: title, unit, and queries by legend.
ROWS: dict[str, list[tuple[str, str, dict[str, str]]]] = {
    "What clients see": [
        ("Requests", "reqps", {"{{isvc}} {{track}}": requests()}),
        (
            "Failed and turned away",
            "percentunit",
            {
                "{{isvc}} {{track}} failed": f"{requests(FAILED)} / {requests()}",
                "{{isvc}} {{track}} turned away": f"{requests(REJECTED)} / {requests()}",
            },
        ),
        ("Time of a request", "s", {f"{{{{isvc}}}} p{share * 100:g}": quantile(share) for share in (0.5, 0.95, 0.99)}),
    ],
    "Where the time goes": [
        ("Stages in the transformer", "s", {"{{isvc}} {{stage}}": stages("transformer")}),
        ("Stages in the predictor", "s", {"{{isvc}} {{stage}}": stages("predictor")}),
        (
            "Requests in progress",
            "short",
            {"{{isvc}} {{server}}": f"sum by (isvc, server) (yolo_requests_in_flight{{{SELECTED}}})"},
        ),
    ],
    "Pods": [
        (
            "Servers with a model loaded",
            "short",
            {"{{isvc}} {{server}}": f"count by (isvc, server) (yolo_models_loaded{{{SELECTED}}} > 0)"},
        ),
        (
            "CPUs in use",
            "short",
            {"{{pod}} {{server}}": f"rate(process_cpu_seconds_total{{{SELECTED}}}{WINDOW})"},
        ),
        (
            "Memory",
            "bytes",
            {
                "{{pod}} {{server}}": f"process_resident_memory_bytes{{{SELECTED}}}",
                "{{pod}} {{container}} limit": "max by (pod, container) (kube_pod_container_resource_limits"
                f'{{resource="memory",{CONTAINERS},{PODS}}})',
            },
        ),
    ],
}


def main() -> None:
    """Write the dashboard beside this file."""
    panels: list[dict[str, Any]] = []
    height, width = 8, 8
    for row, (title, graphs) in enumerate(ROWS.items()):
        top = row * (height + 1)
        panels.append({"type": "row", "id": len(panels) + 1, "title": title, "gridPos": place(0, top, 24, 1)})
        for column, graph in enumerate(graphs):
            position = place(column * width, top + 1, width, height)
            panels.append(panel(len(panels) + 1, position, *graph))
    file = Path(__file__).with_name("yolo-kserve.json")
    file.write_text(json.dumps(dashboard(panels), indent=2) + "\n", encoding="utf-8")


def place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    """Return a panel's place on the grid, 24 columns wide."""
    return {"x": x, "y": y, "w": width, "h": height}


def panel(number: int, position: dict[str, int], title: str, unit: str, queries: dict[str, str]) -> dict[str, Any]:
    """Return one graph over time."""
    return {
        "type": "timeseries",
        "id": number,
        "title": title,
        "gridPos": position,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {"refId": chr(ord("A") + index), "legendFormat": legend, "expr": query}
            for index, (legend, query) in enumerate(queries.items())
        ],
    }


def dashboard(panels: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the whole document, as Grafana imports it."""
    return {
        "uid": "yolo-kserve",
        "title": "yolo-kserve",
        "tags": ["yolo-kserve"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"},
                choice("namespace", "Namespace", "label_values(yolo_models_loaded, namespace)"),
                choice("isvc", "Service", 'label_values(yolo_models_loaded{namespace=~"$namespace"}, isvc)'),
            ]
        },
        "panels": panels,
    }


def choice(name: str, label: str, query: str) -> dict[str, Any]:
    """Return a variable that a person picks values of."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    main()
