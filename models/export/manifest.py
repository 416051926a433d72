"""`manifest.json` of an exported folder, in the schema of `models/manifest.ts`."""
from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Sequence

from .sources import Source

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "[CLS]", "[PAD]", "[SEP]", "[UNK]")
BYTES_AT_ONCE = 2**20


def file_entry(path: Path) -> Dict[str, Any]:
    """Name, size and digest of a file that lies in the model's folder."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BYTES_AT_ONCE):
            digest.update(block)
    return {"path": path.name, "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def digest_of(files: Sequence[Dict[str, Any]]) -> str:
    """A model's SHA-256 as the fleet takes it: that of the one file, or of the sorted list of several."""
    if len(files) == 1:
        return files[0]["sha256"]
    lines = sorted(f"{file['sha256']}  {file['path']}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def special_ids(tokenizer: Path) -> List[int]:
    """Ids that carry no lexical weight."""
    added = json.loads(tokenizer.read_text(encoding="utf-8"))["added_tokens"]
    return sorted(token["id"] for token in added if token["content"] in SPECIAL_TOKENS)


def id_of(folder: Path) -> str:
    """The folder's name, as far as an id may have it."""
    name = re.sub(r"^[^A-Za-z0-9]+", "", re.sub(r"[^A-Za-z0-9._-]", "-", folder.resolve().name))
    return name[:64] or "model"


def heads_of(source: Source, tokenizer: Path) -> Dict[str, Any]:
    heads: Dict[str, Any] = {"dense": {"output": "dense_vecs", "finished": True}}
    if "lexical.weight" in source.weights:
        heads["sparse"] = {"output": "lexical_weights", "finished": True, "nonLexicalIds": special_ids(tokenizer)}
    if "colbert.weight" in source.weights:
        heads["colbert"] = {"output": "colbert_vecs", "finished": True}
    return heads


def architecture_of(source: Source) -> Dict[str, Any]:
    shape = source.shape
    return {"kind": shape.kind, "hiddenSize": shape.hidden, "vocabSize": shape.vocab, "padId": shape.pad_id,
            "maxTokens": source.max_tokens}


def texts_of(source: Source) -> Dict[str, Any]:
    """What is done to a text before the tokenizer sees it."""
    layout = source.layout
    if layout is None:
        return {"prefixes": {"query": "", "passage": ""}}
    return {
        "prefixes": {"query": layout.query_prefix, "passage": layout.passage_prefix},
        **({"prompts": layout.prompts} if layout.prompts else {}),
        **({} if layout.default_prompt is None else {"defaultPrompt": layout.default_prompt}),
        **({"lowerCase": True} if layout.lower_case else {}),
    }


def description_of(source: Source) -> str:
    shape = source.shape
    kind = "XLM-R" if shape.kind == "xlm-roberta" else shape.kind
    return f"{kind} of {shape.layers} layers, {shape.hidden} wide, exported by embedfleet"


def write_manifest(folder: Path, source: Source, graphs: Dict[str, Sequence[Path]]) -> Path:
    """`graphs`: the files of each precision, the graph first. The folder has its tokenizer.json."""
    tokenizer = folder / "tokenizer.json"
    weights = {precision: [file_entry(path) for path in files] for precision, files in graphs.items()}
    digests = "".join(file["sha256"] for files in weights.values() for file in files)
    manifest = {
        "id": id_of(folder), "hub": None, "revision": hashlib.sha256(digests.encode()).hexdigest()[:12],
        "description": description_of(source),
        "notice": source.notice, "license": source.license,
        "tokenizer": file_entry(tokenizer), "architecture": architecture_of(source), "dim": source.dim,
        **texts_of(source),
        "inputs": {"ids": "input_ids", "mask": "attention_mask"},
        "heads": heads_of(source, tokenizer), "weights": weights,
    }
    return write_json(folder / "manifest.json", manifest)


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
