"""Which columns of a LeRobot table are pose, gripper, joints and commands: by name, by their elements' names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.checks import Damaged
from data.formats.fields import Keys, LogOptions, closedness_of, tool_of_joints
from data.formats.rotations import euler_of, rotation_of
from data.options import Tool

POSE = (
    "observation.state.cartesian_position", "observation.cartesian_position", "cartesian_position",
    "observation.state.ee_pose", "observation.ee_pose", "observation.state.eef_pose", "observation.eef_pose",
)  # fmt: skip
CLOSEDNESS = ("observation.state.gripper_position", "observation.gripper_position", "gripper_position")
JOINTS = (
    "observation.state.joint_position", "observation.state.joint_positions", "observation.joint_position",
    "observation.joint_positions", "joint_position",
)  # fmt: skip
COMMAND = ("action.cartesian_position", "action_dict.cartesian_position")
COMMAND_CLOSEDNESS = ("action.gripper_position", "action_dict.gripper_position")
_XYZ = (("x", "y", "z"), ("pos_x", "pos_y", "pos_z"), ("ee_x", "ee_y", "ee_z"))
_EULER = (("roll", "pitch", "yaw"), ("rx", "ry", "rz"))
_XYZW = (("qx", "qy", "qz", "qw"), ("quat_x", "quat_y", "quat_z", "quat_w"))
_MAX_COMMAND_M = 0.25  # further from the measured pose, numbers named x y z are changes or something else


@dataclass(kw_only=True, slots=True)
class Arm:
    position: np.ndarray  # [T, 3]
    rotation: np.ndarray  # [T, 3, 3]
    euler: np.ndarray | None
    closedness: np.ndarray  # [T]
    joints: np.ndarray | None
    commanded: np.ndarray | None  # [T, 7]
    tool: str


class Columns:
    """The numbers of one episode's table."""

    def __init__(self, table: pa.Table, features: dict[str, Any], options: LogOptions, file: Path) -> None:
        self.table, self.features, self.options, self.file = table, features, options, file
        self.keys = Keys(table.column_names, options, file)

    def numbers(self, name: str) -> np.ndarray:
        """A column as float64 [T], or [T, n] where it holds vectors."""
        try:
            column = self.table.column(name).combine_chunks()
            if pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type):
                flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
                return flat.reshape(len(column), -1)
            return column.to_numpy(zero_copy_only=False).astype(np.float64)
        except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
            raise Damaged(
                "damaged column", file=self.file, value=f"{name}: {error}", remedy="Copy the file again."
            ) from error

    def _scalar(self, name: str) -> np.ndarray:
        values = self.numbers(name)
        return values if values.ndim == 1 else values[:, -1]

    def _names(self, feature: str) -> list[str]:
        """Names of a vector's elements, in whichever of the four ways they are written."""
        names = (self.features.get(feature) or {}).get("names")
        if isinstance(names, dict):
            names = next((v for v in names.values() if isinstance(v, list)), [])
        if isinstance(names, list) and names and isinstance(names[0], list):
            names = names[0]
        return [str(n).lower() for n in names] if isinstance(names, list) else []

    def _elements(self, feature: str, wanted: tuple[tuple[str, ...], ...]) -> np.ndarray | None:
        """The elements of a vector that have these names [T, n], or None."""
        if feature not in self.table.column_names:
            return None
        names = self._names(feature)
        for spelling in wanted:
            if all(n in names for n in spelling):
                values = self.numbers(feature)
                if values.ndim == 2 and values.shape[1] == len(names):
                    return values[:, [names.index(n) for n in spelling]]
        return None

    def _gripper_in(self, feature: str) -> np.ndarray | None:
        names = self._names(feature)
        name = next((n for n in names if n.removesuffix(".pos") in ("gripper", "gripper_position")), None)
        return None if name is None else self._elements(feature, ((name,),))

    def _joints_in(self, feature: str) -> np.ndarray | None:
        names = self._names(feature)
        joints = tuple(n for n in names if "joint" in n and "gripper" not in n and "finger" not in n)
        values = self._elements(feature, (joints,)) if joints else None
        return None if values is None else values * self.options.angle_scale

    def arm(self) -> Arm:
        """Pose, gripper, joints and commands of the episode."""
        options = self.options
        joints_key = self.keys.get("joints", JOINTS)
        joints = self.numbers(joints_key) * options.angle_scale if joints_key else None
        joints = self._joints_in("observation.state") if joints is None else joints
        pose = self._pose(self.keys.get("pose", POSES_OF_STATE))
        tool = "flange"
        if pose is None:
            if joints is None:
                self.keys.need("pose", POSE)
                raise AssertionError("unreachable: need() raises")
            base_T_tool = tool_of_joints(joints, options, self.file)
            pose, tool = (base_T_tool[:, :3, 3], base_T_tool[:, :3, :3], None), options.tool
        position, rotation, euler = pose
        gripper_key = self.keys.get("closedness", CLOSEDNESS)
        gripper = self._scalar(gripper_key) if gripper_key else self._gripper_in("observation.state")
        if gripper is None:
            self.keys.need("closedness", CLOSEDNESS)
            raise AssertionError("unreachable: need() raises")
        return Arm(
            position=position,
            rotation=rotation,
            euler=euler,
            closedness=closedness_of(gripper.reshape(-1), options),
            joints=joints if joints is not None and joints.ndim == 2 else None,
            commanded=self._commanded(position, rotation, joints),
            tool=tool,
        )

    def _pose(self, key: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
        """Position, rotation and the Euler angles as logged, out of a pose column."""
        if key is None:
            return None
        position, euler = self._elements(key, _XYZ), self._elements(key, _EULER)
        xyzw = self._elements(key, _XYZW)
        if position is None and key != "observation.state":
            values = self.numbers(key)
            if values.ndim == 2 and values.shape[1] in (6, 7):
                position = values[:, :3]
                euler, xyzw = (values[:, 3:], None) if values.shape[1] == 6 else (None, values[:, 3:])
        if position is None or (euler is None and xyzw is None):
            return None
        position = position * self.options.position_scale
        if euler is not None:
            euler = euler * self.options.angle_scale
            return position, rotation_of(euler=euler), euler
        return position, rotation_of(quaternion=xyzw), None

    def _commanded(
        self, position: np.ndarray, rotation: np.ndarray, joints: np.ndarray | None
    ) -> np.ndarray | None:
        """Commanded poses [T, 7], where the log has absolute ones, or joints that lead to them."""
        key = self.keys.get("commanded", COMMAND) or (
            "action" if "action" in self.table.column_names else None
        )
        gripper_key = self.keys.get("commanded_closedness", COMMAND_CLOSEDNESS)
        gripper = self._scalar(gripper_key) if gripper_key else self._gripper_in("action")
        if key is None or gripper is None:
            return None
        pose = self._pose(key) if key != "action" or self._elements(key, _XYZ) is not None else None
        wanted = self._joints_in("action")
        if pose is None and wanted is not None and joints is not None and wanted.shape == joints.shape:
            # The same tool on the commanded joints, whichever point the log calls its end effector.
            flange = LogOptions(kinematics=self.options.kinematics, tool=Tool.flange)
            change = tool_of_joints(wanted, flange, self.file) @ np.linalg.inv(
                tool_of_joints(joints, flange, self.file)
            )
            moved = np.einsum("tij,tj->ti", change[:, :3, :3], position) + change[:, :3, 3]
            pose = moved, change[:, :3, :3] @ rotation, None
        if pose is None or np.median(np.linalg.norm(pose[0] - position, axis=1)) > _MAX_COMMAND_M:
            return None
        closedness = closedness_of(gripper.reshape(-1), self.options, kind="commanded")
        euler = pose[2] if pose[2] is not None else euler_of(pose[1])
        return np.concatenate([pose[0], euler, closedness[:, None]], 1)

    def time_s(self, fps: float) -> np.ndarray:
        """Seconds of each row: as they were, where the writer kept that (ours does), else by the rate."""
        key = self.keys.get("time", ["observation.time_s"])
        if key is not None:
            return self._scalar(key)
        stamps = self.numbers("timestamp")
        # Times are float32 of frame_index / fps: the division is exact, they are not.
        nominal = self.numbers("frame_index") / fps
        return nominal if np.abs(stamps - nominal).max(initial=0.0) < 1e-3 else stamps

    def success(self) -> bool | None:
        key = self.keys.get(
            "success", ["success", "is_episode_successful", "next.success", "observation.success"]
        )
        return None if key is None else bool(self._scalar(key).max(initial=0) > 0)

    def text(self, name: str) -> str | None:
        """The first row of a column of text, or None."""
        if name not in self.table.column_names or not self.table.num_rows:
            return None
        value = self.table.column(name)[0].as_py()
        return value if isinstance(value, str) else None


POSES_OF_STATE = (*POSE, "observation.state")
