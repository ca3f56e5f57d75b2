"""Small editing steps over an ONNX graph: walk, sort, rename, append nodes."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper, version_converter

from weights_sync.errors import DamagedModelError
from weights_sync.prepare.notes import array_of

Dim = int | str
"""A dimension: a number where it is fixed, a name where the caller decides."""


class Editor:
    """Appends nodes to a model under fresh names; `tidy` puts them into order afterwards."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self.opset = opset_of(model)
        self._taken = set(value_names(model.graph))

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """Store an array as an initializer; return its name."""
        name = self._fresh("constant")
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ops(self, kind: str, inputs: Iterable[str], count: int, **attributes: Any) -> list[str]:
        """Append a node with `count` outputs; return their names."""
        outputs = [self._fresh(kind) for _ in range(count)]
        self.graph.node.append(helper.make_node(kind, list(inputs), outputs, name=outputs[0], **attributes))
        return outputs

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; return the output's name."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def cast(self, value: str, dtype: int) -> str:
        """Convert to a `TensorProto` element type."""
        return self.op("Cast", value, to=dtype)

    def slice(self, value: str, start: int, stop: int, axis: int) -> str:
        """`value[start:stop]` along one axis."""
        bounds = [self.constant([number], np.int64) for number in (start, stop, axis)]
        return self.op("Slice", value, *bounds)

    def reduce_max(self, value: str, axis: int) -> str:
        """Return the maximum along one axis, which disappears."""
        if self.opset < 18:
            return self.op("ReduceMax", value, axes=[axis], keepdims=0)
        return self.op("ReduceMax", value, self.constant([axis], np.int64), keepdims=0)

    def publish(self, value: str, name: str, dtype: int, shape: Iterable[Dim]) -> None:
        """Make a value a graph output of the given name; nothing may be called that yet."""
        self.graph.node.append(helper.make_node("Identity", [value], [name], name=name))
        self.graph.output.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def _fresh(self, kind: str) -> str:
        number = len(self._taken)
        while (name := f"prepared/{kind.lower()}_{number}") in self._taken:
            number += 1
        self._taken.add(name)
        return name


def opset_of(model: ModelProto) -> int:
    """Version of the standard operator set, 0 where none is declared."""
    return max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0)


def with_opset(model: ModelProto, least: int) -> ModelProto:
    """Return the model in operator set `least`, or as it is where it uses that or a later one."""
    if opset_of(model) >= least:
        return model
    converted: ModelProto = version_converter.convert_version(model, least)
    # The converter forgets what stands beside the graph.
    del converted.metadata_props[:]
    converted.metadata_props.extend(model.metadata_props)
    return converted


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Graphs held by a control-flow node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, those in nested graphs included."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def named_values(graph: GraphProto) -> tuple[ValueInfoProto | TensorProto, ...]:
    """Return what a graph declares by name: inputs, outputs, described values, initializers."""
    return (*graph.input, *graph.output, *graph.value_info, *graph.initializer)


def value_names(graph: GraphProto) -> Iterator[str]:
    """Every name in use in a graph, nested graphs included; some more than once."""
    yield from (value.name for value in named_values(graph))
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    for node in all_nodes(graph):
        yield from node.input
        yield from node.output
        for inner in subgraphs(node):
            yield from (value.name for value in named_values(inner))


def reads_of(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, through its nested graphs too."""
    yield from filter(None, node.input)
    for inner in subgraphs(node):
        yield from (value.name for value in inner.output)
        for nested in inner.node:
            yield from reads_of(nested)


def producers(graph: GraphProto) -> dict[str, NodeProto]:
    """Node that writes each value."""
    return {name: node for node in graph.node for name in node.output if name}


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Every tensor known before the graph runs: initializers and Constant nodes."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            found[node.output[0]] = node.attribute[0].t
    return found


def integers(graph: GraphProto, node: NodeProto, name: str) -> list[int]:
    """Return an attribute's integers, or those of the second input, where later operator sets have them."""
    for attribute in node.attribute:
        if attribute.name == name:
            return list(attribute.ints) or [attribute.i]
    stored = constants(graph).get(node.input[1]) if len(node.input) > 1 else None
    return [] if stored is None else [int(number) for number in array_of(stored).flat]


def nodes_behind(graph: GraphProto, value: str, stop: frozenset[str] = frozenset({"Conv"})) -> list[NodeProto]:
    """Nodes between `value` and the nearest ones of a `stop` type, which are not walked through; nearest first."""
    writers, seen, todo, nodes = producers(graph), set[str](), deque([value]), list[NodeProto]()
    while todo:
        name = todo.popleft()
        node = writers.get(name)
        if name in seen or node is None:
            continue
        seen.add(name)
        if node.op_type not in stop:
            nodes.append(node)
            todo.extend(reads_of(node))
    return nodes


def tidy(model: ModelProto) -> None:
    """Sort the nodes so that each stands behind what it reads; drop nodes and initializers no output needs."""
    graph = model.graph
    order = _ordered(graph, [value.name for value in graph.output])
    needed = {name for node in order for name in reads_of(node)} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(order)
    graph.initializer.extend(kept)


def _ordered(graph: GraphProto, roots: list[str]) -> list[NodeProto]:
    """Nodes behind `roots`, inputs first; an explicit stack, for a graph may be deeper than Python's."""
    writers = producers(graph)
    order: list[NodeProto] = []
    done, open_ = set[str](), set[str]()
    stack = [(name, False) for name in reversed(roots)]
    while stack:
        name, leaving = stack.pop()
        node = writers.get(name)
        key = next(filter(None, node.output)) if node else ""
        if node is None or key in done:
            continue
        if leaving:
            done.add(key)
            order.append(node)
            continue
        if key in open_:
            raise DamagedModelError(f"the graph is damaged: the value {name[:80]!r} depends on itself")
        open_.add(key)
        stack.append((name, True))
        stack.extend((read, False) for read in reads_of(node) if read in writers)
    return order


def rename(graph: GraphProto, old: str, new: str) -> None:
    """Give a value another name wherever it is written or read."""
    for value in named_values(graph):
        if value.name == old:
            value.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new
        for inner in subgraphs(node):
            rename(inner, old, new)


def shape_of(value: ValueInfoProto) -> tuple[Dim, ...]:
    """Dimensions of a tensor value: a number, a name, or `?` where the file says nothing."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)
