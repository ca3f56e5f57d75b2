"""The Kubernetes API as this command uses it: JSON documents by path, and what pods serve, through the API server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx2
import orjson
import urllib3
from kubernetes import client, config

Document = dict[str, Any]
_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=30.0)
# For about a minute, in which an API server can be started anew. A change that was made although its answer got lost
# ends as a conflict, or finds nothing left to change.
_AGAIN: Final = urllib3.Retry(
    total=9,
    redirect=False,
    backoff_factor=0.5,
    backoff_max=10,
    allowed_methods={"GET", "PUT", "DELETE"},
    status_forcelist={429, 500, 502, 503, 504},
    raise_on_status=False,
)
# An API server that has too much to do has created nothing; after other failures it may have.
_AGAIN_FOR_CREATING: Final = _AGAIN.new(allowed_methods={"POST"}, status_forcelist={429, 503})
# What a pod says is an answer, whatever it says; and one that is gone has no minute.
_AGAIN_FOR_PODS: Final = _AGAIN.new(read=0, status_forcelist=(), respect_retry_after_header=False)
_CONFLICTS: Final = 10
# By this name the cluster knows what this command made and changed.
OURS: Final = "yolo-kserve-rollout"
_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_VERBS: Final = {"GET": "read", "POST": "create", "PUT": "change", "DELETE": "delete"}


class ClusterFailed(Exception):
    """The cluster can't be used, or does not do what is asked of it; the message is one line a person can act on."""


class NotFound(ClusterFailed):
    """There is no such object."""


class Conflict(ClusterFailed):
    """Someone else changed the object in between, or it exists already."""


class Api:
    """The API server that the kubeconfig, or else the pod that this runs in, names."""

    def __init__(self, namespace: str = "", context: str = "") -> None:
        """Connect; `namespace` and `context` are the kubeconfig's own where they are empty.

        Raises:
            ClusterFailed: nothing says where the cluster is.

        """
        try:
            self._client = config.new_client_from_config(context=context or None)
            contexts, active = config.list_kube_config_contexts()
            chosen = next((each for each in contexts if each["name"] == context), active)
            own = chosen["context"].get("namespace", "default")
        except config.ConfigException as error:
            self._client, own = _client_of_this_pod(error)
        self.namespace = namespace or own
        # A wrong address is said at once.
        self._answered = False

    def get(self, path: str, **query: str) -> Document:
        """Return a document.

        Raises:
            NotFound: it does not exist.
            ClusterFailed: the cluster does not answer, or refuses.

        """
        return self._document("GET", f"{path}?{urlencode(query)}" if query else path)

    def create(self, path: str, document: Document) -> Document:
        """Create a document in the collection `path`, and return it as the cluster holds it.

        Raises:
            Conflict: someone else created one of that name.
            ClusterFailed: the cluster does not answer, or refuses.

        """
        response = self._send("POST", path, *_json(document), again=_AGAIN_FOR_CREATING)
        if response.status == HTTPStatus.CONFLICT and _answer_was_lost(response):
            held = self.get(f"{path}/{document['metadata']['name']}")
            if _labels_of(document).items() <= _labels_of(held).items():
                return held
        return _answer("POST", response)

    def delete(self, path: str) -> None:
        """Delete what is at `path`, if it is there; what it owns goes with it."""
        try:
            self._document("DELETE", path)
        except NotFound:
            return

    def edit(self, path: str, change: Callable[[Document], Document]) -> Document:
        """Put what `change` makes of a document in its place, unless that is the same, and return what holds then.

        `change` is called again where someone else was quicker.
        """
        for _ in range(_CONFLICTS):
            before = self.get(path)
            after = change(before)
            if after == before:
                return before
            try:
                return self._document("PUT", f"{path}?fieldManager={OURS}", after)
            except Conflict:
                continue
        raise Conflict(f"{path.rpartition('/')[2]} is being changed by someone else all the time")

    def hand_back(self, path: str) -> None:
        """Have what `edit` changed belong to nobody: who applied the object, Helm 4 say, may change it again."""
        self.edit(path, _disowned)

    def log(self, pod: str, container: str, *, previous: bool) -> str:
        """Return the last lines of a container's log, empty where there is none."""
        query = urlencode({"container": container, "tailLines": "20", "previous": str(previous).lower()})
        try:
            response = self._send("GET", f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log?{query}")
        except ClusterFailed:
            return ""
        return response.data.decode(errors="replace") if response.status == HTTPStatus.OK else ""

    def send_to_pod(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Return what a pod behind the API server's proxy, or the proxy, answers.

        Raises:
            ClusterFailed: the cluster does not answer.

        """
        return self._send(method, path, body, headers, _AGAIN_FOR_PODS)

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        again: urllib3.Retry = _AGAIN,
    ) -> urllib3.BaseHTTPResponse:
        settings = self._client.configuration.auth_settings().values()
        credentials = {setting["key"]: setting["value"] for setting in settings if setting["value"]}
        host = self._client.configuration.host
        try:
            response: urllib3.BaseHTTPResponse = self._client.rest_client.pool_manager.request(
                method,
                host + path,
                body=body,
                headers={**(headers or {}), **credentials},
                timeout=_TIMEOUT,
                retries=again if self._answered else False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ClusterFailed(f"the cluster at {host} does not answer: {_cause(error)}") from error
        self._answered = True
        return response

    def _document(self, method: str, path: str, document: Document | None = None) -> Document:
        return _answer(method, self._send(method, path, *_json(document)))


class PodTransport(httpx2.BaseTransport):
    """HTTP to a pod's port through the API server's proxy, so that it works wherever kubectl does."""

    def __init__(self, api: Api, pod: str, port: int) -> None:
        self._api = api
        self._base = f"/api/v1/namespaces/{api.namespace}/pods/{pod}:{port}/proxy"

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to the pod."""
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        path = request.url.raw_path.decode()
        try:
            response = self._api.send_to_pod(request.method, self._base + path, request.read(), headers)
        except ClusterFailed as error:
            raise httpx2.ConnectError(str(error), request=request) from error
        if _is_the_proxys(response):
            raise httpx2.ConnectError(_message(response.status, _parsed(response.data)), request=request)
        kept = {name: value for name, value in response.headers.items() if name.lower() != "content-encoding"}
        return httpx2.Response(response.status, headers=kept, content=response.data, request=request)


def object_path(group: str, namespace: str, kind: str, name: str = "") -> str:
    """Return the path of an object, or of its collection; `group` is like `apps/v1`, and `v1` for the core."""
    root = f"/api/{group}" if "/" not in group else f"/apis/{group}"
    return f"{root}/namespaces/{quote(namespace, safe='')}/{kind}" + (f"/{quote(name, safe='')}" if name else "")


def _client_of_this_pod(error: Exception) -> tuple[Any, str]:
    try:
        config.load_incluster_config()
    except config.ConfigException:
        raise ClusterFailed(
            f"no cluster: {str(error).splitlines()[0].rstrip('.')} (KUBECONFIG names the file)"
        ) from error
    return client.ApiClient(), _NAMESPACE_FILE.read_text("utf-8").strip()


def _json(document: Document | None) -> tuple[bytes | None, dict[str, str]]:
    headers = {"accept": "application/json", "content-type": "application/json"}
    return None if document is None else orjson.dumps(document), headers


def _answer(method: str, response: urllib3.BaseHTTPResponse) -> Document:
    answer = _parsed(response.data)
    if response.status < HTTPStatus.BAD_REQUEST:
        return answer
    raise _error(method, response.status, _message(response.status, answer))


def _answer_was_lost(response: urllib3.BaseHTTPResponse) -> bool:
    """Tell whether this answers a request that was sent again because its answer did not arrive."""
    return response.retries is not None and any(each.error is not None for each in response.retries.history)


def _disowned(document: Document) -> Document:
    fields = [each for each in document["metadata"].get("managedFields", []) if each.get("manager") != OURS]
    return {**document, "metadata": {**document["metadata"], "managedFields": fields}}


def _labels_of(document: Document) -> Document:
    return dict(document["metadata"].get("labels", {}))


def _error(method: str, status: int, message: str) -> ClusterFailed:
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(message)
    if status == HTTPStatus.CONFLICT:
        return Conflict(message)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return ClusterFailed(f"not allowed to {_VERBS[method]} that: {message}")
    return ClusterFailed(message)


def _message(status: int, answer: Document) -> str:
    return str(answer.get("message", "")).replace("\n", " ").strip() or f"status {status}"


def _parsed(data: bytes) -> Document:
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"message": data.decode(errors="replace")[:200]}
    return answer if isinstance(answer, dict) else {}


def _is_the_proxys(response: urllib3.BaseHTTPResponse) -> bool:
    """Tell whether the API server, and not the pod, answers: with an error object of its own."""
    return response.status >= HTTPStatus.BAD_REQUEST and _parsed(response.data).get("kind") == "Status"


def _cause(error: Exception) -> str:
    return str(error).rpartition(": ")[2].strip("')\"") or type(error).__name__
