"""Where the future branches, a deterministic predictor averages, and one with z covers the branches."""

import pytest
import torch

from data.types import Memory
from planners.futures import SampledFutures
from world_model.imagine import imagine_tokens
from world_model.latent import DrawZ, Posterior, information, variational_prediction
from world_model.losses import prediction_error
from world_model.predictors.tokens import TokenPredictor, TokenPredictorConfig

D, Z = 12, 2
BRANCH = torch.nn.functional.normalize(torch.randn(D, generator=torch.Generator().manual_seed(7)), dim=0) * 2
MOVE = 3 * torch.randn(7, D, generator=torch.Generator().manual_seed(8)) / D**0.5


def branching(batch: int, generator: torch.Generator):
    """z' = z/2 + the action's push + or - BRANCH, a coin tossed; the action decides the push alone."""
    before = torch.randn(batch, 1, 1, D, generator=generator)
    actions = 0.3 * torch.randn(batch, 1, 7, generator=generator)
    coin = torch.randint(0, 2, (batch, 1, 1, 1), generator=generator) * 2 - 1
    middle = before / 2 + (actions @ MOVE).unsqueeze(2)
    return torch.cat([before, middle + coin * BRANCH], 1), actions, torch.zeros(batch, 2, 7), middle


def make(z_dim: int) -> TokenPredictor:
    torch.manual_seed(0)
    config = TokenPredictorConfig(latent_dim=D, dim=48, depth=1, heads=2, grid=(1, 1), z_dim=z_dim)
    return TokenPredictor(config)


def train(predictor: TokenPredictor, posterior: Posterior | None, steps: int = 300) -> None:
    g = torch.Generator().manual_seed(1)
    modules = torch.nn.ModuleList([m for m in (predictor, posterior) if m is not None])
    optimiser = torch.optim.AdamW(modules.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        latents, actions, poses, _ = branching(96, g)
        if posterior is None:
            loss = prediction_error(predictor(latents[:, :1], actions, poses[:, :1]), latents[:, 1:])
        else:
            loss = variational_prediction(
                predictor, posterior, latents, actions, poses, price=0.02, generator=g
            )["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def side(latents, middle):
    """Where along the branch a future lies: -1 and 1 are the two futures that can be, 0 is neither."""
    return (latents - middle) @ BRANCH / BRANCH.square().sum()


@pytest.fixture(scope="module")
def trained() -> tuple[TokenPredictor, TokenPredictor]:
    plain, branchy = make(0), make(Z)
    train(plain, None)
    train(branchy, Posterior(dim=D, z_dim=Z))
    return plain.eval(), branchy.eval()


def test_two_futures(trained) -> None:
    plain, branchy = trained
    latents, actions, _, middle = branching(64, torch.Generator().manual_seed(2))
    memory = Memory(latents=latents[:, :1], poses=torch.zeros(64, 1, 7), actions=torch.zeros(64, 0, 7))
    with torch.no_grad():
        average = side(
            imagine_tokens(plain, memory, actions[:, None], normalise=False).latents[:, 0, 0], middle[:, 0]
        )
        mean = side(
            imagine_tokens(branchy, memory, actions[:, None], normalise=False).latents[:, 0, 0], middle[:, 0]
        )
        z = torch.randn(64, 50, 1, Z, generator=torch.Generator().manual_seed(3))
        many = actions[:, None].expand(-1, 50, -1, -1)
        drawn = imagine_tokens(branchy, memory, many, z, normalise=False).latents[:, :, 0]
        sides = side(drawn, middle)
    assert average.abs().mean() < 0.25  # the deterministic one predicts what never happens
    assert mean.abs().mean() < 0.25  # and so does no z
    for sign in (-1, 1):
        share = ((sides - sign).abs() < 0.4).float().mean()
        assert 0.25 < share < 0.7, (sign, share)
    each = ((sides - 1).abs() < 0.4).any(1) & ((sides + 1).abs() < 0.4).any(1)
    assert each.float().mean() > 0.95  # both futures are covered, from nearly every state
    nearest = (drawn - latents[:, 1:]).square().mean((-1, -2)).amin(1)  # [B], of what then really happened
    assert nearest.mean() < 0.3 * BRANCH.square().mean()


def test_disagreement_is_high_where_the_future_branches(trained) -> None:
    _, branchy = trained
    latents, actions, _, _ = branching(8, torch.Generator().manual_seed(4))
    memory = Memory(latents=latents[:, :1], poses=torch.zeros(8, 1, 7), actions=torch.zeros(8, 0, 7))

    class Model:
        def imagine(self, memory, actions, z=None):
            return imagine_tokens(branchy, memory, actions, z, normalise=False)

    with torch.no_grad():
        futures = SampledFutures(model=Model(), draw=DrawZ(Z), samples=24).imagine(memory, actions[:, None])
    true_deviation = BRANCH.square().mean().sqrt()
    assert futures.extras["disagreement"].mean() == pytest.approx(float(true_deviation), rel=0.3)


def test_the_information_is_that_of_closed_form() -> None:
    assert information(torch.zeros(3, 2), torch.zeros(3, 2)).tolist() == [0, 0, 0]
    q = torch.distributions.Normal(torch.tensor([0.5, -1.0]), torch.tensor([0.3, 2.0]))
    p = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    kl = torch.distributions.kl_divergence(q, p).sum()
    torch.testing.assert_close(information(q.mean, 2 * q.stddev.log()), kl)


def test_a_dear_z_says_nothing() -> None:
    predictor, posterior = make(Z), Posterior(dim=D, z_dim=Z)
    g = torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam([*predictor.parameters(), *posterior.parameters()], lr=3e-3)
    for _ in range(60):
        latents, actions, poses, _ = branching(64, g)
        out = variational_prediction(predictor, posterior, latents, actions, poses, price=50.0, generator=g)
        optimiser.zero_grad()
        out["loss"].backward()
        optimiser.step()
    assert out["nats"] < 0.02


def test_all_candidates_get_the_same_future() -> None:
    z = DrawZ(3)(None, torch.zeros(2, 5, 4, 7), torch.Generator().manual_seed(0))
    assert z.shape == (2, 5, 4, 3)
    assert torch.equal(z[:, 0], z[:, 4])
    assert not torch.equal(z[0], z[1])
