"""Collects nodes and tensors of an ONNX graph and writes them, large ones into a file beside it."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence, Set

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Opset 17 and IR 8: the newest that Debian 12's onnx writes; TensorRT and ONNX Runtime read them.
OPSET, IR_VERSION = 17, 8
FUSED = "com.microsoft"
#: A protobuf message ends at 2 GiB, and a smaller one is parsed into memory while a file is mapped.
LARGEST_INLINE_BYTES = 128 * 1024**2
#: Tensors in the file beside the graph begin at a page, so that they can be mapped.
PAGE = 4096
SMALL_TENSOR_BYTES = 1024

DTYPES = {
    np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int8): TensorProto.INT8, np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.bool_): TensorProto.BOOL, np.dtype(np.int32): TensorProto.INT32, np.dtype(np.int64): TensorProto.INT64,
}


class GraphWriter:
    """Every method that adds something returns the name of the value that it adds."""

    def __init__(self) -> None:
        self.nodes: List[onnx.NodeProto] = []
        self.tensors: Dict[str, np.ndarray] = {}
        self.values: Set[str] = set()

    def node(self, kind: str, inputs: Sequence[str], output: str, domain: str = "",
             **attributes: Any) -> str:
        """Append one node, named after its output."""
        self.nodes.append(helper.make_node(
            kind, list(inputs), [output], name=output, domain=domain, **attributes))
        self.values.add(output)
        return output

    def has(self, value: str) -> bool:
        """Whether a node that makes this value was added before."""
        return value in self.values

    def cast(self, value: str, dtype: Any, output: str) -> str:
        return self.node("Cast", [value], output, to=DTYPES[np.dtype(dtype)])

    def tensor(self, name: str, values: np.ndarray) -> str:
        """A weight; the same name means the same values."""
        self.tensors.setdefault(name, np.asarray(values, order="C"))
        return name

    def integers(self, name: str, values: Any) -> str:
        """An int64 constant, for axes, shapes and slice bounds."""
        return self.tensor(name, np.array(values, dtype=np.int64))

    def save(self, path: Path, inputs: Sequence[onnx.ValueInfoProto],
             outputs: Sequence[onnx.ValueInfoProto]) -> List[Path]:
        """Write the model. @returns The files written, the graph first."""
        total = sum(values.nbytes for values in self.tensors.values())
        data = path.with_name(path.name + "_data") if total > LARGEST_INLINE_BYTES else None
        tensors = ([numpy_helper.from_array(values, name) for name, values in self.tensors.items()]
                   if data is None else write_beside(self.tensors, data))
        graph = helper.make_graph(self.nodes, path.stem, inputs, outputs, tensors)
        model = helper.make_model(graph, producer_name="embedfleet", opset_imports=[
            helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)])
        model.ir_version = IR_VERSION
        path.write_bytes(model.SerializeToString())
        return [path] if data is None else [path, data]


def write_beside(tensors: Dict[str, np.ndarray], data: Path) -> List[TensorProto]:
    """Write the values one after the other into `data`. @returns Tensors that point there."""
    pointers = []
    with data.open("wb") as file:
        for name, values in tensors.items():
            if values.nbytes < SMALL_TENSOR_BYTES:
                pointers.append(numpy_helper.from_array(values, name))
                continue
            file.write(b"\0" * (-file.tell() % PAGE))
            pointer = TensorProto(name=name, dims=values.shape, data_type=DTYPES[values.dtype],
                                  data_location=TensorProto.EXTERNAL)
            place = {"location": data.name, "offset": file.tell(), "length": values.nbytes}
            for key, value in place.items():
                pointer.external_data.add(key=key, value=str(value))
            file.write(values.data)
            pointers.append(pointer)
    return pointers
