"""The arm in a recording is where a simulator has it."""

from __future__ import annotations

import numpy as np
import pytest
import rerun as rr

from agent.arms import open_arm
from agent.seeing.robot_view import RobotView
from agent.settings import EnvConfig


@pytest.fixture
def driven():
    arm, driver = open_arm(EnvConfig(image_size_px=32, cameras=["wrist"]))
    arm.reset(seed=5)
    yield arm, driver
    arm.close()


class Log:
    """Keeps what is logged."""

    def __init__(self):
        self.entities = {}

    def log(self, entity, content, **_):
        self.entities.setdefault(entity, []).append(content)

    def add(self, entity, columns, value, **_):
        self.log(entity, value)


def test_links_are_drawn_where_the_simulator_has_them(driven):
    arm, driver = driven
    log = Log()
    view = RobotView(log, log)
    for action in ([0.05, 0.03, -0.04, 0, 0, 0.2, 0], [0, -0.05, 0, 0.1, 0, 0, 0.9]):
        arm.act(np.array(action, float))
        seen = arm.observe()
        view.show(seen.joints, float(seen.pose[6]))
        for link in [
            *(f"panda_link{i}" for i in range(8)),
            "panda_hand",
            "panda_leftfinger",
            "panda_rightfinger",
        ]:
            drawn, body = log.entities[f"world/arm/{link}"][-1], driver.data.body(link)
            at, turn = drawn[:3], drawn[3:]
            np.testing.assert_allclose(at, body.xpos, atol=2e-3, err_msg=link)
            np.testing.assert_allclose(abs(turn @ body.xquat[[1, 2, 3, 0]]), 1, atol=1e-4, err_msg=link)


def test_every_link_has_a_shape():
    log = Log()
    RobotView(log, log)
    shapes = {name for name, found in log.entities.items() if any(isinstance(f, rr.Mesh3D) for f in found)}
    assert len(shapes) == 11
    for name in shapes:
        corners = np.array(log.entities[name][0].vertex_positions.as_arrow_array().to_pylist())
        assert 0.01 < np.ptp(corners, axis=0).max() < 0.5, name
