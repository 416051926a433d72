"""`reference.json`: what PyTorch answers for a sample of texts, for `embedfleet models check`.

    {"madeBy": "PyTorch 2.15.0, float32", "dim": 384, "rows": [
        {"id", "text", "ids": [0, ..., 2],
         "dense": base64 of float32 [dim],
         "sparse": {"indices": ascending, "values": base64 of float32},
         "colbert": {"rows": which token vectors, "vectors": base64 of float32 [rows, dim]}}]}

All numbers are little-endian. ColBERT's vectors are a selection: the first, the last and one between.
"""
from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import torch
from tokenizers import Tokenizer

from .torch_reference import Embedded, Reference

SAMPLE = Path(__file__).resolve().parent / "sample.jsonl"


def packed(values: Any) -> str:
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()


def row(text: Dict[str, str], ids: list, embedded: Embedded) -> Dict[str, Any]:
    indices, last = sorted(embedded.lexical), len(embedded.colbert) - 1
    vectors = sorted({0, last // 2, last})
    return {
        "id": text["id"], "text": text["text"], "ids": ids, "dense": packed(embedded.dense),
        "sparse": {"indices": indices, "values": packed([embedded.lexical[index] for index in indices])},
        "colbert": {"rows": vectors, "vectors": packed(embedded.colbert[vectors])},
    }


def make_reference(folder: Path, out: Path) -> int:
    """`folder`: a model in the hub's layout with both heads. @returns How many texts it has."""
    model, tokenizer = Reference(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = []
    for line in SAMPLE.read_text(encoding="utf-8").splitlines():
        text = json.loads(line)
        ids = tokenizer.encode(text["text"]).ids
        rows.append(row(text, ids, model.embed(ids)))
    dim = len(base64.b64decode(rows[0]["dense"])) // 4
    lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in rows)
    made_by = json.dumps(f"PyTorch {torch.__version__.split('+')[0]}, float32")
    out.write_text(f'{{"madeBy": {made_by}, "dim": {dim}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")
    return len(rows)
