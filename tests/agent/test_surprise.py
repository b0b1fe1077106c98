"""What is expected is calm, what is not is felt, and it is said what differs."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from agent.build import load_mind
from agent.perception import Percept
from agent.surprise import Surprise, SurpriseScale, calibrated
from agent.violations import Watched, table, watch, watch_many, world_for
from data.types import Observation
from envs.events import EVENTS

SEED = 60_400


def percept(position=(0.5, 0.0, 0.2), closedness=0.0, picture=None):
    pose = np.array([*position, np.pi, 0, 0, closedness])
    frames = {"eye": np.arange(48, dtype=np.uint8).reshape(4, 4, 3) if picture is None else picture}
    seen = Observation(frames=frames, pose=pose, commanded=pose, joints=np.zeros(7), time_s=0.0)
    return Percept(latent=torch.zeros(1, 1, 4), pose=torch.from_numpy(pose)[None].float(), observation=seen)


def test_each_error_has_words_of_its_own():
    still, here = percept(), percept().pose
    for part, imagined, pose in (
        ("picture is not", torch.ones(1, 1, 4), here),
        ("arm is not", torch.zeros(1, 1, 4), percept((0.5, 0.1, 0.2)).pose),
        ("fingers", torch.zeros(1, 1, 4), percept(closedness=1.0).pose),
    ):
        surprise = Surprise(SurpriseScale(latent=0.01))
        assert surprise.measure(still.latent, here, still) == 0
        assert surprise.measure(imagined, pose, still) > 1
        assert part in surprise.describe()
        assert "for 1 step)" in surprise.describe()


def test_pictures_that_stand_still_while_the_hand_moves_are_felt_and_black_ones_tell_nothing():
    for picture, felt in ((None, True), (np.zeros((4, 4, 3), np.uint8), False)):
        surprise = Surprise(SurpriseScale())
        for step in range(5):
            seen = percept((0.5, 0.003 * step, 0.2), picture=picture)
            value = surprise.measure(seen.latent, seen.pose, seen)
        assert (value > surprise.scale.strong) is felt
        assert not felt or "stand still" in surprise.describe()


def test_one_ordinary_step_in_a_hundred_surprises_and_none_stops():
    rng = np.random.default_rng(0)
    episodes = [
        {
            "latent": rng.exponential(0.01, 40), "position": rng.exponential(0.004, 40),
            "fingers": rng.exponential(0.01, 40), "frozen": np.zeros(40),
        }
        for _ in range(100)
    ]  # fmt: skip
    scale = calibrated(episodes)
    felt = np.concatenate([np.max(list(scale.parts(e).values()), 0) for e in episodes])
    assert np.mean(felt >= scale.mild) == pytest.approx(0.01, abs=0.002)
    assert felt.max() < scale.strong
    with pytest.raises(ValueError, match="at least 4"):
        calibrated(episodes[:3])


def test_the_table_counts_separation_and_false_stops():
    def watched(event, errors):
        parts = {"latent": errors, "position": [0.0] * 9, "fingers": [0.0] * 9, "frozen": [0.0] * 9}
        return Watched(event=event, task="reach", seed=0, begins=3, errors=parts)

    calm, late = [0.5] * 9, [5.0] + [0.5] * 8  # a false stop outside the window
    found, words = table(
        [watched("", calm), watched("", late), watched("vanishes", [0.5] * 4 + [9.0] * 5), watched("gravity_off", calm)],
        SurpriseScale(latent=1.0, strong=4.0),
    )  # fmt: skip
    assert found["auc"] == {"vanishes": 1.0, "gravity_off": 0.5}
    assert found["stopped"] == {"vanishes": 1.0, "gravity_off": 0.0}
    assert (found["false_stops"], found["ordinary"]) == (1, 2)
    assert "1 of 2 ordinary episodes" in words[-1]


def test_recording_goes_on_where_it_was_broken_off(tiny_model, tmp_path):
    mind = load_mind(tiny_model)
    first = watch_many("", 2, mind, tmp_path, seed=3)
    file = tmp_path / "ordinary.jsonl"
    file.write_text(file.read_text()[:-50])  # as a kill in the middle of a line leaves it
    said: list[str] = []
    again = watch_many("", 2, mind, tmp_path, seed=3, say=said.append)
    assert [asdict(a) for a in again] == [asdict(a) for a in first]
    assert len(said) == 1


@pytest.fixture(scope="module")
def shipped():
    mind = load_mind("forearm-panda")
    return mind, world_for(mind), SurpriseScale(**mind.normalisation["surprise"])


@pytest.mark.parametrize("event", EVENTS)
def test_each_event_is_felt(shipped, event):
    mind, world, scale = shipped
    watched = next(w for seed in range(SEED, SEED + 5) if (w := watch(event, seed, world, mind)) is not None)
    felt = watched.felt(scale)
    before, after = felt[: watched.begins].max(), watched.window(felt).max()
    assert after > (0.3 if event == "gravity_off" else scale.strong)
    assert before < scale.strong
    if event not in ("gravity_off", "arm_blocked"):
        assert after > 3 * before


@pytest.mark.slow
def test_a_handful_of_seeds_tells_events_from_ordinary_episodes(shipped, tmp_path):
    mind, _, scale = shipped
    episodes = watch_many("", 16, mind, tmp_path, seed=SEED)
    for event in EVENTS:
        episodes += watch_many(event, 4, mind, tmp_path, seed=SEED)
    found, words = table(episodes, scale)
    assert found["auc_mean"] >= 0.95, words
    assert min(found["auc"].values()) >= 0.8, words
    assert found["false_stops"] <= 1, words
