"""Clients of a model behind the cluster's gateway: by REST and by gRPC, one request or a crowd."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

import grpc
import httpx2

from servekit.inference import InferenceRequest, InferenceResponse, RequestContext
from servekit.rpc.codec import decode_response, encode_request
from servekit.rpc.messages import SERVICE
from servekit.tensors import Tensor, bytes_array
from yolo_client.client import Client
from yolo_client.demo import generated_samples, mistakes

MIN_SCORE = 0.4


class Through(httpx2.HTTPTransport):
    """A transport that has requests for any host go to one address, as a DNS entry for the host would."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._host, _, self._port = address.rpartition(":")

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer of the address, asked for the request's host."""
        request.url = request.url.copy_with(host=self._host, port=int(self._port))
        return super().handle_request(request)


@dataclass(frozen=True)
class Served:
    """A model at a host behind the gateway at `address` (host:port)."""

    address: str
    host: str
    model: str

    def rest(self) -> Client:
        """Return the project's own client."""
        return Client(f"http://{self.host}", self.model, transport=Through(self.address))

    def mistakes_by_rest(self) -> list[str]:
        """Return what the model gets wrong of pictures whose contents are known."""
        with self.rest() as client:
            answers = [
                (sample.scene, client.detect(sample.data, confidence_threshold=MIN_SCORE))
                for sample in generated_samples()
            ]
        return [wrong for scene, answer in answers for wrong in mistakes(scene, answer)]

    def channel(self, host: str = "") -> grpc.Channel:
        """Return a gRPC connection to the gateway for the model's host."""
        return grpc.insecure_channel(self.address, (("grpc.default_authority", host or self.host),))

    def infer(self, channel: grpc.Channel, picture: bytes, headers: Mapping[str, str]) -> InferenceResponse:
        """Return the answer to one picture over a connection, with every detection from `MIN_SCORE` on."""
        request = InferenceRequest(
            self.model,
            (Tensor("image", bytes_array([picture])),),
            RequestContext(),
            parameters={"confidence_threshold": str(MIN_SCORE)},
        )
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        return decode_response(call(encode_request(request), timeout=60, metadata=tuple(headers.items())))

    def by_grpc(self, picture: bytes, host: str = "", headers: Mapping[str, str] | None = None) -> InferenceResponse:
        """Return the answer to one picture over a connection of its own, as `infer` does."""
        with self.channel(host) as channel:
            return self.infer(channel, picture, headers or {})


@dataclass
class Crowd:
    """`users` by REST and `callers` by gRPC that ask for the same picture without pause while a `with` block lasts.

    `answers` counts the HTTP statuses that a client sees who asks again `retries` times, with 0 for a connection that
    failed and for a call that did; `digests` counts the weights that answered, and `named` has all that each of them
    called what it found.
    """

    served: Served
    users: int = 2
    callers: int = 0
    retries: int = 0
    pause_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    picture: bytes = field(default_factory=lambda: generated_samples()[0].data)
    answers: Counter[int] = field(default_factory=Counter)
    digests: Counter[str] = field(default_factory=Counter)
    named: defaultdict[str, set[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(set))
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        asking = [self._ask] * self.users + [self._call] * self.callers
        self._threads = [threading.Thread(target=each) for each in asking]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, requests: int, seconds: float = 300) -> None:
        """Return when so many more have been answered."""
        wanted, end = self.answers.total() + requests, time.monotonic() + seconds
        while self.answers.total() < wanted:
            assert time.monotonic() < end, f"{self.answers} after {seconds:.0f} s"
            time.sleep(0.1)

    def _ask(self) -> None:
        host = f"http://{self.served.host}"
        with httpx2.Client(base_url=host, transport=Through(self.served.address), timeout=60) as client:
            while not self._stop.wait(self.pause_s):
                self.answers[self._attempts(lambda: self._once(client))] += 1

    def _call(self) -> None:
        with self.served.channel() as channel:
            while not self._stop.wait(self.pause_s):
                self.answers[self._attempts(lambda: self._called(channel))] += 1

    def _attempts(self, once: Callable[[], int]) -> int:
        status = once()
        for _ in range(self.retries):
            if status in {200, 400}:
                break
            status = once()
        return status

    def _once(self, client: httpx2.Client) -> int:
        try:
            answer = client.post(
                f"/v2/models/{self.served.model}/infer", json=_json_of(self.picture), headers=self.headers
            )
        except httpx2.HTTPError as error:
            self.failures.append(repr(error))
            return 0
        if answer.status_code == httpx2.codes.OK:
            told = answer.json()
            digest = str(told["parameters"]["model.digest"])
            self.digests[digest] += 1
            self.named[digest] |= {tuple(each["data"]) for each in told["outputs"] if each["name"] == "labels"}
        else:
            self.failures.append(f"{answer.status_code} {answer.text[:200]}")
        return answer.status_code

    def _called(self, channel: grpc.Channel) -> int:
        try:
            answer = self.served.infer(channel, self.picture, self.headers)
        except grpc.RpcError as error:
            self.failures.append(f"{error.code().name} {error.details()}")
            return 0
        self.digests[str(answer.parameters["model.digest"])] += 1
        return 200


def shares(counts: Counter[str], names: Iterable[str]) -> list[float]:
    """Return the part of all counted that each name has."""
    return [counts[name] / max(1, counts.total()) for name in names]


def _json_of(picture: bytes) -> dict[str, object]:
    text = base64.b64encode(picture).decode()
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}]}
