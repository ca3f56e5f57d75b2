"""A prepared graph in half precision: its network's weights and values, between pixels and boxes in float32."""

from onnx import ModelProto
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from weights_sync.quantise.parts import around, named, network_of, with_network


def halve(prepared: ModelProto) -> ModelProto:
    """Return the graph with a network in float16; its inputs and outputs keep their types."""
    model = named(prepared)
    network = network_of(model)
    # The network alone, for between nodes that it is told to leave alone the converter rounds to float16 all the same.
    half = convert_float_to_float16(
        network,
        keep_io_types=True,
        op_block_list=list(DEFAULT_OP_BLOCK_LIST),
        node_block_list=sorted(around(network.graph)),
    )
    return with_network(model, half)
