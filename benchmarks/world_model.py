"""How fast the world models imagine, against the official way: `python -m benchmarks.world_model [--only dense]`.

The official way (V-JEPA 2's released planner): a dense mask of the maximum length, made at construction and sliced each
time; the whole sequence again for every imagined step; rotations again in every block, axis by axis; poses through
scipy, one by one.  Same weights, same machine, one run, the ways in turns."""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import platform
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from torch import Tensor

from benchmarks.official import OfficialWay
from data.types import Memory
from world_model.attention import Block
from world_model.checkpoint import build, load_model
from world_model.imagine import imagine_tokens
from world_model.losses import layer_norm
from world_model.predictors.tokens import TokenPredictor, TokenPredictorConfig

CANDIDATES, HORIZON, CONTEXT, GRID = 64, 4, 3, (8, 8)
VECTOR = Path(__file__).parent.parent / "configs" / "model" / "compact_vector.yaml"


def small_predictor() -> TokenPredictor:
    """The size of ViT-S: 12 blocks, 384 channels, 6 heads.

    Random weights, except that every head gives the action about a third of its attention: first weights hardly
    hear the action, all candidates come out alike, and there would be no ranking to compare.
    """
    torch.manual_seed(0)
    p = TokenPredictor(TokenPredictorConfig(latent_dim=384, dim=384, depth=12, heads=6, grid=GRID)).eval()
    with torch.no_grad():
        for m in p.modules():
            if isinstance(m, torch.nn.Linear):
                m.weight.normal_(0, m.in_features**-0.5)
        p.action_encoder.weight *= 20
        # Channel 0 says "I am an action"; a channel of each head that no position turns asks for it.
        for m in (p.predictor_embed, p.action_encoder, p.state_encoder):
            m.weight[0] = 0
        p.action_encoder.bias[0] = 8
        for block in p.predictor_blocks:
            assert isinstance(block, Block)
            block.attn.proj.weight[0] = 0
            block.mlp.fc2.weight[0] = 0
            asks = torch.arange(63, 384, 64)
            block.attn.qkv.weight[asks] = 0
            block.attn.qkv.bias[asks] = 4
            block.attn.qkv.weight[384 + asks] = 0
            block.attn.qkv.weight[384 + asks, 0] = 1
    return p


def dense_inputs() -> tuple[Memory, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    n = GRID[0] * GRID[1]
    memory = Memory(
        latents=layer_norm(torch.randn(1, CONTEXT, n, 384, generator=g)),
        poses=0.3 * torch.randn(1, CONTEXT, 7, generator=g),
        actions=0.05 * torch.randn(1, CONTEXT - 1, 7, generator=g),
    )
    actions = 0.075 * (2 * torch.rand(1, CANDIDATES, HORIZON, 7, generator=g) - 1)
    return memory, actions, layer_norm(torch.randn(n, 384, generator=g))


def dense_ways() -> dict[str, Callable[[], Tensor]]:
    """Name -> a function that gives the final latents [K, N, D]."""
    memory, actions, _ = dense_inputs()
    single, half = small_predictor(), small_predictor().bfloat16()
    official = OfficialWay(single)
    return {
        "official": lambda: official.imagine(memory, actions)[:, -1],
        "ours": lambda: imagine_tokens(single, memory, actions).latents[0, :, -1],
        "ours_64_MB": lambda: imagine_tokens(single, memory, actions, memory_limit_mb=64).latents[0, :, -1],
        "ours_bf16": lambda: imagine_tokens(half, memory, actions).latents[0, :, -1],
    }


def _peak(name: str, threads: int, sender: Any) -> None:
    """Peak memory of one way in a process of its own, above what weights and inputs take."""
    torch.set_num_threads(threads)
    way = dense_ways()[name]
    torch.mm(torch.randn(256, 256), torch.randn(256, 256))
    me, seen, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            seen.append(me.memory_info().rss)

    before = me.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    with torch.no_grad():
        way()
    done.set()
    watcher.join()
    sender.send((max(seen) - before) / 2**20)


def peak_mb(name: str, threads: int) -> float:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_peak, args=(name, threads, sender))
    process.start()
    result = receiver.recv()
    process.join()
    return result


def in_turns(
    ways: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Median wall and processor milliseconds of each way, the ways one after the other in every round; and what
    each gave in a first round that is not counted."""
    wall: dict[str, list[float]] = {n: [] for n in ways}
    used: dict[str, list[float]] = {n: [] for n in ways}
    with torch.no_grad():
        gave = {name: way() for name, way in ways.items()}
        for _ in range(rounds):
            for name, way in ways.items():
                w, c = time.perf_counter(), time.process_time()
                way()
                wall[name].append(1e3 * (time.perf_counter() - w))
                used[name].append(1e3 * (time.process_time() - c))
    times = {
        n: {
            "wall_ms": statistics.median(wall[n]),
            "best_ms": min(wall[n]),
            "processor_ms": statistics.median(used[n]),
        }
        for n in ways
    }
    return times, gave


def matrix_rate(dtype: torch.dtype, device: str = "cpu", size: int = 2048, repeats: int = 5) -> float:
    """Measured TFLOP/s of a square matrix product."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        torch.mm(a, b)
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times[1:]) / 1e12


def spearman(a: Tensor, b: Tensor) -> float:
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def dense(rounds: int, threads: int) -> dict[str, Any]:
    goal = dense_inputs()[2]
    times, latents = in_turns(dense_ways(), rounds)
    energies = {n: (z.float() - goal).abs().mean((-1, -2)) for n, z in latents.items()}
    report: dict[str, Any] = {}
    for name, figures in times.items():
        report[name] = {
            **figures,
            "faster": times["official"]["wall_ms"] / figures["wall_ms"],
            "less_processor": times["official"]["processor_ms"] / figures["processor_ms"],
            "peak_mb": peak_mb(name, threads),
            "rank_agreement": spearman(energies["official"], energies[name]),
            "energy_spread": float(energies[name].std()),
            "largest_energy_gap": float((energies["official"] - energies[name]).abs().max()),
        }
    return report


def compact(rounds: int) -> dict[str, Any]:
    """300 candidates of horizon 5: the shipped one-token transformer, and a vector latent without attention (with
    first weights: they cost what trained ones cost).  Each in single precision and with matrices in bfloat16."""
    g = torch.Generator().manual_seed(1)
    shipped: Any = load_model("forearm-panda")
    conventions, dim = shipped.conventions, shipped.dim
    here = torch.tensor([0.5, 0.0, 0.2, 3.14, 0.0, 0.0, 0.2])
    memory = Memory(
        latents=torch.randn(1, 3, 1, dim, generator=g),  # what SIGReg makes of pictures
        poses=here + 0.02 * torch.rand(1, 3, 7, generator=g),
        actions=0.02 * torch.randn(1, 2, 7, generator=g),
    )
    actions = 0.03 * torch.randn(1, 300, 5, 7, generator=g)
    actions[..., 3:6], actions[..., 6] = 0, torch.rand(1, 300, 5, generator=g).round()
    goal = torch.randn(1, dim, generator=g)
    size = conventions.image_size
    frames = torch.randint(0, 256, (1, len(conventions.cameras), size, size, 3), dtype=torch.uint8)
    vector = build("compact", yaml.safe_load(VECTOR.read_text())["config"], conventions).eval()
    ways: dict[str, Callable[[], Any]] = {"encode": lambda: shipped.encode(frames)}
    for name, model in {"transformer": shipped, "vector": vector}.items():
        half = copy.deepcopy(model).think_in(torch.bfloat16)
        ways[name] = lambda model=model: model.imagine(memory, actions)
        ways[f"{name}_bf16"] = lambda half=half: half.imagine(memory, actions)
    times, gave = in_turns(ways, 4 * rounds)
    energies = {n: (gave[n].latents[0, :, -1] - goal).square().mean((-1, -2)) for n in ways if n != "encode"}
    times["transformer_bf16"]["rank_agreement"] = spearman(
        energies["transformer"], energies["transformer_bf16"]
    )
    return times


def gpu(rounds: int) -> dict[str, Any]:
    """ViT-g's predictor in bfloat16, compiled: 800 candidates of one step after a context of one frame."""
    p = TokenPredictor(TokenPredictorConfig(latent_dim=1408)).cuda().bfloat16().eval()
    p.compile(mode="max-autotune-no-cudagraphs")
    z = torch.randn(800, 1, p.tokens, 1408, device="cuda", dtype=torch.bfloat16)
    a = torch.randn(800, 1, 7, device="cuda", dtype=torch.bfloat16)
    frame, c = p.tokens + 2, p.config
    matrices = sum(m.weight.numel() for m in p.predictor_blocks.modules() if isinstance(m, torch.nn.Linear))
    flop = 800 * (frame * 2 * matrices + c.depth * 4 * frame**2 * c.dim + p.tokens * 4 * c.dim * 1408)
    seconds = []
    with torch.no_grad():
        for r in range(rounds + 3):
            torch.cuda.synchronize()
            start = time.perf_counter()
            p(z, a, a)
            torch.cuda.synchronize()
            if r > 2:
                seconds.append(time.perf_counter() - start)
    rate, card = flop / statistics.median(seconds) / 1e12, matrix_rate(torch.bfloat16, "cuda", 8192, 20)
    return {
        "tflops": rate,
        "matrix_tflops": card,
        "share": rate / card,
        "ms": 1e3 * statistics.median(seconds),
    }


def machine(threads: int) -> dict[str, Any]:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "torch": torch.__version__,
        "amx_bf16": "amx_bf16" in flags,
        "avx512_bf16": "avx512_bf16" in flags,
        "matrix_fp32_tflops": matrix_rate(torch.float32),
        "matrix_bf16_tflops": matrix_rate(torch.bfloat16),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=["dense", "compact", "gpu"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report: dict[str, Any] = {"machine": machine(options.threads)}
    if options.only in (None, "dense"):
        report["dense"] = dense(options.rounds, options.threads)
    if options.only in (None, "compact"):
        report["compact"] = compact(options.rounds)
    if torch.cuda.is_available() and options.only in (None, "gpu"):
        report["gpu"] = gpu(options.rounds)
    print(json.dumps(report, indent=1, default=lambda x: round(float(x), 4)))


if __name__ == "__main__":
    main()
