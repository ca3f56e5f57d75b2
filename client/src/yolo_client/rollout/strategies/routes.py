"""HTTPRoutes that divide traffic between two Services."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from yolo_client.rollout.api import ClusterFailed, Document
from yolo_client.rollout.services import replaced

# What a gateway says of a route, one for each gateway.
_VERDICTS: Final = frozenset({"Accepted", "ResolvedRefs"})


@dataclass(frozen=True, slots=True)
class Backends:
    """The Services of the stable version and of the canary."""

    stable: str
    canary: str


def percent_of(route: Document, backends: Backends) -> int:
    """Return the canary's share of the traffic, 0..100.

    Raises:
        ClusterFailed: no rule divides traffic, or rules differ.

    """
    shares = {_share(rule, backends) for rule in route["spec"].get("rules", []) if _divides(rule, backends)}
    if not shares:
        raise ClusterFailed(f"HTTPRoute {route['metadata']['name']} has no rule that leads to {backends.stable}")
    if len(shares) > 1:
        raise ClusterFailed(
            f"the rules of HTTPRoute {route['metadata']['name']} have different weights: make them equal"
        )
    return shares.pop()


def weighted(route: Document, backends: Backends, percent: int) -> Document:
    """Return the route whose rules give the canary this share.

    Rules that lead to one version by a header stay as they are.
    """
    rules = [
        _weighted_rule(rule, backends, percent) if _divides(rule, backends) else rule for rule in route["spec"]["rules"]
    ]
    return replaced(route, rules, "spec", "rules")


def without_canary(route: Document, backends: Backends) -> Document:
    """Return the route that leads to the stable version only; rules for the canary alone are gone."""
    rules = []
    for rule in route["spec"]["rules"]:
        kept = [ref for ref in rule.get("backendRefs", []) if ref["name"] != backends.canary]
        if _divides(rule, backends):
            kept = [{**ref, "weight": 1} if ref["name"] == backends.stable else ref for ref in kept]
        if kept or not rule.get("backendRefs"):
            rules.append({**rule, "backendRefs": kept} if kept else rule)
    return replaced(route, rules, "spec", "rules")


def is_followed(route: Document) -> bool:
    """Tell whether each gateway that said something of the route has said it of the route as it is now."""
    return all(_is_current(verdict, route) for verdict in _verdicts(route))


def refusal_of(route: Document) -> str:
    """Return why a gateway does not take the route as it is now, empty where none says so."""
    for verdict in _verdicts(route):
        if verdict["status"] == "False" and _is_current(verdict, route):
            return f"{verdict.get('reason', verdict['type'])}: {verdict.get('message') or 'no reason is given'}"
    return ""


def _verdicts(route: Document) -> Iterator[Document]:
    for parent in route.get("status", {}).get("parents", []):
        yield from (each for each in parent.get("conditions", []) if each["type"] in _VERDICTS)


def _is_current(verdict: Document, route: Document) -> bool:
    return bool(verdict.get("observedGeneration", 0) >= route["metadata"].get("generation", 0))


def _divides(rule: Document, backends: Backends) -> bool:
    # A rule with a header and one of the two alone is a client's own choice of a version.
    names = {ref["name"] for ref in rule.get("backendRefs", [])}
    chosen = any(match.get("headers") for match in rule.get("matches", []))
    return backends.stable in names and (backends.canary in names or not chosen)


def _share(rule: Document, backends: Backends) -> int:
    # The Gateway API's default weight is 1.
    weights = {ref["name"]: ref.get("weight", 1) for ref in rule["backendRefs"]}
    stable, canary = weights[backends.stable], weights.get(backends.canary, 0)
    return round(100 * canary / (stable + canary)) if stable + canary else 0


def _weighted_rule(rule: Document, backends: Backends, percent: int) -> Document:
    refs = {ref["name"]: ref for ref in rule["backendRefs"]}
    if not percent and backends.canary not in refs:
        return rule
    refs.setdefault(backends.canary, {**refs[backends.stable], "name": backends.canary})
    refs[backends.stable] = {**refs[backends.stable], "weight": 100 - percent}
    refs[backends.canary] = {**refs[backends.canary], "weight": percent}
    return {**rule, "backendRefs": list(refs.values())}
