"""Goals from files come back as they were made, and what is missing is named."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from agent import make_goals
from agent.arms import open_arm
from agent.build import load_mind
from agent.goals import load_goal, load_goals, read_goal, write_goal
from agent.settings import EnvConfig
from agent.task import Goal
from data.cutting import cut
from data.source import open_log
from data.types import Conventions

PX = 32
SEES = Conventions(image_size=PX)


@pytest.fixture
def frames():
    random = np.random.default_rng(0)
    return {name: random.integers(0, 256, (PX, PX, 3), dtype=np.uint8) for name in SEES.cameras}


def painted(path, value):
    Image.fromarray(np.full((PX, PX, 3), value, np.uint8)).save(path)
    return path


@pytest.mark.parametrize("crop", ["square", "droid_train", "none"])
@pytest.mark.parametrize("pose", [None, np.array([0.5, 0.1, 0.2, np.pi, 1e-9, -0.3, 1.0])])
def test_a_saved_goal_comes_back_pixel_for_pixel(frames, pose, crop, tmp_path):
    folder = write_goal(tmp_path / "goal", Goal(frames=frames, pose=pose, name="placed"))
    for back in (read_goal(folder, Conventions(image_size=PX, crop=crop)), load_goal(str(folder), SEES)):
        assert back.name == "placed"
        for name, frame in frames.items():
            np.testing.assert_array_equal(back.frames[name], frame)
        if pose is None:
            assert back.pose is None
        else:
            np.testing.assert_array_equal(back.pose, pose)


def test_a_picture_finds_the_other_cameras_beside_it(tmp_path):
    painted(tmp_path / "final.png", 10)
    painted(tmp_path / "final.wrist.png", 20)
    painted(tmp_path / "wrist.png", 30)
    goal = load_goal(str(tmp_path / "final.png"), SEES)
    assert goal.frames["exterior_left"].max() == 10
    assert goal.frames["wrist"].max() == 20, "the picture of the same name goes before the folder's"


def test_the_picture_that_was_named_is_the_one_that_is_taken(tmp_path):
    """A folder's exterior_left.png must not stand in for the file that the user gave."""
    for name, value in (("final", 10), ("exterior_left", 20), ("wrist", 30)):
        painted(tmp_path / f"{name}.png", value)
    assert load_goal(str(tmp_path / "final.png"), SEES).frames["exterior_left"].max() == 10
    by_wrist = load_goal(str(tmp_path / "wrist.png"), SEES).frames
    assert (by_wrist["exterior_left"].max(), by_wrist["wrist"].max()) == (20, 30)


def test_a_step_of_a_recorded_episode(collected):
    log = open_log(collected)
    episode = log.open(log.keys[1])
    goal, last = load_goals([f"episode:{collected}#1@4", f"episode:{collected}#1@-1"], SEES)
    learnt = cut(episode, np.array([4, 5]), SEES).frames[0]  # what a model is given of this row to learn from
    for view, name in enumerate(SEES.cameras):
        np.testing.assert_array_equal(goal.frames[name], learnt[view])
    np.testing.assert_allclose(goal.pose[:3], episode.ee_position[4], atol=1e-6)
    assert goal.pose[6] == pytest.approx(episode.closedness[4])
    assert last.name == f"row {len(episode) - 1}"
    first = cut(log.open(log.keys[0]), np.array([0, 1]), SEES).frames[0, SEES.cameras.index("wrist")]
    np.testing.assert_array_equal(load_goal(f"episode:{collected}@0", SEES).frames["wrist"], first)


@pytest.mark.parametrize(
    ("tail", "says"),
    [
        ("", "names no row"),
        ("@", "names no row"),
        ("@x", "names no row"),
        ("@12", "row 12 is not in the episode; it has 12 rows"),
        ("@-13", "row -13 is not in the episode"),
        ("#3@0", "episode 3 is not in"),
        ("#first@0", "episode first is not in"),
    ],
)
def test_a_step_that_is_not_there_is_named(collected, tail, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        load_goal(f"episode:{collected}{tail}", SEES)


def test_what_is_missing_is_named(frames, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.*no such file or folder.*episode:LOG@ROW"):
        load_goal("nowhere", SEES)
    with pytest.raises(ValueError, match=r"no picture of 'wrist'.*final\.wrist\.png"):
        load_goal(str(painted(tmp_path / "final.png", 1)), SEES)
    (tmp_path / "torn.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"torn\.png is not a picture"):
        load_goal(str(tmp_path / "torn.png"), Conventions(cameras=("exterior_left",), image_size=PX))
    folder = write_goal(tmp_path / "goal", Goal(frames={"exterior_left": frames["exterior_left"]}))
    with pytest.raises(ValueError, match=r"no picture of camera 'wrist'; it has \['exterior_left'\]"):
        read_goal(folder, SEES)
    (folder / "exterior_left.png").unlink()
    with pytest.raises(ValueError, match=r"exterior_left\.png"):
        read_goal(folder, SEES)


@pytest.mark.parametrize("text", ["{", "{}", '{"name": "g", "cameras": [], "pose": [1, 2]}'])
def test_a_damaged_goal_says_which_file_to_make_again(text, tmp_path):
    (tmp_path / "goal.json").write_text(text)
    with pytest.raises(ValueError, match=r"goal\.json .*make it again with forearm goal"):
        load_goal(str(tmp_path), SEES)


ENV = EnvConfig(image_size_px=PX)


def made(model, **changes):
    chosen = {"task": "pick_place", "seed": 3, "object_xy": [], "hand_xyz": [], "closed": False, "take": None}
    return make_goals.make(model=str(model), env=ENV, **{**chosen, **changes})


def test_a_goal_is_arranged_checked_saved_and_taken_again(tiny_model, tmp_path):
    checked = made(tiny_model, object_xy=[0.5, 0.1], hand_xyz=[0.5, 0.1, 0.15])
    np.testing.assert_allclose(checked.goal.pose[:3], [0.5, 0.1, 0.15], atol=0.02)
    said = " ".join(checked.words)
    for words in ("inside the envelope", "latent distance from now", "the critic expects"):
        assert words in said
    folder, picture = make_goals.save(checked, tmp_path / "goal")
    assert Image.open(picture).size == (2 * 3 * PX, 3 * PX)
    back = load_goal(str(folder), SEES)
    for name in SEES.cameras:
        np.testing.assert_array_equal(back.frames[name], checked.goal.frames[name])
    assert json.loads((folder / "goal.json").read_text())["cameras"] == list(SEES.cameras)


@pytest.mark.parametrize(("task", "closed"), [("pick_place", True), ("reach_with_object", False)])
def test_the_gripper_is_as_asked_wherever_the_task_begins(tiny_model, task, closed):
    goal = made(tiny_model, task=task, closed=closed).goal
    assert bool(goal.pose[6] > 0.4) is closed


def test_a_place_out_of_reach_is_refused(tiny_model):
    with pytest.raises(ValueError, match=r"on its way to \[0\.9, 0\.6, 0\.2\].*hand_xyz"):
        made(tiny_model, hand_xyz=[0.9, 0.6, 0.2])


def test_a_pose_outside_the_envelope_is_not_good(tiny_model, frames, point_arm):
    mind = load_mind(tiny_model)
    now = point_arm.observe()
    now.frames = frames
    pose = np.array([0.95, 0.0, 0.2, np.pi, 0, 0, 0.0])
    arm = SimpleNamespace(limits=point_arm.limits)
    checked = make_goals.check(Goal(frames=frames, pose=pose), now, arm, mind)
    assert not checked.good
    assert "OUTSIDE" in checked.words[0]
    assert make_goals.check(Goal(frames=frames, pose=point_arm.pose), now, arm, mind).good


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({4: -0.61}, ""),  # a tilt of 0.6 rad is allowed, and arms sag
        ({2: 0.5045}, ""),
        ({4: -0.8}, "tilted by 46 degrees from straight down, OUTSIDE the envelope's 34"),
        ({2: 0.6}, "z of 0.600 m is OUTSIDE the envelope, 0.012 to 0.5 m"),
        ({2: 0.02, 3: np.pi - 0.5}, "0.020 m above the table is OUTSIDE the envelope: a finger would touch it"),
    ],
)  # fmt: skip
def test_it_is_said_in_which_way_a_pose_is_outside(changes, said):
    arm, driver = open_arm(ENV)
    try:
        arm.reset(seed=0)
        pose = np.array([0.5, 0.0, 0.2, np.pi, 0, 0, 0.0])
        for index, value in changes.items():
            pose[index] = value
        assert "; ".join(make_goals._outside(pose, arm.limits)) == said
        assert make_goals._out_of_reach(pose, driver.joints_for) == []
        far = make_goals._out_of_reach(np.array([0.95, 0, 0.3, np.pi, 0, 0, 0]), driver.joints_for)
        assert far == ["OUT OF REACH: no joints inside their limits take the hand there"]
    finally:
        arm.close()


@pytest.mark.parametrize("place", [[2.0, 0.1], [0.1, 0.0]])
def test_an_object_goes_nowhere_where_the_hand_may_not_go(tiny_model, place):
    with pytest.raises(ValueError, match=rf"object_xy_m is \[{place[0]}, .*x goes from 0\.25 to 0\.75 m"):
        made(tiny_model, object_xy=place)


@pytest.mark.parametrize(("limit", "stops"), [(1e-9, True), (1e9, False)])
def test_it_is_said_beforehand_whether_surprise_would_stop_the_agent(
    tiny_model, frames, point_arm, limit, stops
):
    mind = load_mind(tiny_model)
    for weights in mind.model.predictor.parameters():  # an untrained one foresees that nothing changes
        weights.data += 0.1
    mind.normalisation["surprise"] = {"latent": limit, "position_m": 1e3, "strong": 3.0, "mild": 1.0}
    now = point_arm.observe()
    now.frames = frames
    arm = SimpleNamespace(limits=point_arm.limits)
    checked = make_goals.check(Goal(frames=frames, pose=point_arm.pose), now, arm, mind)
    said = next(line for line in checked.words if "surprises" in line)
    assert ("STOP" in said) is stops
    assert checked.good is not stops
