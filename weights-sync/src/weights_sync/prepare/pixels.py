"""The front of the prepared graph: from uint8 NHWC RGB pixels to what the network was trained on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, numpy_helper

from weights_sync.prepare.graph import Editor, all_nodes, reads_of
from weights_sync.prepare.notes import array_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a network takes."""

    dtype: int
    """`TensorProto` element type."""
    divisor: float | tuple[float, ...]
    """What the pixels, 0..255, are divided by; of each channel, in the network's order, where they differ."""
    bgr: bool
    channels_last: bool
    mean: tuple[float, ...] = ()
    """What is taken off the pixels of each channel before that."""

    def spread(self, numbers: float | tuple[float, ...]) -> npt.NDArray[np.float32]:
        """Return numbers of all channels, or of each, in a shape that goes with pictures."""
        array = np.asarray(numbers, np.float32)
        return array.reshape(-1, 1, 1) if array.ndim and not self.channels_last else array


def normalise(edit: Editor, images: str, network_input: str, wanted: Wanted) -> str:
    """Append nodes from `images` (B, H, W, 3) uint8, RGB to the value that goes into the network; return its name."""
    value, channel_axis = images, 3
    if not wanted.channels_last:
        value, channel_axis = edit.op("Transpose", value, perm=[0, 3, 1, 2]), 1
    if wanted.bgr:
        value = edit.op("Gather", value, edit.constant([2, 1, 0], np.int64), axis=channel_axis)
    value = edit.cast(value, TensorProto.FLOAT)
    if wanted.mean:
        value = edit.op("Sub", value, edit.constant(wanted.spread(wanted.mean), np.float32))
    if wanted.divisor != 1 and (wanted.mean or not _fold(edit, network_input, wanted.spread(wanted.divisor))):
        # Not Mul by the reciprocal: in half precision its rounding changes which of two equal boxes comes first.
        value = edit.op("Div", value, edit.constant(wanted.spread(wanted.divisor), np.float32))
    # Half precision holds 0..255 exactly, and 0..1 best when it is rounded once.
    return value if wanted.dtype == TensorProto.FLOAT else edit.cast(value, wanted.dtype)


def _fold(edit: Editor, network_input: str, divisor: npt.NDArray[np.float32]) -> bool:
    """Divide the weights of the first convolution in place of its input, which saves a pass over the picture.

    Done for one float32 Conv with weights of its own and nothing else on the input: padding with zeros stays zeros.
    """
    readers = [node for node in all_nodes(edit.graph) if network_input in reads_of(node)]
    if len(readers) != 1 or readers[0].op_type != "Conv" or readers[0].input[0] != network_input:
        return False
    weights = _own_weights(edit, readers[0])
    if weights is None or weights.data_type != TensorProto.FLOAT:
        return False
    scaled = array_of(weights).astype(np.float64) / divisor
    weights.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), weights.name))
    return True


def _own_weights(edit: Editor, conv: NodeProto) -> TensorProto | None:
    """Return the initializer that holds a convolution's weights, if it holds them for that one only."""
    name = conv.input[1]
    shared = sum(read == name for node in edit.graph.node for read in reads_of(node)) > 1
    return None if shared else next((tensor for tensor in edit.graph.initializer if tensor.name == name), None)
