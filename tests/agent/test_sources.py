"""What is learned from logs of others: the point whose poses they tell is known, and said where it differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from agent.learn import open_sources, told_of
from agent.recording_arm import RecordingArm
from data.types import Conventions
from envs import make_arm

LAB = Path(__file__).parents[1] / "fixtures" / "droid_raw_tiny"
SEEN = Conventions(cameras=("wrist",), image_size=16)


def test_the_point_whose_poses_logs_tell_goes_into_what_learns_from_them(tmp_path):
    """DROID's own code wrote poses of the flange; ours are of the point between the fingertips."""
    theirs, ours = shutil.copytree(LAB, tmp_path / "theirs"), tmp_path / "ours"
    arm, _ = make_arm(cameras=("wrist",), width=16, height=16)
    arm.reset(seed=0)
    recorded = RecordingArm(arm, ours, task="anything")
    for _ in range(6):
        recorded.observe()
        recorded.act(np.array([0, 0, 0.01, 0, 0, 0, 0]))
    recorded.finish(success=True)
    arm.close()

    said: list[str] = []

    def told(*logs: Path, given: bool = False) -> str:
        said.clear()
        sources = open_sources(logs, SEEN, folder=tmp_path / "caches", together=True, say=lambda _: None)
        return told_of(sources, SEEN, given=given, say=said.append).tool

    assert (told(theirs), told(ours), said) == ("flange", "tcp", [])
    assert told(theirs, given=True) == "flange"
    assert said == ["warning  poses are of the flange in these logs; the given model knew those of the tcp"]
    assert told(ours, theirs) == "tcp"
    assert said[0].startswith(
        f"warning  poses are of the tcp in {ours}, of the flange in {theirs}: they differ"
    )
