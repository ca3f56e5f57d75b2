"""Results kept in a real Redis, which may be away, late, full or wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import servers
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from servekit import errors
from servekit.inference import InferenceRequest, RequestContext
from servekit.tensors import Tensor, bytes_array
from yolo_transformer import cache, model
from yolo_transformer.cache import ResultCache, key_of, pack, unpack
from yolo_transformer.card import ModelCard
from yolo_transformer.detections import Detections
from yolo_transformer.options import DetectionOptions
from yolo_transformer.results import PictureResult


@pytest.fixture(scope="module")
def port():
    return servers.free_port()


@pytest.fixture(scope="module")
def server(port):
    with servers.redis(port):
        yield


@pytest.fixture
async def redis(server, port):
    """An empty Redis; what it keeps can be seen and spoilt with this client."""
    async with Redis(port=port) as client:
        await client.flushall()
        yield client


@pytest.fixture
def caching(redis, port, predictor, start_transformer):
    """Starts a transformer that keeps results there."""
    return lambda: start_transformer(predictor.host, redis=f"redis://127.0.0.1:{port}")


@pytest.fixture
async def transformer(caching):
    return await caching()


@pytest.fixture
async def segmenter(predictor, caching, toy):
    """A transformer whose answers have masks."""
    predictor.orders.weights.task = "segment"
    predictor.orders.answer = toy.canned_with_masks
    return await caching()


@pytest.fixture
def kept(redis, toy):
    """Waits until Redis keeps so many results, and returns their keys."""

    async def wait(number: int = 1) -> list[bytes]:
        async def enough() -> bool:
            return len(await redis.keys()) >= number

        await toy.until(enough)
        return await redis.keys()

    return wait


def lookups(outcome: str) -> float:
    return REGISTRY.get_sample_value("yolo_cache_lookups_total", {"model": "toy", "outcome": outcome}) or 0.0


ASK = {
    "grpc": lambda transformer, *pictures, **options: transformer.detect(*pictures, **options),
    # JSON has no room for a picture's bytes.
    "json": lambda transformer, *pictures, **options: transformer.v2(*pictures, **{**options, "return_image": False}),
    "binary": lambda transformer, *pictures, **options: transformer.binary(*pictures, **options),
    "v1": lambda transformer, *pictures, **options: transformer.v1(*((picture, options) for picture in pictures)),
    "people": lambda transformer, picture, **options: transformer.http.post(
        "/inference/segment", content=picture, params=options
    ),
}


def said(answer):
    """Return all that an answer says of its pictures."""
    if isinstance(answer, dict):
        return {name: array.tolist() for name, array in answer.items()}
    if isinstance(answer, tuple):
        return answer[0]["outputs"], answer[1]
    body = answer.json()
    return body.get("outputs") or body["predictions"]


@pytest.mark.parametrize("options", [{}, {"return_image": True, "mask_format": "rle"}, {"confidence_threshold": 1}])
@pytest.mark.parametrize("protocol", ASK)
async def test_the_same_pictures_are_answered_the_same_without_the_predictor(
    protocol, options, kept, predictor, segmenter, grey
) -> None:
    hits = lookups("hit")
    first = await ASK[protocol](segmenter, grey(), **options)
    await kept()
    assert said(await ASK[protocol](segmenter, grey(), **options)) == said(first)
    assert (len(predictor.orders.seen), lookups("hit") - hits) == (1, 1)


async def test_an_answer_tells_whether_it_was_kept(kept, transformer, grey) -> None:
    first = (await transformer.v2(grey())).json()["parameters"]
    await kept()
    second = (await transformer.v2(grey())).json()["parameters"]
    assert (first["cached"], second["cached"]) == (False, True)
    assert [second[name] for name in ("model_version", "model.digest")] == [
        first[name] for name in ("model_version", "model.digest")
    ]
    assert (second["queue_us"], second["compute_us"]) == (0, 0)


async def test_the_form_that_pictures_come_in_makes_no_difference(kept, predictor, transformer, grey) -> None:
    await transformer.detect(grey(1), grey(2))
    await kept()
    assert (await transformer.v2(grey(1), grey(2))).json()["parameters"]["cached"]
    assert (await transformer.v1((grey(1), {}), (grey(2), {}))).status_code == 200
    assert len(predictor.orders.seen) == 1


async def test_another_picture_order_or_option_is_not_the_same(kept, predictor, transformer, grey) -> None:
    await transformer.detect(grey(1), grey(2))
    await kept()
    await transformer.detect(grey(2), grey(1))
    await transformer.detect(grey(1))
    await transformer.detect(grey(1), grey(2), classes="person")
    assert len(predictor.orders.seen) == 4


async def test_raw_pixels_are_kept_too(kept, predictor, transformer) -> None:
    pixels = np.full((1, 8, 16, 3), 7, np.uint8)
    for shape in ((1, 8, 16, 3), (1, 8, 16, 3), (1, 16, 8, 3)):
        await transformer.infer(Tensor("pixels", pixels.reshape(shape)))
        await kept()
    assert len(predictor.orders.seen) == 2


async def test_transformers_share_what_is_kept(kept, caching, predictor, grey) -> None:
    await (await caching()).detect(grey())
    await kept()
    await (await caching()).detect(grey())
    assert len(predictor.orders.seen) == 1


async def test_use_cache_false_neither_looks_nor_keeps(kept, redis, predictor, transformer, grey) -> None:
    await transformer.detect(grey())
    await kept()
    for value in (False, "false"):
        assert not (await transformer.v2(grey(), use_cache=value)).json()["parameters"]["cached"]
    await transformer.detect(grey(9), use_cache=False)
    await transformer.cache.close()
    assert (len(predictor.orders.seen), len(await redis.keys())) == (4, 1)
    assert "'use_cache' must be true or false" in (await transformer.v2(grey(), use_cache="no")).json()["error"]


async def test_an_error_is_not_kept(redis, predictor, transformer, grey) -> None:
    predictor.orders.failing = errors.Internal("broken")
    assert (await transformer.v2(grey())).status_code == 500
    assert (await transformer.v2(b"no picture")).status_code == 415
    predictor.orders.failing = None
    assert not (await transformer.v2(grey())).json()["parameters"]["cached"]


async def test_new_weights_are_asked_though_old_results_are_kept(
    kept, predictor, transformer, grey, monkeypatch
) -> None:
    monkeypatch.setattr(model, "_CARD_FRESH_S", 0)
    await transformer.detect(grey())
    await kept()
    orders = predictor.orders
    orders.weights = replace(orders.weights, digest="sha256:second", labels=("cat", "dog", "person"))
    for cached in (False, True):
        answer = (await transformer.v2(grey())).json()
        assert answer["parameters"]["cached"] is cached
        assert {output["name"]: output["data"] for output in answer["outputs"]}["labels"] == ["cat", "person"]
        await kept(2)


async def test_one_question_to_the_predictor_tells_all_who_wait_that_its_weights_are_the_same(
    kept, predictor, transformer, grey, monkeypatch
) -> None:
    await transformer.detect(grey())
    await kept()
    monkeypatch.setattr(transformer.repository.models["toy"], "_card_seen", -1e9)
    predictor.orders.card_reads = 0
    await asyncio.gather(*(transformer.detect(grey()) for _ in range(12)))
    assert (predictor.orders.card_reads, len(predictor.orders.seen)) == (1, 1)


async def test_callers_that_leave_leave_no_answer_behind_for_others(kept, predictor, transformer, toy, grey) -> None:
    predictor.orders.answer = toy.middle
    pictures = [Tensor("image", bytes_array([grey(value)])) for value in range(8)]
    for picture in pictures:
        await transformer.infer(picture)
    await kept(len(pictures))
    detector = transformer.repository.models["toy"]

    def ask(picture: Tensor) -> asyncio.Task:
        return asyncio.create_task(detector.infer(InferenceRequest("toy", (picture,), RequestContext())))

    for turns in range(40):
        leaving = [ask(picture) for picture in pictures]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in leaving[::2]:
            task.cancel()
        answers = await asyncio.gather(*leaving[1::2], *map(ask, pictures))
        found = [int(answer.pictures[0].detections.class_ids[0]) for answer in answers]
        assert found == [1, 3, 5, 7, *range(8)]


async def test_results_are_kept_for_the_time_that_was_set(kept, redis, transformer, grey) -> None:
    await transformer.detect(grey())
    (key,) = await kept()
    assert 0 < await redis.ttl(key) <= 60


@pytest.mark.parametrize("spoilt", [b"", b"{", b"{}", b"[]", b"[1]", b'[{"detections":[{}],"width":1,"height":1}]'])
async def test_what_is_no_result_is_asked_anew_and_replaced(spoilt, kept, redis, predictor, transformer, grey) -> None:
    first = await transformer.detect(grey())
    (key,) = await kept()
    await redis.set(key, spoilt)
    assert said(await transformer.detect(grey())) == said(first)
    await transformer.cache.close()
    await transformer.detect(grey())
    assert len(predictor.orders.seen) == 2


async def test_large_results_are_not_kept(redis, predictor, transformer, grey, monkeypatch) -> None:
    monkeypatch.setattr(cache, "_MAX_BYTES", 10)
    await transformer.detect(grey())
    await transformer.cache.close()
    assert await redis.keys() == []


async def test_a_redis_that_takes_no_more_costs_no_request(redis, predictor, transformer, grey) -> None:
    await redis.config_set("maxmemory", 1)
    try:
        for _ in range(2):
            assert (await transformer.v2(grey())).status_code == 200
            await transformer.cache.close()
    finally:
        await redis.config_set("maxmemory", 0)
    assert len(predictor.orders.seen) == 2


async def test_without_redis_requests_are_answered_and_the_log_says_so_once(
    predictor, start_transformer, grey, log
) -> None:
    failed = lookups("error")
    transformer = await start_transformer(predictor.host, redis=f"redis://127.0.0.1:{servers.free_port()}")
    for _ in range(3):
        assert not (await transformer.v2(grey())).json()["parameters"]["cached"]
    await transformer.cache.close()
    assert lookups("error") - failed == 3
    assert [event["event"] for event in log].count("going on without Redis") == 1


async def test_a_redis_that_says_nothing_holds_up_no_request(predictor, start_transformer, grey) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        transformer = await start_transformer(predictor.host, redis=f"redis://127.0.0.1:{listener.getsockname()[1]}")
        answers = await asyncio.gather(*(transformer.detect(grey(value)) for value in range(8)))
    assert [answer["num_detections"].tolist() for answer in answers] == [[2]] * 8


async def test_a_redis_that_comes_back_is_used_again(predictor, start_transformer, toy, grey, monkeypatch) -> None:
    monkeypatch.setattr(cache, "_PAUSE_S", 0.01)
    port = servers.free_port()
    transformer = await start_transformer(predictor.host, redis=f"redis://127.0.0.1:{port}")

    async def cached() -> bool:
        return (await transformer.v2(grey())).json()["parameters"]["cached"]

    for _ in range(2):
        with servers.redis(port):
            await toy.until(cached)
        assert not await cached()


@pytest.mark.parametrize("url", ["http://host", "host:6379", "redis://:to/psecret@host", "redis://h?psecret=1"])
def test_what_is_no_url_of_a_redis_is_refused_without_telling_it(url) -> None:
    command = [sys.executable, "-m", "yolo_transformer", "--predictor_host=127.0.0.1:1", f"--redis_url={url}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 2
    last = ran.stderr.strip().splitlines()[-1]
    assert "--redis_url: it must be redis://" in last
    assert "psecret" not in ran.stderr


def test_the_url_may_stand_in_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("YOLO_REDIS_URL", "http://host")
    command = [sys.executable, "-m", "yolo_transformer", "--predictor_host=127.0.0.1:1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, "it must be redis://" in ran.stderr) == (2, True)


CARD = ModelCard.from_properties(
    {
        "yolo.input": '{"size": [64, 64], "placement": "center"}',
        "yolo.labels": '["person"]',
        "yolo.task": "detect",
        "yolo.nms": "true",
        "model.digest": "sha256:first",
    }
)


def test_a_key_tells_models_options_and_pictures_apart() -> None:
    usual = DetectionOptions()
    pixels = np.zeros((1, 2, 3, 3), np.uint8)
    questions = [
        ([b"ab"], [usual], CARD),
        ([b"a", b"b"], [usual] * 2, CARD),
        ([b"", b"ab"], [usual] * 2, CARD),
        ([b"ab"], [replace(usual, classes=frozenset({0}))], CARD),
        ([b"ab"], [replace(usual, classes=frozenset())], CARD),
        ([b"ab"], [replace(usual, iou_threshold=0.5)], CARD),
        ([b"ab"], [usual], replace(CARD, properties={**CARD.properties, "model.digest": "sha256:second"})),
        (pixels, [usual], CARD),
        (pixels.reshape(1, 3, 2, 3), [usual], CARD),
        ([pixels.tobytes()], [usual], CARD),
    ]
    keys = [key_of(*question) for question in questions]
    assert len(set(keys)) == len(keys)
    assert keys == [key_of(*question) for question in questions]


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
found = st.tuples(st.lists(numbers, min_size=4, max_size=4), numbers, st.integers(0, 999), st.text(max_size=9))
masks = st.lists(st.lists(st.floats(0, 9999), max_size=6), max_size=2)


@given(st.lists(found, max_size=4), st.data(), st.binary(max_size=20))
def test_results_come_back_to_the_bit(objects, data, annotated) -> None:
    boxes, scores, class_ids, labels = zip(*objects, strict=True) if objects else ((), (), (), ())
    result = PictureResult(
        480,
        640,
        Detections(
            np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(class_ids, np.int32)
        ),
        labels,
        tuple(data.draw(masks) for _ in objects) if data.draw(st.booleans()) else (),
        annotated,
    )
    (again,) = unpack(pack([result]))
    for name in ("boxes", "scores", "class_ids"):
        before, after = getattr(result.detections, name), getattr(again.detections, name)
        assert (before.dtype, before.shape, before.tobytes()) == (after.dtype, after.shape, after.tobytes())
    assert replace(again, detections=result.detections) == result


async def test_what_waits_for_redis_is_bounded(server, port, monkeypatch) -> None:
    class Executor:
        async def run(self, *_arguments):
            await asyncio.Event().wait()

    keeper = ResultCache(f"redis://127.0.0.1:{port}", 60, Executor())
    before = asyncio.all_tasks()
    for number in range(200):
        keeper.keep(str(number), [])
    waiting = asyncio.all_tasks() - before
    assert len(waiting) == cache._MAX_PENDING
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await keeper.close()
