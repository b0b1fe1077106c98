"""What it costs to record a run: milliseconds a step while it runs and afterwards, and the size of 70 steps.

An agent with the shipped model works for 70 steps; the same steps are then recorded again and again.  Milliseconds
are of this process's own CPU time, which other work on the machine does not count into (it slows it nevertheless).
Writes benchmarks/results/seeing.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

if platform.system() == "Linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SVT_LOG", "1")  # errors alone, as the command line has it

import numpy as np

from agent.seeing.run_recording import RunRecording
from agent.session import Session, open_session
from agent.settings import ConfiguratorSettings, SessionConfig
from world_model.checkpoint import make_head

RESULTS = Path(__file__).parent / "results" / "seeing.json"
STEPS = 70
FIGURES = {"ms_a_step": 10.0, "megabytes": 1.0}


def steps_of(session: Session, mode: str) -> list[Any]:
    outcome = session.agent.pursue(session.task, seed=0, stop_when_reached=False)
    assert len(outcome.steps) >= STEPS, f"{mode}: {outcome.status} after {len(outcome.steps)} steps"
    return outcome.steps[:STEPS]


def record(session: Session, steps: list[Any], path: Path) -> tuple[list[float], float, float]:
    """Milliseconds of each step, of what waits for the end (a step), and megabytes."""
    mind, arm = session.mind, session.arm
    recording = RunRecording(path, session.task, arm.limits, mind=mind, truth=session.truth)
    took = []
    for step in steps:
        began = time.process_time()
        recording(step)
        took.append(1e3 * (time.process_time() - began))
    began = time.process_time()
    recording.close()
    after = 1e3 * (time.process_time() - began) / len(steps)
    return took, after, path.stat().st_size / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="forearm-panda")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    for mode in ("both", "planner"):
        config = SessionConfig(
            model=asked.model, seed=4, budget_steps=STEPS, configurator=ConfiguratorSettings(mode=mode)
        )  # fmt: skip
        session = open_session(config)
        session.agent._stop_on_surprise = False
        if "decoder" not in session.mind.heads:  # an untrained one paints no better, but as fast
            sizes = {"tokens": 1, "dim": 256, "views": 2, "size": 64}
            session.mind.heads["decoder"] = make_head("decoder", sizes).eval()
        try:
            steps = steps_of(session, mode)
            with tempfile.TemporaryDirectory() as folder:
                rounds = [record(session, steps, Path(folder) / f"{i}.rrd") for i in range(asked.rounds)]
        finally:
            session.arm.close()
        took = np.median([np.median(took) for took, _, _ in rounds])
        worst = np.median([np.quantile(took, 0.99) for took, _, _ in rounds])
        after, size = np.median([after for _, after, _ in rounds]), rounds[0][2]
        found[mode] = {
            "ms_a_step": float(took), "ms_p99": float(worst), "ms_a_step_afterwards": float(after), "megabytes": size,
        }  # fmt: skip
        print(
            f"{mode:8} {took:.1f} ms a step while it runs (99th percentile {worst:.1f}), wanted {FIGURES['ms_a_step']:.0f}; "
            f"{after:.1f} ms a step when it is over; {STEPS} steps in {size:.2f} MB, wanted about {FIGURES['megabytes']:.0f}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"found": found, "cores": os.cpu_count(), "load": os.getloadavg()[0]}, indent=1) + "\n"
    )
    print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
