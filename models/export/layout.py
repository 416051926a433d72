"""A model's folder as sentence-transformers reads it: `modules.json`, pooling, what follows it, prompts, lengths.

It needs nothing but Python's own library, so that a model that cannot be exported is refused before an
environment is made for it: `python -m export.layout FOLDER`.
"""
from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

from .shape import ExportError, Shape, shape_of

#: How sentence-transformers pools tokens; several are put side by side in this order.
LEGACY_POOLINGS = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean", "pooling_mode_lasttoken": "lasttoken",
}
POOLINGS = tuple(LEGACY_POOLINGS.values())
#: Activations of a Dense module, by the class that its config names.
ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "identity", "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu", "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.activation.GELU": "gelu",
}
LENGTHS = [f"sentence_{kind}_config.json" for kind in (
    "bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")]
#: The tokenizer's word for "no limit" is a number of 30 digits.
NO_LIMIT = 10**9
#: Names of a document's prompt, in the order in which sentence-transformers' `encode_document` looks for them.
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
#: Files of BGE-M3's other heads, which take the encoder's states as they are.
LINEARS = ("sparse_linear.pt", "colbert_linear.pt")
FROM_HUB = "  give the model's whole repository, as the hub has it"
BY_ONNX = "  use an ONNX export of the model with --model PATH"


@dataclass(frozen=True)
class Module:
    """One module after the pooling: `dense`, `norm` or `normalize`. Its tensors are in the weights by `name`."""

    kind: str
    name: str
    folder: Path
    inputs: int = 0
    outputs: int = 0
    has_bias: bool = False
    activation: str = "identity"


@dataclass(frozen=True)
class Layout:
    """What the files say about a model, but for its weights."""

    folder: Path
    #: Where the encoder's config, weights and tokenizer are.
    encoder: Path
    has_modules: bool
    shape: Shape
    pooling: Tuple[str, ...]
    modules: Tuple[Module, ...]
    dim: int
    #: Longest row, special tokens included.
    max_tokens: int
    prompts: Dict[str, str]
    default_prompt: str | None
    query_prefix: str
    passage_prefix: str
    lower_case: bool


def read_layout(folder: Path) -> Layout:
    """Read and check all but the weights. Whatever would change the vectors and is not known is refused."""
    listed = read_modules(folder)
    encoder = folder / (listed[0]["path"] if listed else "")
    config_file = encoder / "config.json"
    if not config_file.exists():
        raise ExportError(f"{config_file} does not exist\n  give a folder in the hub's layout")
    config = read_json(config_file)
    shape = shape_of(config, str(config_file))
    lengths = read_lengths(encoder)
    pooling_file, after = pooling_of(folder, listed)
    pooling, include_prompt = read_pooling(pooling_file, shape.hidden) if pooling_file else (bge_m3(folder, config), True)
    modules, dim = read_after(after, shape.hidden * len(pooling))
    prompts, default, query, passage = read_prompts(folder)
    if not include_prompt and (query or passage):
        raise ExportError(f"{pooling_file} leaves the prompt out of the pooling, which an exported graph cannot\n{BY_ONNX}")
    if dim != shape.hidden and (folder / "colbert_linear.pt").exists():
        raise ExportError(f"{folder} has dense vectors of {dim} and ColBERT vectors of {shape.hidden}: they must be as wide")
    return Layout(
        folder=folder, encoder=encoder, has_modules=bool(listed), shape=shape, pooling=pooling, modules=modules, dim=dim,
        max_tokens=longest_row(encoder, shape, lengths), prompts=prompts, default_prompt=default,
        query_prefix=query, passage_prefix=passage, lower_case=bool(lengths.get("do_lower_case")))


def read_modules(folder: Path) -> List[Dict[str, str]]:
    """The list of `modules.json`, each with its kind; empty without that file."""
    file = folder / "modules.json"
    if not file.exists():
        return []
    listed = read_json(file, list)
    modules = []
    for each in listed:
        kind, path = (each.get("type"), each.get("path", "")) if isinstance(each, dict) else (None, "")
        if not isinstance(kind, str) or not isinstance(path, str) or path.startswith("/") or ".." in Path(path).parts:
            raise ExportError(f"{file} has a module without a type or with a path outside the folder: {each!r}\n{FROM_HUB}")
        modules.append({"type": kind, "kind": kind_of(kind), "path": path})
    if not modules or modules[0]["kind"] != "Transformer":
        first = modules[0]["type"] if modules else "nothing"
        raise ExportError(f"{file} begins with {first}, and only models that begin with a Transformer can be exported\n{BY_ONNX}")
    return modules


def kind_of(kind: str) -> str:
    """The class's name, for sentence-transformers' own classes; the whole name for others."""
    return kind.rsplit(".", 1)[-1] if kind.startswith("sentence_transformers.") else kind


def pooling_of(folder: Path, listed: List[Dict[str, str]]) -> Tuple[Path | None, List[Tuple[str, Dict[str, str]]]]:
    """The pooling's config, and the modules after it, each with its folder."""
    if not listed:
        file = folder / "1_Pooling" / "config.json"
        return (file if file.exists() else None), []
    if len(listed) < 2 or listed[1]["kind"] != "Pooling":
        second = listed[1]["type"] if len(listed) > 1 else "nothing"
        raise ExportError(f"{folder / 'modules.json'} has {second} after the Transformer, and only Pooling can be exported "
                          f"there\n{BY_ONNX}")
    return folder / listed[1]["path"] / "config.json", [(str(folder / each["path"]), each) for each in listed[2:]]


def bge_m3(folder: Path, config: Dict[str, Any]) -> Tuple[str, ...]:
    """BGE-M3's heads take the first token; any other model must say how its vectors are pooled."""
    if any((folder / name).exists() for name in LINEARS):
        return ("cls",)
    kind = (config.get("architectures") or ["an encoder"])[0]
    raise ExportError(f"{folder} has neither modules.json nor 1_Pooling: it does not say how {kind} becomes one vector\n{FROM_HUB}")


def read_pooling(file: Path, hidden: int) -> Tuple[Tuple[str, ...], bool]:
    """How tokens are pooled, and whether the prompt's tokens are."""
    if not file.exists():
        raise ExportError(f"{file} does not exist\n{FROM_HUB}")
    config = read_json(file)
    width = config.get("embedding_dimension", config.get("word_embedding_dimension", hidden))
    if width != hidden:
        raise ExportError(f"{file} pools vectors of {width}, and the encoder's are {hidden} wide\n{FROM_HUB}")
    modes = config.get("pooling_mode")
    if modes is None:
        # As sentence-transformers has it: nothing asked for is the mean.
        modes = [mode for key, mode in LEGACY_POOLINGS.items() if config.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    unknown = [mode for mode in modes if mode not in POOLINGS] if isinstance(modes, list) and modes else [modes]
    if unknown:
        raise ExportError(f"{file} asks for the pooling {unknown[0]!r}, and only {', '.join(POOLINGS)} can be exported\n{BY_ONNX}")
    return tuple(modes), config.get("include_prompt") is not False


def read_after(listed: List[Tuple[str, Dict[str, str]]], width: int) -> Tuple[Tuple[Module, ...], int]:
    """The modules after the pooling, and the width of what leaves the last."""
    modules: List[Module] = []
    for index, (path, each) in enumerate(listed):
        folder, name, kind = Path(path), f"modules.{index}", each["kind"]
        if kind == "Dropout":
            continue
        if kind == "Dense":
            modules.append(read_dense(folder, name, width))
            width = modules[-1].outputs
        elif kind == "LayerNorm":
            found = read_json(folder / "config.json").get("dimension")
            if found != width:
                raise ExportError(f"{folder} normalises vectors of {found}, and it is given {width}\n{FROM_HUB}")
            modules.append(Module("norm", name, folder, width, width))
        elif kind == "Normalize":
            config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
            refuse_other_features(config, folder)
            modules.append(Module("normalize", name, folder, width, width))
        else:
            raise ExportError(f"modules.json has {each['type']} after the pooling, and only Dense, LayerNorm, Normalize and "
                              f"Dropout can be exported\n{BY_ONNX}")
    return tuple(modules), width


def read_dense(folder: Path, name: str, width: int) -> Module:
    config = read_json(folder / "config.json")
    refuse_other_features(config, folder)
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in ACTIVATIONS:
        raise ExportError(f"{folder} has the activation {activation!r}, and only {', '.join(ACTIVATIONS)} can be exported\n{BY_ONNX}")
    if config.get("use_residual"):
        raise ExportError(f"{folder} adds its input to its output (use_residual), which cannot be exported\n{BY_ONNX}")
    if config.get("in_features") != width or not isinstance(config.get("out_features"), int):
        raise ExportError(f"{folder} turns {config.get('in_features')} numbers into {config.get('out_features')}, and it is "
                          f"given {width}\n{FROM_HUB}")
    return Module("dense", name, folder, width, config["out_features"], config.get("bias") is not False, ACTIVATIONS[activation])


def refuse_other_features(config: Dict[str, Any], folder: Path) -> None:
    """A module may read or write something else than the pooled vector."""
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise ExportError(f"{folder} has the {key} {config[key]!r}, and only sentence_embedding can be exported\n{BY_ONNX}")


def read_lengths(encoder: Path) -> Dict[str, Any]:
    for name in LENGTHS:
        if not (encoder / name).exists():
            continue
        config = read_json(encoder / name)
        for key, wanted in {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}.items():
            if config.get(key) not in (None, wanted):
                raise ExportError(f"{encoder / name}: {key} is {config[key]!r}, and only {wanted!r} can be exported\n{BY_ONNX}")
        return config
    return {}


def longest_row(encoder: Path, shape: Shape, lengths: Dict[str, Any]) -> int:
    """The length that sentence-transformers cuts texts to."""
    stated = lengths.get("max_seq_length")
    tokenizer = encoder / "tokenizer_config.json"
    if stated is None and tokenizer.exists():
        stated = read_json(tokenizer).get("model_max_length")
    usable = isinstance(stated, (int, float)) and not isinstance(stated, bool) and stated < NO_LIMIT
    longest = min(int(stated), shape.max_tokens) if usable else shape.max_tokens
    if longest < 3:
        raise ExportError(f"{encoder} takes rows of {longest} tokens, and a row needs at least 3\n{FROM_HUB}")
    return longest


def read_prompts(folder: Path) -> Tuple[Dict[str, str], str | None, str, str]:
    """All prompts, the default's name, and what is put before a query and a passage."""
    file = folder / "config_sentence_transformers.json"
    config = read_json(file) if file.exists() else {}
    named, default = config.get("prompts") or {}, config.get("default_prompt_name")
    is_text = isinstance(named, dict) and all(prompt is None or isinstance(prompt, str) for prompt in named.values())
    if not is_text or not (default is None or isinstance(default, str)):
        raise ExportError(f"{file}: prompts must be texts by name, and default_prompt_name a name\n{FROM_HUB}")
    if config.get("model_type") not in (None, "SentenceTransformer"):
        raise ExportError(f"{file} says that the model is a {config['model_type']}, and only a SentenceTransformer can be "
                          f"exported\n  a {config['model_type']} gives no dense vectors")
    prompts = {name: prompt or "" for name, prompt in named.items()}
    if default is not None and default not in prompts:
        raise ExportError(f"{file} has the default prompt {default!r}, which it does not define\n{FROM_HUB}")
    otherwise = prompts.get(default, "") if default is not None else ""
    passage = next((prompts[name] for name in DOCUMENT_PROMPTS if name in prompts), otherwise)
    return prompts, default, prompts.get("query", otherwise), passage


def read_json(file: Path, kind: type = dict) -> Any:
    if file.exists() and not file.is_file():
        raise ExportError(f"{file} is not a regular file\n  give the model's files as the hub has them")
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{file} cannot be read: {error}\n{FROM_HUB}") from error
    if not isinstance(value, kind):
        raise ExportError(f"{file} is no JSON {'object' if kind is dict else 'list'}\n{FROM_HUB}")
    return value


def main() -> int:
    try:
        read_layout(Path(sys.argv[1]))
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
