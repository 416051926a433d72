"""`reference.json`: what sentence-transformers answers for a sample of texts, for `embedfleet models check`.

    {"madeBy": "sentence-transformers 6.2.0, PyTorch 2.15.0, float32", "dim": 384, "rows": [
        {"id", "text", "purpose": "passage" or "query", "ids": [0, ..., 2],
         "dense": base64 of float32 [dim],
         "sparse": {"indices": ascending, "values": base64 of float32},
         "colbert": {"rows": which token vectors, "vectors": base64 of float32 [rows, dim]}}]}

It begins with the text: prompt, tokenizer and the cut at the longest row are the library's, and not the
exporter's, so that `models check` sees a fault in any of them. All numbers are little-endian. ColBERT's
vectors are a selection: the first, the last and one between.
"""
from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from tokenizers import Tokenizer

from .layout import LINEARS, Layout, read_layout
from .torch_reference import Embedded, Reference

SAMPLE = Path(__file__).resolve().parent / "sample.jsonl"
#: So many of the sample's texts are embedded as queries too, where queries have a prompt of their own.
QUERIES = 6
FLOAT32 = {"dtype": torch.float32}


def packed(values: Any) -> str:
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()


def sample(layout: Layout) -> Iterator[Dict[str, str]]:
    """The texts, each with its purpose and with what is put before it."""
    texts = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    for text in texts:
        yield {**text, "purpose": "passage", "prompt": layout.passage_prefix}
    for text in texts[:QUERIES] if layout.query_prefix != layout.passage_prefix else []:
        yield {**text, "id": f"{text['id']} as a query", "purpose": "query", "prompt": layout.query_prefix}


class ByLibrary:
    """Dense vectors as sentence-transformers computes them, one text at a time."""

    def __init__(self, layout: Layout) -> None:
        # It takes long to load, and only this class needs it.
        from sentence_transformers import SentenceTransformer, __version__ as library_version
        from sentence_transformers.models import Pooling, Transformer

        self.made_by = f"sentence-transformers {library_version}"
        if layout.has_modules:
            self.model = SentenceTransformer(str(layout.folder), device="cpu", local_files_only=True, model_kwargs=FLOAT32)
        else:
            encoder = Transformer(str(layout.folder), model_kwargs=FLOAT32)
            pooling = Pooling(layout.shape.hidden, pooling_mode=list(layout.pooling))
            self.model = SentenceTransformer(modules=[encoder, pooling], device="cpu")
        # Rows that are longer than the position table make the library fail.
        self.model.max_seq_length = min(self.model.max_seq_length or layout.max_tokens, layout.shape.max_tokens)

    def embed(self, text: Dict[str, str]) -> Tuple[List[int], np.ndarray]:
        """The ids and the vector, of unit length."""
        ids = self.model.tokenizer(text["prompt"] + text["text"], truncation=True, max_length=self.model.max_seq_length)
        vector = self.model.encode(text["text"], prompt=text["prompt"], normalize_embeddings=True, show_progress_bar=False)
        return ids["input_ids"], vector


class ByModules:
    """BGE-M3 without sentence-transformers' files: FlagEmbedding's forward pass and the model's own tokenizer."""

    made_by = "FlagEmbedding's forward pass"

    def __init__(self, layout: Layout, reference: Reference) -> None:
        self.reference = reference
        self.tokenizer = Tokenizer.from_file(str(layout.encoder / "tokenizer.json"))

    def embed(self, text: Dict[str, str]) -> Tuple[List[int], np.ndarray]:
        ids = self.tokenizer.encode(text["prompt"] + text["text"]).ids
        return ids, self.reference.embed(ids).dense.numpy()


def other_heads(embedded: Embedded) -> Dict[str, Any]:
    indices, last = sorted(embedded.lexical), len(embedded.colbert) - 1
    vectors = sorted({0, last // 2, last})
    return {
        "sparse": {"indices": indices, "values": packed([embedded.lexical[index] for index in indices])},
        "colbert": {"rows": vectors, "vectors": packed(embedded.colbert[vectors])},
    }


def make_reference(folder: Path, out: Path) -> int:
    """`folder`: a model in the hub's layout. @returns How many texts it has."""
    layout = read_layout(folder)
    heads = Reference(layout.encoder) if all((folder / name).exists() for name in LINEARS) else None
    is_plain = heads is not None and not layout.has_modules and not (folder / "1_Pooling").exists()
    by = ByModules(layout, heads) if is_plain else ByLibrary(layout)
    rows = []
    for text in sample(layout):
        ids, dense = by.embed(text)
        others = {} if heads is None else other_heads(heads.embed(ids))
        rows.append({"id": text["id"], "text": text["text"], "purpose": text["purpose"], "ids": ids, "dense": packed(dense),
                     **others})
    lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in rows)
    made_by = json.dumps(f"{by.made_by}, PyTorch {torch.__version__.split('+')[0]}, float32")
    out.write_text(f'{{"madeBy": {made_by}, "dim": {layout.dim}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")
    return len(rows)
