"""What a planner reaches whose imagination is perfect: the true simulator as world model, on held-out scenes.

Two ceilings.  `true`: scored by the true places of hand and thing.  `eyes`: scored by what the shipped model and its
critic see in rendered pictures.  The search is the same: a reach has no proposals and 2 x 16 candidates of one step a
decision, a grasp 64 candidates x 4 steps around a scripted hand shaken by 2 cm.  A reach must end within 2 cm (`true`:
all of them), a grasp must hold the thing above the table (`true`: nine of ten).

Every trial is written to benchmarks/results/ceilings.jsonl when it is done; started again, it goes on behind them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if platform.system() == "Linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from agent.agent import Step
from agent.build import load_mind
from agent.ceiling import search_for, seeing_agent, true_agent
from agent.stats import wilson
from agent.task import Goal, Task
from envs import make_arm
from envs.tasks import Judge, begin, make_goal

RESULTS = Path(__file__).parent / "results" / "ceilings.jsonl"
FIRST_SEED = 30_000
BUDGET_STEPS = {"reach": 16, "grasp": 30}


def attempt(world: Any, task: str, seed: int, mind: Any = None) -> dict[str, Any]:
    """One trial, judged by the truth; with a mind its eyes and its critic score."""
    begin(task, world.arm, world.driver, seed=seed)
    goal = make_goal(task, world.arm, world.driver, seed=seed)
    judge = Judge(goal, world.driver)
    search = {"seed": seed, **search_for(task)}
    if mind is None:
        agent = true_agent(world, goal, **search)
        goals = [Goal(frames=v.frames, pose=v.pose, name=v.name) for v in goal.views]
    else:
        agent = seeing_agent(mind, world, goal, **search)
        goals = [Goal(frames=v.frames, pose=None, name=v.name) for v in goal.views]
    verdicts: list[Any] = []

    def see(step: Step) -> bool:
        verdicts.append(judge.see(step.percept.observation))
        return verdicts[-1].success

    agent.pursue(
        Task(goals=goals, budget_steps=BUDGET_STEPS[task]), seed=seed, on_step=see, stop_when_reached=False
    )
    return {
        "success": any(v.success for v in verdicts),
        "steps": len(verdicts) - 1,
        "distance_m": round(float(verdicts[-1].distance_m), 5),
    }


def summary(done: list[dict[str, Any]]) -> list[str]:
    lines = []
    for ceiling, task in sorted({(d["ceiling"], d["task"]) for d in done}, reverse=True):
        of = [d for d in done if (d["ceiling"], d["task"]) == (ceiling, task)]
        good = sum(d["success"] for d in of)
        low, high = wilson(good, len(of))
        failed = [d["seed"] for d in of if not d["success"]]
        lines.append(
            f"{ceiling:5s} {task:6s} {good:3d}/{len(of):<3d} ({low:.0%} to {high:.0%}), "
            f"{sum(d['cpu_s'] for d in of) / len(of):.1f} CPU s a trial"
            + (f", failed: {failed}" if failed else "")
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=list(BUDGET_STEPS), default="reach")
    parser.add_argument("--ceiling", choices=["true", "eyes"], default="true")
    parser.add_argument("--trials", type=int, default=0, help="seeds from 30000 up; 0: say what there is")
    parser.add_argument("--model", default="forearm-panda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = (
        [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    )
    mind = load_mind(options.model) if options.ceiling == "eyes" else None
    seen: Any = SimpleNamespace(cameras=("exterior_left",), image_size=64, period_s=0.2)
    seen = seen if mind is None else mind.model.conventions
    there = {(d["ceiling"], d["task"], d["seed"]) for d in done}
    wanted = [(options.ceiling, options.task, FIRST_SEED + i) for i in range(options.trials)]
    if missing := [key for key in wanted if key not in there]:
        arm, driver = make_arm(
            split="held_out", cameras=tuple(seen.cameras), width=seen.image_size, height=seen.image_size,
            period_s=seen.period_s,
        )  # fmt: skip
        world = SimpleNamespace(arm=arm, driver=driver)
        for ceiling, task, seed in missing:
            began = time.process_time()
            found = attempt(world, task, seed, mind)
            line = {
                "ceiling": ceiling, "task": task, "seed": seed, **found, "cpu_s": round(time.process_time() - began, 2)
            }  # fmt: skip
            done.append(line)
            options.out.parent.mkdir(exist_ok=True)
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
    print("\n".join(summary(done)))


if __name__ == "__main__":
    main()
