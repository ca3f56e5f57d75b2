"""The transformer's models are its predictor's: connecting, loading, unloading, and what the index tells."""

from __future__ import annotations

import asyncio

import pytest


async def index(transformer) -> dict[str, str]:
    response = await transformer.http.post("/v2/repository/index")
    return {entry["name"]: entry["state"] for entry in response.json()}


async def test_all_of_the_predictors_models_are_served_where_none_is_named(
    start_predictor, start_transformer, grey
) -> None:
    predictor = await start_predictor("large", "small")
    predictor.repository.orders["small"].weights.labels = ("cat", "dog", "bird")
    transformer = await start_transformer(predictor.host)
    assert (await transformer.http.get("/v2/models")).json() == {"models": ["large", "small"]}
    assert (await transformer.http.get("/v2/health/ready")).status_code == 200
    large, small = await transformer.detect(grey(), model="large"), await transformer.detect(grey(), model="small")
    assert (large["labels"][0, 0], small["labels"][0, 0]) == (b"person", b"cat")
    assert len(predictor.repository.orders["small"].seen) == 1


async def test_only_the_named_models_are_served(start_predictor, start_transformer, grey) -> None:
    predictor = await start_predictor("large", "medium", "small")
    transformer = await start_transformer(predictor.host, "small", "medium")
    assert await index(transformer) == {"medium": "READY", "small": "READY"}
    refused = await transformer.v2(grey(), model="large")
    assert refused.status_code == 404
    assert refused.json()["error"] == "there is no model 'large' here: medium, small is loaded"


async def test_connecting_has_nothing_loaded_anew(predictor, transformer) -> None:
    assert predictor.repository.calls == []


async def test_a_transformer_waits_for_a_predictor_that_starts_later(toy, start_transformer, grey) -> None:
    predictor = toy.ToyPredictor()
    transformer = await start_transformer(predictor.host, ready=False)
    starting = asyncio.create_task(transformer.start())
    # It listens meanwhile, so that liveness and loading can be told apart.
    assert (await transformer.http.get("/v2/health/live")).status_code == 200
    assert (await transformer.http.get("/v2/health/ready")).status_code == 503
    done, _ = await asyncio.wait({starting}, timeout=0.6)
    assert not done
    await predictor.start()
    async with asyncio.timeout(20):
        await starting
    assert (await transformer.v2(grey())).status_code == 200
    await predictor.stop()


@pytest.mark.parametrize("names", [[], ["toy"]])
async def test_a_transformer_waits_for_a_model_that_is_loaded_later(
    names, start_predictor, start_transformer, grey
) -> None:
    predictor = await start_predictor("toy", loaded=False)
    transformer = await start_transformer(predictor.host, ready=False)
    starting = asyncio.create_task(transformer.start(*names))
    done, _ = await asyncio.wait({starting}, timeout=0.4)
    assert not done
    await predictor.repository.load("toy")
    async with asyncio.timeout(20):
        await starting
    assert (await transformer.v2(grey())).status_code == 200


async def test_a_transformer_waits_for_a_predictor_that_takes_connections_and_does_not_answer_yet(
    predictor, start_transformer, toy, grey
) -> None:
    wire = toy.Wire(predictor.port)
    wire.carries.clear()
    await wire.lay()
    transformer = await start_transformer(f"127.0.0.1:{wire.port}", ready=False, timeout_s=0.3)
    starting = asyncio.create_task(transformer.start())
    done, _ = await asyncio.wait({starting}, timeout=1)
    assert not done
    assert wire.connections
    wire.carries.set()
    async with asyncio.timeout(20):
        await starting
    await wire.remove()


async def test_a_predictor_of_something_else_than_yolo_is_waited_for(predictor, start_transformer) -> None:
    predictor.orders.weights.placement = "nowhere"
    transformer = await start_transformer(predictor.host, ready=False)
    starting = asyncio.create_task(transformer.start())
    done, _ = await asyncio.wait({starting}, timeout=0.4)
    assert not done
    predictor.orders.weights.placement = "center"
    async with asyncio.timeout(20):
        await starting


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
async def test_loading_goes_through_to_the_predictor_and_brings_the_new_card(
    protocol, predictor, transformer, grey
) -> None:
    weights = predictor.orders.weights
    weights.digest, weights.version, weights.labels = "sha256:second", "2", ("cat", "dog", "bird")
    if protocol == "rest":
        response = await transformer.http.post("/v2/repository/models/toy/load")
        assert (response.status_code, response.json()) == (200, {"name": "toy", "load": True})
    else:
        assert (await transformer.rpc("RepositoryModelLoad", model_name="toy")).isLoaded
    assert predictor.repository.calls == [("load", "toy")]
    assert (await transformer.http.get("/v2/models/toy")).json()["versions"] == ["2"]
    assert (await transformer.detect(grey()))["labels"][0, 0] == b"cat"


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
async def test_unloading_goes_through_to_the_predictor(protocol, predictor, transformer, grey) -> None:
    if protocol == "rest":
        assert (await transformer.http.post("/v2/repository/models/toy/unload")).status_code == 200
    else:
        assert (await transformer.rpc("RepositoryModelUnload", model_name="toy")).isUnloaded
    assert predictor.repository.calls == [("unload", "toy")]
    assert list(predictor.repository.models) == []
    assert await index(transformer) == {"toy": "UNAVAILABLE"}
    assert (await transformer.http.get("/v2/health/ready")).status_code == 503
    refused = await transformer.v2(grey())
    assert (refused.status_code, refused.json()["error"]) == (404, "model 'toy' is not loaded")
    assert (await transformer.http.post("/v2/repository/models/toy/unload")).status_code == 404
    assert (await transformer.http.post("/v2/repository/models/toy/load")).status_code == 200
    assert (await transformer.v2(grey())).status_code == 200
    assert await index(transformer) == {"toy": "READY"}


async def test_a_model_that_was_not_served_here_is_by_loading_it(start_predictor, start_transformer, grey) -> None:
    predictor = await start_predictor("large", "small")
    transformer = await start_transformer(predictor.host, "small")
    assert (await transformer.http.post("/v2/repository/models/large/load")).status_code == 200
    assert await index(transformer) == {"large": "READY", "small": "READY"}
    assert (await transformer.v2(grey(), model="large")).status_code == 200


async def test_the_predictors_refusal_to_load_is_passed_on_and_the_old_model_serves_on(
    predictor, transformer, grey
) -> None:
    unknown = await transformer.http.post("/v2/repository/models/dragon/load")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "there is no model 'dragon' to load")
    assert await index(transformer) == {"toy": "READY"}
    await predictor.stop()
    gone = await transformer.http.post("/v2/repository/models/toy/load")
    assert (gone.status_code, gone.json()["error"]) == (503, "the predictor can't be reached")
    assert await index(transformer) == {"toy": "READY"}


async def test_an_unload_that_the_predictor_did_not_hear_can_be_repeated(predictor, transformer, toy) -> None:
    await predictor.stop()
    assert (await transformer.http.post("/v2/repository/models/toy/unload")).status_code == 503
    assert await index(transformer) == {"toy": "READY"}
    await predictor.start()

    async def unloaded() -> bool:
        response = await transformer.http.post("/v2/repository/models/toy/unload")
        assert response.status_code in {200, 503}
        return response.status_code == 200

    await toy.until(unloaded)
    assert list(predictor.repository.models) == []
    assert await index(transformer) == {"toy": "UNAVAILABLE"}


async def test_what_the_predictor_unloaded_itself_can_be_unloaded_here(predictor, transformer, grey) -> None:
    await predictor.repository.unload("toy")
    assert (await transformer.v2(grey())).status_code == 404
    assert (await transformer.http.post("/v2/repository/models/toy/unload")).status_code == 200
    assert await index(transformer) == {"toy": "UNAVAILABLE"}


async def test_an_unknown_model_is_not_unloaded_at_the_predictor(start_predictor, start_transformer) -> None:
    predictor = await start_predictor("large", "small")
    transformer = await start_transformer(predictor.host, "small")
    assert (await transformer.http.post("/v2/repository/models/large/unload")).status_code == 404
    assert predictor.repository.calls == []


async def test_requests_under_way_are_answered_while_their_model_is_loaded_anew(
    predictor, transformer, toy, grey
) -> None:
    predictor.orders.gate = asyncio.Event()
    under_way = asyncio.create_task(transformer.v2(grey()))
    await toy.until(lambda: predictor.orders.seen)
    assert (await transformer.http.post("/v2/repository/models/toy/load")).status_code == 200
    predictor.orders.gate.set()
    assert (await under_way).status_code == 200
