"""The sizes of an encoder, as its `config.json` says them; whatever would be computed wrongly is refused."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Tuple


class ExportError(Exception):
    """A fault that the user can mend: what, where and why, then the cure."""


#: Families whose positions count the tokens that are no padding, from the one after the pad id's.
COUNTED_FROM_PAD = ("xlm-roberta", "roberta", "camembert", "mpnet")
#: Activations of a feed-forward part, by the name in config.json, and what the graph calls them.
ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "gelu_new": "fast_gelu", "gelu_pytorch_tanh": "fast_gelu",
               "gelu_fast": "fast_gelu"}


@dataclass(frozen=True)
class Rotary:
    """ModernBERT's attention: positions by rotation, and a window of `reach` tokens either side in most layers."""

    global_theta: float
    local_theta: float
    reach: int
    #: Which layers look at the whole row.
    is_global: Tuple[bool, ...]


@dataclass(frozen=True)
class Shape:
    """Sizes of the encoder. `positions` counts the rows of the position table, or the longest row without one."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    ffn: int
    positions: int
    pad_id: int = 1
    epsilon: float = 1e-5
    kind: str = "xlm-roberta"
    activation: str = "gelu"
    #: Buckets of MPNet's relative attention bias; 0 without one.
    buckets: int = 0
    rotary: Rotary | None = None

    @property
    def head(self) -> int:
        return self.hidden // self.heads

    @property
    def is_counted_from_pad(self) -> bool:
        return self.kind in COUNTED_FROM_PAD

    @property
    def first_position(self) -> int:
        return self.pad_id + 1 if self.is_counted_from_pad else 0

    @property
    def max_tokens(self) -> int:
        """Longest row, special tokens included."""
        return self.positions - self.first_position

    def config(self) -> Dict[str, Any]:
        """The same in the form of a Hugging Face `config.json`."""
        names = {"xlm-roberta": "XLMRobertaModel"}
        return {
            **({"architectures": [names[self.kind]]} if self.kind in names else {}), "model_type": self.kind,
            "vocab_size": self.vocab, "hidden_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "intermediate_size": self.ffn, "hidden_act": self.activation,
            "max_position_embeddings": self.positions, "type_vocab_size": 1,
            "layer_norm_eps": self.epsilon, "position_embedding_type": "absolute",
            "bos_token_id": 0, "pad_token_id": self.pad_id, "eos_token_id": 2,
            "torch_dtype": "float32",
        }


def shape_of(config: Mapping[str, Any], where: str) -> Shape:
    """Read a `config.json`; anything that this exporter would get wrong is refused."""
    kind = config.get("model_type")
    if kind not in FAMILIES:
        own = " and brings code of its own, which is never run" if config.get("auto_map") else ""
        raise ExportError(
            f"{where}: model_type is {kind!r}{own}, and only {', '.join(FAMILIES)} can be exported\n"
            "  other architectures: use an ONNX export of theirs with --model PATH")
    for key in ("is_decoder", "add_cross_attention"):
        if config.get(key):
            raise ExportError(f"{where}: {key} is {config[key]!r}, and only encoders can be exported")
    if (config.get("position_embedding_type") or "absolute") != "absolute":
        raise ExportError(f"{where}: position_embedding_type must be 'absolute'")
    try:
        shape = FAMILIES[kind](config, where)
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{where} is no config.json of an encoder: {error!r}") from error
    for name in ("vocab", "hidden", "layers", "heads", "ffn", "max_tokens"):
        if getattr(shape, name) < 1:
            raise ExportError(f"{where} is no config.json of an encoder: its {name} is {getattr(shape, name)}")
    if shape.hidden % shape.heads:
        raise ExportError(f"{where}: {shape.heads} heads do not divide a width of {shape.hidden}")
    return shape


def activation_of(config: Mapping[str, Any], key: str, where: str) -> str:
    name = config.get(key, "gelu")
    if name not in ACTIVATIONS:
        raise ExportError(f"{where}: {key} is {name!r}, and only {', '.join(ACTIVATIONS)} can be exported\n"
                          "  use an ONNX export of the model with --model PATH")
    return ACTIVATIONS[name]


def number(config: Mapping[str, Any], key: str, default: float) -> float:
    """A number that a config may leave out or state as null, where transformers has this default."""
    value = config.get(key)
    return default if value is None else float(value)


def bert(config: Mapping[str, Any], where: str) -> Shape:
    """BERT and its kin with positions that begin at 0."""
    return Shape(
        vocab=int(config["vocab_size"]), hidden=int(config["hidden_size"]), layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]), ffn=int(config["intermediate_size"]),
        positions=int(config["max_position_embeddings"]), pad_id=int(number(config, "pad_token_id", 0)),
        epsilon=number(config, "layer_norm_eps", 1e-12), kind=config["model_type"],
        activation=activation_of(config, "hidden_act", where))


def roberta(config: Mapping[str, Any], where: str) -> Shape:
    return bert({**config, "pad_token_id": number(config, "pad_token_id", 1)}, where)


def mpnet(config: Mapping[str, Any], where: str) -> Shape:
    """MPNet's own code takes 1 for the id of padding, whatever its config says."""
    shape = bert({**config, "pad_token_id": 1}, where)
    return Shape(**{**shape.__dict__, "buckets": int(number(config, "relative_attention_num_buckets", 32))})


def distilbert(config: Mapping[str, Any], where: str) -> Shape:
    return Shape(
        vocab=int(config["vocab_size"]), hidden=int(config["dim"]), layers=int(config["n_layers"]),
        heads=int(config["n_heads"]), ffn=int(config["hidden_dim"]), positions=int(config["max_position_embeddings"]),
        pad_id=int(number(config, "pad_token_id", 0)), epsilon=1e-12, kind="distilbert",
        activation=activation_of(config, "activation", where))


def modernbert(config: Mapping[str, Any], where: str) -> Shape:
    layers = int(config["num_hidden_layers"])
    every = int(number(config, "global_attn_every_n_layers", 3))
    types = config.get("layer_types") or [
        "full_attention" if index % every == 0 else "sliding_attention" for index in range(layers)]
    if len(types) != layers or set(types) - {"full_attention", "sliding_attention"}:
        raise ExportError(f"{where}: layer_types must be full_attention or sliding_attention for each of {layers} layers")
    return Shape(
        vocab=int(config["vocab_size"]), hidden=int(config["hidden_size"]), layers=layers,
        heads=int(config["num_attention_heads"]), ffn=int(config["intermediate_size"]),
        positions=int(config["max_position_embeddings"]), pad_id=int(number(config, "pad_token_id", 50283)),
        epsilon=number(config, "norm_eps", 1e-5), kind="modernbert",
        activation=activation_of(config, "hidden_activation", where),
        rotary=Rotary(
            global_theta=theta_of(config, "full_attention", "global_rope_theta", 160_000, where),
            local_theta=theta_of(config, "sliding_attention", "local_rope_theta", 10_000, where),
            reach=int(number(config, "local_attention", 128)) // 2,
            is_global=tuple(kind == "full_attention" for kind in types)))


def theta_of(config: Mapping[str, Any], layer_type: str, key: str, default: float, where: str) -> float:
    """The base of a layer type's rotations, as transformers 5 or an earlier version wrote it."""
    rope = (config.get("rope_parameters") or {}).get(layer_type) or {}
    scaling = config.get("rope_scaling")
    if rope.get("rope_type", "default") != "default" or scaling:
        raise ExportError(f"{where}: rotary positions of type {rope.get('rope_type', scaling)!r} cannot be exported\n"
                          "  use an ONNX export of the model with --model PATH")
    if rope.get("rope_theta") is not None:
        return float(rope["rope_theta"])
    return number(config, key, default)


#: What reads the config of each model_type.
FAMILIES: Dict[str, Callable[[Mapping[str, Any], str], Shape]] = {
    "xlm-roberta": roberta, "roberta": roberta, "camembert": roberta, "bert": bert, "distilbert": distilbert,
    "mpnet": mpnet, "modernbert": modernbert,
}
