"""Joints for a tool pose: damped least squares with a null-space pull towards a posture."""

from __future__ import annotations

import mujoco
import numpy as np

from .panda import HOME_JOINTS, JOINT_HIGH, JOINT_LOW

DAMPING = 0.02
POSTURE_GAIN = 0.05
MARGIN_RAD = 0.05


class InverseKinematics:
    """Moves a set of joints towards a tool pose, a Newton step at a time.

    It owns a MjData of its own, so that asking it disturbs no simulation.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._site = model.site("tool").id
        self._jacobian = np.zeros((6, model.nv))
        self._arm = [int(model.joint(f"panda_joint{i}").qposadr[0]) for i in range(1, 8)]
        self._dofs = [int(model.joint(f"panda_joint{i}").dofadr[0]) for i in range(1, 8)]

    def forward(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position [3] and rotation [3, 3] of the tool."""
        self._data.qpos[self._arm] = joints
        mujoco.mj_kinematics(self._model, self._data)
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3).copy()

    def step(self, joints: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """Joints one damped Newton step closer to the pose, inside the joint limits."""
        here, turned = self.forward(joints)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
        jacobian = self._jacobian[:, self._dofs]
        error = np.concatenate([position - here, rotation_vector(rotation @ turned.T)])
        gram = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        pull = POSTURE_GAIN * (HOME_JOINTS - joints)
        step = pull + jacobian.T @ np.linalg.solve(gram, error - jacobian @ pull)
        return np.clip(joints + step, JOINT_LOW + MARGIN_RAD, JOINT_HIGH - MARGIN_RAD)

    def solve(
        self,
        joints: np.ndarray,
        position: np.ndarray,
        rotation: np.ndarray,
        *,
        iterations: int = 100,
        tolerance: float = 1e-3,
    ) -> np.ndarray | None:
        """Joints that reach the pose within `tolerance` (metres and radians), or None."""
        for _ in range(iterations):
            joints = self.step(joints, position, rotation)
            here, turned = self.forward(joints)
            if (
                np.linalg.norm(position - here) < tolerance
                and np.linalg.norm(rotation_vector(rotation @ turned.T)) < 5 * tolerance
            ):
                return joints
        return None


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle [3] of a rotation matrix."""
    quaternion, vector = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector
