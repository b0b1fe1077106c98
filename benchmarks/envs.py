"""How fast the worlds turn: frames, model steps and collection, beside a stock MuJoCo scene, in one run.

Rates are told per second of this process's own CPU time (what an idle core gives) and per second by the clock.
Collection is told by the clock, and as it would be if nobody else used the cores: by how many processes want one.
Writes benchmarks/results/envs.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

if platform.system() == "Linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import mujoco
import numpy as np
import psutil
import torch

from agent.arms import EnvConfig
from agent.collect import CollectSettings, Tally, collect
from envs import ENGINES, make_arm
from envs.expert import ScriptedHand, grasp, lift
from envs.mujoco_world import build_model
from envs.panda import HOME_JOINTS
from envs.scenes import SceneConfig, draw_scene
from envs.tasks import OBJECT, drive

RESULTS = Path(__file__).parent / "results" / "envs.json"
FIGURES = {"frames_224": 600, "frames_128": 1000, "step_mujoco": 100, "step_pybullet": 20, "collect": 1.7}


def rate(call: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Calls per second of CPU time and by the clock."""
    call()
    count, cpu, clock = 0, time.process_time(), time.perf_counter()
    while time.process_time() - cpu < seconds:
        call()
        count += 1
    return count / (time.process_time() - cpu), count / (time.perf_counter() - clock)


def stock_frames(size: int, seconds: float) -> tuple[float, float]:
    """The same scene as it comes: full meshes, default shadows, reflections and multisampling."""
    model = build_model(draw_scene(SceneConfig(), 0), full_meshes=True)
    defaults = mujoco.MjSpec().visual.quality
    model.vis.quality.shadowsize, model.vis.quality.offsamples = defaults.shadowsize, defaults.offsamples
    data = mujoco.MjData(model)
    data.qpos[:7] = HOME_JOINTS
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, size, size)

    def frame() -> None:
        renderer.update_scene(data, camera="exterior_left")
        renderer.render()

    measured = rate(frame, seconds)
    renderer.close()
    return measured


def our_frames(size: int, seconds: float) -> tuple[float, float]:
    arm, _ = make_arm("mujoco", cameras=("exterior_left",), width=size, height=size)
    arm.reset(seed=0)
    measured = rate(arm.observe, seconds)
    arm.close()
    return measured


def model_step(engine: str, seconds: float, *, carrying: bool) -> tuple[float, float]:
    """Physics, inverse kinematics, the envelope and one frame of 128 px: a fifth of a second of the world."""
    arm, driver = make_arm(engine, cameras=("exterior_left",))
    arm.reset(seed=1)
    if carrying:
        drive(arm, driver, ScriptedHand(grasp(OBJECT) + lift(OBJECT)), 30)
    phase = 0.0

    def step() -> None:
        nonlocal phase
        phase += 0.5
        arm.act(np.array([0.03 * np.cos(phase), 0.03 * np.sin(phase), 0, 0, 0, 0, 0]))
        arm.observe()

    measured = rate(step, seconds)
    arm.close()
    return measured


@dataclass(kw_only=True, slots=True)
class Collected:
    """What some processes did between two moments."""

    per_s: float  # episodes by the clock
    per_cpu_s: float  # episodes per second of processor time
    busy: float  # processes that computed or waited for a core: the cores that an idle machine would have kept busy


def collection(workers: int, episodes: int, steps: int) -> Collected:
    """Episodes per second, once every worker is at work."""
    moments: list[tuple[float, float]] = []
    warm = 2 * workers
    watch: list[subprocess.Popen[str]] = []

    def progress(done: int, wanted: int, tallies: list[Tally]) -> None:
        moments.append((time.perf_counter(), _computed_s()))
        if len(moments) == warm:
            watch.append(_start_watch())

    with tempfile.TemporaryDirectory() as folder:
        settings = CollectSettings(steps=steps, env=EnvConfig())
        collect(Path(folder), episodes=episodes, workers=workers, settings=settings, progress=progress)
    busy = float(watch[0].communicate("end\n")[0])
    clock, cpu = (last - first for last, first in zip(moments[-1], moments[warm - 1], strict=True))
    return Collected(per_s=(episodes - warm) / clock, per_cpu_s=(episodes - warm) / cpu, busy=busy)


def _computed_s() -> float:
    """Processor seconds of this process and its children so far."""
    me = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in (me, *me.children(recursive=True)))


def _start_watch() -> subprocess.Popen[str]:
    """Another process that looks, fifty times a second, how many of these ones compute or wait for a core."""
    me = psutil.Process()
    pids = [str(p.pid) for p in (me, *me.children(recursive=True))]
    return subprocess.Popen(
        [sys.executable, "-c", _WATCH, *pids], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


_WATCH = """
import contextlib, select, sys
from pathlib import Path
looks = found = 0
while not select.select([sys.stdin], [], [], 0.02)[0]:
    looks += 1
    for pid in sys.argv[1:]:
        with contextlib.suppress(OSError):
            states = [t.read_text().rpartition(")")[2].split()[0] for t in Path(f"/proc/{pid}/task").glob("*/stat")]
            found += "R" in states
print(found / max(1, looks))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, rougher figures")
    parser.add_argument("--no-collect", action="store_true", help="leave the two workers out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds = 0.5 if options.quick else 4.0
    found: dict[str, dict[str, float]] = {}

    def tell(name: str, measured: tuple[float, float], beside: float | None = None) -> None:
        found[name] = {"per_cpu_s": measured[0], "per_s": measured[1]}
        text = f"{name:24s} {measured[0]:9.1f} per CPU second {measured[1]:9.1f} by the clock"
        if name in FIGURES:
            text += f"   wanted {FIGURES[name]}"
        if beside is not None:
            found[name]["times_stock"] = measured[0] / beside
            text += f"   {measured[0] / beside:.0f} times the stock scene"
        print(text, flush=True)

    for size in (224, 128):
        stock = stock_frames(size, seconds)
        tell(f"stock_{size}", stock)
        tell(f"frames_{size}", our_frames(size, seconds), stock[0])
    for engine in ENGINES:
        tell(f"step_{engine}", model_step(engine, seconds, carrying=False))
        tell(f"step_{engine}_carrying", model_step(engine, seconds, carrying=True))
    if not options.no_collect:
        episodes = 10 if options.quick else 40
        one, two = (collection(workers, episodes, 40) for workers in (1, 2))
        idle = two.busy * two.per_cpu_s / (one.busy * one.per_cpu_s)
        found["collect"] = {
            "one_per_s": one.per_s,
            "two_per_s": two.per_s,
            "ratio": two.per_s / one.per_s,
            "ratio_on_free_cores": idle,
        }
        print(
            f"collect: {one.per_s:.2f} episodes/s with one worker, {two.per_s:.2f} with two: "
            f"{two.per_s / one.per_s:.2f} times by the clock; {two.busy:.2f} cores busy against {one.busy:.2f}, "
            f"{two.per_cpu_s:.2f} episodes per processor second against {one.per_cpu_s:.2f}: "
            f"{idle:.2f} times on free cores, wanted {FIGURES['collect']}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "found": found,
                "cores": os.cpu_count(),
                "load": os.getloadavg()[0],
                "machine": platform.machine(),
            },
            indent=1,
        )
        + "\n"
    )
    print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
