"""What a watcher has to say: a line of JSON in its log, an Event on its pod."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, Self

Kind = Literal["pulled", "serving", "held", "refused", "rolled back", "failed"]

_EVENTS: Final = MappingProxyType(
    {
        "pulled": ("Normal", "WeightsPulled", "Placed {digest} from {source}"),
        "serving": ("Normal", "WeightsServing", "Model '{model}' serves {digest}"),
        "held": ("Warning", "WeightsHeldBack", "{digest} waits until the predictor is there: {because}"),
        "refused": ("Warning", "WeightsLoadFailed", "{digest} is not tried again until the source changes: {because}"),
        "rolled back": ("Warning", "WeightsRolledBack", "Back to {digest}: {because}"),
        "failed": ("Warning", "WeightsSyncFailed", "{because}"),
    }
)


@dataclass(frozen=True, slots=True)
class News:
    """Something that happened; `facts` hold no secrets."""

    kind: Kind
    facts: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, kind: Kind, **facts: str) -> Self:
        """Return the news, each fact on one line."""
        return cls(kind, tuple((name, " ".join(value.split())) for name, value in facts.items()))

    @property
    def severity(self) -> str:
        """`Normal` or `Warning`, as Kubernetes types its Events."""
        return _EVENTS[self.kind][0]

    @property
    def reason(self) -> str:
        """What Kubernetes calls it."""
        return _EVENTS[self.kind][1]

    @property
    def message(self) -> str:
        """It as a sentence."""
        return _EVENTS[self.kind][2].format_map(dict(self.facts))
