"""The learning signals do what their equations say, alone and in several processes."""

import math
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from world_model.ema import EMA
from world_model.losses import (
    LONG,
    InverseDynamics,
    Tubes,
    dense_context,
    masked_prediction,
    multiblock_mask,
    sigreg,
    straightening,
    tube_mask,
    vicreg,
)
from world_model.losses.masked import distance_to_hidden, take
from world_model.losses.masks import coordinates


@pytest.mark.parametrize("n", [64, 1024])
def test_sigreg_of_a_normal_sample_is_the_expected_constant(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values = [sigreg(torch.randn(n, 16, generator=generator), step=i).item() for i in range(30)]
    expected = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))  # integral of (1 - e^{-t^2}) e^{-t^2/2}
    assert sum(values) / len(values) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    "broken", ["collapsed", "scaled", "shifted", "two_clusters", "one_dead_dimension", "correlated"]
)
def test_sigreg_sees_what_is_not_normal(broken: str) -> None:
    z = torch.randn(512, 8, generator=torch.Generator().manual_seed(1))
    good = sigreg(z, step=0)
    bad = {
        "collapsed": torch.zeros_like(z),
        "scaled": 2 * z,
        "shifted": z + 1,
        "two_clusters": z.sign(),
        "one_dead_dimension": z * torch.tensor([0.0] + [1.0] * 7),
        "correlated": z[:, :1].expand_as(z),
    }[broken]
    assert sigreg(bad, step=0) > 3 * good


def test_sigreg_per_step_is_not_fooled_by_variety_over_time() -> None:
    """Each episode stays at one point of time's own: normal over all steps, collapsed at each."""
    z = torch.randn(1, 64, 8, generator=torch.Generator().manual_seed(2)).expand(64, 64, 8)
    assert sigreg(z, step=0, per_step=True) > 10 * sigreg(z[0], step=0)


def test_sigreg_trains_points_into_a_normal() -> None:
    torch.manual_seed(0)
    z = torch.nn.Parameter(0.1 * torch.rand(256, 4))
    optimiser = torch.optim.Adam([z], lr=0.05)
    for step in range(250):
        optimiser.zero_grad()
        sigreg(z, step=step, directions=64).backward()
        optimiser.step()
    assert z.mean(0).abs().max() < 0.15
    assert (torch.cov(z.T) - torch.eye(4)).abs().max() < 0.25


def test_vicreg_of_white_data_is_zero_and_of_copies_is_not() -> None:
    z = torch.randn(4096, 8, generator=torch.Generator().manual_seed(0))
    z = (z - z.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(z.T))).T
    assert vicreg(z) < 1e-4
    assert vicreg(0 * z) > 0.9
    assert vicreg(
        z[:, :1].expand_as(z).contiguous(), variance_weight=0, covariance_weight=1
    ) == pytest.approx(7, rel=1e-3)


def _part(rank: int, world: int, port: int, sizes: list[int], results: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    torch.manual_seed(0)
    net, data = torch.nn.Linear(6, 8), torch.randn(sum(sizes), 3, 6)
    start = sum(sizes[:rank])
    mine = data[start : start + sizes[rank]]
    out = {}
    for name, term in _TERMS.items():
        net.zero_grad()
        loss = term(net(mine))
        loss.backward()
        grad = net.weight.grad.clone()
        dist.all_reduce(grad)
        out[name] = (loss.detach(), grad / world)  # what DDP does
    if rank == 0:
        torch.save(out, results)
    dist.destroy_process_group()


_TERMS = {
    "sigreg": lambda z: sigreg(z, step=3, directions=32),
    "sigreg_per_step": lambda z: sigreg(z, step=3, directions=32, per_step=True),
    "vicreg": vicreg,
    "vicreg_per_step": lambda z: vicreg(z, per_step=True),
}


def test_two_processes_compute_the_loss_and_gradient_of_one(tmp_path) -> None:
    sizes = [10, 6]  # uneven on purpose
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(_part, args=(2, port, sizes, str(tmp_path / "out.pt")), nprocs=2)
    torch.manual_seed(0)
    net, data = torch.nn.Linear(6, 8), torch.randn(sum(sizes), 3, 6)
    for name, (loss, grad) in torch.load(tmp_path / "out.pt", weights_only=True).items():
        net.zero_grad()
        whole = _TERMS[name](net(data))
        whole.backward()
        torch.testing.assert_close(loss, whole.detach())
        torch.testing.assert_close(grad, net.weight.grad, atol=1e-6, rtol=1e-4)


def test_inverse_dynamics_learns_a_linear_world() -> None:
    torch.manual_seed(0)
    head = InverseDynamics(tokens=2, dim=8, hidden=64)
    lift = torch.randn(7, 16)
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    first = last = 0.0
    for step in range(300):
        actions = torch.randn(64, 2, 7) * head.scale
        poses = torch.cat([torch.zeros(64, 1, 7), actions.cumsum(1)], 1) / head.scale
        z = (poses @ lift).unflatten(-1, (2, 8))
        loss = head.loss(z, actions, predicted=z[:, 1:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < 0.2 * first


def test_straightening_measures_the_bend() -> None:
    line = torch.linspace(0, 1, 6)[:, None] * torch.ones(3)
    assert straightening(line[None]) == pytest.approx(0.0, abs=1e-5)
    corner = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]])
    assert straightening(corner) == pytest.approx(1.0)
    back = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])
    assert straightening(back) == pytest.approx(2.0)
    assert straightening(torch.zeros(1, 4, 2)) == 0.0


@pytest.mark.parametrize("tubes", [Tubes(), LONG])
def test_tubes_hide_the_same_places_at_all_times(tubes: Tubes) -> None:
    grid = (3, 8, 10)
    mask = tube_mask(grid, 4, torch.Generator().manual_seed(0), tubes)
    hidden = mask.targets[0]
    for b in range(4):
        assert not set(hidden[b].tolist()) & set(mask.context[b].tolist())
    assert torch.equal(hidden, hidden.sort(1).values)
    assert mask.context.shape[1] > 0
    assert hidden.max() < 3 * 8 * 10
    single = tube_mask(grid, 1, torch.Generator().manual_seed(1), tubes)
    places = coordinates(single.targets[0][0], grid)
    frames = [set(map(tuple, places[places[:, 0] == t, 1:].tolist())) for t in range(3)]
    assert frames[0] == frames[1] == frames[2]
    assert single.context.shape[1] + single.targets[0].shape[1] == 240


def test_long_tubes_hide_most_of_the_frame_and_short_ones_many_places() -> None:
    share = [
        tube_mask((1, 16, 16), 1, torch.Generator().manual_seed(s), LONG).targets[0].shape[1] / 256
        for s in range(20)
    ]
    assert 0.65 < sum(share) / 20 < 1.0


def test_a_tube_that_leaves_no_context_is_refused() -> None:
    with pytest.raises(ValueError, match="fill the whole"):
        tube_mask((1, 2, 2), 1, torch.Generator(), Tubes(scale=(0.99, 0.99), aspect=(1, 1)))


def test_multiblock_context_never_overlaps_a_target() -> None:
    mask = multiblock_mask((1, 14, 14), 3, torch.Generator().manual_seed(0))
    assert len(mask.targets) == 4
    for ids in mask.targets:
        for b in range(3):
            assert not set(ids[b].tolist()) & set(mask.context[b].tolist())
        places = coordinates(ids[0], (1, 14, 14))
        height, width = (places.amax(0) - places.amin(0) + 1)[1:].tolist()
        assert height * width == ids.shape[1]


def test_masked_prediction_is_zero_for_the_normalised_target_only() -> None:
    tokens = torch.randn(2, 36, 8, requires_grad=True)
    mask = tube_mask((1, 6, 6), 2, torch.Generator().manual_seed(0), Tubes(count=2))
    wanted = torch.nn.functional.layer_norm(tokens, (8,))
    perfect = take(wanted, mask.targets[0])
    assert masked_prediction([perfect], tokens, mask) < 1e-6
    loss = masked_prediction([perfect.detach() + 0.5], tokens, mask)
    assert loss == pytest.approx(0.5, abs=1e-5)
    assert not loss.requires_grad  # the target is a target


def test_dense_term_weighs_by_one_over_the_root_of_distance() -> None:
    grid = (1, 1, 5)
    mask_ids, seen = torch.tensor([[0]]), torch.tensor([[1, 2, 3, 4]])
    assert distance_to_hidden(seen, mask_ids, grid).tolist() == [[1, 2, 3, 4]]
    from world_model.losses import Mask

    mask = Mask(context=seen, targets=(mask_ids,))
    tokens = torch.randn(1, 5, 4)
    wanted = take(torch.nn.functional.layer_norm(tokens, (4,)), seen)
    weight = torch.tensor([1, 2**-0.5, 3**-0.5, 0.5])
    torch.testing.assert_close(dense_context(wanted + 1, tokens, mask, grid), weight.mean())


def test_ema_follows_slowly_and_is_never_trained() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    ema = EMA(net)
    before = ema.target[0].weight.clone()
    with torch.no_grad():
        net[0].weight += 1
        net[1].running_mean += 1
    ema.update(net, 0.9)
    torch.testing.assert_close(ema.target[0].weight, before + 0.1)
    torch.testing.assert_close(ema.target[1].running_mean, net[1].running_mean)
    assert not ema(torch.randn(4, 2)).requires_grad
    assert not ema.train().target.training
