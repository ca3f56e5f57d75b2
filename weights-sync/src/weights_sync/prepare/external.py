"""Weights that a model keeps in files beside it: noted where they are, refused where they are elsewhere."""

from pathlib import Path, PurePosixPath

from onnx import ModelProto, TensorProto

from weights_sync.errors import DamagedModelError, UnsupportedModelError
from weights_sync.prepare.checks import check_size, inner_tensors, tensors
from weights_sync.prepare.notes import LARGE, Note, load, reading, stamp_of


def note_external(model: ModelProto, directory: Path, own_bytes: int, max_bytes: int) -> tuple[Path, ...]:
    """Give every tensor of a model that is read from `directory` its bytes, or a note of them; return their files.

    `own_bytes` is the size of the model's own file, `max_bytes` the limit for all together.
    """
    external = [tensor for tensor in tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    files = {place: _beside(directory, place) for place in sorted({_stated(tensor, "location") for tensor in external})}
    total = own_bytes
    for file in files.values():
        with reading(file):
            total += file.stat().st_size
        check_size(total, max_bytes)
    for tensor in external:
        note = _note(tensor, files[_stated(tensor, "location")])
        tensor.raw_data = note.written()
        tensor.ClearField("data_location")
        del tensor.external_data[:]
        if note.length < LARGE:
            load(tensor)
    # What notes may stand in is what `wire` finds again.
    for tensor in inner_tensors(model.graph):
        load(tensor)
    return tuple(files.values())


def _note(tensor: TensorProto, file: Path) -> Note:
    with reading(file), file.open("rb") as stream:
        stamp = stamp_of(stream)
    size = stamp[1]
    try:
        begin = int(_stated(tensor, "offset") or 0)
        length = int(_stated(tensor, "length") or size - begin)
    except ValueError:
        begin = length = -1
    if min(begin, length) < 0 or begin + length > size:
        raise DamagedModelError(f"the weights beside the model ({_stated(tensor, 'location')}) do not fit it")
    return Note(file, begin, length, stamp)


def _stated(tensor: TensorProto, key: str) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == key), "")


def _beside(directory: Path, location: str) -> Path:
    """Path of external weights; refused outside the model's directory, behind links too."""
    relative = PurePosixPath(location)
    outside = UnsupportedModelError(f"the model keeps weights outside its directory ({location[:80]!r}): not loaded")
    if not location or relative.is_absolute() or ".." in relative.parts or "\\" in location or "\0" in location:
        raise outside
    root, file = directory.resolve(), (directory / location).resolve()
    if not file.is_relative_to(root):
        raise outside
    if not file.is_file():
        raise DamagedModelError(f"the model keeps weights in {location[:80]!r}, which is not there")
    return file
