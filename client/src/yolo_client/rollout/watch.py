"""One version's pods while they are watched: their metrics, their restarts, and connections to them."""

from __future__ import annotations

import time
from typing import Final

import httpx2

from yolo_client.client import Client, RequestFailed
from yolo_client.rollout.api import Api, PodTransport
from yolo_client.rollout.histogram import scrape_of
from yolo_client.rollout.pods import Pod, restarted
from yolo_client.rollout.services import Selector, pods_of
from yolo_client.rollout.traffic import METRIC, Traffic, Window
from yolo_client.rollout.verdict import Limits, hopeless

PORT: Final = 8080
# Transformers that keep results have it, from their start.
_CACHE_METRIC: Final = "yolo_cache_lookups_total"
_LONGEST_POLL_S: Final = 10.0
_POLLS: Final = 6  # a pod that goes away takes what it did since the last one with it


class Watch:
    """The pods of one version, from now on."""

    def __init__(self, api: Api, selector: Selector) -> None:
        self._api, self._selector = api, selector
        self._caches = False
        self._before = self._all()
        answering = self._pods(selector.answering)
        self._window = Window(pod.uid for pod in answering)
        self._scrape(answering)

    @property
    def traffic(self) -> Traffic:
        """What was answered up to the last look."""
        return self._window.traffic

    @property
    def caches(self) -> bool:
        """Whether clients may get results that were kept: then their times tell how often they do."""
        return self._caches

    def look(self) -> None:
        """Take in what the pods' metrics say now."""
        self._scrape(self._pods(self._selector.answering))

    def restarts(self) -> tuple[str, ...]:
        """Return one line for each container that began anew since the beginning."""
        return restarted(self._before, self._all())

    def clients(self, model: str) -> list[Client]:
        """Return a client for each pod that is ready, of `model`, or of the first model where that is not served."""
        ready = [pod for pod in self._pods(self._selector.answering) if pod.ready]
        return [self._client(pod, model if self._serves(pod, model) else "") for pod in ready]

    def _client(self, pod: Pod, model: str = "") -> Client:
        return Client(f"http://{pod.name}", model, transport=PodTransport(self._api, pod.name, PORT))

    def _serves(self, pod: Pod, model: str) -> bool:
        with self._client(pod) as client:
            try:
                return model in client.models()
            except RequestFailed:
                return True  # then it says itself what is wrong

    def _all(self) -> list[Pod]:
        labels = dict.fromkeys((self._selector.predicting, self._selector.answering))
        return [pod for each in labels for pod in self._pods(each)]

    def _pods(self, labels: str) -> list[Pod]:
        return pods_of(self._api, labels)

    def _scrape(self, pods: list[Pod]) -> None:
        for pod in pods:
            with httpx2.Client(transport=PodTransport(self._api, pod.name, PORT), base_url="http://pod") as http:
                try:
                    response = http.get("/metrics", headers={"accept": "text/plain"})
                except httpx2.HTTPError:
                    continue  # it is starting or leaving: the next look may find it, and its counts say what it missed
            if response.is_success:
                self._caches |= _CACHE_METRIC in response.text
                self._window.scraped(pod.uid, scrape_of(response.text, METRIC))


def watch(stable: Watch, canary: Watch, seconds: float, limits: Limits) -> str:
    """Look at both versions for a while; return why that ended early, or an empty text."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, _LONGEST_POLL_S, seconds / _POLLS))
        stable.look()
        canary.look()
        reason = hopeless(canary.traffic, limits)
        if reason:
            return reason
    return ""
