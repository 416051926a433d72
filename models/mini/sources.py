"""The committed sources mini is built from: `vocab.tsv` and `charsmap.b64`."""
from __future__ import annotations

import base64
from pathlib import Path
from typing import List, NamedTuple

HERE = Path(__file__).resolve().parent
VOCAB_FILE = HERE / "vocab.tsv"
CHARSMAP_FILE = HERE / "charsmap.b64"

#: Ids 0 to 3, as in XLM-R; `<mask>` takes the last id.
LEADING_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"

HEADER = """\
# Vocabulary of the mini model: piece, log probability, document frequency (highest in any language).
# Trained and counted on the paragraphs of XQuAD (DeepMind), CC BY-SA 4.0.
# documents per language: {documents}
"""


class Piece(NamedTuple):
    """One word-piece of the Unigram vocabulary."""

    text: str
    score: float
    document_frequency: int


class Vocabulary(NamedTuple):
    """Pieces in id order, without the special tokens, and the size of one language's corpus."""

    documents: int
    pieces: List[Piece]

    @property
    def tokens(self) -> List[str]:
        """Every token string, special ones included, in id order."""
        return [*LEADING_SPECIALS, *(piece.text for piece in self.pieces), MASK]


def read_vocabulary(path: Path = VOCAB_FILE) -> Vocabulary:
    """Read `vocab.tsv`. Only the header's lines hold no tab, so a piece `#` is safe."""
    documents, pieces = 0, []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if "\t" in line:
            text, score, frequency = line.split("\t")
            pieces.append(Piece(text, float(score), int(frequency)))
        elif line.startswith("# documents per language:"):
            documents = int(line.split(":")[1])
    return Vocabulary(documents, pieces)


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """Write `vocab.tsv`."""
    lines = [f"{p.text}\t{p.score:.4f}\t{p.document_frequency}\n" for p in vocabulary.pieces]
    header = HEADER.format(documents=vocabulary.documents)
    path.write_text(header + "".join(lines), encoding="utf-8")


def read_charsmap(path: Path = CHARSMAP_FILE) -> bytes:
    """The compiled normaliser (sentencepiece's nmt_nfkc, as XLM-R uses it)."""
    return base64.b64decode(path.read_text())
