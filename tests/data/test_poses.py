"""Pose arithmetic: exact against the official V-JEPA 2 code's numbers, and true to its own laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.transform import Rotation

from data.poses import (
    apply_action,
    euler_from_rotation,
    pose_difference,
    poses_from,
    quaternion_from_rotation,
    rotation_from_euler,
    rotation_from_quaternion,
)

GOLDEN = load_file(Path(__file__).parents[1] / "fixtures" / "vjepa2" / "e_poses.safetensors")


def random_poses(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    span = torch.tensor([1, 1, 1, 2 * torch.pi, torch.pi * 0.99, 2 * torch.pi, 0.0], dtype=torch.float64)
    poses = (torch.rand(count, 7, generator=generator, dtype=torch.float64) - 0.5) * span
    poses[:, 6] = torch.rand(count, generator=generator, dtype=torch.float64)
    return poses


def assert_same_poses(a: torch.Tensor, b: torch.Tensor, most: float) -> None:
    """Angles are compared as rotations: the same one has several triples."""
    torch.testing.assert_close(a[..., :3], b[..., :3], atol=most, rtol=0)
    torch.testing.assert_close(
        rotation_from_euler(a[..., 3:6]), rotation_from_euler(b[..., 3:6]), atol=most, rtol=0
    )
    torch.testing.assert_close(a[..., 6], b[..., 6], atol=most, rtol=0)


def test_differences_are_the_official_ones_through_roll_of_pi():
    for poses, actions in (("poses", "actions"), ("poses_camera_frame", "actions_camera_frame")):
        mine = pose_difference(GOLDEN[poses][:-1], GOLDEN[poses][1:])
        torch.testing.assert_close(mine, GOLDEN[actions], atol=1e-6, rtol=0)
    torch.testing.assert_close(
        pose_difference(GOLDEN["poses"][:-1], GOLDEN["poses"][1:]),
        GOLDEN["poses_to_diff_pairs"],
        atol=1e-6,
        rtol=0,
    )
    assert float(GOLDEN["actions"][10:, 3:6].abs().max()) < 0.2  # no jump where roll passes +-pi


def test_new_poses_are_the_official_ones():
    mine = apply_action(GOLDEN["new_pose.pose"].double(), GOLDEN["new_pose.action"].double())
    assert_same_poses(mine, GOLDEN["new_pose.y_f64"], 1e-6)
    single = apply_action(GOLDEN["new_pose.pose"], GOLDEN["new_pose.action"])
    assert single.dtype == torch.float32
    assert_same_poses(single, GOLDEN["new_pose.y"], 1e-5)


def test_applying_a_difference_arrives():
    before, after = random_poses(500), random_poses(500, seed=1)
    assert_same_poses(apply_action(before, pose_difference(before, after)), after, 1e-9)


def test_the_difference_of_an_applied_action_is_the_action():
    before, action = random_poses(500), 0.3 * random_poses(500, seed=2)
    before[:, 6], action[:, 6] = 0.2, action[:, 6].abs()
    assert_same_poses(pose_difference(before, apply_action(before, action)), action, 1e-9)


def test_closedness_stays_within_its_range():
    pose, action = random_poses(4), torch.zeros(4, 7, dtype=torch.float64)
    action[:, 6] = torch.tensor([5.0, -5.0, 1.0, -1.0])
    assert apply_action(pose, action)[:, 6].tolist() == [1, 0, 1, 0]


def test_rotations_are_scipys():
    euler = random_poses(300)[:, 3:6]
    matrix = rotation_from_euler(euler)
    known = Rotation.from_euler("xyz", euler.numpy())
    np.testing.assert_allclose(matrix.numpy(), known.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(euler_from_rotation(matrix).numpy(), known.as_euler("xyz"), atol=1e-7)
    quaternion = quaternion_from_rotation(matrix)
    assert np.abs(np.abs((quaternion.numpy() * known.as_quat()).sum(1)) - 1).max() < 1e-12
    np.testing.assert_allclose(rotation_from_quaternion(quaternion).numpy(), matrix.numpy(), atol=1e-12)


@pytest.mark.parametrize("pitch", [torch.pi / 2, -torch.pi / 2])
def test_gimbal_lock_keeps_the_rotation(pitch):
    euler = random_poses(50)[:, 3:6]
    euler[:, 1] = pitch
    matrix = rotation_from_euler(euler)
    torch.testing.assert_close(rotation_from_euler(euler_from_rotation(matrix)), matrix, atol=1e-6, rtol=0)


def test_gradients_are_right_and_finite_everywhere():
    before, after = random_poses(4).requires_grad_(), random_poses(4, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(pose_difference, (before, after))
    small = (0.1 * random_poses(4, seed=4)).requires_grad_()
    middle = before.detach().clone()
    middle[:, 6] = 0.5
    assert torch.autograd.gradcheck(apply_action, (middle.requires_grad_(), small))
    locked = torch.zeros(1, 7, dtype=torch.float64)
    locked[0, 4] = torch.pi / 2
    locked.requires_grad_()
    pose_difference(torch.zeros_like(locked), locked).sum().backward()
    assert locked.grad is not None
    assert torch.isfinite(locked.grad).all()


def test_any_leading_dimensions():
    before, after = random_poses(24).reshape(2, 3, 4, 7), random_poses(24, seed=5).reshape(2, 3, 4, 7)
    whole = pose_difference(before, after)
    torch.testing.assert_close(whole[1, 2], pose_difference(before[1, 2], after[1, 2]))


def test_poses_from_columns():
    pose = random_poses(20)
    quaternion = quaternion_from_rotation(rotation_from_euler(pose[:, 3:6]))
    assert_same_poses(poses_from(pose[:, :3], -quaternion, pose[:, 6]), pose, 1e-9)
