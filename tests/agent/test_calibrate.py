"""A camera that is turned: the map is found from a small motion, and repairs a plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from agent.calibrate import CalibratedArm, Calibration, calibrate, verdict
from agent.seen_places import corrected
from agent.turn import turned
from data.poses import apply_action
from data.types import Camera, Conventions, Imagined, Memory, Observation
from envs.arm import Limits, Outcome

SPAN_M = 2.0


def about_z(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


class TurnedWorld:
    """An arm whose camera shows where the tool is, in directions turned by `degrees`: 24 bits a coordinate."""

    period_s = 0.2

    def __init__(self, degrees: float, noise_m: float = 0.0) -> None:
        self.limits, self.cameras = Limits(), {"eye": Camera(name="eye", width=3, height=1)}
        self.pose = np.array([0.5, 0.0, 0.25, np.pi, 0.0, 0.3, 0.0])
        self.acted: list[np.ndarray] = []
        self._turn, self._random, self._noise = about_z(degrees), np.random.default_rng(0), noise_m

    def observe(self) -> Observation:
        seen = self._turn @ self.pose[:3] + self._random.normal(0, self._noise, 3)
        digits = np.round((seen / SPAN_M + 0.5) * (2**24 - 1)).astype(np.int64)
        frame = np.stack([digits >> 16, (digits >> 8) & 255, digits & 255], -1)[None].astype(np.uint8)
        return Observation(
            frames={"eye": frame},
            pose=self.pose.copy(),
            commanded=self.pose.copy(),
            joints=np.zeros(7),
            time_s=0,
        )

    def act(self, action: np.ndarray, *, blocking: bool = True) -> Outcome:
        self.acted.append(action)
        self.pose = apply_action(torch.from_numpy(self.pose), torch.from_numpy(np.asarray(action))).numpy()
        return Outcome(commanded=self.pose.copy())

    def reset(self, **_: object) -> Observation:
        return self.observe()

    def stop(self) -> None: ...

    def close(self) -> None: ...


class SeesAndMoves:
    """A perfect model of a world whose camera is not turned: the latent is the position that the picture shows."""

    conventions = Conventions(cameras=("eye",), image_size=1)
    context = 2

    def encode(self, frames: Tensor, poses: Tensor | None = None) -> Tensor:
        digits = frames[:, 0, 0].double() @ torch.tensor([65536.0, 256.0, 1.0], dtype=torch.float64)
        return ((digits / (2**24 - 1) - 0.5) * SPAN_M).float()[:, None]

    def imagine(self, memory: Memory, actions: Tensor, z: Tensor | None = None) -> Imagined:
        moved = memory.latents[:, -1, :, :][:, None, None] + actions[..., :3].cumsum(2)[:, :, :, None]
        return Imagined(latents=moved, poses=memory.poses[:, None, -1:].expand(*actions.shape[:3], 7))


@pytest.mark.parametrize("degrees", [0.0, 30.0, -75.0])
def test_finds_the_turn_and_stays_near(degrees: float) -> None:
    arm = TurnedWorld(degrees, noise_m=0.003)
    middle = np.array([0.5, 0.0, 0.2])
    found = calibrate(arm, SeesAndMoves(), steps=60)
    assert found.yaw_deg == pytest.approx(degrees, abs=4)
    # 20 moves of 37 mm seen to 4 mm: an entry of the matrix deviates by 0.045
    np.testing.assert_allclose(found.matrix, about_z(degrees), atol=0.15)
    assert found.trustworthy
    assert ("nothing to apply" in verdict(found)) == (degrees == 0)
    assert len(arm.acted) == 60, "it is in the middle already"
    assert all(0.02 < np.linalg.norm(a[:3]) <= 0.0501 and not a[3:].any() for a in arm.acted)
    assert np.abs(arm.pose[:3] - middle).max() < 0.1


def test_repairs_a_camera_that_is_30_degrees_off() -> None:
    model, errors = SeesAndMoves(), {}
    found = calibrate(TurnedWorld(30.0), model, steps=60)
    for name in ("before", "after"):
        world = TurnedWorld(30.0)
        goal = world.pose[:3] + np.array([0.08, -0.06, 0.03])
        shown = TurnedWorld(30.0)
        shown.pose[:3] = goal
        seen_goal = (
            model.encode(torch.from_numpy(shown.observe().frames["eye"])[None, None])[0, 0].double().numpy()
        )
        arm = world if name == "before" else CalibratedArm(world, found)
        here = (
            model.encode(torch.from_numpy(world.observe().frames["eye"])[None, None])[0, 0].double().numpy()
        )
        for _ in range(3):  # a plan carried out without looking again
            arm.act(np.concatenate([(seen_goal - here) / 3, np.zeros(4)]))
        errors[name] = float(np.linalg.norm(world.pose[:3] - goal))
    assert errors["before"] == pytest.approx(0.1 * 2 * np.sin(np.deg2rad(15)), rel=0.05)
    assert errors["after"] < 0.1 * errors["before"]


def test_poses_and_actions_turn_together() -> None:
    calibration = Calibration(
        matrix=about_z(40).tolist(), yaw_deg=40.0, pivot=[0.5, 0, 0.2], residual_m=0, moves=9
    )
    world = TurnedWorld(40.0)
    arm = CalibratedArm(world, calibration)
    before = arm.observe().pose
    action = np.array([0.03, -0.02, 0.01, 0.1, -0.05, 0.2, 0.5])
    outcome = arm.act(action)
    expected = apply_action(torch.from_numpy(before), torch.from_numpy(action)).numpy()
    np.testing.assert_allclose(outcome.commanded[:3], expected[:3], atol=1e-9)
    turn = np.angle(np.exp(1j * (outcome.commanded - expected)[3:6]))
    np.testing.assert_allclose(turn, 0, atol=1e-7)
    np.testing.assert_allclose(world.acted[0][:3], about_z(-40) @ action[:3], atol=1e-12)
    plain = CalibratedArm(world, calibration, poses=False)
    np.testing.assert_array_equal(plain.observe().pose, world.pose)


def test_a_model_that_sees_nothing_is_not_trusted() -> None:
    model = SeesAndMoves()
    found = calibrate(TurnedWorld(0.0, noise_m=0.08), model, steps=60)
    assert not found.trustworthy
    assert "do not apply" in verdict(found)


def test_where_the_hand_is_seen_is_put_right_in_the_models_directions(tmp_path: Path) -> None:
    """A head that sees four fifths of every way and a centimetre too high, through a turned camera."""
    middle = torch.tensor([0.5, 0.0, 0.2])

    def body(z: Tensor) -> tuple[Tensor, Tensor]:
        place = middle + 0.8 * (z[..., 0, :] - middle) + torch.tensor([0.0, 0.0, 0.01])
        return place, torch.zeros(place.shape[:-1])

    found = calibrate(TurnedWorld(30.0), SeesAndMoves(), steps=60, body=body)
    assert found.yaw_deg == pytest.approx(30, abs=4)
    assert "the hand is seen" in found.words[-1]
    places = Calibration.load(found.save(tmp_path / "c.json")).places
    here = torch.tensor([[0.45, 0.05, 0.25, 0, 0, 0, 0], [0.55, -0.05, 0.15, 0, 0, 0, 0]])
    right = turned(here, np.deg2rad(found.yaw_deg), (found.pivot[0], found.pivot[1]))[:, :3].float()
    seen = body(here[:, None, :3] @ torch.from_numpy(about_z(30)).float().T)[0]
    ways = {
        name: p[1] - p[0]
        for name, p in (("true", right), ("before", seen), ("after", corrected(places, seen)))
    }
    before, after = ((ways[name] - ways["true"]).norm() for name in ("before", "after"))
    assert after < 0.6 * before
    torch.testing.assert_close(corrected(places, seen), right, atol=0.02, rtol=0)
    assert calibrate(TurnedWorld(30.0), SeesAndMoves(), steps=60).places == []


def test_saved_and_read_again(tmp_path: Path) -> None:
    found = Calibration(
        matrix=about_z(9).tolist(), yaw_deg=9.0, pivot=[0.4, 0, 0.2], residual_m=0.01, moves=7
    )
    assert Calibration.load(found.save(tmp_path / "c.json")) == found
    (tmp_path / "d.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="is not a calibration"):
        Calibration.load(tmp_path / "d.json")
