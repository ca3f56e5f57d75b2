"""Which nodes of a prepared graph are the network, and which the arithmetic around it that has to stay in float32."""

from collections import Counter

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper, shape_inference

from weights_sync.prepare.graph import constants, nodes_behind, producers, reads_of, tidy

OURS = "prepared/"
"""What the names of the nodes that `prepare` added begin with."""
LAYERS = frozenset({"Conv", "Shape"})
"""Where the walk back from the outputs ends: what has a shape is not computed again for being asked its shape."""


def named(prepared: ModelProto) -> ModelProto:
    """Return a copy in which every node has a name of its own, for converters tell them apart by it."""
    model = ModelProto()
    model.CopyFrom(prepared)
    seen = Counter(node.name for node in model.graph.node)
    for number, node in enumerate(model.graph.node):
        if not node.name or seen[node.name] > 1:
            node.name = f"node/{number}/{node.op_type}"
    return model


def around(graph: GraphProto) -> set[str]:
    """Names of the nodes that turn pixels into numbers and the last layers' results into boxes.

    Half precision holds whole numbers up to 2048: a stride of 32 times a bin's rounding is a quarter of a pixel.
    """
    return {node.name for node in graph.node if node.name.startswith(OURS)} | {
        node.name for node in _decoding(graph)[0]
    }


def last_layers(graph: GraphProto) -> set[str]:
    """Names of the convolutions whose results are decoded."""
    return _decoding(graph)[1]


def with_float_weights(prepared: ModelProto) -> ModelProto:
    """Return a copy in which weights that are stored in half precision, and cast as the graph runs, are float32."""
    model = ModelProto()
    model.CopyFrom(prepared)
    stored = constants(model.graph)
    for node in list(model.graph.node):
        tensor = stored.get(node.input[0]) if node.op_type == "Cast" else None
        if tensor is not None and tensor.data_type == TensorProto.FLOAT16 and node.attribute[0].i == TensorProto.FLOAT:
            full = numpy_helper.to_array(tensor).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(full, node.output[0]))
            model.graph.node.remove(node)
    tidy(model)
    return model


def network_of(prepared: ModelProto) -> ModelProto:
    """Return the graph without what decodes the last layers' results, which are its outputs."""
    behind = {node.name for node in _decoding(prepared.graph)[0] if node.op_type != "Constant"}
    described = shape_inference.infer_shapes(prepared).graph
    network = ModelProto()
    network.CopyFrom(prepared)
    graph = network.graph
    wanted = {name for node in graph.node if node.name in behind for name in reads_of(node)}
    kept = [node for node in graph.node if node.name not in behind]
    made = {name for node in kept if node.op_type != "Constant" for name in node.output}
    values = {value.name: value for value in (*described.value_info, *described.output)}
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.output.extend(values[name] for name in sorted(wanted & made))
    tidy(network)
    return network


def with_network(prepared: ModelProto, network: ModelProto) -> ModelProto:
    """Return the graph with another network: one that gives what `network_of` has as its outputs."""
    model = ModelProto()
    model.CopyFrom(network)
    graph = model.graph
    made = set(producers(graph)) | {tensor.name for tensor in graph.initializer}
    graph.node.extend(node for node in prepared.graph.node if made.isdisjoint(node.output))
    graph.initializer.extend(tensor for tensor in prepared.graph.initializer if tensor.name not in made)
    del graph.output[:], graph.value_info[:], model.metadata_props[:]
    graph.output.extend(prepared.graph.output)
    model.metadata_props.extend(prepared.metadata_props)
    tidy(model)
    return model


def _decoding(graph: GraphProto) -> tuple[list[NodeProto], set[str]]:
    """Return the nodes behind the last layers, and those layers' names."""
    writers, stored = producers(graph), constants(graph)
    behind, layers = list[NodeProto](), set[str]()
    todo = [output.name for output in graph.output]
    seen = set[str]()
    while todo:
        found = [node for node in nodes_behind(graph, todo.pop(), LAYERS) if node.name not in seen]
        seen |= {node.name for node in found}
        behind += found
        for conv in (writers.get(name) for node in found for name in node.input):
            if conv is None or conv.op_type != "Conv" or conv.name in seen:
                continue
            weights = stored.get(conv.input[1])
            if weights is None or weights.dims[0] > 1:
                layers.add(conv.name)
                continue
            # One channel out of the bins of a distance: the mean that YOLOv8 calls DFL, an arithmetic in disguise.
            seen.add(conv.name)
            behind.append(conv)
            todo.append(conv.input[0])
    made = {name for node in behind for name in node.output}
    for node in graph.node:
        # Such as the shape of a decoded value; the nodes are in order.
        if node.name not in seen and not made.isdisjoint(reads_of(node)):
            behind.append(node)
            made.update(node.output)
    return behind, layers
