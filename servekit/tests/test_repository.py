from __future__ import annotations

import asyncio

import pytest

from servekit.errors import InvalidRequest, NotFound, Unavailable
from servekit.model import ModelMetadata, ServedModel
from servekit.repository import Repository


class Model(ServedModel):
    metadata = ModelMetadata("test", (), ())


class Shelf(Repository):
    """Opens a model when `warm` is set; `error` is raised instead, `version` is what it gets."""

    def __init__(self):
        super().__init__()
        self.warm = asyncio.Event()
        self.warm.set()
        self.error = None
        self.version = "1"
        self.opened = 0
        self.names = ["a", "b"]

    def available(self):
        return self.names

    async def open(self, name):
        self.opened += 1
        await self.warm.wait()
        if self.error:
            raise self.error
        if name not in self.names:
            raise NotFound("there is none")
        return Model(name, self.version)


@pytest.fixture
def shelf():
    return Shelf()


def states(shelf):
    return {entry.name: (entry.version, entry.state, entry.reason) for entry in shelf.index()}


async def begin(shelf, name):
    task = asyncio.create_task(shelf.load(name))
    for _ in range(5):
        await asyncio.sleep(0)
    return task


async def test_a_model_goes_through_its_states(shelf):
    assert states(shelf)["a"] == ("", "UNAVAILABLE", "not loaded")
    with pytest.raises(NotFound, match="'a' is not loaded"):
        shelf.loaded("a")
    shelf.warm.clear()
    loading = await begin(shelf, "a")
    assert states(shelf)["a"] == ("", "LOADING", "")
    with pytest.raises(Unavailable, match="'a' is loading"):
        shelf.loaded("a")
    shelf.warm.set()
    await loading
    assert states(shelf) == {"a": ("1", "READY", ""), "b": ("", "UNAVAILABLE", "not loaded")}
    assert shelf.loaded("a").ready
    await shelf.unload("a")
    assert states(shelf)["a"] == ("", "UNAVAILABLE", "unloaded")
    with pytest.raises(NotFound, match="'a' is not loaded"):
        shelf.loaded("a")


async def test_only_the_version_that_is_loaded_is_served(shelf):
    await shelf.load("a")
    assert shelf.loaded("a", "1") is shelf.loaded("a")
    with pytest.raises(NotFound, match="no version '2': it serves version '1'"):
        shelf.loaded("a", "2")


async def test_a_reload_keeps_the_old_model_until_the_new_one_is_warm(shelf):
    await shelf.load("a")
    old = shelf.loaded("a")
    shelf.version = "2"
    shelf.warm.clear()
    loading = await begin(shelf, "a")
    assert shelf.loaded("a") is old
    assert states(shelf)["a"] == ("1", "READY", "")
    shelf.warm.set()
    await loading
    assert shelf.loaded("a").version == "2"


async def test_a_reload_that_fails_keeps_the_old_model_and_shows_why(shelf):
    await shelf.load("a")
    old = shelf.loaded("a")
    shelf.error = InvalidRequest("the weights are damaged")
    with pytest.raises(InvalidRequest):
        await shelf.load("a")
    assert shelf.loaded("a") is old
    assert states(shelf)["a"] == ("1", "READY", "the weights are damaged")
    shelf.error = None
    await shelf.load("a")
    assert states(shelf)["a"] == ("1", "READY", "")


async def test_a_first_load_that_fails_is_unavailable_and_shows_why(shelf):
    shelf.error = InvalidRequest("the weights are damaged")
    with pytest.raises(InvalidRequest):
        await shelf.load("a")
    assert states(shelf)["a"] == ("", "UNAVAILABLE", "the weights are damaged")
    with pytest.raises(Unavailable, match="not ready: the weights are damaged"):
        shelf.loaded("a")


async def test_a_defect_while_loading_is_shown_without_its_words(shelf):
    shelf.error = RuntimeError("/secret/path exploded")
    with pytest.raises(RuntimeError):
        await shelf.load("a")
    assert states(shelf)["a"] == ("", "UNAVAILABLE", "a defect while loading: the log tells more")


async def test_names_that_callers_make_up_leave_no_trace(shelf):
    for error in (None, InvalidRequest("no good name")):
        shelf.error = error
        with pytest.raises((NotFound, InvalidRequest)):
            await shelf.load("made up")
    assert "made up" not in states(shelf)
    assert not {*shelf._failures, *shelf._loading, *shelf._changing}
    with pytest.raises(NotFound, match="there is no model 'made up' here: none is loaded"):
        shelf.loaded("made up")


async def test_loads_of_one_model_go_one_after_the_other(shelf):
    shelf.warm.clear()
    first, second = await begin(shelf, "a"), await begin(shelf, "a")
    other = await begin(shelf, "b")
    assert shelf.opened == 2  # one of each model
    shelf.warm.set()
    await asyncio.gather(first, second, other)
    assert shelf.opened == 3
    assert states(shelf) == {"a": ("1", "READY", ""), "b": ("1", "READY", "")}


async def test_a_load_goes_on_when_its_caller_leaves(shelf):
    shelf.warm.clear()
    loading = await begin(shelf, "a")
    loading.cancel()
    await asyncio.wait({loading})
    assert states(shelf)["a"][1] == "LOADING"
    shelf.warm.set()
    await shelf.load("b")
    assert shelf.loaded("a").ready


async def test_an_unload_waits_for_the_load_before_it(shelf):
    shelf.warm.clear()
    loading = await begin(shelf, "a")
    unloading = asyncio.create_task(shelf.unload("a"))
    await asyncio.sleep(0)
    assert not unloading.done()
    shelf.warm.set()
    await asyncio.gather(loading, unloading)
    assert states(shelf)["a"] == ("", "UNAVAILABLE", "unloaded")


async def test_only_a_loaded_model_can_be_unloaded(shelf):
    for name in ("a", "made up"):
        with pytest.raises(NotFound, match="is not loaded"):
            await shelf.unload(name)


async def test_load_all_loads_what_there_is_and_needs_something(shelf):
    await shelf.load_all()
    assert sorted(shelf.models) == ["a", "b"]
    shelf.names = []
    with pytest.raises(NotFound, match="there is no model to load"):
        await shelf.load_all()


async def test_an_unloaded_model_still_answers_who_holds_it(shelf):
    await shelf.load("a")
    held = shelf.loaded("a")
    await shelf.unload("a")
    assert held.ready
    assert await held.healthy()
