"""Folders in the hub's layout: the encoder's weights, those of modules after it, and BGE-M3's two linear heads."""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Iterator, Tuple

import numpy as np

from .layout import Layout
from .shape import ExportError, Shape
from .tensors import Tensors, read_tensors, weights_file
from .weights import Weights, check_weights

#: Checkpoints that hold a model with a task's head name the encoder in front of each tensor.
ENCODER_PREFIXES = ("roberta.", "bert.", "distilbert.", "mpnet.", "model.")
HEADS = {"sparse": "lexical", "colbert": "colbert"}

Names = Iterator[Tuple[str, str, bool]]

#: A layer's linear parts and norms by the hub's names, which differ between families.
BERT_LINEARS = {
    "attention.self.query": "attention.query", "attention.self.key": "attention.key",
    "attention.self.value": "attention.value", "attention.output.dense": "attention.output",
    "intermediate.dense": "ffn.up", "output.dense": "ffn.down",
}
BERT_NORMS = {"attention.output.LayerNorm": "attention.norm", "output.LayerNorm": "ffn.norm"}
MPNET_LINEARS = {
    "attention.attn.q": "attention.query", "attention.attn.k": "attention.key", "attention.attn.v": "attention.value",
    "attention.attn.o": "attention.output", "intermediate.dense": "ffn.up", "output.dense": "ffn.down",
}
MPNET_NORMS = {"attention.LayerNorm": "attention.norm", "output.LayerNorm": "ffn.norm"}
DISTILBERT_LINEARS = {
    "attention.q_lin": "attention.query", "attention.k_lin": "attention.key", "attention.v_lin": "attention.value",
    "attention.out_lin": "attention.output", "ffn.lin1": "ffn.up", "ffn.lin2": "ffn.down",
}
DISTILBERT_NORMS = {"sa_layer_norm": "attention.norm", "output_layer_norm": "ffn.norm"}
LAYERS = {"mpnet": ("encoder.layer", MPNET_LINEARS, MPNET_NORMS),
          "distilbert": ("transformer.layer", DISTILBERT_LINEARS, DISTILBERT_NORMS)}
BERT_LAYERS = ("encoder.layer", BERT_LINEARS, BERT_NORMS)
MODERN_LINEARS = {"attn.Wo": "attention.output", "mlp.Wo": "ffn.down"}
MODERN_NORMS = {"attn_norm": "attention.norm", "mlp_norm": "ffn.norm"}


def read_state(folder: Path) -> Tensors:
    """The encoder's tensors by the hub's names, without a prefix."""
    index = next(iter(sorted(folder.glob("*.index.json"))), None)
    if index is not None:
        parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [folder / Path(name).name for name in parts]
    else:
        files = [path for path in [weights_file(folder)] if path is not None]
    if not files:
        raise ExportError(f"{folder} has neither model.safetensors nor pytorch_model.bin\n"
                          "  give a folder in the hub's layout, with PyTorch weights")
    state: Tensors = {}
    for file in files:
        state.update(read_tensors(file))
    return {todays_name(name): value for name, value in state.items()}


def todays_name(name: str) -> str:
    """Without the encoder's prefix; early checkpoints call a norm's weight and bias gamma and beta."""
    for prefix in ENCODER_PREFIXES:
        name = name[len(prefix):] if name.startswith(prefix) else name
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def read_linear(path: Path) -> Tuple[np.ndarray, np.ndarray]:
    """A head's weight [outputs, hidden] and bias [outputs], as float32."""
    state = read_tensors(path)
    try:
        return state["weight"], state["bias"]
    except KeyError as error:
        raise ExportError(f"{path} has no tensor {error}") from error


def names(shape: Shape) -> Names:
    """Each tensor's name on the hub, ours, and whether it lies there transposed."""
    layer, linears, norms = LAYERS.get(shape.kind, BERT_LAYERS)
    for kind in ("word", "position"):
        yield f"embeddings.{kind}_embeddings.weight", f"embeddings.{kind}", False
    yield from norm_names("embeddings.LayerNorm", "embeddings.norm")
    for index in range(shape.layers):
        theirs, ours = f"{layer}.{index}", f"layers.{index}"
        for source, target in linears.items():
            yield from linear_names(f"{theirs}.{source}", f"{ours}.{target}")
        for source, target in norms.items():
            yield from norm_names(f"{theirs}.{source}", f"{ours}.{target}")
    if shape.buckets > 0:
        yield "encoder.relative_attention_bias.weight", "attention.buckets", False


def modern_names(shape: Shape) -> Names:
    """The same for ModernBERT, but for its two joined layers, which `split_joined` takes apart."""
    yield "embeddings.tok_embeddings.weight", "embeddings.word", False
    yield from norm_names("embeddings.norm", "embeddings.norm")
    yield from norm_names("final_norm", "final.norm")
    for index in range(shape.layers):
        theirs, ours = f"layers.{index}", f"layers.{index}"
        for source, target in MODERN_LINEARS.items():
            yield from linear_names(f"{theirs}.{source}", f"{ours}.{target}")
        for source, target in MODERN_NORMS.items():
            yield from norm_names(f"{theirs}.{source}", f"{ours}.{target}")


def split_joined(state: Tensors, shape: Shape) -> Weights:
    """ModernBERT keeps query, key and value in one layer, and the feed-forward part's two inputs in another."""
    weights: Weights = {}
    for index in range(shape.layers):
        joined = {"attn.Wqkv": ["attention.query", "attention.key", "attention.value"], "mlp.Wi": ["ffn.up", "ffn.gate"]}
        for theirs, ours in joined.items():
            for kind in ("weight", "bias"):
                value = state.get(f"layers.{index}.{theirs}.{kind}")
                for name, part in zip(ours, [] if value is None else np.array_split(value, len(ours))):
                    weights[f"layers.{index}.{name}.{kind}"] = part.T
    return weights


def linear_names(theirs: str, ours: str) -> Names:
    yield f"{theirs}.weight", f"{ours}.weight", True
    yield f"{theirs}.bias", f"{ours}.bias", False


def norm_names(theirs: str, ours: str) -> Names:
    yield f"{theirs}.weight", f"{ours}.gamma", False
    yield f"{theirs}.bias", f"{ours}.beta", False


def read_hub(layout: Layout) -> Weights:
    """The model's weights, checked; a head whose file is not there is left out."""
    shape, folder = layout.shape, layout.folder
    state = read_state(layout.encoder)
    modern = shape.rotary is not None
    weights: Weights = split_joined(state, shape) if modern else {}
    for theirs, ours, is_transposed in modern_names(shape) if modern else names(shape):
        if theirs in state:
            weights[ours] = state[theirs].T if is_transposed else state[theirs]
    if not modern:
        # Every text is the first of a pair, so only that row of the table is ever used.
        types = state.get("embeddings.token_type_embeddings.weight")
        weights["embeddings.type"] = np.zeros(shape.hidden, dtype=np.float32) if types is None else types[0]
    for theirs, ours in HEADS.items():
        path = folder / f"{theirs}_linear.pt"
        if path.exists():
            weight, bias = read_linear(path)
            weights[f"{ours}.weight"], weights[f"{ours}.bias"] = weight.T, bias
    weights.update(read_modules(layout))
    check_weights(weights, shape, str(folder), layout.modules)
    return weights


def read_modules(layout: Layout) -> Weights:
    """Tensors of the modules after the pooling."""
    weights: Weights = {}
    for module in layout.modules:
        if module.kind == "normalize":
            continue
        file = weights_file(module.folder)
        if file is None:
            raise ExportError(f"{module.folder} has neither model.safetensors nor pytorch_model.bin\n"
                              "  give the model's whole repository, as the hub has it")
        state, theirs = read_tensors(file), "linear" if module.kind == "dense" else "norm"
        ours = linear_names(theirs, module.name) if module.kind == "dense" else norm_names(theirs, module.name)
        for name, target, is_transposed in ours:
            if name in state:
                weights[target] = state[name].T if is_transposed else state[name]
    return weights


def write_hub(folder: Path, shape: Shape, weights: Weights, tokenizer: Path) -> None:
    """Lay a generated model out as the hub has BGE-M3."""
    import torch

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
