"""TensorRT engines, compiled here and loaded by the workers as ONNX files of one EPContext node.

onnxruntime-node passes no options to TensorRT, so whatever needs one is done now: float16, the ranges
of shapes, the timing cache. An engine is good for the GPU architecture, TensorRT and ONNX Runtime it
was compiled with, and for the shapes of its tier; the manifest says all of them.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

from .graph import write_plain
from .manifest import digest_of, file_entry, read_json, write_json
from .shape import ExportError
from .sources import Source

#: Padded area of a tier's largest batch, and at most of the batch that it is tuned for.
MAX_AREA, OPT_AREA = 65_536, 32_768
#: Longest and typical row of each tier.
LENGTHS = {"short": (256, 128), "medium": (1024, 512), "long": (8192, 2048)}
SHORTEST_ROW = 2
INPUTS = ("input_ids", "attention_mask")

Shape2 = Tuple[int, int]


@dataclass(frozen=True)
class Tier:
    """Shapes are (batch, length)."""

    name: str
    min: Shape2
    opt: Shape2
    max: Shape2


@dataclass(frozen=True)
class Machine:
    """What an engine is bound to. `arch` as in `sm90`."""

    arch: str
    tensorrt: str
    onnxruntime: str


def tiers(max_tokens: int) -> List[Tier]:
    """Of equal area, so that each fills the device; the longest takes rows of `max_tokens`."""
    found = []
    for name, (longest, typical) in LENGTHS.items():
        longest, typical = min(longest, max_tokens), min(typical, max_tokens)
        most = max(1, MAX_AREA // longest)
        found.append(Tier(name, (1, SHORTEST_ROW), (min(most, OPT_AREA // typical), typical), (most, longest)))
        if longest == max_tokens:
            break
    return found


def engine_name(tier: Tier, machine: Machine) -> str:
    return f"model_fp16_{tier.name}_{machine.arch}_trt{machine.tensorrt}_ort{machine.onnxruntime}.onnx"


def profile(shape: Shape2) -> str:
    return ",".join(f"{name}:{shape[0]}x{shape[1]}" for name in INPUTS)


def options(tier: Tier, engine: Path, cache: Path, device: int) -> Dict[str, str]:
    """What the TensorRT provider is told when it compiles."""
    return {
        "device_id": str(device),
        "trt_fp16_enable": "1",
        # The graph has float32 islands for norms and softmax; this keeps TensorRT from fusing them away.
        "trt_layer_norm_fp32_fallback": "1",
        "trt_builder_optimization_level": "5",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
        "trt_profile_min_shapes": profile(tier.min),
        "trt_profile_opt_shapes": profile(tier.opt),
        "trt_profile_max_shapes": profile(tier.max),
        "trt_dump_ep_context_model": "1",
        "trt_ep_context_file_path": str(engine),
        # The engine lies beside the small ONNX file, which a protobuf's 2 GiB could not hold.
        "trt_ep_context_embed_mode": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": ".",
        "trt_engine_cache_prefix": engine.stem,
    }


def entry(tier: Tier, machine: Machine, files: List[Path]) -> Dict[str, Any]:
    """The engine as `models/manifest.ts` describes one."""
    def as_shape(shape: Shape2) -> Dict[str, int]:
        return {"batch": shape[0], "length": shape[1]}

    return {
        "gpuArch": machine.arch, "trtVersion": machine.tensorrt, "ortVersion": machine.onnxruntime,
        "precision": "fp16", "min": as_shape(tier.min), "opt": as_shape(tier.opt), "max": as_shape(tier.max),
        "files": [file_entry(file) for file in files],
    }


def merged(engines: List[Dict[str, Any]], fresh: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Engines of other machines stay; those of the same machine are replaced."""
    def machine(engine: Dict[str, Any]) -> Tuple[str, ...]:
        return engine["gpuArch"], engine["trtVersion"], engine["ortVersion"], engine["precision"]

    replaced = {machine(engine) for engine in fresh}
    return [engine for engine in engines if machine(engine) not in replaced] + fresh


def this_machine(device: int) -> Machine:
    """Refuse where an engine cannot be compiled, and say what is missing."""
    cure = "  compile on a machine with an NVIDIA GPU: models/export/gpu/run.sh sets one up"
    try:
        import onnxruntime
        import tensorrt
    except ImportError as error:
        raise ExportError(f"TensorRT engines need onnxruntime-gpu and tensorrt: {error}\n{cure}") from error
    if "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
        raise ExportError(f"this onnxruntime {onnxruntime.__version__} has no TensorRT provider\n{cure}")
    import torch

    if not torch.cuda.is_available():
        raise ExportError(f"there is no CUDA device to compile an engine for\n{cure}")
    major, minor = torch.cuda.get_device_capability(device)
    return Machine(f"sm{major}{minor}", re.match(r"[\d.]+", tensorrt.__version__)[0], onnxruntime.__version__)


def compile_tier(graph: Path, tier: Tier, machine: Machine, folder: Path, device: int) -> List[Path]:
    """Compile one engine. @returns Its files, the ONNX file first."""
    import onnxruntime

    engine, cache = folder / engine_name(tier, machine), folder / ".timing"
    cache.mkdir(exist_ok=True)
    before = set(folder.iterdir())
    chosen = ("TensorrtExecutionProvider", options(tier, engine, cache, device))
    # Without the CPU to fall back to: a graph of which a part is left over is no engine.
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    onnxruntime.InferenceSession(str(graph), settings, providers=[chosen])
    if not engine.exists():
        raise ExportError(f"TensorRT {machine.tensorrt} compiled the {tier.name} tier and left no {engine.name}")
    return [engine, *sorted(set(folder.iterdir()) - before - {engine})]


def add_engines(folder: Path, source: Source, device: int = 0) -> List[str]:
    """Compile all tiers of an exported model and name them in its manifest. @returns Their file names."""
    machine = this_machine(device)
    graph = folder / ".plain_fp16.onnx"
    written = write_plain(graph, source.shape, source.weights, "fp16", source.pooling, source.modules)
    try:
        compiled = [(tier, compile_tier(graph, tier, machine, folder, device))
                    for tier in tiers(source.max_tokens)]
    finally:
        for file in written:
            file.unlink()
    manifest = read_json(folder / "manifest.json")
    # An exported graph finishes its heads, so these files are all that the model's digest is of.
    weights = {"weightsSha256": digest_of(manifest["weights"]["fp16"])} if "fp16" in manifest["weights"] else {}
    fresh = [{**entry(tier, machine, files), **weights} for tier, files in compiled]
    manifest["engines"] = merged(manifest.get("engines", []), fresh)
    write_json(folder / "manifest.json", manifest)
    return [files[0].name for _, files in compiled]
