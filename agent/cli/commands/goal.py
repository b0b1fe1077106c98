"""`forearm goal`: make and check a goal picture."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.choices import TaskName
from agent.cli.runs import Run
from agent.settings import EnvConfig


@dataclass(kw_only=True)
class Config:
    """Make a goal picture: place object and hand, or take a recorded step; check it and save it for `forearm plan`.

    On a real arm (env=franka) you guide the hand yourself, with the buttons on it; nothing is sent to the arm.
    """

    model: str = "forearm-panda"
    """A shipped model's name, or a folder; it says how far the goal is."""
    task: TaskName = TaskName.pick_place
    """The scene to lay out: reach, grasp, reach_with_object, pick_place."""
    seed: int = 0
    """Seed of the scene; give `plan` the same."""
    object_xy_m: list[float] = field(default_factory=list)
    """Where the object should lie (its centre); none: where the scene has it."""
    hand_xyz_m: list[float] = field(default_factory=list)
    """Where the hand should be; none: where it starts."""
    closed: bool = False
    """Whether the gripper should be closed."""
    take: str | None = None
    """episode:LOG@ROW or a picture, instead of arranging the scene."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The arm and its scenes."""


EXAMPLES = (
    "forearm goal object_xy_m=[0.5,0.1] hand_xyz_m=[0.5,0.1,0.15] seed=3 out=goals/placed",
    "forearm plan goal=goals/placed seed=3",
    "forearm goal take=episode:datasets/play@39",
    "forearm goal env=franka env.host=172.16.0.2     # guide a real arm by hand, press Enter",
)


def run(config: Config, run: Run) -> int:
    from agent.arms import is_real
    from agent.make_goals import make, save
    from agent.real_hands import guide_to_goal, keys_of_this_terminal

    for name, values, count in (("object_xy_m", config.object_xy_m, 2), ("hand_xyz_m", config.hand_xyz_m, 3)):
        if values and len(values) != count:
            raise ValueError(f"{name} is {values}; it takes {count} numbers, in metres")
    real = is_real(config.env)
    if real and config.take is None:
        with keys_of_this_terminal() as keys:
            checked = guide_to_goal(config.env, config.model, read_key=keys, say=run.say)
    else:
        checked = make(
            model=config.model, env=config.env, task=config.task, seed=config.seed, object_xy=config.object_xy_m,
            hand_xyz=config.hand_xyz_m, closed=config.closed, take=config.take,
        )  # fmt: skip
    for line in checked.words:
        run.say(line)
    _, picture = save(checked, run.dir)
    run.say(f"look     {picture}")
    where = f"env=franka env.host={config.env.host}" if real else f"task={config.task} seed={config.seed}"
    run.say(f"use      forearm plan goal={run.dir} {where}")
    run.results |= {"words": checked.words, "good": checked.good, **checked.figures}
    return 0 if checked.good else 1
