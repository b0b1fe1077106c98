"""What the shipped model knows goes along when it is adapted to another lab."""

from agent.adapting import heads_of
from world_model.checkpoint import load_heads, load_model, make_head
from world_model.train.adapt import bring_heads
from world_model.train.heads import adapted
from world_model.train.panda import PandaModel


def shapes(head) -> dict:
    return {name: tuple(value.shape) for name, value in head.state_dict().items()}


def test_policy_critic_and_body_learn_beside_the_world_model_and_go_on_from_there():
    model = PandaModel(load_model("forearm-panda"))
    assert set(bring_heads(model, "forearm-panda")) == {"policy", "critic", "body"}
    given = load_heads("forearm-panda", names=["policy", "critic", "body"])
    for name, head in heads_of(model).items():
        same = zip(head.parameters(), given.pop(name).parameters(), strict=True)
        assert all((a == b).all() for a, b in same), f"{name} begins at random"
        usual = make_head(name, {"tokens": 1, "dim": model.world.dim, **adapted(name).config})
        assert shapes(usual) == shapes(head), f"{name} would be trained afresh afterwards"
    assert not given, "what learned beside the world model is left behind"
