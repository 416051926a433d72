#!/usr/bin/env python3
"""Train mini's vocabulary: a rarely run, offline step whose small results are committed.

    pip install sentencepiece tokenizers numpy onnx
    python train_vocab.py corpus.jsonl [more.jsonl ...]

Each JSONL line has `text` and, optionally, `lang`. Writes `vocab.tsv` (piece, log probability,
document frequency) and `charsmap.b64` (the compiled XLM-R normaliser, nmt_nfkc).
"""
from __future__ import annotations

import argparse
import base64
import collections
import io
import json
import sys
from typing import Dict, Iterable, List, Tuple

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

from sources import CHARSMAP_FILE, VOCAB_FILE, Piece, Vocabulary, write_vocabulary
from tokenizer_json import tokenizer_json

#: Pieces between the four leading special tokens and the closing `<mask>`.
PIECE_COUNT = 19_995
#: Asked of the trainer: some of its pieces are folded away below.
TRAINED_PIECES = 20_600
#: Scripts written without spaces: `▁` would only split one word into two different pieces.
UNSPACED = (("\u0e00", "\u0e7f"), ("\u3400", "\u9fff"))
#: Characters every text may contain, whether or not the corpus happens to.
ALWAYS = (
    [chr(c) for c in range(0x21, 0x7F)]
    + [chr(c) for c in range(0xA1, 0x180) if c != 0xAD]   # Latin-1, Latin Extended-A
    + [chr(c) for c in range(0x386, 0x3CF)]               # Greek
    + [chr(c) for c in range(0x400, 0x460)]               # Cyrillic
    + [chr(c) for c in range(0x621, 0x653)]               # Arabic letters and vowel marks
    + [chr(c) for c in range(0x660, 0x66A)]
    + [chr(c) for c in range(0x900, 0x970)]               # Devanagari
    + [chr(c) for c in range(0xE01, 0xE5C)]               # Thai
    + [chr(c) for c in range(0x1EA0, 0x1EFA)]             # Vietnamese
    + list("–—‘’“”„•…‹›€₫₹№→∞−≈≤≥、。《》「」『』【】،؛؟।॥")
)


def read_corpus(paths: Iterable[str]) -> List[Tuple[str, str]]:
    """(language, text) of every line of the given JSONL files."""
    documents = []
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                documents.append((record.get("lang", ""), record["text"]))
    return documents


def train(texts: Iterable[str]) -> Tuple[List[Tuple[str, float]], bytes]:
    """Unigram pieces with their log probabilities, and the compiled normaliser."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="unigram",
        vocab_size=TRAINED_PIECES,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc",
        max_sentence_length=1_000_000,
        num_threads=2,
        minloglevel=1,
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    normal = sentencepiece_model_pb2.ModelProto.SentencePiece.NORMAL
    pieces = [(p.piece, p.score) for p in proto.pieces if p.type == normal]
    return pieces, proto.normalizer_spec.precompiled_charsmap


def is_unspaced(char: str) -> bool:
    """Whether the character belongs to a script written without spaces."""
    return any(low <= char <= high for low, high in UNSPACED)


def settle(trained: List[Tuple[str, float]], normalise) -> List[Tuple[str, float]]:
    """Exactly PIECE_COUNT pieces, best first: the required characters, then the likeliest.

    `▁` is folded away before Han and Thai, so that a word is the same pieces at the start of
    a query as in the middle of a paragraph.
    """
    scores: Dict[str, float] = {}
    for piece, score in trained:
        if len(piece) > 1 and piece[0] == "▁" and is_unspaced(piece[1]):
            piece = piece[1:]
        scores[piece] = max(score, scores.get(piece, score))
    floor = min(scores.values())
    required = {"▁"} | {c for c in ALWAYS if normalise(c) == c}
    required |= {piece for piece in scores if len(piece) == 1}
    for char in required:
        scores.setdefault(char, floor)

    def preference(piece: str) -> Tuple[bool, float, str]:
        return (piece not in required, -scores[piece], piece)

    kept = sorted(scores, key=preference)[:PIECE_COUNT]
    return [(piece, scores[piece]) for piece in sorted(kept, key=lambda p: (-scores[p], p))]


def count_documents(tokenizer: Tokenizer, documents: List[Tuple[str, str]]) -> Dict[str, int]:
    """Document frequency of each piece: the highest in any one language.

    Counting within a language keeps a stop word of one language from looking rare merely
    because the other languages do not use it.
    """
    by_language: Dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for language, text in documents:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        by_language[language].update(set(encoding.tokens))
    frequency: Dict[str, int] = {}
    for counts in by_language.values():
        for piece, count in counts.items():
            frequency[piece] = max(count, frequency.get(piece, 0))
    return frequency


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="+", help="JSONL files with `text` and `lang`")
    documents = read_corpus(parser.parse_args().corpus)
    trained, charsmap = train(text for _, text in documents)
    normalise = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc").Normalize
    pieces = settle(trained, normalise)
    CHARSMAP_FILE.write_text(base64.b64encode(charsmap).decode() + "\n")

    uncounted = Vocabulary(1, [Piece(piece, round(score, 4), 0) for piece, score in pieces])
    tokenizer = Tokenizer.from_str(tokenizer_json(uncounted, charsmap))
    frequency = count_documents(tokenizer, documents)
    per_language = max(collections.Counter(language for language, _ in documents).values())
    counted = [Piece(p.text, p.score, frequency.get(p.text, 0)) for p in uncounted.pieces]
    write_vocabulary(VOCAB_FILE, Vocabulary(per_language, counted))
    print(f"{len(counted)} pieces from {len(documents)} documents", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
