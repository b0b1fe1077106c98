"""Violation of expectation: does the agent feel that something impossible happens, and is it calm when nothing does?

Ordinary episodes of mixed tasks beside episodes with each of the eight events of `envs.events`, in scenes that no
training and no calibration saw.  What was wrong with imagination at each step goes to one file a kind in the
folder of the run, where a run that was broken off goes on.  The table (areas under the ROC curve, false stops) and
what was felt, step by step, go to benchmarks/results/surprise.json.  The model's limits are those of its folder:
`forearm calibrate surprise_episodes=100` sets them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

if platform.system() == "Linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from agent.build import load_mind
from agent.surprise import SurpriseScale
from agent.violations import Watched, table, watch_many
from envs.events import EVENTS
from world_model.checkpoint import describe

RESULTS = Path(__file__).parent / "results" / "surprise.json"
FIRST_SEED = 20_000
LEAST_MEAN, LEAST_EACH, MOST_FALSE = 0.95, 0.85, 0.02


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="forearm-panda")
    parser.add_argument("--ordinary", type=int, default=200)
    parser.add_argument("--events", type=int, default=24, help="episodes of each kind")
    parser.add_argument("--mode", default="policy", choices=("policy", "both"))
    parser.add_argument("--out", type=Path, default=Path("outputs/surprise"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    described = describe(options.model)
    marks = [described.sha256[part][:8] for part in ("model", "policy")]  # episodes of another are of no use
    out = options.out / "-".join([options.mode, *marks])
    out.mkdir(parents=True, exist_ok=True)
    mind = load_mind(options.model)
    episodes: list[Watched] = []
    for kind in ("", *EVENTS):
        count = options.events if kind else options.ordinary
        episodes += watch_many(kind, count, mind, out, seed=FIRST_SEED, mode=options.mode)
    scale = SurpriseScale(**described.normalisation["surprise"])
    found, words = table(episodes, scale)
    print("\n".join(words))
    steps = [{**asdict(w), "felt": w.felt(scale).round(2).tolist()} for w in episodes]
    for step in steps:
        step.pop("errors")
    good = found["auc_mean"] >= LEAST_MEAN and min(found["auc"].values()) >= LEAST_EACH
    good &= found["false_stops"] < MOST_FALSE * found["ordinary"]
    if options.ordinary >= 100 and options.events >= 24:  # less is a rehearsal
        RESULTS.parent.mkdir(exist_ok=True)
        found |= {"mode": options.mode, "sha256": described.sha256}
        lines = ",\n".join(json.dumps(step) for step in steps)
        text = json.dumps(found, indent=1)[:-2] + f',\n "steps": [\n{lines}\n]\n}}\n'
        name = "surprise.json" if options.mode == "policy" else f"surprise_{options.mode}.json"
        RESULTS.with_name(name).write_text(text)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
