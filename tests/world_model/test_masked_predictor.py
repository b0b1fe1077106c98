"""The predictor of masked pretraining knows where its tokens are, and learns to fill them in."""

import torch

from world_model.ema import EMA
from world_model.encoders.vit import VisionTransformer, ViTConfig
from world_model.losses import SHORT, Tubes, dense_context, masked_prediction, tube_mask
from world_model.predictors.masked import MaskedPredictor, MaskedPredictorConfig

GRID = (2, 4, 4)


def small(**extra) -> MaskedPredictor:
    torch.manual_seed(0)
    return MaskedPredictor(MaskedPredictorConfig(latent_dim=48, dim=48, depth=2, heads=2, **extra)).eval()


def test_the_order_of_tokens_does_not_matter_and_their_places_do() -> None:
    predictor = small()
    for p in predictor.parameters():
        p.data += 0.2 * torch.randn_like(p)
    seen = torch.randperm(32)[None, :20]
    hidden = torch.tensor([[i for i in range(32) if i not in set(seen[0].tolist())][:3]])
    context, order = torch.randn(1, 20, 48), torch.randperm(20)
    with torch.no_grad():
        a, none = predictor(context, seen, hidden, GRID)
        b, _ = predictor(context[:, order], seen[:, order], hidden, GRID)
        moved, _ = predictor(context, seen.roll(1, 1), hidden, GRID)
        other_kind, _ = predictor(context, seen, hidden, GRID, kind=1)
    assert none is None
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert (a - moved).abs().max() > 1e-4
    assert (a - other_kind).abs().max() > 1e-3
    assert (a[:, 0] - a[:, 1]).abs().max() > 1e-4  # one mask token, two places


def test_masked_pretraining_with_the_dense_term_learns() -> None:
    torch.manual_seed(0)
    encoder = VisionTransformer(ViTConfig(dim=48, depth=2, heads=2, hidden=96, rope="interleaved"))
    teacher, predictor = EMA(encoder), small(dense=True, rope="interleaved").train()
    optimiser = torch.optim.AdamW([*encoder.parameters(), *predictor.parameters()], lr=2e-3)
    ramp = torch.linspace(-1, 1, 64)
    losses = []
    g = torch.Generator().manual_seed(1)
    for _ in range(30):
        tilt = (
            torch.randn(8, 3, 1, 1, 1, generator=g) * ramp
            + torch.randn(8, 3, 1, 1, 1, generator=g) * ramp[:, None]
        )
        video = tilt.expand(-1, -1, 4, -1, -1)
        mask = tube_mask(GRID, 8, g, Tubes(count=2, scale=SHORT.scale))
        targets = teacher(video)
        guess, context = predictor(encoder(video, ids=mask.context), mask.context, mask.targets[0], GRID)
        loss = masked_prediction([guess], targets, mask) + 0.5 * dense_context(context, targets, mask, GRID)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        teacher.update(encoder, 0.99)
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
