#!/usr/bin/env python3
"""What mini must answer: a plain forward pass, written without looking at `graph.py`.

Writes `golden.json`: texts, their token ids, and the vectors that any runtime must give for
them. Takes nothing but the weights from `model.onnx`, so a graph wired wrongly cannot agree
with it, and finds the token ids by itself, so that a tokenizer is checked too.

Needs Python 3.9, numpy and onnx, old (Debian 12) or new; no ONNX Runtime.

    python3 reference.py            write golden.json
    python3 reference.py --check    compare the committed golden.json with a fresh computation
"""
from __future__ import annotations

import argparse
import json
import math
import sys
import unicodedata
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import onnx
from onnx import numpy_helper

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden.json"
TOLERANCE = 1e-6
DECIMALS = 8

#: Cases of very different lengths, so that a batch of all of them is mostly padding.
CASES = {
    "one word": "water",
    "one phrase": "The river flows through the city.",
    "two languages": (
        "Der Fluss fließt durch die Stadt, und die Stadt lebt vom Fluss. "
        "Река течёт через город, и город живёт рекой."
    ),
    "twelve languages": (
        "The water of the river is cold in winter, and the people of the city drink tea. "
        "El agua del río está fría en invierno y la gente de la ciudad bebe té. "
        "Das Wasser des Flusses ist im Winter kalt, und die Leute der Stadt trinken Tee. "
        "Το νερό του ποταμού είναι κρύο τον χειμώνα και οι άνθρωποι της πόλης πίνουν τσάι. "
        "Вода в реке зимой холодная, и жители города пьют чай. "
        "Nehrin suyu kışın soğuktur ve şehrin insanları çay içer. "
        "ماء النهر بارد في الشتاء، وأهل المدينة يشربون الشاي. "
        "Nước sông lạnh vào mùa đông, và người dân thành phố uống trà. "
        "น้ำในแม่น้ำเย็นในฤดูหนาว และผู้คนในเมืองดื่มชา "
        "冬天河水很冷,城里的人喝茶。 "
        "सर्दियों में नदी का पानी ठंडा होता है और शहर के लोग चाय पीते हैं। "
        "Apa râului este rece iarna, iar oamenii din oraș beau ceai."
    ),
}

Weights = Dict[str, np.ndarray]


def read_weights() -> Weights:
    """The initializers in double precision; int8 tables multiplied by their scales."""
    graph = onnx.load(str(HERE / "model.onnx")).graph
    weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in graph.initializer}
    for table in ("embeddings.word", "embeddings.position"):
        weights[table] = weights[f"{table}.rows"] * weights[f"{table}.scale"]
    return weights


def best_split(word: str, scores: Dict[str, float]) -> List[str]:
    """The pieces of a word whose log probabilities have the largest sum (Viterbi)."""
    best: List[Tuple[float, List[str]]] = [(0.0, [])]
    for end in range(1, len(word) + 1):
        ways = [(best[start][0] + scores[word[start:end]], best[start][1] + [word[start:end]])
                for start in range(end) if word[start:end] in scores]
        best.append(max(ways, key=lambda way: way[0], default=(-math.inf, [])))
    if best[-1][0] == -math.inf:
        raise ValueError(f"{word!r} has characters without a piece; the cases must not")
    return best[-1][1]


def tokenise(text: str) -> List[int]:
    """Token ids with `<s>` and `</s>`, by the Unigram rules."""
    vocab = json.loads((HERE / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    ids = {piece: index for index, (piece, _) in enumerate(vocab)}
    scores = dict(vocab)
    words = unicodedata.normalize("NFKC", text).split()
    pieces = [piece for word in words for piece in best_split("▁" + word, scores)]
    return [ids[piece] for piece in ["<s>", *pieces, "</s>"]]


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def layer_norm(w: Weights, name: str, x: np.ndarray, epsilon: float) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    return centred / deviation * w[f"{name}.gamma"] + w[f"{name}.beta"]


def gelu(x: np.ndarray) -> np.ndarray:
    """The exact form, not the tanh approximation."""
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def normalise(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).sum(axis=-1, keepdims=True))


def attention(w: Weights, name: str, x: np.ndarray, heads: int) -> np.ndarray:
    """Multi-head self-attention, one head after the other: [tokens, hidden] -> the same."""
    query, key, value = (linear(w, f"{name}.{part}", x) for part in ("query", "key", "value"))
    size = x.shape[1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        shares = softmax(query[:, part] @ key[:, part].T / math.sqrt(size))
        mixed.append(shares @ value[:, part])
    return linear(w, f"{name}.output", np.concatenate(mixed, axis=1))


def encode(w: Weights, config: Dict[str, Any], ids: List[int]) -> np.ndarray:
    """XLM-R's encoder, norms after the residuals: the last hidden state, [tokens, hidden]."""
    epsilon = config["layer_norm_eps"]
    # As in XLM-R, positions count on from the padding id.
    positions = np.arange(len(ids)) + config["pad_token_id"] + 1
    x = w["embeddings.word"][ids] + w["embeddings.position"][positions] + w["embeddings.type"]
    x = layer_norm(w, "embeddings.norm", x, epsilon)
    for index in range(config["num_hidden_layers"]):
        name = f"layers.{index}"
        attended = attention(w, f"{name}.attention", x, config["num_attention_heads"])
        x = layer_norm(w, f"{name}.attention.norm", x + attended, epsilon)
        fed = linear(w, f"{name}.ffn.down", gelu(linear(w, f"{name}.ffn.up", x)))
        x = layer_norm(w, f"{name}.ffn.norm", x + fed, epsilon)
    return x


def rounded(values: np.ndarray) -> List[float]:
    return [round(float(value), DECIMALS) for value in values]


def case(w: Weights, config: Dict[str, Any], name: str, text: str) -> Dict[str, Any]:
    """One golden case: the three heads of BGE-M3; of ColBERT, three vectors for brevity."""
    ids = tokenise(text)
    hidden = encode(w, config, ids)
    weights = np.maximum(linear(w, "lexical", hidden)[:, 0], 0)
    colbert = normalise(linear(w, "colbert", hidden[1:]))
    rows = sorted({0, len(colbert) // 2, len(colbert) - 1})
    return {
        "name": name,
        "text": text,
        "ids": ids,
        "dense": rounded(normalise(hidden[0])),
        "tokenWeights": rounded(weights),
        "colbert": [{"row": row, "vector": rounded(colbert[row])} for row in rows],
    }


def build() -> Dict[str, Any]:
    """The content of golden.json."""
    weights = read_weights()
    config = json.loads((HERE / "config.json").read_text(encoding="utf-8"))
    return {"cases": [case(weights, config, name, text) for name, text in CASES.items()]}


def difference(committed: Any, fresh: Any, path: str = "golden") -> str:
    """Where two JSON values first differ, numbers by more than TOLERANCE; "" if nowhere."""
    if isinstance(fresh, float) and isinstance(committed, (int, float)):
        gap = abs(committed - fresh)
        return "" if gap <= TOLERANCE else f"{path} is off by {gap:g}"
    if isinstance(fresh, dict) and isinstance(committed, dict) and committed.keys() == fresh.keys():
        pairs = [(committed[key], fresh[key], f"{path}.{key}") for key in fresh]
    elif isinstance(fresh, list) and isinstance(committed, list) and len(committed) == len(fresh):
        pairs = [(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(committed, fresh))]
    else:
        return "" if committed == fresh else f"{path} differs"
    return next(filter(None, (difference(*pair) for pair in pairs)), "")


def check() -> int:
    """0 if the committed golden.json equals a fresh computation, else 1 and the difference."""
    if not GOLDEN.exists():
        print("golden.json is missing; run reference.py")
        return 1
    found = difference(json.loads(GOLDEN.read_text(encoding="utf-8")), build())
    print(found or "golden.json equals a fresh computation")
    return 1 if found else 0


def write() -> int:
    """Write golden.json."""
    golden = build()
    GOLDEN.write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")
    lengths = ", ".join(str(len(c["ids"])) for c in golden["cases"])
    print(f"golden.json: {GOLDEN.stat().st_size:,} bytes, cases of {lengths} tokens")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    return check() if parser.parse_args().check else write()


if __name__ == "__main__":
    sys.exit(main())
