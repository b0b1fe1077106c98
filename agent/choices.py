"""The closed choices of the commands: what may be typed, and nothing else.  Each member is also its own text."""

from __future__ import annotations

from enum import StrEnum


class Engine(StrEnum):
    mujoco = "mujoco"
    pybullet = "pybullet"
    franka = "franka"


class Simulator(StrEnum):
    mujoco = "mujoco"
    pybullet = "pybullet"


class Split(StrEnum):
    train = "train"
    held_out = "held_out"


class TaskName(StrEnum):
    reach = "reach"
    grasp = "grasp"
    reach_with_object = "reach_with_object"
    pick_place = "pick_place"


class Mode(StrEnum):
    policy = "policy"
    planner = "planner"
    both = "both"


class Method(StrEnum):
    random = "random"
    hold = "hold"
    scripted = "scripted"
    blind = "blind"
    policy = "policy"
    planner = "planner"
    both = "both"
    ceiling = "ceiling"


class Goals(StrEnum):
    image = "image"
    final = "final"
    image_pose = "image_pose"
    moved = "moved"
    final_moved = "final_moved"


class Crop(StrEnum):
    square = "square"
    droid_train = "droid_train"
    none = "none"


class GripperAction(StrEnum):
    commanded = "commanded"
    measured = "measured"


class ModelKind(StrEnum):
    compact = "compact"
    dense = "dense"


class Recipe(StrEnum):
    vjepa2_ac = "vjepa2_ac"
    lewm = "lewm"
    vicreg_idm = "vicreg_idm"
    vjepa = "vjepa"
    ijepa = "ijepa"
    panda = "panda"


class Fall(StrEnum):
    """How a learning rate falls."""

    cosine = "cosine"
    linear = "linear"


class Precision(StrEnum):
    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


class Parallel(StrEnum):
    auto = "auto"
    none = "none"
    ddp = "ddp"
    fsdp2 = "fsdp2"


class Head(StrEnum):
    policy = "policy"
    critic = "critic"
    body = "body"
    ensemble = "ensemble"
    decoder = "decoder"


class CriticForm(StrEnum):
    counts = "counts"
    quasimetric = "quasimetric"


class Format(StrEnum):
    """Of a log to read."""

    droid = "droid"
    lerobot = "lerobot"
    rlds = "rlds"
    ros2 = "ros2"
    folder = "folder"
    robomimic = "robomimic"
    libero = "libero"
    aloha = "aloha"


class Written(StrEnum):
    """Of a log to write."""

    droid = "droid"
    lerobot = "lerobot"
