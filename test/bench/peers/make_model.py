#!/usr/bin/env python3
"""One model with made-up weights, in the layout of the hub, for every peer: `make_model.py FOLDER`.

As wide as small multilingual models are (6 layers of 384), with BGE-M3's 8192 positions and its heads.
`onnx/model.onnx` is in plain operators with the last hidden state as its output, like the hub's exports.
"""
from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models"))
from export.arithmetic import Arithmetic  # noqa: E402
from export.generated import SHAPES, generate  # noqa: E402
from export.graph import embeddings, encoder_layer  # noqa: E402
from export.hub import write_hub  # noqa: E402
from export.plain import PlainLayers  # noqa: E402
from export.sources import MINI  # noqa: E402
from export.writer import GraphWriter  # noqa: E402

SHAPE = replace(SHAPES["tiny"], positions=8194)
ROLES = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>",
         "unk_token": "<unk>", "mask_token": "<mask>"}
#: What sentence-transformers, and whoever reads its files, must know: the first token's state, of unit length.
LAYOUT = {
    "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": SHAPE.max_tokens,
                              "model_input_names": ["input_ids", "attention_mask"], **ROLES},
    "special_tokens_map.json": ROLES,
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}],
    "sentence_bert_config.json": {"max_seq_length": SHAPE.max_tokens, "do_lower_case": False},
    "1_Pooling/config.json": {"word_embedding_dimension": SHAPE.hidden, "pooling_mode_cls_token": True,
                              "pooling_mode_mean_tokens": False},
}


def write_encoder(path: Path, weights: dict) -> None:
    """The encoder alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = GraphWriter()
    arithmetic = Arithmetic(graph, weights, np.float32)
    layers = PlainLayers(arithmetic, SHAPE)
    hidden = embeddings(arithmetic, layers, SHAPE)
    for index in range(SHAPE.layers):
        hidden = encoder_layer(arithmetic, layers, f"layers.{index}", hidden)
    graph.node("Identity", [hidden], "last_hidden_state")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"])
              for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "seq", SHAPE.hidden])
    graph.save(path, inputs, [output])


def main(folder: Path) -> None:
    weights = generate(SHAPE)
    write_hub(folder, SHAPE, weights, MINI / "tokenizer.json")
    for name, content in LAYOUT.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_encoder(folder / "onnx" / "model.onnx", weights)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
