"""The whole network: row by row from the YAML, with the checkpoint's parameters, as one ONNX model."""

from collections.abc import Callable, Mapping
from typing import Any

from onnx import ModelProto, TensorProto, helper

from weights_sync.errors import UnsupportedModelError
from weights_sync.mindspore import blocks
from weights_sync.mindspore.cells import Cell, Signal, add, concat, enlarge, pool, pool_with_zeros
from weights_sync.mindspore.config import Config, Row
from weights_sync.mindspore.heads import Found, Masks, anchor_head, free_head
from weights_sync.mindspore.parameters import Parameters
from weights_sync.prepare.graph import Editor

OPSET, IR_VERSION = 17, 8

BLOCKS: Mapping[str, Callable[..., Signal]] = {
    "ConvNormAct": blocks.conv_norm_act,
    "Conv": blocks.conv_norm_act,
    "DWConv": blocks.depthwise,
    "Focus": blocks.focus,
    "Bottleneck": blocks.bottleneck,
    "Residualblock": blocks.residual,
    "SPPF": blocks.sppf,
    "PSA": blocks.psa,
    "RepConv": blocks.repconv,
}
"""Blocks whose first argument is the number of channels, to be scaled."""
REPEATING: Mapping[str, Callable[..., Signal]] = {
    "C3": blocks.c3,
    "C2f": blocks.c2f,
    "C3k2": blocks.c3k2,
    "C2PSA": blocks.c2psa,
    "SPPCSPC": blocks.sppcspc,
    "DownC": blocks.downc,
}
"""Those that repeat their inner parts, where others are repeated whole."""
ANCHOR_HEADS = {"YOLOv3Head": False, "YOLOv5Head": False, "YOLOv5SegHead": True, "YOLOv7Head": False}
"""Whether they segment."""
FREE_HEADS = {
    "YOLOv8Head": (False, False),
    "YOLOv8SegHead": (False, True),
    "YOLOv11Head": (True, False),
    "YOLOv11SegHead": (True, True),
}
"""Whether their class branches are thin, and whether they segment."""
FOR_TRAINING = frozenset({"sync_bn", "momentum"})
LARGE_SCALES = frozenset("mlx")


def build(config: Config, parameters: Parameters) -> ModelProto:
    """Return the network with its decoded predictions as `output0`, prototypes as `output1`; any batch and size.

    Raises `UnsupportedModelError` for modules that are not known here, and parameters that are not the network's.
    """
    model = helper.make_model(
        helper.make_graph([], "mindyolo", [], []), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    model.graph.input.append(picture)
    edit = Editor(model)
    found = _head(config, edit, parameters, _body(config, edit, parameters))
    parameters.check(config.name)
    edit.publish(found.predictions, "output0", TensorProto.FLOAT, ("batch", *found.columns))
    if found.prototypes:
        sides = ("mask_height", "mask_width")
        edit.publish(found.prototypes, "output1", TensorProto.FLOAT, ("batch", "masks", *sides))
    helper.set_model_props(model, _metadata(config, found))
    return model


def _metadata(config: Config, found: Found) -> dict[str, str]:
    pairs = {"task": "segment" if found.prototypes else "detect", "imgsz": str([config.side] * 2)}
    return pairs | ({"names": str(list(config.labels))} if config.labels else {})


def _body(config: Config, edit: Editor, parameters: Parameters) -> list[Signal]:
    """Append every row but the last; return their results."""
    results: list[Signal] = []
    for number, row in enumerate(config.rows[:-1]):
        place = f"row {number} ({row.module[:40]}) of {config.name}"
        try:
            inputs = _inputs(row, results or [Signal("images", 3)])
            results.append(_drawn(config, row, Cell(edit, parameters, str(number)), inputs))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise _refusal(place, error) from error
    return results


def _inputs(row: Row, results: list[Signal]) -> list[Signal]:
    count = len(results)
    if not all(-count <= source < count for source in row.sources):
        raise ValueError(f"it reads row {row.sources}, and {count} are before it")
    return [results[source] for source in row.sources]


def _drawn(config: Config, row: Row, cell: Cell, inputs: list[Signal]) -> Signal:
    """Append the nodes of one row."""
    joined = _join(cell.edit, row, inputs)
    if joined is not None:
        return joined
    block = BLOCKS.get(row.module) or REPEATING.get(row.module)
    if block is None or row.joins:
        known = ", ".join(sorted({*BLOCKS, *REPEATING}))
        raise ValueError(f"no block of one input is called that; there are {known}")
    (x,) = inputs
    nominal, *args = row.args
    out, options = config.channels(nominal), {key: row.options[key] for key in row.options.keys() - FOR_TRAINING}
    if row.module in REPEATING:
        if row.module == "C3k2" and config.scale in LARGE_SCALES:
            args = [True, *args[1:]]
        return block(cell, x, out, row.repeats, *args, **options)
    for number in range(row.repeats):
        x = block(cell.at(number) if row.repeats > 1 else cell, x, out, *args, **options)
    return x


def _join(edit: Editor, row: Row, inputs: list[Signal]) -> Signal | None:
    """Append a row that has no parameters, if it is one."""
    match row.module:
        case "Concat":
            return concat(edit, inputs)
        case "Shortcut":
            first, second = inputs
            return add(edit, first, second)
        case "Upsample" | "nn.Upsample":
            _, factor, mode = row.args
            if mode != "nearest":
                raise ValueError("it enlarges by another mode than 'nearest'")
            return enlarge(edit, inputs[0], int(factor))
        case "ReOrg":
            return blocks.reorg(edit, inputs[0])
        case "MP":
            k = int(row.args[0] if row.args else 2)
            return pool(edit, inputs[0], k, k)
        case "SP":
            return pool_with_zeros(edit, inputs[0], *(int(arg) for arg in row.args or [3]))
    return None


def _head(config: Config, edit: Editor, parameters: Parameters, results: list[Signal]) -> Found:
    """Append the last row."""
    row, number = config.rows[-1], len(results)
    if row.module not in {*ANCHOR_HEADS, *FREE_HEADS}:
        raise UnsupportedModelError(
            f"{config.name} ends in {row.module[:40]!r}, which is no head known here:"
            f" there are {', '.join((*ANCHOR_HEADS, *FREE_HEADS))}"
        )
    cell = Cell(edit, parameters, str(number))
    try:
        inputs = _inputs(row, results)
        classes, first, *rest = row.args
        if row.module in ANCHOR_HEADS:
            masks, stride = _masks(config, rest, segments=ANCHOR_HEADS[row.module])
            return anchor_head(cell, inputs, int(classes), first, stride, masks=masks)
        thin, segments = FREE_HEADS[row.module]
        masks, stride = _masks(config, rest, segments=segments)
        return free_head(cell, inputs, int(classes), int(first), stride, thin=thin, masks=masks)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise _refusal(f"the head ({row.module[:40]}) of {config.name}", error) from error


def _masks(config: Config, args: list[Any], *, segments: bool) -> tuple[Masks, Any]:
    """Return what a segmentation head has more, and the strides, from a head's last arguments."""
    if not segments:
        (stride,) = args
        return Masks(), stride
    count, width, stride = args
    return Masks(int(count), config.channels(width)), stride


def _refusal(what: str, error: Exception) -> UnsupportedModelError:
    reason = " ".join(str(error).split())[:200]
    return UnsupportedModelError(f"{what} is not what MindYOLO builds: {reason}")
