"""Real vectors of the fleet against sentence-transformers'; see infra/setup/real-model.mjs.

    python compare.py texts TEXTS.jsonl OUT.jsonl MODEL     cut texts to what one row holds, and make queries of them
    python compare.py vectors CORPUS.jsonl MODEL NAME=ROWS.jsonl…   print a JSON object of figures by name
"""
from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, List

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

#: What is a paragraph: two sentences at least, so that one can ask for the rest.
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“(])")
LEAST_CHARS, CUT = 40, 10


def read_lines(path: str) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


def open_model(folder: str) -> SentenceTransformer:
    return SentenceTransformer(folder, device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})


def make_texts(source: str, out: str, folder: str) -> None:
    """Each paragraph's last sentence is a query, and what is before it the document that answers it."""
    model = open_model(folder)
    longest = model.max_seq_length
    rows = []
    for index, row in enumerate(read_lines(source)):
        sentences = SENTENCE.split(row["text"].strip())
        document, query = " ".join(sentences[:-1]), sentences[-1]
        ids = model.tokenizer(document)["input_ids"]
        if len(document) < LEAST_CHARS or len(query) < LEAST_CHARS or len(ids) > longest:
            continue
        rows += [{"id": f"d{index}", "text": document}, {"id": f"q{index}", "text": query}]
    Path(out).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def ndcg(vectors: Dict[str, np.ndarray]) -> float:
    """nDCG@10 of the queries, each of which has one right document."""
    numbers = sorted(int(name[1:]) for name in vectors if name.startswith("q"))
    scores = np.stack([vectors[f"q{n}"] for n in numbers]) @ np.stack([vectors[f"d{n}"] for n in numbers]).T
    ranks = (scores > np.diag(scores)[:, None]).sum(axis=1)
    return float(np.where(ranks < CUT, 1 / np.log2(ranks + 2), 0).mean())


def compare(corpus: str, folder: str, named: List[str]) -> None:
    rows = read_lines(corpus)
    model = open_model(folder)
    encoded = model.encode([row["text"] for row in rows], normalize_embeddings=True, show_progress_bar=False)
    wanted = {row["id"]: vector for row, vector in zip(rows, encoded)}
    report: Dict[str, Any] = {"rows": len(rows), "ndcg": ndcg(wanted), "precisions": {}}
    for name, path in (each.split("=", 1) for each in named):
        found = {row["id"]: np.asarray(row["dense"], dtype=np.float32) for row in read_lines(path)}
        if found.keys() != wanted.keys():
            raise SystemExit(f"{name} has {len(found)} rows, and there are {len(wanted)}")
        cosines = [float(found[key].astype(np.float64) @ wanted[key] / np.linalg.norm(found[key])
                         / np.linalg.norm(wanted[key].astype(np.float64))) for key in wanted]
        report["precisions"][name] = {"min": min(cosines), "mean": sum(cosines) / len(cosines), "ndcg": ndcg(found)}
    print(json.dumps(report))


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "texts":
        make_texts(*arguments)
    else:
        compare(arguments[0], arguments[1], arguments[2:])
