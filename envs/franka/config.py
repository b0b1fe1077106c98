"""What can be chosen about a real Franka.  Light on purpose: help pages read it and start nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from ..arm import Limits

FIRST_SPEED = 0.1  # of full speed, until the operator asks for more
CLIENT_OF = {"fr3": "franky", "panda": "panda", "droid": "droid"}


class Robot(StrEnum):
    fr3 = "fr3"
    panda = "panda"
    droid = "droid"


@dataclass(kw_only=True)
class FrankaConfig:
    """A real Franka."""

    HEADING: ClassVar[str] = "A real arm (env=franka)"

    host: str = ""
    """Address of the robot's control, or of DROID's server."""
    robot: Robot = Robot.fr3
    """fr3, panda (also called FER) or droid."""
    client: str = ""
    """franky, pylibfranka, panda or droid; empty: the robot's usual one."""
    python: str = ""
    """Python that has the client, where it is not this one."""
    dry_run: bool = True
    """Plan, show and log, and send nothing."""
    confirm: bool = False
    """With dry_run=false: yes, move the arm."""
    go_home: bool = False
    """Begin by going to the start pose, straight up first; otherwise from where the arm is."""
    recover: bool = False
    """Clear a reflex before beginning, once a person has looked at the arm; nothing recovers by itself."""
    speed: float = FIRST_SPEED
    """Share of the full speed (0.5 m/s, 1 rad/s)."""
    patience_s: float | None = None
    """How late agent, camera or connection may be before the arm holds; null: one model step."""
    max_plan_age_s: float | None = None
    """How long after what it saw a plan may come; later ones are dropped and counted. Null: ten model steps."""
    workspace_low_m: list[float] = field(default_factory=lambda: list(Limits().low))
    """Corner of the box that the tool point never leaves, in the base frame."""
    workspace_high_m: list[float] = field(default_factory=lambda: list(Limits().high))
    """Its opposite corner."""
    table_z_m: float = Limits().table_z
    """Height of the table in the base frame."""
    max_tilt_rad: float = Limits().max_tilt_rad
    """Of the hand from straight down."""
    force_n: float = 30.0
    """Contact force above which the robot stops."""
    gripper_force_n: float = 20.0
    """Force of a grasp."""
    stiffness_n_m: float = 800.0
    """Of the hand against being pushed aside, in newtons per metre."""
    camera_addresses: dict[str, str] = field(default_factory=dict)
    """Name: v4l:0, realsense:SERIAL, zed:SERIAL, video:PATH or fake:HOST."""
    camera_width_px: int = 1280
    """Of the cameras' own pictures."""
    camera_height_px: int = 720
    """Of the cameras' own pictures."""
    camera_rate_hz: float = 30.0
    """Pictures a second."""
    stop_file: str = "stop"
    """A file whose appearance stops the arm; empty: none."""
    extra: dict[str, Any] = field(default_factory=dict)
    """For one client: mode (panda: impedance, pose), port (droid)."""

    @property
    def limits(self) -> Limits:
        """The envelope that these values ask for."""
        for name, corner in (
            ("workspace_low_m", self.workspace_low_m),
            ("workspace_high_m", self.workspace_high_m),
        ):
            if len(corner) != 3:
                raise ValueError(f"env.{name} is {corner}; it takes three numbers, x y z in metres")
        x, y, z = self.workspace_low_m
        far_x, far_y, far_z = self.workspace_high_m
        return Limits(
            low=(x, y, z),
            high=(far_x, far_y, far_z),
            table_z=self.table_z_m,
            max_tilt_rad=self.max_tilt_rad,
        )
