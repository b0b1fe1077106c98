"""How fast the world model learns: `python -m benchmarks.learning [--only frozen|wait|compile|gpu] [--rounds 3]`.

frozen    clips a second of post-training on a frozen encoder with latents encoded once, against the
          straightforward loop on the same model and data: every frame encoded in every step (once, or as
          context and as target), a dense mask, rotations computed again in every block
wait      the share of a training step of the compact recipe that goes to waiting for data
compile   steps of the compact recipe, and of a small dense model, with and without torch.compile
gpu       model FLOP utilisation of ViT-L post-training (with a GPU only)
All ways take turns in one run on one machine, so that their ratio holds where their seconds do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tensordict import TensorDict
from torch import Tensor

from agent.cli.learning import choose_precision
from benchmarks.world_model import OfficialWay, machine, matrix_rate
from data.cache import FrameCache
from data.cache_jobs import CacheSettings, Stretch
from data.hindsight import HindsightLoader
from data.types import Conventions
from world_model.losses import layer_norm, vjepa2_ac
from world_model.train.loop import train
from world_model.train.parts import Program, parameter_groups
from world_model.train.recipes import Sizes, make_recipe

FRAMES = 8


def noise_clip(conventions: Conventions, batch: int, device: str = "cpu") -> TensorDict:
    size, views = conventions.image_size, len(conventions.cameras)
    frames = torch.randint(0, 256, (batch, FRAMES, views, size, size, 3), dtype=torch.uint8, device=device)
    poses = torch.rand(batch, FRAMES, 7, device=device)
    return TensorDict({"frames": frames, "poses": poses, "actions": poses.diff(dim=1)}, [batch])


def noise_cache(folder: Path, conventions: Conventions, episodes: int = 40, rows: int = 30) -> FrameCache:
    """A cache of noise on disk, mapped into memory as a real one is."""
    count, size, views = episodes * rows, conventions.image_size, len(conventions.cameras)
    frames = np.memmap(folder / "frames", np.uint8, "w+", shape=(count, views, size, size, 3))
    rng = np.random.default_rng(0)
    for i in range(count):
        frames[i] = rng.integers(0, 256, frames.shape[1:], np.uint8)
    poses = torch.rand(count, 7)
    columns = {"frames": torch.from_numpy(frames), "poses": poses, "actions": 0.01 * torch.randn(count, 7),
               "times": torch.arange(count, dtype=torch.float64)}  # fmt: skip
    found = [
        Stretch(first=e * rows, rows=rows, crc=0, uuid=str(e), run=0, source="", key=str(e))
        for e in range(episodes)
    ]
    settings = CacheSettings(cameras=conventions.cameras, image_size=size, crop="square", period_s=0.2)
    return FrameCache(folder, settings, TensorDict(columns, [count]), found)


def take_turns(ways: dict[str, Callable[[], None]], rounds: int, steps: int) -> dict[str, float]:
    """Median seconds of a step, each way in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # warm
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            for _ in range(steps):
                way()
            seconds[name].append((time.perf_counter() - start) / steps)
    return {name: statistics.median(each) for name, each in seconds.items()}


def stepper(loss: Callable[[], Tensor], parameters: list[dict[str, Any]]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def frozen(rounds: int, batch: int = 4) -> dict[str, Any]:
    """ViT-tiny at 64 px, two views (32 tokens a frame), and a predictor of six blocks."""
    conventions = Conventions(image_size=64)
    recipe = make_recipe(
        "vjepa2_ac", model=Sizes(kind="dense", config={"encoder": "tiny", "heads": 8, "width": 192})
    )
    torch.manual_seed(0)
    model = recipe.build(conventions)
    world, clip = model.world, noise_clip(conventions, batch)
    with torch.no_grad():
        latents = world.encode(clip["frames"].flatten(0, 1)).unflatten(0, (batch, FRAMES))
    ready = TensorDict(
        {"latents": latents.half(), "poses": clip["poses"], "actions": clip["actions"]}, [batch]
    )
    official = OfficialWay(world.predictor)

    def straightforward(passes: int) -> Tensor:
        with torch.no_grad():
            for _ in range(passes):
                h = world.encode(clip["frames"].flatten(0, 1)).unflatten(0, (batch, FRAMES))

        def predict(
            latents: Tensor, actions: Tensor, poses: Tensor, extrinsics: Tensor | None = None
        ) -> Tensor:
            return official.forward(latents, actions, poses)

        return vjepa2_ac(predict, layer_norm(h), clip["actions"], clip["poses"])["loss"]

    generator = torch.Generator()
    parameters = parameter_groups(model)
    seconds = take_turns(
        {
            "ours, latents encoded once": stepper(lambda: recipe.loss(model, ready, 0, generator)[0], parameters),
            "ours, frames encoded each step": stepper(lambda: recipe.loss(model, clip, 0, generator)[0], parameters),
            "straightforward, encoding once a step": stepper(lambda: straightforward(1), parameters),
            "straightforward, encoding both ways": stepper(lambda: straightforward(2), parameters),
        },
        rounds, steps=2,
    )  # fmt: skip
    ours = seconds["ours, latents encoded once"]
    return {
        "clips_per_s": {name: batch / s for name, s in seconds.items()},
        "times_as_fast": {name: s / ours for name, s in seconds.items()},
    }


def wait(steps: int = 8) -> dict[str, Any]:
    """The shipped model's recipe at its own size and batch, on a cache in memory-mapped files."""
    conventions = Conventions()
    usual = recipe_of("panda")
    batch = usual["batch_size"]
    with tempfile.TemporaryDirectory() as folder:
        cache = noise_cache(Path(folder), conventions)
        loader = HindsightLoader(cache, split="all", batch=batch, length=usual["clip_frames"])
        out = Path(folder) / "run"
        train(
            make_recipe("panda"), loader, out=out, steps=steps, learning_rate=1e-4, conventions=conventions,
            precision=choose_precision("auto", "cpu")[0], save_every_steps=steps, say=lambda _: None, device="cpu",
        )  # fmt: skip
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][2:]
    waited, took = sum(x["waited_s"] for x in lines), sum(x["took_s"] for x in lines)
    return {"batch": batch, "clips_per_s": batch * len(lines) / took, "share_waiting": waited / took}


def compiled(rounds: int, device: str) -> dict[str, Any]:
    """The shipped model's recipe at its own size and batch in bf16 where the machine computes in it, and a small dense model
    in fp32."""
    conventions = Conventions()
    usual = recipe_of("panda")
    with tempfile.TemporaryDirectory() as folder:
        cache = noise_cache(Path(folder), conventions, episodes=8)
        loader = HindsightLoader(cache, split="all", batch=usual["batch_size"], length=usual["clip_frames"])
        clip = next(iter(loader)).to(device)
        recipe = make_recipe("panda")
        half = choose_precision("auto", device)[0] == "bf16"
        compact = compare(recipe, recipe.build(conventions).to(device).train(), clip, rounds, half=half)
    recipe = make_recipe(
        "vjepa2_ac", model=Sizes(kind="dense", config={"encoder": "tiny", "heads": 8, "width": 192})
    )
    model, clip = (
        recipe.build(Conventions(image_size=64)).to(device),
        noise_clip(Conventions(image_size=64), 4, device),
    )
    with torch.no_grad():
        latents = model.world.encode(clip["frames"].flatten(0, 1)).unflatten(0, (4, FRAMES))
    ready = TensorDict({"latents": latents, "poses": clip["poses"], "actions": clip["actions"]}, [4])
    return {"compact": compact, "dense": compare(recipe, model, ready, rounds, half=False)}


def compare(recipe: Any, model: Any, clip: TensorDict, rounds: int, *, half: bool) -> dict[str, Any]:
    """Steps of a recipe on one clip, with and without torch.compile."""
    device = next(model.parameters()).device
    program, generator, parameters = Program(recipe, model), torch.Generator(device), parameter_groups(model)

    def loss(run: Any) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            return run(clip, 0, generator)[0]

    fast = torch.compile(program)
    began = time.perf_counter()
    loss(fast).backward()
    first = time.perf_counter() - began
    ways = {
        name: stepper(lambda run=run: loss(run), parameters)
        for name, run in (("eager", program), ("compiled", fast))
    }
    seconds = take_turns(ways, rounds, steps=3)
    gain = seconds["eager"] - seconds["compiled"]
    return {
        "times_as_fast": seconds["eager"] / seconds["compiled"], "seconds_eager": seconds["eager"],
        "seconds_to_compile": first, "steps_until_it_pays": first / gain if gain > 0 else None,
    }  # fmt: skip


def recipe_of(name: str) -> dict[str, Any]:
    """A recipe's usual settings."""
    return yaml.safe_load(
        (Path(__file__).resolve().parents[1] / "configs" / "recipe" / f"{name}.yaml").read_text()
    )


def gpu(rounds: int, batch: int = 16) -> dict[str, Any]:
    """ViT-L at 256 px frozen, V-JEPA 2-AC's predictor of 24 blocks, bf16: encoding included."""
    from torch.utils.flop_counter import FlopCounterMode

    conventions = Conventions(cameras=("exterior_left",), image_size=256)
    sizes = Sizes(kind="dense", config={"encoder": "large", "width": 1024, "depth": 24, "heads": 16})
    recipe = make_recipe("vjepa2_ac", model=sizes)
    program = Program(recipe, recipe.build(conventions).cuda())
    clip, generator = noise_clip(conventions, batch, "cuda"), torch.Generator("cuda")

    def loss(run: Any) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return run(clip, 0, generator)[0]

    with FlopCounterMode(display=False) as counter:
        loss(program).backward()
    flop = counter.get_total_flops()
    found: dict[str, Any] = {}
    peak = matrix_rate(torch.bfloat16, "cuda", 8192, 20) * 1e12
    for name, run in (("eager", program), ("compiled", torch.compile(program))):
        step = stepper(lambda run=run: loss(run), parameter_groups(program.model))

        def timed(step: Callable[[], None] = step) -> None:
            step()
            torch.cuda.synchronize()

        seconds = take_turns({name: timed}, rounds, steps=3)[name]
        found[name] = {"clips_per_s": batch / seconds, "tflops": flop / seconds / 1e12, "mfu_of_989": flop / seconds / 989e12,
                       "share_of_matrix_rate": flop / seconds / peak}  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=["frozen", "wait", "compile", "gpu"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    wanted = [options.only] if options.only else ["frozen", "wait", "compile", "gpu"]
    report: dict[str, Any] = {"machine": machine(options.threads)}
    if "frozen" in wanted:
        report["frozen"] = frozen(options.rounds)
    if "wait" in wanted:
        report["wait"] = wait()
    if "compile" in wanted:
        report["compile"] = compiled(options.rounds, "cuda" if torch.cuda.is_available() else "cpu")
    if "gpu" in wanted and torch.cuda.is_available():
        report["gpu"] = gpu(options.rounds)
    print(json.dumps(report, indent=1, default=lambda x: round(float(x), 4)))


if __name__ == "__main__":
    main()
