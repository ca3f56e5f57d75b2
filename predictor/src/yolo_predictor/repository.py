"""The models on disk: `<model>/<version>/model.onnx`, `<model>/model.onnx`, or one model alone in the directory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from servekit.errors import InvalidRequest, NotFound
from servekit.executor import BoundedExecutor
from servekit.repository import Repository
from weights_sync.prepare import WeightsError, prepare_model
from yolo_predictor.model import Limits, PredictorModel
from yolo_predictor.session import Session, SessionOptions

_log = structlog.get_logger("yolo_predictor.repository")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's file and the version it stands for."""

    path: Path
    version: str


class ModelDirectory(Repository):
    """The models under `directory`; what is no prepared graph yet is prepared while it is loaded."""

    def __init__(
        self,
        directory: Path,
        model_name: str,
        session_options: SessionOptions,
        executor: BoundedExecutor,
        limits: Limits,
    ) -> None:
        super().__init__()
        self._directory = directory
        self._model_name = model_name
        self._session_options = session_options
        self._executor = executor
        self._limits = limits

    def available(self) -> Iterable[str]:
        """Return the names of the models on disk."""
        return find_models(self._directory, self._model_name)

    async def open(self, name: str) -> PredictorModel:
        """Return the newest version of a model, warm.

        Raises:
            NotFound: there is none of that name.
            InvalidRequest: its file can't be served; the message says why.

        """
        file = find_models(self._directory, self._model_name).get(name)
        if file is None:
            raise NotFound(f"there is no model '{name[:100]}' to load")
        session = await asyncio.to_thread(open_session, file.path, self._session_options)
        _log.info("session opened", model=name, providers=session.providers, threads=self._session_options.threads)
        return PredictorModel(name, file.version, session, self._executor, self._limits)


def find_models(directory: Path, model_name: str) -> dict[str, ModelFile]:
    """Return the models in a directory by name; one that lies there alone is called `model_name`."""
    if directory.is_file():
        return {model_name: ModelFile(directory, "1")}
    alone = sorted(directory.glob("*.onnx"))
    if alone:
        file = directory / "model.onnx"
        return {model_name: ModelFile(file if file in alone else alone[0], "1")}
    folders = sorted(path for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []
    found = {folder.name: _newest(folder) for folder in folders}
    return {name: file for name, file in found.items() if file is not None}


def _newest(folder: Path) -> ModelFile | None:
    versions = sorted(
        (int(path.parent.name), path) for path in folder.glob("*/model.onnx") if path.parent.name.isdecimal()
    )
    if versions:
        return ModelFile(versions[-1][1], str(versions[-1][0]))
    flat = folder / "model.onnx"
    return ModelFile(flat, "1") if flat.is_file() else None


def open_session(path: Path, options: SessionOptions) -> Session:
    """Return a warm session for the model in a file.

    Raises:
        InvalidRequest: the file can't be served; the message says why.

    """
    try:
        prepared = prepare_model(path.read_bytes()).SerializeToString()
    except OSError as error:
        raise InvalidRequest(f"the model's file can't be read: {error.strerror}") from error
    except WeightsError as error:
        raise InvalidRequest(str(error)) from error
    session = Session(prepared, options)
    size = json.loads(session.properties["yolo.input"])["size"]
    session.warm_up(*size)
    return session
