"""`forearm train`: learn an action-conditioned world model and its heads from logs."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.choices import CriticForm, Head
from agent.cli.learning import LearningConfig, learn, learn_heads
from agent.cli.runs import Run


@dataclass(kw_only=True)
class Config(LearningConfig):
    """Train a world model on logs, or adapt one to your robot (from=), then its heads; says whether it got better."""

    heads: list[Head] = field(default_factory=lambda: [Head.policy, Head.critic, Head.body])
    """Heads trained afterwards on frozen latents: policy, critic, body, ensemble, decoder."""
    head_steps: dict[str, int] = field(default_factory=dict)
    """Steps of a head, where its usual number does not suit."""
    critic: CriticForm = CriticForm.counts
    """counts, or quasimetric: a distance, nothing from a state to itself, no detour shorter, not the same both ways."""
    only_heads: bool = False
    """The model of from= is finished: a copy of it gets `heads`, and nothing else of it changes."""
    resume: str = ""
    """Run folder to go on with, or `last`."""


EXAMPLES = (
    "forearm train data=datasets/panda",
    "forearm train from=forearm-panda data=my_logs",
    "forearm train from=forearm-panda only_heads=true heads=[decoder] data=datasets/panda",
    "forearm train data=my_logs model=vit_tiny recipe=vjepa2_ac view=exterior from=outputs/pretrained/model",
)


def run(config: Config, run: Run) -> int:
    heads, form = [*map(str, config.heads)], str(config.critic)
    if config.only_heads:
        return learn_heads(config, run, heads, config.head_steps, form)
    return learn(config, run, heads=heads, head_steps=config.head_steps, critic=form)
