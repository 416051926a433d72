"""Tensors out of safetensors files, read here, and out of PyTorch's, read with PyTorch."""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Dict

import numpy as np

from .shape import ExportError

#: What a file's `dtype` is in numpy; BF16 has no type there and is the upper half of a float32.
DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "I32": np.int32,
          "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_}
LENGTH_BYTES = 8

Tensors = Dict[str, np.ndarray]


def read_tensors(path: Path) -> Tensors:
    """All tensors of a file; floating point ones as float32."""
    return read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)


def read_safetensors(path: Path) -> Tensors:
    """A length, that many bytes of JSON, and the values; see the format's own description."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if length > size - LENGTH_BYTES:
                raise ValueError(f"its header has {length} bytes, and the file {size}")
            header = json.loads(file.read(length))
        values = np.memmap(path, dtype=np.uint8, mode="r", offset=LENGTH_BYTES + length) if size > LENGTH_BYTES + length else b""
        return {name: one_tensor(values, **entry) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{path} is no file of tensors: {error!r}\n  it is damaged, or a link to the hub's large files: "
                          "pull it again") from error


def one_tensor(values: np.ndarray, dtype: str, shape: list, data_offsets: list) -> np.ndarray:
    start, end = data_offsets
    kind = np.dtype(DTYPES[dtype])
    if not 0 <= start <= end <= len(values) or end - start != math.prod(shape) * kind.itemsize:
        raise ValueError(f"a tensor {shape} of {dtype} lies at {start} to {end} of {len(values)} bytes")
    raw = np.frombuffer(bytes(values[start:end]), dtype=kind).reshape(shape)
    if dtype == "BF16":
        return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return raw.astype(np.float32) if kind.kind == "f" else raw


def read_pickle(path: Path) -> Tensors:
    """A PyTorch file of tensors; `weights_only` refuses a pickle that would run anything."""
    try:
        import torch
    except ImportError as error:
        raise ExportError(f"{path} is read with PyTorch: {error}\n"
                          "  pip install -r models/export/requirements.txt, or run it by: embedfleet models export") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: (value.float() if value.is_floating_point() else value).numpy() for name, value in state.items()}
    except Exception as error:
        raise ExportError(f"{path} is no file of PyTorch tensors: {error}") from error


def weights_file(folder: Path) -> Path | None:
    """The one file of weights in a folder; safetensors is preferred, as it cannot run anything."""
    found = [folder / name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).exists()]
    return found[0] if found else None
