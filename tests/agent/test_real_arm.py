"""The commands with a real arm (env=franka), through a fake controller: real sockets, a real client process."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from agent.cli.main import main
from agent.real_hands import record_by_keyboard, record_guided
from agent.session import open_session, play_session, report_lines
from agent.settings import ConfiguratorSettings, SessionConfig
from data.source import open_log
from envs.fake_fci.spawn import FakeFranka

CLIENT = Path(__file__).parents[1] / "envs" / "franka" / "fixtures"
PX = 32
PATIENCE_S = 30.0  # a busy machine is no real-time system
SMALL = ("planner=fast", "planner.candidates=16", "planner.iterations=1", "planner.refine=0", "planner.refine_steps=0",
         "planner.elites=4")  # fmt: skip


@pytest.fixture(scope="module")
def robot():
    with FakeFranka(version=10, relaxed_s=0.1) as one:
        yield one


@pytest.fixture
def words(robot, monkeypatch, tmp_path):
    """The `env` words that reach this robot through our own client and see its table."""
    robot.do("reset")
    monkeypatch.setenv("PYTHONPATH", str(CLIENT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.chdir(tmp_path)
    return [
        "env=franka", f"env.host={robot.host}", "env.client=minimal_client:MinimalClient", "env.extra.version=10",
        f"env.extra.patience_s={PATIENCE_S}",
        f"env.patience_s={PATIENCE_S}", f"env.image_size_px={PX}",
        f"env.camera_addresses.exterior_left=fake:{robot.host}", f"env.camera_addresses.wrist=fake:{robot.host}",
    ]  # fmt: skip


@pytest.fixture
def forearm(words, capsys):
    def run(command, *more):
        status = main([command, *words, *map(str, more)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def typed(monkeypatch, text):
    """What the person types, one character after the other."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def results(folder):
    return json.loads((Path(folder) / "results.json").read_text())


def test_a_goal_by_hand_and_a_dry_plan_to_it(robot, forearm, monkeypatch, tiny_model):
    """Guide, press Enter, plan: the picture is what the cameras saw, and not one command is sent."""
    typed(monkeypatch, "\n")
    status, out, err = forearm(
        "goal", f"model={tiny_model}", "out=there", "env.dry_run=false", "env.confirm=true"
    )
    assert "DRY RUN" in out, "whatever was typed, motors stay off under a person's hands"
    assert "press Enter" in out
    assert f"forearm plan goal=there env=franka env.host={robot.host}" in out, err
    assert status == (0 if results("there")["good"] else 1)
    goal = json.loads(Path("there/goal.json").read_text())
    tool = np.array(robot.state()["tool"])
    np.testing.assert_allclose(goal["pose"][:3], tool, atol=0.004)
    before = robot.state()
    status, out, err = forearm("plan", f"model={tiny_model}", "goal=there", *SMALL, "budget_steps=2", "record=log",
                               "configurator.reached_distance=0", "configurator.reached_steps=0", "out=run")  # fmt: skip
    assert status == 1, err
    assert out.index("DRY RUN") < out.index("step   0")
    assert "workspace (0.25, -0.35, 0.012)" in out
    assert "out of steps after 2 steps" in out
    assert "nothing was sent to the arm" in out
    after = robot.state()
    assert after["asked"] == before["asked"] == 0
    np.testing.assert_allclose(after["q"], before["q"], atol=1e-4)
    found = results("run")
    assert found["arm"]["late_plans_dropped"] == 0
    assert {"exterior_left", "wrist"} == set(found["arm"]["cameras"])
    log = open_log(Path("log").resolve())
    assert 1 < len(log.open(log.keys[0])) <= 3  # what a slow machine reads twice is one row
    assert len(log.check().accepted) == 1


def env_of(words):
    from agent.cli.schemas import Command, compose
    from agent.cli.words import prepare

    command = Command("collect")
    return compose(command, prepare(command, words, multirun=False)).env


@pytest.mark.slow  # real time: needs a machine with nothing else to do
def test_a_person_guides_the_arm_and_it_is_logged(robot, words, tmp_path):
    env = env_of([*words, "env.period_s=0.1"])

    def keys():
        yield "\n"
        time.sleep(0.3)
        robot.do("guide", move_m=[0.02, -0.05, 0.06], seconds=0.4, width_m=0.02)
        while robot.state()["guided"]:
            time.sleep(0.05)
        time.sleep(0.5)
        yield "\n"

    typed_keys, lines = keys(), []
    kept = record_guided(
        tmp_path / "log", env, episodes=1, steps=400, task="carry", say=lines.append,
        read_key=lambda: next(typed_keys, ""),
    )  # fmt: skip
    assert len(kept) == 1, lines
    assert robot.state()["asked"] == 0, "guiding sends nothing"
    log = open_log(tmp_path / "log")
    episode = log.open(log.keys[0])
    assert episode.commanded is not None
    moved = episode.ee_position[-1] - episode.ee_position[0]
    np.testing.assert_allclose(moved, [0.02, -0.05, 0.06], atol=0.006)
    assert episode.closedness[0] < 0.1
    assert episode.closedness[-1] == pytest.approx(0.75, abs=0.05)
    frames = episode.frames["wrist"].read([0, len(episode) - 1]).astype(float)
    assert np.abs(frames[0] - frames[1]).mean() > 3, "the hand's camera saw it"
    # What counts as commanded is where the hand was taken next.
    np.testing.assert_allclose(episode.commanded[:-1, :3], episode.ee_position[1:], atol=1e-6)
    assert len(log.check().accepted) == 1


@pytest.mark.slow  # real time: needs a machine with nothing else to do
def test_a_guided_episode_may_be_thrown_away(words, tmp_path):
    keys = iter("\nx")
    kept = record_guided(
        tmp_path / "log", env_of(words), episodes=2, steps=50, task="carry", say=lambda _: None,
        read_key=lambda: next(keys, ""),
    )  # fmt: skip
    assert kept == []
    assert not [path for path in (tmp_path / "log").rglob("*") if path.is_file()]


@pytest.mark.slow  # real time: needs a machine with nothing else to do
def test_the_keyboard_drives_and_the_drive_is_logged(robot, words, tmp_path):
    keys = iter("1rr \n")
    real = ["env.dry_run=false", "env.confirm=true", "env.speed=1"]
    kept = record_by_keyboard(
        tmp_path / "log", env_of([*words, *real]), episodes=1, steps=20, task="lift", say=lambda _: None,
        read_key=lambda: next(keys, ""),
    )  # fmt: skip
    assert len(kept) == 1
    log = open_log(tmp_path / "log")
    episode = log.open(log.keys[0])
    assert len(episode) == 4
    assert episode.commanded is not None
    np.testing.assert_allclose(episode.ee_position[2] - episode.ee_position[0], [0, 0, 0.02], atol=0.005)
    np.testing.assert_allclose(episode.commanded[:3, 6], [0, 0, 1], atol=0.05)
    assert robot.state()["asked"] > 0


@pytest.mark.slow  # real time: needs a machine with nothing else to do
def test_the_doctor_looks_and_moves_nothing(robot, forearm):
    status, out, err = forearm("doctor")
    for what in (
        "connection",
        "versions",
        "jitter",
        "units",
        "kinematics",
        "workspace",
        "pose polarity",
        "gripper",
    ):
        assert f"OK    {what}" in out, out + err
    # How many pictures come in a second is a matter of how busy this machine is.
    cameras = re.findall(r"(OK|BAD)   +camera (\w+) +(\d+) pictures a second", out)
    assert {name for _, name, _ in cameras} == {"exterior_left", "wrist"}
    assert all((verdict == "OK") <= (int(rate) >= 10) for verdict, _, rate in cameras)
    assert status == (0 if all(verdict == "OK" for verdict, _, _ in cameras) else 1)
    assert robot.state()["asked"] == 0
    status, out, _ = forearm("doctor", "env.workspace_low_m=[0.25,-0.35,0.4]")
    assert status == 1
    assert "BAD   workspace" in out
    assert "env.workspace_low_m" in out
    status, out, _ = forearm("doctor", "env.extra.version=5")
    assert status == 1
    assert "speaks version 10" in out


def test_recorded_videos_stand_in_for_cameras(robot, forearm, tiny_model, collected):
    videos = sorted(Path(collected).rglob("*.mp4"))[:2]
    status, out, err = forearm(
        "plan", f"model={tiny_model}", f"goal=episode:{collected}@5", *SMALL, "budget_steps=1", "out=run",
        f"env.camera_addresses.exterior_left=video:{videos[0]}", f"env.camera_addresses.wrist=video:{videos[1]}",
        "configurator.reached_distance=0", "configurator.reached_steps=0",
    )  # fmt: skip
    assert status == 1, err
    assert "out of steps after 1 steps" in out


def test_what_a_real_arm_cannot_do_is_said(forearm, tiny_model):
    model = f"model={tiny_model}"
    for line, says in (
        (("plan", model), "a real arm's goals are pictures"),
        (("calibrate", model), "env.dry_run=false env.confirm=true"),
        (("collect", "hand=scripted"), "takes hand=guide and hand=keyboard"),
        (("goal", model, "take=episode:nowhere@3"), "laying a scene out needs a simulated arm"),
        (("collect", "hand=keyboard"), "this is a dry run"),
    ):
        status, _, err = forearm(*line)
        assert status == 2, err
        assert says in err
    assert main(["plan", model, "env.host=172.16.0.2"]) == 2


@pytest.mark.slow  # real time: needs a machine with nothing else to do
def test_the_operator_stops_a_plan_and_what_was_done_is_kept(robot, words, monkeypatch, tiny_model):
    """A file named `stop` appears: the arm holds, the run ends and leaves its record and its episode."""
    typed(monkeypatch, "\n")
    main(["goal", *words, f"model={tiny_model}", "out=there"])
    env = env_of([*words, "env.dry_run=false", "env.confirm=true", "env.speed=0.2"])
    config = SessionConfig(
        model=str(tiny_model), goal=["there"], env=env, budget_steps=9, record="log",
        configurator=ConfiguratorSettings(mode="policy", reached_steps=0, reached_distance=0),
    )  # fmt: skip
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("step   2"):
            Path("stop").touch()

    session = open_session(config, say=say)
    Path("run").mkdir()
    try:
        played = play_session(session, config, Path("run"), say=say)
    finally:
        session.close()
    assert lines[0] == "REAL RUN: the arm will move"
    assert "speed <= 0.100 m/s" in "\n".join(lines)
    assert "operator's stop (the file stop)" in played.outcome.status
    assert len(played.outcome.steps) == 3
    assert played.files["video"].stat().st_size > 0
    log = open_log(Path("log").resolve())
    episode = log.open(log.keys[0])
    assert episode.success is False
    assert len(episode) == 3
    assert any("deadlines missed" in line for line in report_lines(played.arm))
    assert robot.state()["speed"] < 0.02


class Dawdles:
    """An actor that thinks for longer than ten model steps."""

    def __init__(self, actor) -> None:
        self._actor = actor

    def decide(self, *what, **how):
        time.sleep(2.2)
        return self._actor.decide(*what, **how)


@pytest.mark.slow  # real time: needs a machine with nothing else to do
def test_late_plans_are_dropped_and_counted_by_default(robot, words, monkeypatch, tiny_model):
    """Nothing of max_plan_age_s is said: what comes 2.2 s after what it saw moves nothing, and the report counts it."""
    typed(monkeypatch, "\n")
    main(["goal", *words, f"model={tiny_model}", "out=there"])
    env = env_of([*words, "env.dry_run=false", "env.confirm=true", "env.patience_s=1.0"])
    assert env.max_plan_age_s is None
    config = SessionConfig(
        model=str(tiny_model), goal=["there"], env=env, budget_steps=2,
        configurator=ConfiguratorSettings(mode="policy", reached_steps=0, reached_distance=0),
    )  # fmt: skip
    lines: list[str] = []
    session = open_session(config, say=lines.append)
    try:
        session.agent.actor = Dawdles(session.agent.actor)
        outcome = session.agent.pursue(session.task)
        time.sleep(0.1)
        said = report_lines(session.driver.report())
    finally:
        session.close()
    assert "drops plans older than 2.0 s" in "\n".join(lines)
    assert outcome.status == "out of steps"
    dropped = [note for step in outcome.steps for note in step.notes if "late: the plan came 2." in note]
    assert len(dropped) == 2
    assert any("2 late plans dropped" in line for line in said), said
    assert robot.state()["asked"] == 0


@pytest.mark.slow  # real time: needs a machine with nothing else to do
def test_a_model_of_nan_moves_nothing(robot, words, monkeypatch, tiny_model):
    """Every weight is NaN: each action is refused, with the reason, and the arm stands where it stood."""
    typed(monkeypatch, "\n")
    main(["goal", *words, f"model={tiny_model}", "out=there"])
    env = env_of([*words, "env.dry_run=false", "env.confirm=true"])
    before = robot.state()
    session = open_session(SessionConfig(model=str(tiny_model), goal=["there"], env=env, budget_steps=2))
    try:
        for part in (session.mind.model, *session.mind.heads.values()):
            for weights in part.parameters():
                weights.data.fill_(float("nan"))
        outcome = session.agent.pursue(session.task)
    finally:
        session.close()
    said = [note for step in outcome.steps for note in step.notes]
    assert said
    assert all("finite" in note for note in said), said
    assert outcome.status == "out of steps"
    after = robot.state()
    assert after["asked"] == before["asked"] == 0
    np.testing.assert_allclose(after["q"], before["q"], atol=1e-4)
