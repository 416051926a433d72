#!/usr/bin/env python3
"""Build mini: writes `model.onnx`, `tokenizer.json` and `config.json` next to this file.

Needs Python 3.9, numpy and onnx, old (Debian 12) or new; no network, no corpus.

    python3 build.py            write the files
    python3 build.py --check    compare the committed files with a fresh build
"""
from __future__ import annotations

import argparse
import json
import sys
from typing import Callable, Dict, Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from graph import build_model
from sources import HERE, LEADING_SPECIALS, Vocabulary, read_charsmap, read_vocabulary
from tokenizer_json import tokenizer_json
from weights import EPSILON, FFN, HEADS, HIDDEN, LAYERS, POSITIONS, build_weights

TOLERANCE = 1e-6


def config_json(vocabulary: Vocabulary) -> str:
    """The sizes in the form of a Hugging Face `config.json`."""
    ids = {token: index for index, token in enumerate(LEADING_SPECIALS)}
    config = {
        "architectures": ["XLMRobertaModel"],
        "model_type": "xlm-roberta",
        "vocab_size": len(vocabulary.tokens),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": FFN,
        "hidden_act": "gelu",
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 1,
        "layer_norm_eps": EPSILON,
        "position_embedding_type": "absolute",
        "bos_token_id": ids["<s>"],
        "pad_token_id": ids["<pad>"],
        "eos_token_id": ids["</s>"],
        "torch_dtype": "float32",
    }
    return json.dumps(config, indent=2) + "\n"


def build() -> Dict[str, bytes]:
    """The content of every built file, by name."""
    vocabulary = read_vocabulary()
    model = build_model(build_weights(vocabulary))
    return {
        "model.onnx": model.SerializeToString(),
        "tokenizer.json": tokenizer_json(vocabulary, read_charsmap()).encode(),
        "config.json": config_json(vocabulary).encode(),
    }


def model_differences(committed: bytes, fresh: bytes) -> Iterator[str]:
    """What differs between two models: interface, nodes, then tensors beyond TOLERANCE."""
    old, new = onnx.load_model_from_string(committed), onnx.load_model_from_string(fresh)
    for part in ("input", "output", "node"):
        before, after = getattr(old.graph, part), getattr(new.graph, part)
        if len(before) != len(after):
            yield f"{len(before)} {part}s committed, {len(after)} built"
        yield from (f"{part} {b.name}" for a, b in zip(before, after) if a != b)
    if list(old.opset_import) != list(new.opset_import):
        yield "opset imports"
    old_tensors = {t.name: numpy_helper.to_array(t) for t in old.graph.initializer}
    new_tensors = {t.name: numpy_helper.to_array(t) for t in new.graph.initializer}
    for name in sorted({*old_tensors, *new_tensors}):
        if name not in old_tensors or name not in new_tensors:
            yield f"initializer {name} is in one of them only"
        else:
            yield from tensor_differences(name, old_tensors[name], new_tensors[name])


def tensor_differences(name: str, old: np.ndarray, new: np.ndarray) -> Iterator[str]:
    """What differs between two tensors of that name."""
    if old.shape != new.shape or old.dtype != new.dtype:
        yield f"initializer {name}: {old.dtype}{old.shape} committed, {new.dtype}{new.shape} built"
        return
    gap = float(np.abs(old.astype(np.float64) - new.astype(np.float64)).max())
    if not gap <= TOLERANCE:
        yield f"initializer {name}: values differ by up to {gap:g}"


def text_differences(committed: bytes, fresh: bytes) -> Iterator[str]:
    """Where two text files first differ."""
    if committed != fresh:
        pairs = zip(committed, fresh)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(committed), len(fresh)))
        excerpt = fresh[max(0, at - 20):at + 20].decode(errors="replace")
        yield f"byte {at}, built: {excerpt!r}"


def check() -> int:
    """0 if the committed files equal a fresh build, else 1 and the first difference."""
    for name, fresh in build().items():
        path = HERE / name
        if not path.exists():
            print(f"{name} is missing; run build.py")
            return 1
        compare: Callable[[bytes, bytes], Iterator[str]] = (
            model_differences if name.endswith(".onnx") else text_differences)
        difference = next(compare(path.read_bytes(), fresh), None)
        if difference:
            print(f"{name} differs from a fresh build: {difference}")
            return 1
    print("model.onnx, tokenizer.json and config.json equal a fresh build")
    return 0


def write() -> int:
    """Write all built files."""
    for name, content in build().items():
        (HERE / name).write_bytes(content)
        print(f"{name}: {len(content):,} bytes")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    return check() if parser.parse_args().check else write()


if __name__ == "__main__":
    sys.exit(main())
