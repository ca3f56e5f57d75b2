"""The predictor's side of new weights: its load call, and what it says it serves."""

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from weights_sync.errors import AwayError, BrokenLoadError, PredictorError, RefusedError

_ANSWER_S = 10.0
_POLL_S = 0.2
_MAX_ANSWER_BYTES = 1 << 20
_LATER = frozenset({408, 425, 429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Predictor:
    """The model `model` of the server at `url`, over the Open Inference Protocol."""

    url: str
    model: str
    load_s: float = 300
    """Seconds that a load, and then readiness, may take."""

    def digest(self) -> str:
        """Return the `model.digest` of what is ready, "" where the model is not; `AwayError` without a server."""
        try:
            status, _ = self._call("GET", "/ready", _ANSWER_S)
            if status != http.client.OK:
                return ""
            status, answer = self._call("GET", "", _ANSWER_S)
        except (OSError, http.client.HTTPException) as error:
            raise AwayError(f"no predictor answers at {self.url}: {_reason(error)}") from error
        properties = answer.get("properties")
        if status != http.client.OK or not isinstance(properties, dict):
            return ""
        return str(properties.get("model.digest", ""))

    def load(self, digest: str) -> None:
        """Have the model loaded from its directory, and see that it is ready with that `model.digest`."""
        self.digest()  # so that what breaks from here on breaks while it loads
        try:
            status, answer = self._call("POST", "/load", self.load_s)
        except TimeoutError as error:
            raise RefusedError(f"{self._name} was not loaded within {self.load_s:g} seconds") from error
        except ConnectionRefusedError as error:
            raise AwayError(f"no predictor answers at {self.url}: {_reason(error)}") from error
        except (OSError, http.client.HTTPException) as error:
            raise BrokenLoadError(f"the predictor went away while it loaded {self._name}: {_reason(error)}") from error
        said = " ".join(str(answer.get("error", "")).split())[:400] or f"it answered {status}"
        if status in _LATER:
            raise AwayError(f"the predictor takes no loads now: {said}")
        if status in {http.client.NOT_FOUND, http.client.UNAUTHORIZED, http.client.FORBIDDEN}:
            raise PredictorError(f"the predictor can not load {self._name}: {said}")
        if status != http.client.OK:
            raise RefusedError(f"the predictor refused the weights: {said}")
        self._see(digest)

    def _see(self, digest: str) -> None:
        until = time.monotonic() + self.load_s
        while True:
            try:
                found = self.digest()
            except AwayError as error:
                raise BrokenLoadError(f"the predictor went away after it loaded {self._name}: {error}") from error
            if found == digest:
                return
            if found or time.monotonic() > until:
                state = f"serves {found} and not {digest}: does it read this directory?" if found else "is not ready"
                raise RefusedError(f"after the load, {self._name} {state}")
            time.sleep(_POLL_S)

    @property
    def _name(self) -> str:
        return f"model '{self.model}'"

    def _call(self, method: str, path: str, timeout_s: float) -> tuple[int, dict[str, object]]:
        """Return the status and the JSON object of an answer, {} for any other body."""
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=timeout_s, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        repository = "repository/" if method == "POST" else ""
        target = f"{parts.path.rstrip('/')}/v2/{repository}models/{quote(self.model, safe='')}{path}"
        try:
            connection.request(method, target, headers={"User-Agent": "weights-sync"})
            with connection.getresponse() as response:
                body = response.read(_MAX_ANSWER_BYTES)
        finally:
            connection.close()
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {}
        return response.status, answer if isinstance(answer, dict) else {}


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
