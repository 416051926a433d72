"""Folders in the hub's layout: config.json, tokenizer.json, weights, `sparse_linear.pt`, `colbert_linear.pt`."""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Dict, Iterator, Tuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from .shape import ExportError, Shape, shape_of
from .weights import Weights, check_weights

#: Checkpoints that hold a model with a task's head name the encoder in front of each tensor.
ENCODER_PREFIXES = ("roberta.", "model.")
HEADS = {"sparse": "lexical", "colbert": "colbert"}
LINEARS = {
    "attention.self.query": "attention.query", "attention.self.key": "attention.key",
    "attention.self.value": "attention.value", "attention.output.dense": "attention.output",
    "intermediate.dense": "ffn.up", "output.dense": "ffn.down",
}
NORMS = {"attention.output.LayerNorm": "attention.norm", "output.LayerNorm": "ffn.norm"}


def load_pickle(path: Path) -> Dict[str, Tensor]:
    """A PyTorch file of tensors; `weights_only` refuses a pickle that would run anything."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ExportError(f"{path} is no file of PyTorch tensors: {error}") from error


def read_state(folder: Path) -> Dict[str, Tensor]:
    """The encoder's tensors by the hub's names, without a prefix."""
    for index in folder.glob("*.index.json"):
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        files = [folder / Path(name).name for name in sorted(names)]
        break
    else:
        files = [path for path in (folder / "model.safetensors", folder / "pytorch_model.bin") if path.exists()][:1]
    if not files:
        raise ExportError(f"{folder} has neither model.safetensors nor pytorch_model.bin\n"
                          "  give a folder in the hub's layout, with PyTorch weights")
    state: Dict[str, Tensor] = {}
    for file in files:
        state.update(load_file(file) if file.suffix == ".safetensors" else load_pickle(file))
    return {without_prefix(name): value for name, value in state.items()}


def without_prefix(name: str) -> str:
    for prefix in ENCODER_PREFIXES:
        name = name[len(prefix):] if name.startswith(prefix) else name
    return name


def read_linear(path: Path) -> Tuple[Tensor, Tensor]:
    """A head's weight [outputs, hidden] and bias [outputs], as float32."""
    state = load_pickle(path)
    try:
        return state["weight"].float(), state["bias"].float()
    except KeyError as error:
        raise ExportError(f"{path} has no tensor {error}") from error


def names(shape: Shape) -> Iterator[Tuple[str, str, bool]]:
    """Each tensor's name on the hub, ours, and whether it lies there transposed."""
    for kind in ("word", "position"):
        yield f"embeddings.{kind}_embeddings.weight", f"embeddings.{kind}", False
    yield from norm_names("embeddings.LayerNorm", "embeddings.norm")
    for index in range(shape.layers):
        theirs, ours = f"encoder.layer.{index}", f"layers.{index}"
        for source, target in LINEARS.items():
            yield f"{theirs}.{source}.weight", f"{ours}.{target}.weight", True
            yield f"{theirs}.{source}.bias", f"{ours}.{target}.bias", False
        for source, target in NORMS.items():
            yield from norm_names(f"{theirs}.{source}", f"{ours}.{target}")


def norm_names(theirs: str, ours: str) -> Iterator[Tuple[str, str, bool]]:
    yield f"{theirs}.weight", f"{ours}.gamma", False
    yield f"{theirs}.bias", f"{ours}.beta", False


def read_hub(folder: Path) -> Tuple[Shape, Weights]:
    """The model's shape and its weights, checked; a head whose file is not there is left out."""
    config = folder / "config.json"
    if not config.exists():
        raise ExportError(f"{config} does not exist\n  give a folder in the hub's layout")
    shape = shape_of(json.loads(config.read_text(encoding="utf-8")), str(config))
    state = read_state(folder)
    weights: Weights = {}
    for theirs, ours, is_transposed in names(shape):
        if theirs in state:
            value = state.pop(theirs).float().numpy()
            weights[ours] = value.T if is_transposed else value
    if "embeddings.token_type_embeddings.weight" in state:
        weights["embeddings.type"] = state["embeddings.token_type_embeddings.weight"].float().numpy()[0]
    for theirs, ours in HEADS.items():
        path = folder / f"{theirs}_linear.pt"
        if path.exists():
            weight, bias = read_linear(path)
            weights[f"{ours}.weight"], weights[f"{ours}.bias"] = weight.numpy().T, bias.numpy()
    check_weights(weights, shape, str(folder))
    return shape, weights


def write_hub(folder: Path, shape: Shape, weights: Weights, tokenizer: Path) -> None:
    """Lay a generated model out as the hub has BGE-M3."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {}
    for theirs, ours, is_transposed in names(shape):
        value = weights[ours].T if is_transposed else weights[ours]
        state[theirs] = torch.tensor(value)
    state["embeddings.token_type_embeddings.weight"] = torch.tensor(weights["embeddings.type"][None])
    torch.save(state, folder / "pytorch_model.bin")
    for theirs, ours in HEADS.items():
        torch.save({"weight": torch.tensor(weights[f"{ours}.weight"].T), "bias": torch.tensor(weights[f"{ours}.bias"])},
                   folder / f"{theirs}_linear.pt")
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
