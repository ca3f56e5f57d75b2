"""Events on the watcher's own pod: few, counted where they repeat, and never in the way of the work."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from weights_sync.errors import FollowError
from weights_sync.log import log
from weights_sync.watch.cluster import Pod, connect, explain
from weights_sync.watch.news import News

_COMPONENT = "weights-sync"
_BURST = 20
_REFILL_S = 60.0
_REPEAT_S = 60.0
_FORGET_S = 3600.0
_TIMEOUT_S = 5.0
_MAX_MESSAGE = 1000


@dataclass(slots=True)
class Told:
    """An Event that is in the cluster."""

    name: str
    count: int
    first_s: float
    patched_s: float


@dataclass(slots=True)
class Events:
    """Writes what happens as Events of `pod`; without one, or where it may not, it does nothing more than say so once.

    The same news again is a count on the Event that there is, at most once a minute; new ones are at most 20 in a row
    and one a minute.
    """

    pod: Pod
    clock: Callable[[], float] = time.monotonic
    _told: dict[tuple[str, str], Told] = field(default_factory=dict)
    _tokens: float = _BURST
    _filled_s: float = 0
    _api: Any = None
    _silent: bool = False
    _complaint: str = ""

    def tell(self, news: News) -> None:
        """Write the news down, if it is time to."""
        if self._silent or not (self.pod.name and self.pod.namespace):
            return
        now = self.clock()
        self._told = {key: told for key, told in self._told.items() if now - told.first_s < _FORGET_S}
        told = self._told.get((news.reason, news.message))
        if told:
            told.count += 1
        if (now - told.patched_s < _REPEAT_S) if told else not self._take(now):
            return
        try:
            self._write(news, told, now)
        except FollowError as error:
            self._silent = True
            log("no events", because=str(error))
        except Exception as error:  # noqa: BLE001 - whatever the client, TLS or the network raise, the work goes on
            self._complain(error)

    def _take(self, now: float) -> bool:
        self._tokens = min(_BURST, self._tokens + (now - self._filled_s) / _REFILL_S)
        self._filled_s = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _write(self, news: News, told: Told | None, now: float) -> None:
        if self._api is None:
            client = connect()
            from kubernetes.client import CoreV1Api  # noqa: PLC0415 - an extra

            self._api = CoreV1Api(client)
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if told:
            change = {"count": told.count, "lastTimestamp": moment}
            self._api.patch_namespaced_event(told.name, self.pod.namespace, change, _request_timeout=_TIMEOUT_S)
            told.patched_s = now
            return
        name = f"{self.pod.name[:200]}.{secrets.token_hex(8)}"
        self._api.create_namespaced_event(
            self.pod.namespace, self._event(name, news, moment), _request_timeout=_TIMEOUT_S
        )
        self._told[news.reason, news.message] = Told(name, 1, now, now)

    def _event(self, name: str, news: News, moment: str) -> dict[str, Any]:
        pod = self.pod
        involved = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "namespace": pod.namespace}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": pod.namespace},
            "involvedObject": involved | ({"uid": pod.uid} if pod.uid else {}),
            "type": news.severity,
            "reason": news.reason,
            "message": news.message[:_MAX_MESSAGE],
            "source": {"component": _COMPONENT},
            "reportingComponent": _COMPONENT,
            "reportingInstance": pod.name,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }

    def _complain(self, error: Exception) -> None:
        complaint = explain(error)
        if complaint != self._complaint:
            log("no events", because=f"{complaint}; allow `create` and `patch` of events, or go on without them")
        self._complaint = complaint
