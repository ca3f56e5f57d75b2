"""The whole operation: front, network, head, card."""

from dataclasses import replace

from onnx import ModelProto, TensorProto, helper

from weights_sync.errors import SidecarError, UnsupportedModelError
from weights_sync.prepare.card import Card, metadata, set_metadata, write_card
from weights_sync.prepare.checks import check_whole
from weights_sync.prepare.dynamic import free_sides
from weights_sync.prepare.facts import Facts, Output, read_facts
from weights_sync.prepare.families import Family
from weights_sync.prepare.graph import Editor, rename, tidy, value_names
from weights_sync.prepare.head import Candidates
from weights_sync.prepare.labels import default_labels, labels_for
from weights_sync.prepare.pixels import Wanted, normalise
from weights_sync.prepare.recognise import called, recognise
from weights_sync.prepare.shapes import free_batch, pin_batch
from weights_sync.sidecar import Sidecar

OURS = frozenset({"images", "boxes", "scores", "class_ids", "mask_coefficients", "prototypes"})
STRIDE = 32
"""What the sides of a picture must be multiples of, where the metadata says nothing."""


def assemble(
    source: ModelProto,
    candidates: int,
    family: str | None,
    digest: str,
    *,
    dynamic: bool = False,
    sidecar: Sidecar | None = None,
) -> ModelProto:
    """Return the prepared graph of a model that passed the checks."""
    model = _own_copy(source)
    if sidecar:
        family = family or sidecar.family
        set_metadata(model, sidecar.over(metadata(model), default_labels))
    model = pin_batch(model, read_facts(model).input_shape)
    facts = read_facts(model)
    kind = recognise(facts, family)
    dynamic = dynamic and not facts.dynamic
    prototypes = _prototypes(facts)
    masks = int(prototypes.shape[1]) if prototypes else 0
    if sidecar:
        _check_classes(sidecar, facts, kind, masks)
    card = replace(_card(facts, kind, masks, family, digest), dynamic=dynamic or facts.dynamic)
    if sidecar:
        _check_size(sidecar, card)
    network = free_batch(model, facts.input_shape)
    network = free_sides(network, read_facts(network)) if dynamic else network
    facts = read_facts(network)
    edit = Editor(network)
    found = kind.decode(edit, facts, candidates, masks)
    wanted = Wanted(facts.input_dtype, kind.divisor, kind.bgr, facts.channels_last, kind.mean)
    pixels = normalise(edit, "images", facts.input_name, wanted)
    rename(network.graph, facts.input_name, pixels)
    _publish(edit, facts, found, prototypes)
    tidy(network)
    write_card(network, card)
    check_whole(network)
    return network


def _own_copy(source: ModelProto) -> ModelProto:
    """Copy a model, in order, without its dead ends, its shape claims and the names we need."""
    model = ModelProto()
    model.CopyFrom(source)
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    # Before version 4 initializers had to be inputs too, which forbids folding them.
    model.ir_version = max(model.ir_version, 4)
    del graph.input[:], graph.value_info[:]
    graph.input.extend(inputs)
    for name in OURS & set(value_names(graph)):
        rename(graph, name, f"original/{name}")
    tidy(model)
    return model


def _card(facts: Facts, kind: Family, masks: int, family: str | None, digest: str) -> Card:
    count = kind.classes(facts, masks)
    if count < 1:
        known = "can not tell the classes of" if kind.nms_inside else "there are no classes in"
        raise UnsupportedModelError(f"{known} this {kind.names[0]} model: its outputs are {facts.listing}")
    return Card(
        task="segment" if masks else "detect",
        family=called(facts, kind, family),
        labels=labels_for(facts.metadata, count),
        nms=not kind.nms_inside,
        size=facts.size,
        stride=_stride(facts),
        dynamic=facts.dynamic,
        placement=kind.placement,
        digest=digest,
    )


def _check_classes(sidecar: Sidecar, facts: Facts, kind: Family, masks: int) -> None:
    """Refuse a sidecar with another number of classes than the graph's, where the graph tells it without names."""
    nameless = {key: value for key, value in facts.metadata.items() if key != "names"}
    told = kind.classes(replace(facts, metadata=nameless), masks)
    # An NMS that takes all classes for one tells nothing of them.
    certain = told > int(kind.nms_inside)
    if certain and sidecar.classes not in {None, told}:
        raise SidecarError(f"{sidecar.name} says {sidecar.classes} classes, but the model's head has {told}")


def _check_size(sidecar: Sidecar, card: Card) -> None:
    """Refuse a sidecar with a size that the graph does not take, or that is no multiple of the stride."""
    height, width = card.size
    if sidecar.size and sidecar.size != card.size:
        said = "x".join(map(str, reversed(sidecar.size)))
        raise SidecarError(f"{sidecar.name} says pictures of {said}, and the graph takes those of {width}x{height}")
    if (sidecar.size or sidecar.stride) and (height % card.stride or width % card.stride):
        raise SidecarError(
            f"{sidecar.name} does not fit: {width}x{height} is no multiple of the stride {card.stride} on both sides"
        )


def _prototypes(facts: Facts) -> Output | None:
    """Return the mask prototypes of a segmentation model."""
    found = facts.prototypes
    if facts.metadata.get("task", "segment") == "detect" or (not found and "task" not in facts.metadata):
        return None
    if len(found) != 1:
        raise UnsupportedModelError(f"a segmentation model has one output of prototypes; this one has {len(found)}")
    return found[0]


def _stride(facts: Facts) -> int:
    text = facts.metadata.get("stride", "")
    return int(text) if text.isdecimal() and len(text) < 5 and int(text) else STRIDE


def _publish(edit: Editor, facts: Facts, found: Candidates, prototypes: Output | None) -> None:
    """Declare the prepared graph's input and outputs in place of the network's."""
    graph = edit.graph
    height, width = ("height", "width") if facts.dynamic else facts.size
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.UINT8, [facts.batch, height, width, 3]))
    kept = found.count
    edit.publish(found.boxes, "boxes", TensorProto.FLOAT, (facts.batch, kept, 4))
    edit.publish(found.scores, "scores", TensorProto.FLOAT, (facts.batch, kept))
    edit.publish(found.class_ids, "class_ids", TensorProto.INT32, (facts.batch, kept))
    if prototypes:
        masks, *sides = prototypes.shape[1:]
        sides = ["mask_height", "mask_width"] if facts.dynamic else sides
        coefficients = edit.cast(found.coefficients, TensorProto.FLOAT16)
        edit.publish(coefficients, "mask_coefficients", TensorProto.FLOAT16, (facts.batch, kept, masks))
        maps = edit.cast(prototypes.name, TensorProto.FLOAT16)
        edit.publish(maps, "prototypes", TensorProto.FLOAT16, (facts.batch, masks, *sides))
