"""Models on disk: where they are found, how they are loaded, how a bad one is refused."""

from __future__ import annotations

import pytest

from servekit.errors import InvalidRequest, NotFound
from servekit.executor import BoundedExecutor
from yolo_predictor.model import Limits
from yolo_predictor.repository import ModelDirectory, find_models
from yolo_predictor.session import SessionOptions


@pytest.fixture
def repository_of():
    executor = BoundedExecutor("test", 1, 4)
    yield lambda folder: ModelDirectory(folder, "alone", SessionOptions("cpu", 1), executor, Limits())
    executor.close()


@pytest.mark.parametrize(
    ("path", "name", "version"),
    [
        ("model.onnx", "alone", "1"),
        ("yolov8n.onnx", "alone", "1"),
        ("cars/model.onnx", "cars", "1"),
        ("cars/12/model.onnx", "cars", "12"),
    ],
)
async def test_a_model_is_found_in_each_layout(place, repository_of, path, name, version) -> None:
    repository = repository_of(place(path))
    await repository.load_all()
    assert repository.loaded(name).version == version


async def test_the_highest_version_is_served(place, repository_of) -> None:
    place("cars/9/model.onnx")
    repository = repository_of(place("cars/10/model.onnx"))
    await repository.load("cars")
    assert repository.loaded("cars", "10").version == "10"
    with pytest.raises(NotFound, match="serves version '10'"):
        repository.loaded("cars", "9")


def test_a_file_can_be_named_itself(place) -> None:
    folder = place("anything.bin")
    assert find_models(folder / "anything.bin", "m")["m"].path == folder / "anything.bin"


async def test_an_empty_folder_has_nothing_to_load(tmp_path, repository_of) -> None:
    with pytest.raises(NotFound, match="no model to load"):
        await repository_of(tmp_path).load_all()


@pytest.mark.parametrize("name", ["nope", "..", "../cars", "", "cars/12"])
async def test_only_names_in_the_index_can_be_loaded(place, repository_of, name) -> None:
    with pytest.raises(NotFound):
        await repository_of(place("cars/12/model.onnx")).load(name)


@pytest.mark.parametrize("data", [b"", b"<html>no model</html>", b"\x08\x07\x12\x04half"])
async def test_a_file_that_is_no_model_is_refused_with_one_line_and_no_path(tmp_path, repository_of, data) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    repository = repository_of(tmp_path)
    with pytest.raises(InvalidRequest) as refusal:
        await repository.load("alone")
    assert "\n" not in refusal.value.message
    assert str(tmp_path) not in refusal.value.message
    (entry,) = repository.index()
    assert entry.state == "UNAVAILABLE"
    assert entry.reason == refusal.value.message


async def test_a_bad_new_file_leaves_the_loaded_model_serving(place, repository_of) -> None:
    folder = place("model.onnx")
    repository = repository_of(folder)
    await repository.load("alone")
    before = repository.loaded("alone")
    (folder / "model.onnx").write_bytes(b"broken")
    with pytest.raises(InvalidRequest):
        await repository.load("alone")
    assert repository.loaded("alone") is before
