"""Sick models are told from healthy ones, and each by its own name."""

import math

import pytest
import torch

from data.types import Conventions, Imagined, Memory
from world_model.heads.probes import Target, linear_probe, mlp_probe, ridge, targets_of
from world_model.health import gates, lidar, measure, on_health, rankme

DIM = 32


class Linear:
    """A world that moves by what the arm is told: z' = z + A a, the arm's pose among it."""

    def __init__(self, seed: int = 0, gain: float = 1.0, rank: int = 12) -> None:
        g = torch.Generator().manual_seed(seed)
        self.a = torch.randn(7, DIM, generator=g)
        self.mix = torch.randn(7, DIM, generator=g)
        self.rest = torch.randn(rank, DIM, generator=g)
        self.gain = gain

    def clips(self, clips: int = 40, frames: int = 8, seed: int = 1):
        g = torch.Generator().manual_seed(seed)
        actions = 0.1 * torch.randn(clips, frames - 1, 7, generator=g)
        start = torch.randn(clips, 1, 7, generator=g) * 0.3
        poses = torch.cat([start, start + actions.cumsum(1)], 1)
        scene = torch.randn(clips, 1, len(self.rest), generator=g) @ self.rest
        latents = (poses @ self.mix * 3 + scene)[:, :, None]
        return latents, poses, actions

    def imagine(self, memory: Memory, actions, z=None) -> Imagined:
        moved = (actions.cumsum(2) @ self.mix * 3 * self.gain)[:, :, :, None]
        return Imagined(latents=memory.latents[:, None, -1:] + moved, poses=actions)


def test_a_model_that_knows_the_world_is_healthy() -> None:
    world = Linear()
    health = measure(world, *world.clips())
    assert health.words == "healthy"
    assert not health.collapsed
    assert max(health.copy_ratio) < 1e-6
    assert min(health.wrong_ratio) > 100
    assert health.ranking == [1.0] * len(health.copy_ratio)
    assert health.top1 == 1.0
    assert {name for name, gate in gates(health).items() if not gate[-1]} <= {"rank", "hand by a probe, mm"}
    assert health.probes["hand_xyz"].r2 > 0.9
    assert health.probes["hand_xyz"].unit == "mm"
    assert {"rankme", "lidar", "copy_ratio_5", "wrong_ratio_1", "probe_gripper_r2"} <= set(health.figures)


@pytest.mark.parametrize("how", ["constant", "tiny_noise_on_a_constant", "one_line"])
def test_a_collapsed_model_is_called_collapsed(how: str) -> None:
    world = Linear()
    latents, poses, actions = world.clips()
    g = torch.Generator().manual_seed(0)
    latents = {
        "constant": torch.ones_like(latents),
        "tiny_noise_on_a_constant": 1 + 1e-3 * torch.randn(latents.shape, generator=g),
        "one_line": latents[..., :1] * torch.ones(DIM),
    }[how]
    health = measure(world, latents, poses, actions)
    assert health.collapsed
    assert health.words.startswith("collapsed:")


def test_a_model_that_ignores_actions_is_called_deaf() -> None:
    class Deaf(Linear):
        def imagine(self, memory, actions, z=None):
            return super().imagine(memory, 0 * actions, z)

    world = Deaf()
    health = measure(world, *world.clips())
    assert not health.collapsed
    assert "deaf to actions" in health.words
    assert "no better than copying the last frame one step ahead (error ratio 1.00)" in health.words
    assert health.top1 < 0.3


def test_errors_that_grow_are_found_at_their_horizon() -> None:
    world = Linear(gain=1.0)

    class Drifts(Linear):
        def imagine(self, memory, actions, z=None):
            out = super().imagine(memory, actions, z)
            out.latents = out.latents + 0.3 * torch.arange(out.latents.shape[2]).view(1, 1, -1, 1, 1) ** 2
            return out

    health = measure(Drifts(), *world.clips())
    assert health.copy_ratio[0] < 1e-6
    assert health.copy_ratio == sorted(health.copy_ratio)
    assert "no better than copying the last frame from step" in health.words


def test_rankme_counts_directions() -> None:
    g = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(64, 64, generator=g)).Q
    for k in (1, 5, 20):
        z = torch.linalg.qr(torch.randn(500, k, generator=g)).Q @ basis[:k]
        assert rankme(z) == pytest.approx(k, rel=1e-3)
    z = torch.randn(500, 64, generator=g)
    assert rankme(z + 50) < 0.5 * rankme(z + 50, centred=True)


def test_lidar_counts_only_what_tells_clips_apart() -> None:
    g = torch.Generator().manual_seed(0)
    clip = torch.randn(200, 1, DIM, generator=g) * (torch.arange(DIM) < 6)
    noise = torch.randn(200, 10, DIM, generator=g)
    assert rankme((clip + noise).flatten(0, 1)) > 25
    assert lidar(20 * clip + noise) < 9


def test_ridge_over_samples_is_ridge_over_channels() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 30, generator=g).double(), torch.randn(30, 2, generator=g).double()
    wide = torch.cat([x, torch.zeros(30, 5).double()], 1)
    torch.testing.assert_close(ridge(wide, y, 0.1)[0][:30], ridge(x, y, 0.1)[0])


def test_probes_read_metres_and_angles() -> None:
    g = torch.Generator().manual_seed(0)
    yaw = (torch.rand(600, 1, generator=g) * 2 - 1) * math.pi
    xyz = 0.1 * torch.randn(600, 3, generator=g)
    z = torch.cat([xyz, (4 * yaw).cos(), (4 * yaw).sin()], 1) @ torch.randn(5, 40, generator=g)
    train = torch.arange(600) < 300
    assert linear_probe(z, Target(values=xyz), train).error < 0.5  # mm
    folded = linear_probe(
        z, Target(values=yaw, angle=True, fold=4, unit="deg", per_unit=180 / math.pi), train
    )
    assert folded.r2 > 0.99
    assert folded.error < 1.0
    whole = linear_probe(z, Target(values=yaw, angle=True, unit="deg", per_unit=180 / math.pi), train)
    assert whole.r2 < 0.2
    assert whole.error == pytest.approx(90, abs=12)


def test_a_small_mlp_reads_what_is_bent_and_draws_no_noise_but_its_own() -> None:
    g = torch.Generator().manual_seed(0)
    place = torch.rand(800, 2, generator=g) * 2 - 1  # its latent is a map of bumps, as a picture's is
    centres = torch.rand(40, 2, generator=g) * 2 - 1
    z = torch.exp(-4 * torch.cdist(place, centres).square()) @ torch.randn(40, 20, generator=g)
    z = (z - z.mean(0)).tanh()
    target = Target(values=0.1 * place)
    train = torch.arange(800) < 500
    state = torch.get_rng_state()
    bent = mlp_probe(z, target, train)
    assert torch.equal(torch.get_rng_state(), state)
    assert bent == mlp_probe(z, target, train)
    assert bent.error < 0.6 * linear_probe(z, target, train).error
    assert bent.r2 > 0.97
    nothing = mlp_probe(torch.randn(800, 20, generator=g), target, train)
    assert nothing.r2 < 0.05
    assert nothing.error == pytest.approx(76.5, abs=8)  # mm to the middle of a square of 200 mm


def test_where_things_are_is_probed_both_ways_if_they_are_in_all_clips() -> None:
    world = Linear()
    latents, poses, actions = world.clips()
    there = torch.cat([poses[..., :3].flip(-1), torch.tensor([0.0, 0, 0, 1]).expand(*poses.shape[:2], 4)], -1)
    gone = there.clone()
    gone[3, 2] = torch.nan
    health = measure(world, latents, poses, actions, objects={"cube": there, "cup": gone})
    assert health.probes["cube_xyz"].r2 > 0.9
    assert health.probes["cube_xyz_mlp"].r2 > 0.9
    assert not [name for name in health.probes if name.startswith("cup")]
    assert {"probe_cube_xyz_mm", "probe_cube_xyz_mlp_mm"} <= set(health.figures)


def test_targets_that_never_change_are_left_out() -> None:
    poses = torch.randn(10, 7)
    poses[:, 5] = 0.3
    cube = torch.cat([torch.randn(10, 3), torch.tensor([0.0, 0, 0, 1]).expand(10, 4)], 1)
    assert set(targets_of(poses, {"cube": cube})) == {"hand_xyz", "gripper", "cube_xyz"}


def test_the_training_hook_measures_in_evaluation_mode_and_goes_back() -> None:
    world = Linear()

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.eye = torch.nn.Linear(12, DIM)

        def encode(self, frames, poses=None):
            assert not self.training
            return self.eye(frames.float().flatten(1) / 255)[:, None]

        imagine = world.imagine

    g = torch.Generator().manual_seed(0)
    clips = {
        "frames": torch.randint(0, 256, (20, 6, 1, 2, 2, 3), dtype=torch.uint8, generator=g),
        "poses": torch.randn(20, 6, 7, generator=g),
        "actions": torch.randn(20, 5, 7, generator=g),
    }
    learner = torch.nn.Module()
    learner.world = Model().train()
    figures, warnings = on_health(clips)(learner, 100)
    assert learner.world.training
    assert figures["rankme"] > 1
    assert isinstance(warnings, list)


def test_a_model_that_wants_the_commanded_closedness_gets_it() -> None:
    """The compact model: untrained it is no better than copying, and it is asked in its own terms."""
    from world_model.compact import CompactModel
    from world_model.health import given_actions

    poses = torch.rand(24, 6, 7)
    actions = poses.diff(dim=1)
    conventions = Conventions(cameras=("a",), image_size=32)
    model = CompactModel(
        conventions, dim=16, channels=(8, 8), view_width=16, width=32, depth=1, heads=2
    ).eval()
    told = given_actions(model, actions, poses)
    torch.testing.assert_close(told[..., 6], poses[:, 1:, 6])
    torch.testing.assert_close(told[..., :6], actions[..., :6])
    health = measure(model, torch.randn(24, 6, 1, 16), poses, actions)
    assert "no better than copying" in health.words
    assert "deaf to actions" in health.words
