#!/usr/bin/env python3
"""Memory and speed of exported graphs at full size (24 x 1024, made-up weights) on this CPU.

    python3 test/bench/exported_graphs.py memory --out docs/bench/export-memory.json
    python3 test/bench/exported_graphs.py speed  --out docs/bench/export-speed.json

Needs the packages of models/export/requirements.txt. Graphs are written into --work, about 5 GB.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models"))
from export.generated import SHAPES, generate  # noqa: E402
from export.graph import write_fused, write_plain  # noqa: E402


GRAPHS = {"plain fp32": "plain.onnx", "fused fp32": "fused.onnx", "fused int8": "int8.onnx"}
BATCHES = [(32, 128), (8, 512)]


def write_graphs(work: Path, model: str, layers: int) -> None:
    """The graphs that are not there yet."""
    missing = [kind for kind, file in GRAPHS.items() if not (work / file).exists()]
    if not missing:
        return
    work.mkdir(parents=True, exist_ok=True)
    shape = replace(SHAPES[model], layers=layers)
    weights = generate(shape)
    for kind in missing:
        write, precision = (write_plain if "plain" in kind else write_fused), kind.split()[1]
        write(work / GRAPHS[kind], shape, weights, precision)


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait must not count as work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds(batch: int, tokens: int) -> dict:
    """Rows of random ids; all but the first of a batch have a tail of padding."""
    ids = np.random.default_rng(0).integers(4, 20_000, (batch, tokens))
    mask = np.ones_like(ids)
    mask[1:, tokens - tokens // 16:] = 0
    return {"input_ids": np.where(mask == 1, ids, 1), "attention_mask": mask}


def resident() -> int:
    """MiB, the most so far; `getrusage` would count what the parent process held before it started this one."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def peak(path: Path, tokens: int, threads: int) -> None:
    """In a process of its own: load, run one row, print the peak of resident memory."""
    # Where memory runs out, let it be this process that ends.
    Path("/proc/self/oom_score_adj").write_text("1000")
    model = session(path, threads)
    loaded = resident()
    start = time.perf_counter()
    model.run(["dense_vecs"], feeds(1, tokens))
    print(json.dumps({"loadedMiB": loaded, "seconds": round(time.perf_counter() - start, 1),
                      "peakMiB": resident()}))


def memory(work: Path, threads: int, lengths: list) -> list:
    results = []
    for tokens in lengths:
        for kind, file in GRAPHS.items():
            done = subprocess.run([sys.executable, __file__, "peak", str(work / file), str(tokens), str(threads)],
                                  capture_output=True, text=True, check=True)
            results.append({"graph": kind, "rows": 1, "tokens": tokens, **json.loads(done.stdout)})
            print(results[-1], flush=True)
    return results


def speed(work: Path, threads: int, rounds: int) -> list:
    """In alternation, so that whatever else the machine does falls on both, and in CPU time, which only work adds to."""
    kinds = ["fused fp32", "fused int8"]
    models = {kind: session(work / GRAPHS[kind], threads) for kind in kinds}
    results = []
    for batch, tokens in BATCHES:
        given, taken = feeds(batch, tokens), {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind in kinds:
                start = time.process_time()
                models[kind].run(["dense_vecs", "lexical_weights", "colbert_vecs"], given)
                taken[kind].append(time.process_time() - start)
        ratios = [a / b for a, b in zip(taken[kinds[0]], taken[kinds[1]])]
        results.append({"rows": batch, "tokens": tokens, "int8OverFp32": round(statistics.median(ratios), 2),
                        "ratios": [round(ratio, 2) for ratio in ratios],
                        "rowsPerCpuSecond": {kind: round(batch / statistics.median(taken[kind]), 2) for kind in kinds}})
        print(results[-1], flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "speed"])
    parser.add_argument("--work", type=Path, default=Path("/tmp/embedfleet-graphs"))
    parser.add_argument("--model", default="large")
    parser.add_argument("--layers", type=int, help="fewer than the model has; working memory is the same")
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 4096, 8192], help="rows whose memory is measured")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    layers = arguments.layers or SHAPES[arguments.model].layers
    work = arguments.work / f"{arguments.model}-{layers}"
    write_graphs(work, arguments.model, layers)
    results = (memory(work, arguments.threads, arguments.tokens) if arguments.what == "memory"
               else speed(work, arguments.threads, arguments.rounds))
    about = {"model": arguments.model, "layers": layers, "threads": arguments.threads, "loadAverage": os.getloadavg()[0],
             "machine": platform.machine(), "onnxruntime": onnxruntime.__version__, "results": results}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        peak(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
