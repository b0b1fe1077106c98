"""The Panda's forward kinematics against the URDF as PyBullet computes it, and against its joint limits."""

from __future__ import annotations

import numpy as np
import pybullet
import pybullet_data
import pytest
from scipy.spatial.transform import Rotation

from data.kinematics import PANDA, PANDA_LOWER_RAD, PANDA_UPPER_RAD, VIPERX_300S


def test_every_tool_is_where_the_urdf_has_it():
    client = pybullet.connect(pybullet.DIRECT)
    robot = pybullet.loadURDF(
        f"{pybullet_data.getDataPath()}/franka_panda/panda.urdf", useFixedBase=True, physicsClientId=client
    )
    links = {
        pybullet.getJointInfo(robot, i, client)[12].decode(): i
        for i in range(pybullet.getNumJoints(robot, client))
    }
    rng = np.random.default_rng(0)
    joints = rng.uniform(PANDA_LOWER_RAD, PANDA_UPPER_RAD, (50, 7))
    found = {tool: PANDA.base_T_tool(joints, tool) for tool in PANDA.tools}
    for row, q in enumerate(joints):
        for i, angle in enumerate(q):
            pybullet.resetJointState(robot, i, angle, physicsClientId=client)
        for tool, link in (("flange", "panda_link8"), ("hand", "panda_hand")):
            state = pybullet.getLinkState(robot, links[link], True, True, client)
            np.testing.assert_allclose(found[tool][row, :3, 3], state[4], atol=2e-6)
            turn = Rotation.from_matrix(found[tool][row, :3, :3]) * Rotation.from_quat(state[5]).inv()
            assert turn.magnitude() < 2e-6
    pybullet.disconnect(client)
    along = np.einsum("tij,j->ti", found["hand"][:, :3, :3], [0, 0, 0.1034]) + found["hand"][:, :3, 3]
    np.testing.assert_allclose(found["tcp"][:, :3, 3], along, atol=1e-12)


def test_joint_limits_are_the_urdfs():
    client = pybullet.connect(pybullet.DIRECT)
    robot = pybullet.loadURDF(
        f"{pybullet_data.getDataPath()}/franka_panda/panda.urdf", useFixedBase=True, physicsClientId=client
    )
    limits = np.array([pybullet.getJointInfo(robot, i, client)[8:10] for i in range(7)])
    pybullet.disconnect(client)
    assert np.all(limits[:, 0] - 0.08 <= PANDA_LOWER_RAD)
    assert np.all(limits[:, 1] + 0.08 >= PANDA_UPPER_RAD)


def test_viperx_stretched_out_is_as_long_as_its_links():
    pose = VIPERX_300S.base_T_tool(np.zeros(6), "tcp")
    np.testing.assert_allclose(pose[:3, 3], [0.536494, 0, 0.42705], atol=1e-6)
    np.testing.assert_allclose(pose[:3, :3], np.eye(3), atol=1e-12)


def test_unknown_tools_and_other_numbers_of_joints_are_refused():
    with pytest.raises(ValueError, match="flange"):
        PANDA.base_T_tool(np.zeros(7), "elbow")
    with pytest.raises(ValueError, match="7 joints, got 6"):
        PANDA.base_T_tool(np.zeros(6), "tcp")
