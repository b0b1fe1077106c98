"""What may be typed for a closed choice is what the rooms know, and every command says so at once."""

from __future__ import annotations

import dataclasses
from enum import StrEnum

import pytest
import yaml

from agent import choices
from agent.cli.schemas import COMMANDS, Command, choices_of, unwrap_optional
from agent.settings import ConfiguratorSettings


def test_the_choices_are_those_of_the_rooms() -> None:
    from agent.arms import REAL
    from agent.evaluate import SPLITS
    from agent.trials import GOALS, METHODS
    from data.convert import FORMATS
    from data.formats import READERS
    from data.images import CROPS
    from data.kinematics import CHAINS
    from data.options import Chain, Tool
    from envs import ENGINES
    from envs.franka.config import CLIENT_OF, Robot
    from envs.tasks import TASKS
    from world_model.checkpoint import MODELS
    from world_model.heads.critic import FORMS
    from world_model.train.heads import DEFAULTS
    from world_model.train.recipes import RECIPES

    assert [*choices.Simulator] == [*ENGINES]
    assert [*choices.Engine] == [*ENGINES, REAL]
    assert [*choices.Split] == [*SPLITS]
    assert [*choices.TaskName] == [*TASKS]
    assert [*choices.Method] == [*METHODS]
    assert [*choices.Goals] == [*GOALS]
    assert [*choices.Crop] == [*CROPS]
    assert {*choices.ModelKind} == {*MODELS}
    assert {*choices.Recipe} == {*RECIPES}
    assert {*choices.CriticForm} == {*FORMS}
    assert {*choices.Head} == {*DEFAULTS}
    assert {*choices.Format} == {*READERS}
    assert {*choices.Written} == {*FORMATS}
    assert {*Chain} == {*CHAINS}
    assert {*Tool} == {tool for chain in CHAINS.values() for tool in chain.tools}
    assert {*Robot} == {*CLIENT_OF}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_choice_is_told_by_its_name(command: str) -> None:
    """OmegaConf knows members by name, JSON and the rooms by value."""
    for leaf in Command(command).leaves.values():
        kind = choices_of(unwrap_optional(leaf.hint))
        assert kind is None or [member.name for member in kind] == [member.value for member in kind], leaf.key


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plan", "task=pick_plase"), "task=pick_plase: no such choice; nearest: pick_place"),
        (("plan", "env.split=heldout"), "env.split=heldout: no such choice; nearest: held_out"),
        (("plan", "env.engine=bullet"), "env.engine=bullet: no such choice; nearest: pybullet"),
        (("plan", "env.engine=mujoco,pybullet"), "no such choice; nearest:"),
        (("plan", "env.engine="), "env.engine=: no such choice; there are: franka, mujoco, pybullet"),
        (("plan", "configurator.mode=plannr"), "nearest: planner"),
        (("plan", "env.robot=fr4"), "env.robot=fr4: no such choice; nearest: fr3"),
        (("plan", "env.speed=0.2"), "env.speed=0.2 is about a real arm, and env is mujoco: add env=franka"),
        (
            ("collect", "env=pybullet", "env.host=fr3"),
            "env.host=fr3 is about a real arm, and env is pybullet",
        ),
        (("evaluate", "tasks=[reach,grap]"), "tasks=grap: no such choice; nearest: grasp"),
        (("evaluate", "methods=blnd"), "methods=blnd: no such choice; nearest: blind"),
        (("evaluate", "-m", "tasks=reach,grap"), "tasks=grap: no such choice; nearest: grasp"),
        (("convert", "from=a", "to=b", "to_format=lerobt"), "nearest: lerobot"),
        (
            ("convert", "from=a", "to=b", "flip=upside"),
            "flip=upside: no such choice; there are: none, rotate",
        ),
        (("train", "heads=[polcy]"), "heads=polcy: no such choice; nearest: policy"),
        (("train", "precision=fp16"), "precision=fp16: no such choice; nearest: bf16, fp32"),
        (("train", "-m", "recipe.shape=cosine,liner"), "recipe.shape=liner: no such choice; nearest: linear"),
    ],
)
def test_a_wrong_choice_names_the_nearest(user, words: tuple[str, ...], said: str) -> None:
    done = user(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_choices_come_back_as_text(user) -> None:
    told = yaml.safe_load(
        user("evaluate", "--cfg", "tasks=[ reach, 'Grasp' ]", "methods=POLICY", "goals=[]").stdout
    )
    assert (told["tasks"], told["methods"], told["goals"]) == (["reach", "grasp"], ["policy"], [])
    told = yaml.safe_load(user("convert", "--cfg", "from=a", "to=b", "format=null", "flip=rotate").stdout)
    assert (told["format"], told["flip"], told["kinematics"]) == (None, "rotate", None)
    assert yaml.safe_load(user("plan", "--cfg", "env=shifted").stdout)["env"]["split"] == "held_out"


def test_help_and_completion_list_them(user) -> None:
    page = " ".join(user("evaluate", "--help").stdout.split())
    assert "reach, grasp, reach_with_object, pick_place" in page
    assert user("--complete", "forearm", "plan", "task=r").stdout.split() == [
        "task=reach", "task=reach_with_object"
    ]  # fmt: skip
    assert user("--complete", "forearm", "evaluate", "methods=bl").stdout.split() == ["methods=blind"]


def test_who_writes_python_may_give_text() -> None:
    settings = ConfiguratorSettings(mode="policy")  # type: ignore[arg-type]
    assert settings.mode is choices.Mode.policy
    with pytest.raises(ValueError, match="mode=plan: no such mode; there are policy, planner, both"):
        dataclasses.replace(settings, mode="plan")
    assert issubclass(choices.Mode, StrEnum)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("planner.candidates=-4",), "planner.candidates=-4: wants 1 or more"),
        (("planner.candidates=many",), "planner.candidates=many: wants a whole number"),
        (("planner.iterations=2.5",), "planner.iterations=2.5: wants a whole number"),
        (("planner=seeded", "planner.trust=little"), "planner.trust=little: wants a number"),
        (("planner.around=perhaps",), "planner.around=perhaps: wants true or false"),
        (("-m", "planner.candidates=8,-8"), "planner.candidates=-8: wants 1 or more"),
    ],
)
def test_numbers_of_a_planner_are_checked_as_well(user, words: tuple[str, ...], said: str) -> None:
    done = user("plan", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_numbers_of_a_planner_are_taken(user) -> None:
    words = (
        "planner=seeded",
        "planner.trust=5e-1",
        "planner.refine=0",
        "planner.candidates=7",
        "planner.margin=1",
    )
    told = yaml.safe_load(user("plan", "--cfg", *words).stdout)["planner"]
    assert (float(told["trust"]), told["refine"], told["candidates"], told["margin"]) == (0.5, 0, 7, 1)


def test_a_camera_is_named_in_the_key_map(user) -> None:
    words = ("inspect", "--cfg", "data=a", "key_map.camera.hand=/hand/image_raw", "key_map.pose=ee")
    assert yaml.safe_load(user(*words).stdout)["key_map"] == {"camera.hand": "/hand/image_raw", "pose": "ee"}
