"""Imagined against real, with models of which everything is known."""

import re

import numpy as np
import pytest
import torch

from agent.imagining import (
    Encoded,
    axis_check,
    health_of,
    landscape_misses,
    landscapes_at,
    refined_lowest,
    roll_outs,
)
from agent.recorded import Stretch, longest_stretch
from data.source import open_log
from data.types import Conventions, Imagined
from planners.landscape import Landscape

STEPS = 60


def about_z(degrees):
    angle = torch.deg2rad(torch.tensor(float(degrees)))
    c, s = torch.cos(angle), torch.sin(angle)
    return torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


class Knows:
    """Latents are positions and closedness; it adds what it is told, as it sees it: turned by `degrees`, by `gain`."""

    def __init__(self, degrees=0.0, gain=1.0, deaf=False, absolute=False):
        self.turn, self.deaf = gain * about_z(degrees), deaf
        self.absolute_gripper = absolute

    def imagine(self, memory, actions, z=None):
        moved = actions[..., :3].cumsum(2) * (0 if self.deaf else 1)
        latent, pose = memory.latents[:, None, None, -1], memory.poses[:, None, None, -1]
        grip = actions[..., 6:] if self.absolute_gripper else pose[..., 6:] + actions[..., 6:].cumsum(2)
        grip = pose[..., 6:].expand_as(grip) if self.deaf else grip
        seen = latent[..., 0, :3] + moved @ self.turn.T
        poses = torch.cat([pose[..., :3] + moved, pose[..., 3:6].expand_as(moved), grip.clamp(0, 1)], -1)
        return Imagined(latents=torch.cat([seen, grip.clamp(0, 1)], -1)[..., None, :], poses=poses)


def episode(seed=0, steps=STEPS, turned=0.0, absolute=False):
    """A walk whose latents show it turned by `turned` degrees."""
    random = torch.Generator().manual_seed(seed)
    poses = torch.zeros(steps, 7)
    poses[:, :3] = torch.tensor([0.5, 0.0, 0.2]) + (
        (torch.rand(steps, 3, generator=random) - 0.5) * 0.08
    ).cumsum(0)
    poses[:, 6] = (torch.rand(steps, generator=random) > 0.5).float()
    latents = torch.cat([poses[:, :3] @ about_z(turned).T, poses[:, 6:]], -1)
    stretch = Stretch(
        frames=torch.zeros(steps, 1, 1, 1, 3, dtype=torch.uint8), poses=poses, actions=poses.diff(dim=0),
        rows=np.arange(steps),
    )  # fmt: skip
    return Encoded(stretch=stretch, latents=latents[None, :, None])


@pytest.mark.parametrize("absolute", [False, True])
def test_who_knows_the_truth_makes_no_error(absolute):
    rolled = roll_outs(Knows(absolute=absolute), [episode(0), episode(1)], horizon=8)
    for errors in (rolled.latent, rolled.position_m, rolled.closedness):
        np.testing.assert_allclose(errors, 0, atol=1e-6)
    assert len(rolled.latent) == 8
    assert min(rolled.copy_last) > 1e-4
    assert max(rolled.figures["copy_ratio"]) < 1e-3
    assert min(rolled.figures["wrong_ratio"]) > 1


def test_health_comes_of_clips_of_all_episodes_and_their_objects():
    episodes = [episode(seed, steps=30 + seed) for seed in range(5)]
    for each in episodes:
        upright = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(len(each.stretch.poses), 4)
        each.stretch.objects["cube"] = torch.cat([each.stretch.poses[:, :3], upright], -1)
    health = health_of(Knows(), episodes)
    assert health.top1 == 1.0
    assert health.probes["cube_xyz"].error < 1.0  # mm
    assert "cube_xyz_mlp" in health.probes
    assert health.words.startswith("no better") is False
    assert health_of(Knows(), [episode(0, steps=7)]) is None


def test_who_is_deaf_to_actions_is_found_out():
    rolled = roll_outs(Knows(deaf=True), [episode(0), episode(1)], horizon=4)
    np.testing.assert_allclose(rolled.figures["copy_ratio"], 1, atol=1e-5)
    np.testing.assert_allclose(rolled.figures["wrong_ratio"], 1, atol=1e-5)
    assert rolled.position_m[3] > 0.02


def test_episodes_that_are_too_short_are_named():
    with pytest.raises(ValueError, match=re.escape("too short to imagine 16 steps (the longest has 10)")):
        roll_outs(Knows(), [episode(0, steps=10)], horizon=16)


def test_the_axes_of_the_truth_are_the_identity():
    check = axis_check(Knows(), [episode(0), episode(1)])
    np.testing.assert_allclose(check.matrix.numpy(), np.eye(3), atol=0.05)
    assert abs(check.yaw_error_deg) < 1
    assert check.residual_m < 0.003
    assert re.fullmatch(r"push \+x 5 cm: the model sees (4\.[89]|5\.[012]) cm along x, [+-]0\.[01] along y, [+-]0\.[01] along z", check.words[0])  # fmt: skip


@pytest.mark.parametrize("degrees", [30, -75])
def test_a_turned_camera_is_found_with_its_angle(degrees):
    """Pictures show moves turned by an angle of which the model knows nothing."""
    check = axis_check(Knows(), [episode(0, turned=degrees), episode(1, turned=degrees)])
    assert check.yaw_error_deg == pytest.approx(degrees, abs=1.5)
    assert f"camera yaw error {check.yaw_error_deg:+.1f} degrees" in check.words


def test_a_model_that_moves_too_little_is_found():
    """It imagines 0.8 of each move, so that it takes 1.25 of it to get there."""
    check = axis_check(Knows(gain=0.8), [episode(0), episode(1)])
    np.testing.assert_allclose(check.matrix.diagonal().numpy(), 1.25, atol=0.06)


def test_an_arm_that_stands_still_has_no_axes():
    still = episode(0)
    still.stretch.actions *= 0
    with pytest.raises(ValueError, match=r"only 0 steps move more than 0\.02 m"):
        axis_check(Knows(), [still])


@pytest.mark.parametrize("absolute", [False, True])
def test_the_energy_is_least_at_the_true_action(absolute):
    walk = episode(0)
    found = landscapes_at(Knows(absolute=absolute), walk, 9, points=25)
    assert [f.axes for f in found] == [(0, 1), (0, 2), (0, 6), (1, 2), (1, 6), (2, 6)]
    true = walk.stretch.actions[9].clone()
    if absolute:
        true[6] = walk.stretch.poses[10, 6]
    for surface in found:
        low = surface.lowest()[0]
        assert abs(low[0] - true[surface.axes[0]]) < 0.004
        assert abs(low[1] - true[surface.axes[1]]) < (0.05 if surface.axes[1] == 6 else 0.004)
        assert float(surface.energies.min()) == pytest.approx(0, abs=1e-6)
        assert surface.energies.shape[1:] == (len(surface.first), len(surface.second))
    if absolute:
        assert 0 <= float(found[-1].second.min()) <= float(found[-1].second.max()) <= 1


def test_who_knows_the_truth_has_its_minima_at_the_true_actions_and_who_moves_too_little_has_not():
    walks = [episode(0, absolute=True), episode(1, absolute=True)]
    right = landscape_misses(Knows(absolute=True), walks, moments=6)
    assert set(right.metres) == {"x-y", "x-z", "x-gripper", "y-z", "y-gripper", "z-gripper"}
    assert max(max(found) for found in right.metres.values()) < 0.002
    assert right.gripper_right == 1
    weak = landscape_misses(Knows(absolute=True, gain=0.6), walks, moments=6)
    assert min(weak.metres["x-y"]) > 0.004
    assert re.search(r"over 6 moments the energy's minimum lies \d+ mm", weak.words[0])


def test_a_minimum_is_found_between_the_points_of_a_grid():
    axis = torch.linspace(-0.1, 0.1, 9)
    bowl = (axis[:, None] - 0.013).square() + 3 * (axis[None] + 0.021).square()
    found = refined_lowest(Landscape(axes=(0, 1), first=axis, second=axis, energies=bowl[None], terms={}))
    np.testing.assert_allclose(found.numpy(), [0.013, -0.021], atol=1e-5)
    edge = Landscape(
        axes=(0, 1), first=axis, second=axis, energies=axis[:, None] + 0 * axis[None][None], terms={}
    )
    assert float(refined_lowest(edge)[0]) == pytest.approx(-0.1)


def test_the_longest_stretch_is_what_was_recorded(collected):
    log = open_log(collected)
    recorded = log.open(log.keys[0])
    sees = Conventions(image_size=32)
    stretch = longest_stretch(recorded, sees)
    assert len(stretch.frames) == len(stretch.poses) == len(stretch.actions) + 1 == len(recorded)
    wrist = recorded.frames["wrist"]
    came = stretch.frames[5, 1].numpy()
    np.testing.assert_array_equal(came, wrist.read_fitted([5], size=32, crop=sees.crop)[0])
    assert abs(came.astype(int) - wrist.read([5])[0]).mean() < 3, "exact colours are not far from fast ones"
    np.testing.assert_allclose(
        stretch.actions[:, :3].numpy(), np.diff(recorded.ee_position, axis=0), atol=1e-6
    )
    told = recorded.commanded[1:, 6] - recorded.closedness[:-1]
    shifted = recorded.commanded[:-1, 6] - recorded.closedness[:-1]
    gripper = stretch.actions[:, 6].numpy()
    assert np.allclose(gripper, told, atol=1e-5) or np.allclose(gripper, shifted, atol=1e-5)


def test_a_log_that_does_not_fit_the_model_is_named(collected):
    log = open_log(collected)
    with pytest.raises(ValueError, match=r"has no 'overhead', only \['exterior_left', 'wrist'\]"):
        longest_stretch(log.open(log.keys[0]), Conventions(cameras=("overhead",)))
