"""mini's `tokenizer.json`, laid out as XLM-R's."""
from __future__ import annotations

import base64
import json
from typing import Any, Dict, List

from sources import LEADING_SPECIALS, MASK, Vocabulary


def added_token(index: int, content: str) -> Dict[str, Any]:
    """A special token; `<mask>` swallows the space before it, as in XLM-R."""
    return {
        "id": index,
        "content": content,
        "single_word": False,
        "lstrip": content == MASK,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def metaspace() -> Dict[str, Any]:
    """Words begin with `▁`; a text without a leading space gets one too."""
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}


def template() -> Dict[str, Any]:
    """`<s> text </s>`, and XLM-R's form for pairs."""

    def special(token: str) -> Dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": 0}}

    def sequence(name: str) -> Dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": 0}}

    begin, end = special("<s>"), special("</s>")
    return {
        "type": "TemplateProcessing",
        "single": [begin, sequence("A"), end],
        "pair": [begin, sequence("A"), end, end, sequence("B"), end],
        "special_tokens": {
            token: {"id": token, "ids": [LEADING_SPECIALS.index(token)], "tokens": [token]}
            for token in ("<s>", "</s>")
        },
    }


def tokenizer_json(vocabulary: Vocabulary, charsmap: bytes) -> str:
    """The whole file as text: no truncation and no padding, those are the caller's business."""
    mask_id = len(vocabulary.tokens) - 1
    scored: List[List[Any]] = [[token, 0.0] for token in LEADING_SPECIALS]
    scored += [[piece.text, piece.score] for piece in vocabulary.pieces]
    scored.append([MASK, 0.0])
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            *(added_token(i, token) for i, token in enumerate(LEADING_SPECIALS)),
            added_token(mask_id, MASK),
        ],
        "normalizer": {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(charsmap).decode(),
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace()],
        },
        "post_processor": template(),
        "decoder": metaspace(),
        "model": {
            "type": "Unigram",
            "unk_id": LEADING_SPECIALS.index("<unk>"),
            "vocab": scored,
            "byte_fallback": False,
        },
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
