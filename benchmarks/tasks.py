"""What each task gives to the scripted expert, and to a still and a random arm, on 200 seeds each.

The expert must succeed on 98 % of the seeds in MuJoCo and 95 % in PyBullet, on training and on held-out objects; the
two others on at most 2 %.  Writes benchmarks/results/tasks.json when all rows are there; until then it keeps what it
has in tasks.unfinished beside it, after every few seeds, and goes on from there when it is started again (`--fresh`
forgets that).  `--only WORD ...` takes the rows that have all the words.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any

if platform.system() == "Linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from envs import ENGINES, make_arm
from envs.baselines import score
from envs.scenes import SceneConfig, draw_scene
from envs.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "tasks.json"
UNFINISHED = RESULTS.with_suffix(".unfinished")
FIRST_SEED, BLOCK = 10_000, 5
LEAST = {"mujoco": 0.98, "pybullet": 0.95}
MOST_UNDESERVED = 0.02


def rows() -> list[tuple[str, str, str, str]]:
    """Engine, split, hand and task of every row."""
    expert = [(engine, split, "scripted") for engine in ENGINES for split in ("train", "held_out")]
    others = [("mujoco", "train", hand) for hand in ("still", "random")]
    return [(*row, task) for row in expert + others for task in TASKS]


def measure(row: tuple[str, str, str, str], found: dict[str, Any], episodes: int) -> None:
    """Some more seeds of one row, added to `found`."""
    engine, split, hand, task = row
    arm, driver = make_arm(engine, cameras=(), split=split)
    started = time.process_time()
    more = score(task, arm, driver, hand, episodes=episodes, seed=FIRST_SEED + found["episodes"])
    arm.close()
    found["episodes"] += more.episodes
    found["successes"] += more.successes
    found["failed"] += more.failed
    found["cpu_s"] += time.process_time() - started


def verdict(row: tuple[str, str, str, str], found: dict[str, Any]) -> tuple[bool, str]:
    """Whether the row is as it should be, and a line for people."""
    engine, split, hand, task = row
    rate = found["successes"] / max(1, found["episodes"])
    good = rate >= LEAST[engine] if hand == "scripted" else rate <= MOST_UNDESERVED
    text = (
        f"{engine:9s} {split:9s} {hand:9s} {task:18s} {found['successes']:3d}/{found['episodes']} {rate:6.1%}"
    )
    if hand == "scripted" and found["failed"]:
        shapes = Counter(draw_scene(SceneConfig(), seed, split).objects[0].shape for seed in found["failed"])
        text += f"  failed: {found['failed']} ({', '.join(f'{n} {shape}' for shape, n in shapes.items())})"
    return good, text + ("" if good else "   NOT as it should be")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD")
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    if UNFINISHED.is_file() and not options.fresh:
        found = json.loads(UNFINISHED.read_text())
    good = True
    for row in rows():
        if not set(options.only) <= set(row):
            continue
        cell = found.setdefault("/".join(row), {"episodes": 0, "successes": 0, "failed": [], "cpu_s": 0.0})
        while cell["episodes"] < options.episodes:
            measure(row, cell, min(BLOCK, options.episodes - cell["episodes"]))
            RESULTS.parent.mkdir(exist_ok=True)
            draft = RESULTS.with_suffix(".draft")
            draft.write_text(json.dumps(found, indent=1) + "\n")
            draft.replace(UNFINISHED)
        fine, text = verdict(row, cell)
        good &= fine
        print(text, flush=True)
    if all(found.get("/".join(row), {}).get("episodes", 0) >= options.episodes for row in rows()):
        UNFINISHED.replace(RESULTS)
        print(f"written: {RESULTS}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
