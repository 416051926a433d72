"""`python -m export`: the commands; `embedfleet models export` runs them in an environment of its own."""
from __future__ import annotations

import argparse
import shutil
import sys
from fnmatch import filter as filter_names
from pathlib import Path
from typing import Dict, List, Sequence

from .graph import write_fused
from .manifest import read_json, write_json, write_manifest
from .shape import ExportError
from .sources import Source, read_source
from .tensorrt import add_engines, this_machine

GRAPHS = {"fp32": "model.onnx", "fp16": "model_fp16.onnx", "int8": "model_int8.onnx"}


def graph(arguments: argparse.Namespace) -> None:
    """Write a folder that `--model` takes."""
    if arguments.tensorrt:
        this_machine(0)
    source = read_source(arguments.source)
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(source.tokenizer, folder / "tokenizer.json")
    write_json(folder / "config.json", source.shape.config())
    graphs: Dict[str, List[Path]] = {}
    keep_float = kept_layers(source, arguments.keep_float)
    for precision in arguments.precision:
        files = write_fused(folder / GRAPHS[precision], source.shape, source.weights, precision, keep_float,
                            source.pooling, source.modules)
        graphs[precision] = files
        print(f"{precision}: {', '.join(f'{file.name} {file.stat().st_size:,} bytes' for file in files)}")
    if "int8" in graphs and keep_float:
        print(f"int8 keeps in float32: {', '.join(keep_float)}")
    print(f"wrote {write_manifest(folder, source, graphs)}")
    if arguments.tensorrt:
        for name in add_engines(folder, source):
            print(f"compiled {name}")


def write_tokenizer(source: Path, target: Path) -> None:
    """A copy that pads and cuts nothing: files often say so for batches of the machine they were saved on."""
    tokenizer = read_json(source)
    if tokenizer.get("truncation") is None and tokenizer.get("padding") is None:
        shutil.copyfile(source, target)
        return
    write_json(target, {**tokenizer, "truncation": None, "padding": None})


def kept_layers(source: Source, asked: Sequence[str]) -> Sequence[str]:
    """What int8 leaves in float32: what was asked for, else what the model is known to need; 'none' is nothing."""
    patterns = [] if list(asked) == ["none"] else list(asked) or list(source.keep_float)
    names = {name.removesuffix(".weight") for name in source.weights}
    for pattern in patterns:
        if not filter_names(names, pattern):
            raise ExportError(f"no layer is named {pattern!r}\n  layers are named as in layers.0.attention.value, "
                              "layers.0.ffn.down, embeddings.word; stars stand for any part")
    return patterns


def checkpoint(arguments: argparse.Namespace) -> None:
    """Write a made-up model as PyTorch files in the hub's layout."""
    from .hub import write_hub

    source = read_source(arguments.source)
    write_hub(arguments.out, source.shape, source.weights, source.tokenizer)
    print(f"wrote {arguments.out}")


def reference(arguments: argparse.Namespace) -> None:
    """Write what sentence-transformers answers for the sample of texts."""
    try:
        from .reference import make_reference

        texts = make_reference(Path(arguments.source), arguments.out)
    except ImportError as error:
        raise ExportError(f"a reference is made with sentence-transformers: {error}\n"
                          "  pip install -r models/export/requirements.txt, or run it by: embedfleet models export") from error
    print(f"wrote {arguments.out}: {texts} texts")


def precisions(text: str) -> List[str]:
    names = text.split(",")
    for name in names:
        if name not in GRAPHS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(GRAPHS)}")
    return names


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="export", description="ONNX graphs from PyTorch weights")
    commands = root.add_subparsers(required=True)
    for run, source in ((graph, "a folder in the hub's layout, or generated:{mini,tiny,large}"),
                        (checkpoint, "generated:{mini,tiny,large}"), (reference, "a folder in the hub's layout")):
        command = commands.add_parser(run.__name__, help=run.__doc__)
        command.add_argument("source", help=source)
        command.add_argument("--out", type=Path, required=True)
        command.set_defaults(run=run)
        if run is graph:
            command.add_argument("--precision", type=precisions, default=list(GRAPHS))
            command.add_argument("--keep-float", action="append", default=[], metavar="PATTERN",
                                 help="layers that int8 leaves in float32, as in 'layers.0.*' or '*.ffn.down'; by default "
                                      "those that the model is known to need, 'none' for none")
            command.add_argument("--tensorrt", action="store_true", help="compile TensorRT engines for this GPU too")
    return root


def main() -> int:
    arguments = parser().parse_args()
    try:
        arguments.run(arguments)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
