"""Where a model comes from: a folder in the hub's layout, or one that is made here."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Tuple

import onnx
from onnx import numpy_helper

from .generated import SHAPES, generate
from .hub import read_hub
from .layout import Layout, Module, read_layout
from .shape import ExportError, Shape, shape_of
from .weights import Weights, check_weights

MINI = Path(__file__).resolve().parent.parent / "mini"
MADE = "generated:"
MADE_NOTICE = "its weights are made up: it is for tests of speed, memory and precision, and its vectors mean nothing"


#: mini multiplies what its attention pools by 20, and what quantising adds to it: in int8 its ColBERT
#: vectors have a mean cosine of 0.868 to float32's, and of 0.9995 with these layers kept.
MINI_KEEPS = ("*.attention.value", "*.attention.output")

#: In a narrow model few channels average an error out, and the values are what attention passes on as it is: in
#: all-MiniLM-L6-v2's int8 this twelfth of the products in float32 lessens what the worst texts lose by a third.
NARROW, NARROW_KEEPS = 512, ("*.attention.value",)


@dataclass(frozen=True)
class Source:
    shape: Shape
    weights: Weights
    tokenizer: Path
    notice: str | None
    license: str
    #: Layers that int8 leaves in float32 where nothing else is asked for.
    keep_float: Tuple[str, ...] = ()
    #: What a folder says beside its weights; None for models that are made here.
    layout: Layout | None = None

    @property
    def pooling(self) -> Tuple[str, ...]:
        return ("cls",) if self.layout is None else self.layout.pooling

    @property
    def modules(self) -> Tuple[Module, ...]:
        return () if self.layout is None else self.layout.modules

    @property
    def dim(self) -> int:
        """Width of dense vectors."""
        return self.shape.hidden if self.layout is None else self.layout.dim

    @property
    def max_tokens(self) -> int:
        return self.shape.max_tokens if self.layout is None else self.layout.max_tokens


def read_source(name: str) -> Source:
    """`generated:tiny`, `generated:large`, `generated:mini`, or a folder."""
    if not name.startswith(MADE):
        return read_folder(Path(name))
    made = name[len(MADE):]
    if made == "mini":
        shape, weights = read_mini()
        return Source(shape, weights, MINI / "tokenizer.json", "mini is lexical: it finds shared words", "Apache-2.0",
                      MINI_KEEPS)
    if made not in SHAPES:
        raise ExportError(f"there is no {name}\n  choose one of: {', '.join(MADE + each for each in ('mini', *SHAPES))}")
    return Source(SHAPES[made], generate(SHAPES[made]), MINI / "tokenizer.json", MADE_NOTICE, "Apache-2.0")


def refuse_special_files(folder: Path) -> None:
    """Reading a pipe waits for its writer, and a device may have no end."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ExportError(f"{path} is not a regular file\n  give the model's files as the hub has them")


def read_folder(folder: Path) -> Source:
    refuse_special_files(folder)
    layout = read_layout(folder)
    refuse_special_files(layout.encoder)
    keep_float = NARROW_KEEPS if layout.shape.hidden < NARROW else ()
    return Source(layout.shape, read_hub(layout), tokenizer_of(layout), None, "see the model's own card", keep_float, layout)


def tokenizer_of(layout: Layout) -> Path:
    """The model's tokenizer.json; made from its older files, where it has none."""
    file = layout.encoder / "tokenizer.json"
    if file.exists():
        return file
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(layout.encoder), local_files_only=True).backend_tokenizer
    except Exception as error:
        raise ExportError(f"{file} does not exist, and cannot be made from other files: {error}\n"
                          "  it is one of the model's files on the hub") from error
    print(f"{file} does not exist; it is made from the tokenizer's other files")
    made = Path(mkdtemp(prefix="embedfleet-")) / "tokenizer.json"
    tokenizer.save(str(made))
    return made


def read_mini() -> tuple[Shape, Weights]:
    """mini's weights out of its graph; its embedding tables are int8 there, with a scale per row."""
    graph = onnx.load(str(MINI / "model.onnx")).graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for table in ("embeddings.word", "embeddings.position"):
        weights[table] = weights[f"{table}.rows"] * weights[f"{table}.scale"]
    shape = shape_of(json.loads((MINI / "config.json").read_text(encoding="utf-8")), "mini/config.json")
    check_weights(weights, shape, "mini/model.onnx")
    return shape, weights
