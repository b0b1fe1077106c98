"""What can be chosen, as plain dataclasses.  Light on purpose: `forearm --help` reads them and starts no engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from envs.franka.config import FrankaConfig
from envs.scenes import SceneConfig

from .choices import Crop, Engine, Mode, Split, TaskName


class View(Enum):
    """Where a run can be looked at."""

    file = "file"
    live = "live"


_ENVELOPE = {"workspace_low_m", "workspace_high_m", "table_z_m", "max_tilt_rad"}  # kept by every arm


@dataclass(kw_only=True)
class EnvConfig(FrankaConfig):
    """An arm: simulated with its scenes, or real."""

    engine: Engine = Engine.mujoco
    """mujoco, pybullet or franka (a real one; it moves nothing until told twice)."""
    split: Split = Split.train
    """train, or held_out: shapes, colours and camera angles that no training saw."""
    image_size_px: int = 128
    """Height and width of the cameras' pictures."""
    image_width_px: int = 0
    """Width of a simulated camera's pictures where they are not square (DROID's are 320 to 180); 0: as the height."""
    cameras: list[str] = field(default_factory=lambda: ["exterior_left", "wrist"])
    """Cameras that are rendered."""
    crop: Crop = Crop.square
    """Of a real camera's pictures, as the model learned from: square or droid_train."""
    period_s: float = 0.2
    """Duration of a model step."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    """What varies from scene to scene."""

    def __post_init__(self) -> None:
        if self.engine == Engine.franka:
            return
        mine, usual = asdict(self), {**asdict(FrankaConfig()), "crop": Crop.square}
        for name in sorted(usual.keys() - _ENVELOPE):
            if mine[name] != usual[name]:
                raise ValueError(
                    f"env.{name}={mine[name]} is about a real arm, and env is {self.engine}: add env=franka, or "
                    f"leave it out (a simulated arm keeps {', '.join(sorted(_ENVELOPE))} of a real one's options)"
                )


@dataclass(kw_only=True)
class CostSettings:
    """Weights of the energies; a weight of zero leaves a term out."""

    critic: float = 1.0
    """Steps still to go at the end of an imagined future, by the critic."""
    distance: float = 2.0
    """Latent distance to the goal, near it (relative to the distance of random frames)."""
    pose: float = 0.0
    """Distance to the goal's pose, where it is known."""
    intrinsic: float = 5.0
    """Leaving the workspace or touching the table."""
    near_steps: float = 3.0
    """Steps to go at which critic and distance count alike."""


@dataclass(kw_only=True)
class ConfiguratorSettings:
    """What the configurator may not choose by itself, or starts from."""

    mode: Mode = Mode.both
    """policy, planner or both (Mode 1 while it gets on and is unsurprised, else Mode 2 around what Mode 1 proposes)."""
    deadline_ms: float | None = None
    """Time for one plan; null: the planner's own budget."""
    reached_steps: float = 0.8
    """A sub-goal counts as reached when the critic says that fewer steps are left."""
    reached_distance: float = 0.06
    """Or when the latent distance, relative to random frames, is below this."""
    patience_steps: int = 14
    """Steps after which the next sub-goal is tried anyway."""
    hesitation_steps: int = 2
    """Mode 1 acts alone until it has stood still for so many steps away from the goal; 0: Mode 2 always."""

    def __post_init__(self) -> None:
        if self.mode not in list(Mode):
            raise ValueError(f"mode={self.mode}: no such mode; there are {', '.join(Mode)}")
        self.mode = Mode(self.mode)


@dataclass(kw_only=True)
class Proportions:
    """Share of episodes of each kind; they need not add to one."""

    pick_place: float = 0.55
    """Scripted pick-and-place with noise and interruptions, sometimes twice."""
    lift: float = 0.15
    """Grasp, lift, wander with the object, sometimes drop it or put it back."""
    near_play: float = 0.18
    """Aimless moves around the object: pushes, half grasps, closing beside it."""
    free_play: float = 0.08
    """Aimless moves anywhere."""
    drill: float = 0.04
    """Opening and closing while hardly moving."""
    noise_m: tuple[float, ...] = field(default_factory=lambda: (0.0, 0.004, 0.008, 0.015))
    """Deviations of the noise on scripted steps; one is drawn per episode."""
    interruptions: float = 0.035
    """Chance per step that a scripted hand is taken somewhere else for some steps."""


@dataclass(kw_only=True)
class DrivenConfig:
    """An agent that collects."""

    model: str = "forearm-panda"
    """A shipped model's name, or a folder."""
    mode: Mode = Mode.both
    """policy, planner or both."""
    correct: bool = False
    """The scripted hand takes over somewhere on the way and finishes; only what it does is recorded."""
    noise_m: tuple[float, ...] = field(default_factory=lambda: (0.0, 0.003, 0.008))
    """Deviations of the noise on the scripted hand's steps; one is drawn per episode."""


@dataclass(kw_only=True)
class SessionConfig:
    """Everything that a run with an arm needs to know."""

    model: str = "forearm-panda"
    """A shipped model's name, or a folder."""
    task: TaskName = TaskName.pick_place
    """The scene to lay out, and the goals when none are given: reach, grasp, reach_with_object, pick_place."""
    goal: list[str] = field(default_factory=list)
    """Goals in order: PICTURE.png, a folder made by `forearm goal`, or episode:LOG@ROW; none: the task makes them."""
    final_only: bool = False
    """Of the task's own goals take the last one alone."""
    seed: int = 0
    """Seed of the scene and of the search."""
    budget_steps: int = 0
    """Most model steps; 0: what the task usually needs, twice."""
    view: View = View.file
    """file: a Rerun recording in the run's folder; live: the viewer opens as well."""
    view_address: str = "127.0.0.1"
    """Where the live viewer listens; 127.0.0.1: this machine alone, 0.0.0.0: every network it is in."""
    portrait: bool = True
    """Film the scene with full meshes and shadows beside the cameras (simulation only)."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The arm and its scenes."""
    planner: dict[str, Any] = field(default_factory=dict)
    """How Mode 2 searches."""
    cost: CostSettings = field(default_factory=CostSettings)
    """Weights of the energies."""
    configurator: ConfiguratorSettings = field(default_factory=ConfiguratorSettings)
    """How the agent goes about a task."""
    calibration: str = ""
    """A calibration.json of `forearm calibrate`, whose map is applied to what is planned; empty: none."""
    record: str = ""
    """Folder of a log in DROID's layout that this run is added to; empty: none."""
