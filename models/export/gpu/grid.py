"""Batch x length in every engine there is: latency, rows and tokens a second, share of the matrix peak.

    python -m export.gpu.grid --model FOLDER --checkpoint FOLDER --device cuda|cpu --out grid.json
"""
from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
import onnxruntime
import torch

from ..manifest import read_json, write_json
from ..shape import Shape, shape_of
from ..torch_reference import Reference

BATCHES, LENGTHS = (1, 8, 32, 128), (128, 512, 2048, 8192)
#: Larger batches are left out: they take long and no longer make anything faster.
LARGEST_AREA = {"cuda": 262_144, "cpu": 4_096}
ROUNDS = {"cuda": 20, "cpu": 3}
HEADS = ["dense_vecs"]
Run = Callable[[np.ndarray], Any]


def flops(shape: Shape, batch: int, length: int) -> float:
    """Of the encoder's matrix products, for the whole padded batch."""
    linear = 2 * (4 * shape.hidden**2 + 2 * shape.hidden * shape.ffn)
    attention = 4 * length * shape.hidden
    return batch * length * shape.layers * (linear + attention)


def matrix_peak(device: str) -> float:
    """FLOP/s of one large product in the type that the models run in."""
    size, dtype = (8192, torch.float16) if device == "cuda" else (1024, torch.float32)
    a = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / min(timed(lambda: a @ a, device, 10))


def timed(work: Callable[[], Any], device: str, rounds: int) -> List[float]:
    """Seconds of each round, after one that is not counted."""
    taken = []
    for index in range(rounds + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        if index > 0:
            taken.append(time.perf_counter() - start)
    return taken


def onnx_run(path: Path, provider: Any) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    return lambda ids: session.run(HEADS, {"input_ids": ids, "attention_mask": np.ones_like(ids)})


def torch_run(checkpoint: Path, device: str) -> Run:
    """The reference with PyTorch's own fused attention, in float16 on a GPU; the hidden state alone."""
    model = Reference(checkpoint).encoder.to(device)
    if device == "cuda":
        model = model.half()

    def run(ids: np.ndarray) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(ids).to(device))
    return run


def runs(model: Path, checkpoint: Path, device: str) -> Iterator[Tuple[str, Callable[[], Run], Dict[str, Any] | None]]:
    """Each engine's name, what opens it, and the shapes it takes (None: any)."""
    provider = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}[device]
    manifest = read_json(model / "manifest.json")
    for precision, files in manifest["weights"].items():
        yield f"onnxruntime {device} {precision}", lambda path=files[0]["path"]: onnx_run(model / path, provider), None
    for engine in manifest.get("engines", []):
        path = engine["files"][0]["path"]
        yield f"tensorrt {path}", lambda path=path: onnx_run(model / path, "TensorrtExecutionProvider"), engine
    yield f"pytorch {device}", lambda: torch_run(checkpoint, device), None


def takes(engine: Dict[str, Any] | None, batch: int, length: int) -> bool:
    if engine is None:
        return True
    least, most = engine["min"], engine["max"]
    return least["batch"] <= batch <= most["batch"] and least["length"] <= length <= most["length"]


def measure(run: Run, shape: Shape, peak: float, device: str, batch: int, length: int) -> Dict[str, Any]:
    ids = np.random.default_rng(0).integers(4, 20_000, (batch, length))
    try:
        taken = timed(lambda: run(ids), device, ROUNDS[device])
    except Exception as error:  # Out of memory is a result, and the grid goes on.
        return {"batch": batch, "length": length, "error": str(error)[:200]}
    median = float(np.median(taken))
    return {"batch": batch, "length": length, "p50Ms": round(median * 1e3, 2),
            "p99Ms": round(float(np.percentile(taken, 99)) * 1e3, 2), "rowsPerSecond": round(batch / median, 1),
            "tokensPerSecond": round(batch * length / median),
            "shareOfPeak": round(flops(shape, batch, length) / median / peak, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    device = arguments.device
    shape = shape_of(read_json(arguments.model / "config.json"), "config.json")
    peak = matrix_peak(device)
    grid = [(batch, length) for length in LENGTHS for batch in BATCHES
            if batch * length <= LARGEST_AREA[device] and length <= shape.max_tokens]
    results = []
    for name, open_run, engine in runs(arguments.model, arguments.checkpoint, device):
        run = open_run()
        for batch, length in grid:
            if takes(engine, batch, length):
                results.append({"engine": name, **measure(run, shape, peak, device, batch, length)})
                print(json.dumps(results[-1]), flush=True)
        del run
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    write_json(arguments.out, {"device": name, "peakTflops": round(peak / 1e12, 2), "torch": torch.__version__,
                               "onnxruntime": onnxruntime.__version__, "results": results})


if __name__ == "__main__":
    main()
