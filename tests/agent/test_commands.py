"""The commands that move an arm or look at a log, from words typed to files left."""

import json
import re
from pathlib import Path

import pytest
from rerun.chunk import RrdReader

from agent import play
from agent.cli.main import main
from data.video import VideoFrames

SEES = "env.image_size_px=32"
SMALL = ("planner=fast", "planner.candidates=16", "planner.iterations=1", "planner.refine=0", "planner.refine_steps=0",
         "planner.elites=4")  # fmt: skip


@pytest.fixture
def forearm(tmp_path, monkeypatch, capsys):
    """Run a command in a folder of its own: its status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        status = main([str(w) for w in words])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def printed_paths(text):
    """Every path after a label at the start of a line."""
    return [
        Path(found)
        for found in re.findall(r"^(?:video|recording|report|look|run|results) +(\S+)", text, re.M)
    ]


def results(folder):
    return json.loads((Path(folder) / "results.json").read_text())


def test_plan_to_a_recorded_step(forearm, tiny_model, collected):
    """Random weights get nowhere: status 1, and yet all there is to see is left and named."""
    words = ("plan", f"model={tiny_model}", "task=pick_place", f"goal=[episode:{collected}@5]", SEES, *SMALL)
    status, out, err = forearm(*words, "budget_steps=3", "configurator.reached_distance=0", "configurator.reached_steps=0", "out=here")  # fmt: skip
    assert status == 1, err
    assert "out of steps after 3 steps" in out
    assert out.count("\nstep ") == 4
    assert "open it: rerun " in out
    paths = printed_paths(out)
    assert {p.name for p in paths} >= {"video.mp4", "recording.rrd", "report.html", "results.json"}
    for path in paths:
        assert path.exists(), path
    found = results("here")
    assert (found["status"], found["ending"], found["steps"]) == ("failed", "out of steps", 3)


def test_a_plan_that_is_stopped_keeps_what_was_seen(forearm, tiny_model, collected, monkeypatch):
    def stopped_at_the_second_step(step, task, distance):
        if step.index == 2:
            raise KeyboardInterrupt
        return "step"

    monkeypatch.setattr(play, "describe", stopped_at_the_second_step)
    words = ("plan", f"model={tiny_model}", "task=pick_place", f"goal=[episode:{collected}@5]", SEES, *SMALL)
    status, _, err = forearm(
        *words, "configurator.reached_distance=0", "configurator.reached_steps=0", "out=here"
    )
    assert status == 130
    assert "What was done so far is in here. Go on with: forearm plan" in err
    assert results("here")["status"] == "interrupted"
    assert len(VideoFrames(Path("here/video.mp4"))) == 2
    steps = [c for c in RrdReader(Path("here/recording.rrd")).stream() if "/decisions" in str(c.entity_path)]
    assert steps, "what was decided is in the recording"


def test_plan_says_what_does_not_fit(forearm, tiny_model):
    status, _, err = forearm("plan", f"model={tiny_model}", "task=juggle", SEES)
    assert status == 2
    assert "task=juggle: no such choice; there are: grasp" in err
    status, _, err = forearm("plan", f"model={tiny_model}", "task=reach", "env.image_size_px=64")
    assert status == 2
    assert "the model and the arm do not agree: image_size: 32 here, 64 there (here the model" in err
    status, _, err = forearm("plan", f"model={tiny_model}", "goal=[nowhere.png]", SEES)
    assert status == 2
    assert "nowhere.png" in err
    assert "episode:LOG@ROW" in err


def test_demo_is_plan(forearm, tiny_model):
    status, out, err = forearm(
        "demo", f"model={tiny_model}", SEES, *SMALL, "budget_steps=1", "task=reach", "portrait=false"
    )
    assert status == 1, err
    assert "another seed= gives another scene" in out
    assert all(p.exists() for p in printed_paths(out))


def test_imagine_on_a_log(forearm, tiny_model, collected, read_page):
    status, out, err = forearm("imagine", f"data={collected}", f"model={tiny_model}", "horizon=4", "out=here")
    assert status == 0, err
    assert "push +x 5 cm" in out
    found = results("here")
    assert len(found["copy_ratio"]) == len(found["position_error_m"]) == 4
    assert len(found["axis_matrix"]) == 3
    pictures = ("horizons.png", "landscapes.png", "axes.png", "filmstrip.jpg", "components.png", "features.png",
                "differences.jpg")  # fmt: skip
    for name in pictures:
        assert (Path("here") / name).stat().st_size > 5000, name
    page = read_page(Path("here/report.html"))
    assert len(page.shown) == len(pictures)
    assert "horizon: 4" in " ".join(page.words), "no configuration"
    assert Path("here/recording.rrd").stat().st_size > 10_000
    assert all(p.exists() for p in printed_paths(out))


def test_imagine_in_a_simulator(forearm, tiny_model):
    small = ("episodes=2", "seed=0", "horizon=3", "env.image_size_px=32")
    status, out, err = forearm("imagine", f"model={tiny_model}", *small, "out=played")
    assert status == 0, err
    assert "playing 2 episodes in mujoco" in out
    assert len(results("played")["nearest_real_distance"]) == 3


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("horizon=17", "horizon is 17; it goes from 1 to 16"),
        ("horizon=11", "too short to imagine 11 steps (the longest has 12)"),
        ("start=9", "start is 9; in this episode it goes from 2 to 3"),
    ],
)
def test_imagine_says_what_is_too_much(forearm, tiny_model, collected, word, says):
    status, _, err = forearm("imagine", f"data={collected}", f"model={tiny_model}", word)
    assert status == 2
    assert says in err


def test_goal_is_made_and_taken(forearm, tiny_model):
    status, out, err = forearm(
        "goal", f"model={tiny_model}", "hand_xyz_m=[0.5,0.1,0.2]", "seed=3", SEES, "out=placed"
    )
    assert status == (0 if results("placed")["good"] else 1), err
    assert "inside the envelope" in out
    assert "forearm plan goal=placed task=pick_place seed=3" in out
    assert Path("placed/look.png") in printed_paths(out)
    status, out, err = forearm("plan", f"model={tiny_model}", "goal=[placed]", "seed=3", SEES, *SMALL, "budget_steps=1", "portrait=false")  # fmt: skip
    assert status in (0, 1), err
    assert "in the agent's own judgement" in out


def test_goal_wants_whole_positions(forearm, tiny_model):
    status, _, err = forearm("goal", f"model={tiny_model}", "object_xy_m=[0.5]", SEES)
    assert status == 2
    assert "object_xy_m is [0.5]; it takes 2 numbers" in err


def test_collect_and_go_on(forearm):
    words = ("collect", "episodes=1", "workers=1", "steps=5", "to=log", SEES)
    status, out, err = forearm(*words, "out=first")
    assert status == 0, err
    assert "1/1 episodes" in out
    assert "log: log" in out
    assert results("first")["recorded"] == 1
    status, out, _ = forearm(*words, "out=second")
    assert status == 0
    assert results("second")["recorded"] == 0


def test_evaluate_and_resume(forearm, tiny_model):
    words = (
        "evaluate",
        "tasks=[reach]",
        "methods=[hold,policy]",
        "episodes=1",
        "workers=1",
        f"model={tiny_model}",
    )
    status, out, err = forearm(*words, "out=table", "films=false")
    assert status == 0, err
    assert "2/2 trials" in out
    rows = results("table")["rows"]
    assert [r["method"] for r in rows] == ["hold", "policy"]
    assert {"task", "engine", "split", "goal", "rate", "wilson_low", "wilson_high", "median_distance_m", "plan_ms_p99"} <= rows[0].keys()  # fmt: skip
    assert Path("table/report.html") in printed_paths(out)
    before = Path("table/trials.jsonl").read_text()
    assert forearm("evaluate", "resume=table")[0] == 0
    assert Path("table/trials.jsonl").read_text() == before
    status, _, err = forearm("evaluate", "tasks=[juggle]", "workers=1")
    assert status == 2
    assert "tasks=juggle: no such choice; there are: grasp" in err


@pytest.mark.parametrize("command", ["plan", "demo"])
def test_a_wrong_mode_is_named_before_anything_is_loaded(forearm, command):
    status, _, err = forearm(command, "configurator.mode=plannr", "--cfg")
    assert status == 2
    assert "mode=plannr: no such choice; nearest: planner" in err
    status, _, err = forearm(command, "view=livee", "--cfg")
    assert status == 2
    assert "view=livee: no such choice; nearest: live" in err
