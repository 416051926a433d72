#!/usr/bin/env python3
"""Measure how well mini finds paragraphs by words and phrases taken from them.

    pip install numpy onnxruntime tokenizers
    python evaluate.py corpus.jsonl        lines with `id`, `lang` and `text`

Phrases come from the middle of a paragraph and must be found among the paragraphs of its
language; words occur in one or two paragraphs and must be found among all paragraphs.
"""
from __future__ import annotations

import argparse
import collections
import json
import re
import sys
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from sources import HERE

BATCH = 32
#: FlagEmbedding's weights of dense, sparse and ColBERT scores in its example.
MIX = (0.4, 0.2, 0.4)
UNSPACED = {"th": 6, "zh": 2}   # letters that count as a word where words are not spaced


class Document(NamedTuple):
    """One paragraph."""

    language: str
    text: str


class Vectors(NamedTuple):
    """The three outputs for one text: [256], id -> weight, [tokens - 1, 256]."""

    dense: np.ndarray
    sparse: Dict[int, float]
    colbert: np.ndarray


class Query(NamedTuple):
    """A text and the indices of the paragraphs that hold it."""

    text: str
    answers: List[int]


class Encoder:
    """mini on ONNX Runtime, with FlagEmbedding's rules for the sparse vector."""

    def __init__(self) -> None:
        self.tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
        self.session = onnxruntime.InferenceSession(
            str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])

    def encode(self, texts: List[str]) -> List[Vectors]:
        """Vectors in the order of the texts; similar lengths share a batch."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors: Dict[int, Vectors] = {}
        for start in range(0, len(by_length), BATCH):
            chosen = by_length[start:start + BATCH]
            vectors.update(zip(chosen, self.encode_batch([ids[i] for i in chosen])))
        return [vectors[i] for i in range(len(ids))]

    def encode_batch(self, rows: List[List[int]]) -> Iterator[Vectors]:
        """One padded batch."""
        width = max(map(len, rows))
        input_ids = np.array([row + [1] * (width - len(row)) for row in rows], dtype=np.int64)
        mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], dtype=np.int64)
        outputs = self.session.run(None, {"input_ids": input_ids, "attention_mask": mask})
        for row, dense, lexical, colbert in zip(rows, *outputs):
            sparse: Dict[int, float] = {}
            for token, weight in zip(row, lexical):
                if token > 3 and weight > sparse.get(token, 0):
                    sparse[token] = float(weight)
            yield Vectors(dense, sparse, colbert[:len(row) - 1])


class Index:
    """All paragraphs, scored exhaustively."""

    def __init__(self, vectors: List[Vectors]) -> None:
        self.dense = np.stack([v.dense for v in vectors])
        self.sparse = [v.sparse for v in vectors]
        self.colbert = np.concatenate([v.colbert for v in vectors]).astype(np.float32)
        lengths = [len(v.colbert) for v in vectors]
        self.starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])

    def scores(self, query: Vectors) -> Dict[str, np.ndarray]:
        """Dense, sparse, ColBERT and mixed score of every paragraph: [documents] each."""
        dense = self.dense @ query.dense
        sparse = np.array([sum(w * d.get(t, 0) for t, w in query.sparse.items())
                           for d in self.sparse])
        similarity = query.colbert @ self.colbert.T
        colbert = np.maximum.reduceat(similarity, self.starts, axis=1).mean(axis=0)
        hybrid = MIX[0] * dense + MIX[1] * sparse + MIX[2] * colbert
        return {"dense": dense, "sparse": sparse, "colbert": colbert, "hybrid": hybrid}


def phrases(documents: List[Document], chosen: List[int]) -> Iterator[Query]:
    """Four words, or twelve letters without spaces, from the middle of each paragraph."""
    for i in chosen:
        words = documents[i].text.split()
        middle = len(words) // 2
        phrase = " ".join(words[max(0, middle - 2):middle + 2])
        if documents[i].language in UNSPACED:
            half = len(documents[i].text) // 2
            phrase = documents[i].text[half - 6:half + 6]
        yield Query(phrase, [i])


def words_of(document: Document) -> List[str]:
    """Words of two letters and more; for unspaced scripts, runs of a few letters."""
    length = UNSPACED.get(document.language)
    if length:
        runs = re.findall(r"[\u0e00-\u0e7f\u3400-\u9fff]{%d,}" % length, document.text)
        return [run[i:i + length] for run in runs for i in range(0, len(run) - length + 1, length)]
    return [word for word in re.findall(r"[^\W\d_][\w\u064b-\u0652\u0900-\u097f]+", document.text)]


def rare_words(documents: List[Document], chosen: List[int]) -> Iterator[Query]:
    """For each paragraph, the word nearest its middle that at most two paragraphs hold."""
    for i in chosen:
        words = words_of(documents[i])
        for word in sorted(words, key=lambda w: abs(words.index(w) - len(words) / 2)):
            answers = [j for j, document in enumerate(documents) if word in document.text]
            if len(answers) <= 2:
                yield Query(word, answers)
                break


def hit_rates(queries: List[Query], encoder: Encoder, index: Index,
              pool: List[int]) -> Dict[Tuple[str, int], float]:
    """Share of queries with an answer among the top 1 and top 10 of the pool, per score."""
    hits: Dict[Tuple[str, int], int] = collections.Counter()
    for query, vectors in zip(queries, encoder.encode([q.text for q in queries])):
        for name, scores in index.scores(vectors).items():
            best = [pool[k] for k in np.argsort(-scores[pool], kind="stable")[:10]]
            for top in (1, 10):
                hits[name, top] += any(i in query.answers for i in best[:top])
    return {key: count / max(len(queries), 1) for key, count in hits.items()}


def report(documents: List[Document], languages: List[str], limit: int) -> None:
    """Print one line per language and kind of query."""
    encoder = Encoder()
    index = Index(encoder.encode([d.text for d in documents]))
    everything = list(range(len(documents)))
    names = ("dense", "sparse", "colbert", "hybrid")
    print("query  lang     n " + "".join(f"{name:>9}@1 {'@10':>5}" for name in names))
    kinds: List[Tuple[str, Callable[..., Iterator[Query]]]] = [
        ("phrase", phrases), ("word", rare_words)]
    for kind, make in kinds:
        for language in languages:
            own = [i for i in everything if documents[i].language == language]
            queries = list(make(documents, own[:limit]))
            rates = hit_rates(queries, encoder, index, own if kind == "phrase" else everything)
            cells = "".join(f"{rates[n, 1]:>11.3f} {rates[n, 10]:>5.3f}" for n in names)
            print(f"{kind:<6} {language:<4} {len(queries):>5} {cells}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", help="JSONL file with `lang` and `text`")
    parser.add_argument("--languages", default="", help="comma-separated; default all")
    parser.add_argument("--limit", type=int, default=240, help="queries per language")
    options = parser.parse_args()
    with open(options.corpus, encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    documents = [Document(record["lang"], record["text"]) for record in records]
    languages = sorted({d.language for d in documents})
    report(documents, options.languages.split(",") if options.languages else languages,
           options.limit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
