"""The sizes of an XLM-R model, as its `config.json` says them."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping


class ExportError(Exception):
    """A fault that the user can mend: what, where and why, then the cure."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the encoder. `positions` counts the rows of the table, `pad_id + 1` of which are unused."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    ffn: int
    positions: int
    pad_id: int = 1
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        return self.hidden // self.heads

    @property
    def first_position(self) -> int:
        return self.pad_id + 1

    @property
    def max_tokens(self) -> int:
        """Longest row, special tokens included."""
        return self.positions - self.first_position

    def config(self) -> Dict[str, Any]:
        """The same in the form of a Hugging Face `config.json`."""
        return {
            "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta",
            "vocab_size": self.vocab, "hidden_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "intermediate_size": self.ffn, "hidden_act": "gelu",
            "max_position_embeddings": self.positions, "type_vocab_size": 1,
            "layer_norm_eps": self.epsilon, "position_embedding_type": "absolute",
            "bos_token_id": 0, "pad_token_id": self.pad_id, "eos_token_id": 2,
            "torch_dtype": "float32",
        }


def shape_of(config: Mapping[str, Any], where: str) -> Shape:
    """Read a `config.json`; anything that this exporter would get wrong is refused."""
    required = {"model_type": "xlm-roberta", "hidden_act": "gelu", "type_vocab_size": 1}
    for key, wanted in required.items():
        if config.get(key) != wanted:
            raise ExportError(
                f"{where}: {key} is {config.get(key)!r}, and only {wanted!r} can be exported\n"
                "  other architectures: use an ONNX export of theirs with --model PATH")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ExportError(f"{where}: position_embedding_type must be 'absolute'")
    try:
        shape = Shape(
            vocab=int(config["vocab_size"]), hidden=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]), heads=int(config["num_attention_heads"]),
            ffn=int(config["intermediate_size"]), positions=int(config["max_position_embeddings"]),
            pad_id=int(config["pad_token_id"]), epsilon=float(config["layer_norm_eps"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{where} is no config.json of an encoder: {error!r}") from error
    if shape.hidden % shape.heads:
        raise ExportError(f"{where}: {shape.heads} heads do not divide a width of {shape.hidden}")
    return shape
