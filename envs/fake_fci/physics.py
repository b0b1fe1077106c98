"""The arm behind the fake controller: MuJoCo at 1 kHz, driven as a Franka drives its joints."""

from __future__ import annotations

import mujoco
import numpy as np

from ..controller import InverseKinematics, rotation_vector
from ..mujoco_world import build_model
from ..panda import FINGER_NAMES, FINGER_OPEN_M, HOME_JOINTS, JOINT_HIGH, JOINT_LOW, JOINT_NAMES
from ..scenes import Scene

STEP_S = 0.001
HAND_TCP_M = 0.1034  # O_T_EE with Franka's hand: its own tool point, on the hand's axis
_SERVO_DELAY_S = 0.1  # damping over stiffness of the servos: commanded speed times this cancels their lag
_ARM_GROUP = 1  # actuators that torque control switches off
_FORCE_FILTER = 0.05
_DAMPING = 0.01
_POSTURE_PULL = 0.0005  # per millisecond, in the null space


class Physics:
    """The robot's own view: joints, tool frame, felt forces, and three ways to be driven."""

    def __init__(self, scene: Scene) -> None:
        self.model = build_model(scene)
        self.model.opt.timestep = STEP_S
        self.model.actuator_group[:7] = _ARM_GROUP
        self.data = mujoco.MjData(self.model)
        self._hand = self.model.body("panda_hand").id
        self._arm = np.array([int(self.model.joint(n).qposadr[0]) for n in JOINT_NAMES])
        self._dofs = np.array([int(self.model.joint(n).dofadr[0]) for n in JOINT_NAMES])
        self._fingers = np.array([int(self.model.joint(n).qposadr[0]) for n in FINGER_NAMES])
        self._plan = mujoco.MjData(self.model)
        self._jacobian = np.zeros((6, self.model.nv))
        self.felt_torque = np.zeros(7)
        self.felt_force = np.zeros(6)
        start, down = np.array(scene.start_position), np.diag([1.0, -1.0, -1.0])
        joints = InverseKinematics(self.model).solve(HOME_JOINTS.copy(), start, down)
        self._home = HOME_JOINTS if joints is None else joints
        self.place()

    def place(self) -> None:
        """Everything as the scene has it at first."""
        mujoco.mj_resetData(self.model, self.data)
        self.felt_torque[:] = self.felt_force[:] = 0
        self.q_d = self._home.copy()
        self.dq_d = np.zeros(7)
        self.tau_d = np.zeros(7)
        self.width_d = 2 * FINGER_OPEN_M
        self.data.qpos[self._arm] = self.q_d
        self.data.qpos[self._fingers] = FINGER_OPEN_M
        self.data.ctrl[7] = FINGER_OPEN_M
        self.drive_joints(self.q_d, np.zeros(7))
        mujoco.mj_forward(self.model, self.data)

    @property
    def q(self) -> np.ndarray:
        return self.data.qpos[self._arm]

    @property
    def dq(self) -> np.ndarray:
        return self.data.qvel[self._dofs]

    @property
    def tau(self) -> np.ndarray:
        return self.data.qfrc_actuator[self._dofs] + self.data.qfrc_applied[self._dofs]

    @property
    def width(self) -> float:
        return float(2 * self.data.qpos[self._fingers].mean())

    @property
    def grip_force_n(self) -> float:
        return float(abs(self.data.actuator_force[7]))

    def tool(self) -> np.ndarray:
        """O_T_EE [4, 4]."""
        frame = np.eye(4)
        frame[:3, :3] = self.data.xmat[self._hand].reshape(3, 3)
        frame[:3, 3] = self.data.xpos[self._hand] + HAND_TCP_M * frame[:3, 2]
        return frame

    def joints_towards(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """Joints nearer to O_T_EE `frame` from the desired ones, and how far (m) those still were."""
        model, plan = self.model, self._plan
        plan.qpos[self._arm] = self.q_d
        mujoco.mj_kinematics(model, plan)
        mujoco.mj_comPos(model, plan)
        turned = plan.xmat[self._hand].reshape(3, 3)
        reached = plan.xpos[self._hand] + HAND_TCP_M * turned[:, 2]
        mujoco.mj_jac(model, plan, self._jacobian[:3], self._jacobian[3:], reached, self._hand)
        jacobian = self._jacobian[:, self._dofs]
        error = np.concatenate([frame[:3, 3] - reached, rotation_vector(frame[:3, :3] @ turned.T)])
        pull = _POSTURE_PULL * (HOME_JOINTS - self.q_d)
        gram = jacobian @ jacobian.T + _DAMPING**2 * np.eye(6)
        step = pull + jacobian.T @ np.linalg.solve(gram, error - jacobian @ pull)
        return self.q_d + step, float(np.linalg.norm(error[:3]) + 0.1 * np.linalg.norm(error[3:]))

    def drive_joints(self, q_d: np.ndarray, dq_d: np.ndarray) -> None:
        self.model.opt.disableactuator = 0
        self.data.qfrc_applied[self._dofs] = 0
        self.q_d, self.dq_d = np.array(q_d), np.array(dq_d)
        self.tau_d = np.zeros(7)

    def drive_torque(self, tau: np.ndarray) -> None:
        """Torques on top of gravity, which the robot carries itself."""
        self.model.opt.disableactuator = 1 << _ARM_GROUP
        self.tau_d = np.array(tau)
        self.data.qfrc_applied[self._dofs] = self.tau_d
        self.q_d, self.dq_d = self.q.copy(), self.dq.copy()

    def hold(self) -> None:
        """Brake: the servos take over where the arm is."""
        self.drive_joints(self.q.copy(), np.zeros(7))

    def grip(self, width: float, force_n: float) -> None:
        self.width_d = width
        self.data.ctrl[7] = np.clip(width / 2, 0.0, FINGER_OPEN_M)
        self.model.actuator_forcerange[7] = (-force_n, force_n)

    def push(self, force: np.ndarray) -> None:
        """A force on the hand, as of somebody leaning on it."""
        self.data.xfrc_applied[self._hand, :3] = force

    def step(self) -> None:
        self.data.ctrl[:7] = self.q_d + _SERVO_DELAY_S * self.dq_d
        mujoco.mj_step(self.model, self.data)
        self._feel()

    def _feel(self) -> None:
        mujoco.mj_jac(
            self.model, self.data, self._jacobian[:3], self._jacobian[3:], self.tool()[:3, 3], self._hand
        )
        jacobian = self._jacobian[:, self._dofs]
        torque = (
            self.data.qfrc_constraint[self._dofs] + jacobian[:3].T @ self.data.xfrc_applied[self._hand, :3]
        )
        self.felt_torque += _FORCE_FILTER * (torque - self.felt_torque)
        if np.abs(self.felt_torque).max() < 0.05:
            self.felt_force[:] = 0
            return
        gram = jacobian @ jacobian.T + 1e-4 * np.eye(6)
        self.felt_force = np.linalg.solve(gram, jacobian @ self.felt_torque)

    def save(self) -> np.ndarray:
        """MuJoCo's state, for a twin that draws the same scene."""
        kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
        state = np.zeros(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_getState(self.model, self.data, state, kind)
        return state


def fr3_description() -> str:
    """The URDF that version 10 asks the robot for: Franka's public arm geometry, links as plain cylinders."""
    half_turn = np.pi / 2
    # x, z and roll of each joint's origin in the link before it
    origins = (
        (0, 0, 0.333, 0), (0, 0, 0, -half_turn), (0, -0.316, 0, half_turn), (0.0825, 0, 0, half_turn),
        (-0.0825, 0.384, 0, -half_turn), (0, 0, 0, half_turn), (0.088, 0, 0, half_turn),
    )  # fmt: skip
    masses = (2.7, 2.7, 2.7, 2.4, 2.4, 1.7, 0.8)
    speeds = (2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26)
    parts = ['<link name="link0"/>']
    for index, ((x, y, z, roll), mass, speed) in enumerate(zip(origins, masses, speeds)):
        inertia = f'ixx="{0.01 * mass:.4f}" iyy="{0.01 * mass:.4f}" izz="{0.003 * mass:.4f}"'
        parts.append(
            f'<joint name="joint{index + 1}" type="revolute"><origin xyz="{x} {y} {z}" rpy="{roll} 0 0"/>'
            f'<parent link="link{index}"/><child link="link{index + 1}"/><axis xyz="0 0 1"/>'
            f'<limit effort="{87 if index < 4 else 12}" lower="{JOINT_LOW[index]}" upper="{JOINT_HIGH[index]}" '
            f'velocity="{speed}"/><position_based_velocity_limits velocity_offset="0.3" deceleration_limit="6.0"/>'
            f'</joint><link name="link{index + 1}"><inertial><mass value="{mass}"/>'
            f'<inertia {inertia} ixy="0" ixz="0" iyz="0"/></inertial></link>'
        )
    parts.append(
        '<joint name="joint8" type="fixed"><origin xyz="0 0 0.107"/><parent link="link7"/><child link="link8"/></joint>'
        '<link name="link8"><inertial><mass value="0.05"/>'
        '<inertia ixx="1e-5" iyy="1e-5" izz="1e-5" ixy="0" ixz="0" iyz="0"/></inertial></link>'
    )
    return '<?xml version="1.0"?><robot name="fr3">' + "".join(parts) + "</robot>"
