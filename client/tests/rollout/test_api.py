"""What the API server is asked again, and what a lost answer leaves."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import orjson
import pytest
import yaml
from kubernetes.config import kube_config

from yolo_client.rollout.api import Api, ClusterFailed, Conflict

PATH = "/api/v1/namespaces/default/configmaps"
OURS = {"metadata": {"name": "a", "labels": {"made-by": "us"}}}
LOST = 0


class ApiServer(ThreadingHTTPServer):
    """Gives the answers that it is told to, in turn: a status and a document, or none at all (`LOST`)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict]] = []
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append(f"{self.command} {self.path}")
        status, document = self.server.answers.pop(0)
        if status == LOST:
            self.close_connection = True
            return
        body = orjson.dumps(document)
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815  # the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as started:
        thread = Thread(target=started.serve_forever)
        thread.start()
        yield started
        started.shutdown()
        thread.join()


@pytest.fixture
def api(server, tmp_path, monkeypatch) -> Api:
    """Return the API of a server that has answered once."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(config))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    found = Api()
    server.answers = [(200, {})]
    found.get("/readyz")
    server.asked.clear()
    return found


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_with_too_much_to_do_is_asked_again_to_create(server, api, status) -> None:
    server.answers = [(status, {}), (201, OURS)]
    assert api.create(PATH, OURS) == OURS
    assert server.asked == [f"POST {PATH}"] * 2


@pytest.mark.parametrize("status", [500, 504])
def test_where_something_may_have_been_created_it_is_not_asked_again(server, api, status) -> None:
    server.answers = [(status, {"message": "it broke"})]
    with pytest.raises(ClusterFailed, match="it broke"):
        api.create(PATH, OURS)
    assert len(server.asked) == 1


def test_what_was_created_although_the_answer_got_lost_is_found(server, api) -> None:
    held = {"metadata": {**OURS["metadata"], "uid": "1"}}
    server.answers = [(LOST, {}), (409, {"message": "it exists"}), (200, held)]
    assert api.create(PATH, OURS) == held
    assert server.asked == [f"POST {PATH}", f"POST {PATH}", f"GET {PATH}/a"]


def test_what_someone_else_created_meanwhile_is_a_conflict(server, api) -> None:
    server.answers = [(LOST, {}), (409, {"message": "it exists"}), (200, {"metadata": {"name": "a"}})]
    with pytest.raises(Conflict, match="it exists"):
        api.create(PATH, OURS)


def test_what_exists_already_is_a_conflict(server, api) -> None:
    server.answers = [(503, {}), (409, {"message": "it exists"})]
    with pytest.raises(Conflict, match="it exists"):
        api.create(PATH, OURS)
    assert len(server.asked) == 2
