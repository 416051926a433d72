#!/usr/bin/env python3
"""One Python peer in a process of its own: `encode.py PEER MODEL TEXTS.json`.

Prints a line of JSON when the model is loaded and warm, and one when the texts are embedded.
"""
from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Callable, List, Tuple

import numpy as np

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true", DO_NOT_TRACK="1")
MAX_TOKENS = 8192
#: Their own defaults are 32, or 256 for FlagEmbedding and fastembed, with which both are slower here.
BATCH = 32
#: Linux only.
OOM_SCORE = Path("/proc/self/oom_score_adj")
#: Texts, longest tail included, to vectors [texts, dim].
Encode = Callable[[List[str]], np.ndarray]


def sentence_transformers(model: str) -> Encode:
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(model, device="cpu")
    return lambda texts: loaded.encode(texts, batch_size=BATCH, normalize_embeddings=True)


def flag_embedding(model: str, all_heads: bool) -> Encode:
    from FlagEmbedding import BGEM3FlagModel

    loaded = BGEM3FlagModel(model, use_fp16=False, devices="cpu")

    def encode(texts: List[str]) -> np.ndarray:
        found = loaded.encode(texts, batch_size=BATCH, max_length=MAX_TOKENS, return_dense=True,
                              return_sparse=all_heads, return_colbert_vecs=all_heads)
        return np.asarray(found["dense_vecs"])

    return encode


def infinity(model: str) -> Encode:
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    arguments = EngineArgs(model_name_or_path=model, engine="torch", device="cpu", dtype="float32",
                           batch_size=BATCH, bettertransformer=False, compile=False, model_warmup=False)
    engine = AsyncEmbeddingEngine.from_args(arguments)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(engine.astart())
    return lambda texts: np.stack(loop.run_until_complete(engine.embed(sentences=texts))[0])


def fastembed(model: str) -> Encode:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    dim = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    TextEmbedding.add_custom_model(model="bench/peer", pooling=PoolingType.CLS, normalization=True,
                                   sources=ModelSource(hf="bench/peer"), dim=dim, model_file="onnx/model.onnx")
    loaded = TextEmbedding("bench/peer", specific_model_path=model, threads=os.cpu_count())
    return lambda texts: np.stack(list(loaded.embed(texts, batch_size=BATCH)))


PEERS: dict[str, Tuple[str, Callable[[str], Encode]]] = {
    "sentence-transformers": ("sentence-transformers", sentence_transformers),
    "flagembedding": ("FlagEmbedding", lambda model: flag_embedding(model, all_heads=False)),
    "flagembedding-all": ("FlagEmbedding", lambda model: flag_embedding(model, all_heads=True)),
    "infinity": ("infinity-emb", infinity),
    "fastembed": ("fastembed", fastembed),
}


def main(peer: str, model: str, file: str) -> None:
    package, load = PEERS[peer]
    texts = json.loads(Path(file).read_text(encoding="utf-8"))
    encode = load(model)
    encode(["One short text", "to warm up with."])
    print(json.dumps({"version": version(package)}), flush=True)
    start = time.perf_counter()
    vectors = encode(texts)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "vectors": len(vectors), "first": vectors[0].tolist(),
                      "second": vectors[1].tolist()}), flush=True)


if __name__ == "__main__":
    # Where memory runs out, let it be this process that ends.
    if OOM_SCORE.exists():
        OOM_SCORE.write_text("1000", encoding="utf-8")
    main(*sys.argv[1:])
    # Some have threads that never end.
    os._exit(0)
