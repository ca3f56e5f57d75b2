"""One inference, whatever protocol it came by: the request, its context, and the response."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy.typing as npt

from servekit.errors import DeadlineExceeded, InvalidRequest
from servekit.tensors import Tensor

Parameter: TypeAlias = bool | int | float | str
Parameters: TypeAlias = Mapping[str, Parameter]


@dataclass(slots=True)
class RequestContext:
    """What travels with a request beside its tensors.

    `deadline` is a `time.monotonic()` instant; `trace` holds the W3C and B3 trace headers to pass on;
    `durations_ns` fills up as the request goes through its stages.
    """

    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    deadline: float | None = None
    trace: tuple[tuple[str, str], ...] = ()
    durations_ns: dict[str, int] = field(default_factory=dict)

    def remaining_s(self) -> float | None:
        """Return the seconds left, or None when the request has no deadline.

        Raises:
            DeadlineExceeded: none are left.

        """
        if self.deadline is None:
            return None
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise DeadlineExceeded("the request's time limit passed before it was answered")
        return remaining

    def limit(self, timeout_s: float) -> None:
        """Bring the deadline forward to at most `timeout_s` seconds from now."""
        deadline = time.monotonic() + timeout_s
        self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """Tensors for a model; `outputs` names the wanted ones, all when empty."""

    model_name: str
    inputs: tuple[Tensor, ...]
    context: RequestContext
    id: str = ""
    model_version: str = ""
    parameters: Parameters = field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def input(self, name: str) -> npt.NDArray[Any] | None:
        """Return the array of the input called `name`, or None."""
        for tensor in self.inputs:
            if tensor.name == name:
                return tensor.array
        return None


@dataclass(frozen=True, slots=True)
class InferenceResponse:
    """What a model answers; the data plane echoes the id and picks the wanted outputs."""

    model_name: str
    outputs: tuple[Tensor, ...]
    id: str = ""
    model_version: str = ""
    parameters: Parameters = field(default_factory=dict)


def check_unique(kind: str, names: Iterable[str]) -> None:
    """Refuse the names of a request's `kind` of tensors when one is given twice.

    Raises:
        InvalidRequest: it is.

    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidRequest(f"two {kind} have the same name: '{name}'")
        seen.add(name)


def wanted_outputs(response: InferenceResponse, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """Return the outputs called `names`, in that order; all of them when `names` is empty.

    Raises:
        InvalidRequest: the model gave no output of such a name.

    """
    if not names:
        return response.outputs
    by_name = {tensor.name: tensor for tensor in response.outputs}
    for name in names:
        if name not in by_name:
            raise InvalidRequest(
                f"model '{response.model_name}' has no output '{name}' here: it has {', '.join(by_name)}"
            )
    return tuple(by_name[name] for name in names)
