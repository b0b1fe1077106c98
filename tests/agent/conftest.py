"""The simplest world in which an agent makes sense: a point that goes where it is told, seen as its position."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from agent.actor import Actor
from agent.agent import Agent
from agent.configurator import Configurator, ConfiguratorSettings
from agent.memory import ShortTermMemory
from agent.perception import Percept
from agent.task import Goal, Task
from data.types import Camera, Imagined, Observation
from envs.arm import Limits, Outcome
from planners.costs.goal import GoalDistance
from planners.costs.total import Term, TotalCost
from planners.seeded import Seeded


class PointArm:
    """An arm that is its tool point; its 'frames' are 1 x 1 pictures that hold nothing."""

    period_s = 0.2
    limits = Limits()

    def __init__(self, start=(0.5, 0.0, 0.2)):
        self.pose = np.array([*start, np.pi, 0, 0, 0.0])
        self.acted: list[np.ndarray] = []
        self.stopped = False
        self.shove = np.zeros(3)

    @property
    def cameras(self):
        return {"eye": Camera(name="eye", width=1, height=1)}

    def observe(self):
        return Observation(
            frames={"eye": np.zeros((1, 1, 3), np.uint8)}, pose=self.pose.copy(), commanded=self.pose.copy(),
            joints=np.zeros(7), time_s=0.2 * len(self.acted),
        )  # fmt: skip

    def act(self, action, *, blocking=True):
        self.acted.append(action)
        self.pose = self.pose + action
        self.pose[:3] += self.shove
        return Outcome(commanded=self.pose.copy())

    def reset(self, *, seed=None, options=None):
        return self.observe()

    def stop(self):
        self.stopped = True

    def close(self):
        pass


class SeesPosition:
    """The latent is the position, in decimetres."""

    def see(self, observation):
        pose = torch.from_numpy(observation.pose.astype(np.float32))[None]
        return Percept(latent=10 * pose[:, None, :3], pose=pose, observation=observation)

    def see_goal(self, goal):
        return 10 * torch.from_numpy(np.asarray(goal.pose, np.float32))[None, None, :3]


class KnowsPhysics:
    """The world model of a point: it goes where it is told."""

    def imagine(self, memory, actions, z=None):
        moved = actions[..., :3].cumsum(2) + memory.poses[:, -1, None, None, :3]
        poses = torch.cat(
            [moved, memory.poses[:, -1, None, None, 3:6].expand(*moved.shape[:3], 3), actions[..., 6:]], -1
        )
        return Imagined(latents=10 * moved[..., None, :], poses=poses)


class DistanceCosts:
    """No critic: steps to go are the distance at six centimetres a step."""

    def for_goal(self, goal, pose):
        return TotalCost([Term(name="distance", cost=GoalDistance(goal=goal))])

    def steps_to_go(self, latent, goal, pose):
        return float((latent - goal).norm()) / 0.6

    def distance(self, latent, goal):
        return float((latent - goal).square().mean())


@pytest.fixture
def point_arm():
    return PointArm()


@pytest.fixture
def make_agent(point_arm):
    def build(arm=point_arm, **parts):
        model = KnowsPhysics()
        pieces = {
            "arm": arm,
            "perception": SeesPosition(),
            "memory": lambda: ShortTermMemory(frames=3),
            "costs": DistanceCosts(),
            "actor": Actor(model, None, Seeded(horizon=2, candidates=64, iterations=3, refine_steps=4)),
            "configurator": Configurator(
                ConfiguratorSettings(mode="planner", reached_steps=0.2, reached_distance=0.0)
            ),
        }
        return Agent(**{**pieces, **parts})

    return build


@pytest.fixture
def make_task():
    def build(*positions, budget_steps=20):
        goals = [
            Goal(frames={}, pose=np.array([*p, np.pi, 0, 0, 0.0]), name=f"goal {i}")
            for i, p in enumerate(positions)
        ]
        return Task(goals=goals, budget_steps=budget_steps)

    return build


TINY_PX = 32


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a small random model and its heads: it knows nothing, but everything runs."""
    from data.types import Conventions
    from world_model.checkpoint import build, make_head, save_head, save_model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    conventions = Conventions(image_size=TINY_PX)
    config = {
        "dim": 16, "channels": (8, 8, 16), "shrinks": (1, 2), "view_width": 16, "width": 32, "depth": 1,
        "heads": 2, "context": 3,
    }  # fmt: skip
    model = build("compact", config, conventions).eval()
    save_model(folder, model, kind="compact", config=config, conventions=conventions, card={"data": "none"})
    heads = {
        "policy": {"dim": 16, "width": 32, "depth": 1},
        "critic": {"dim": 16, "width": 32, "depth": 1, "horizon": 20},
        "decoder": {"dim": 16, "views": 2, "size": 16, "width": 32},
    }
    for name, sizes in heads.items():
        save_head(folder, name, make_head(name, sizes), config=sizes)
    return folder


@pytest.fixture(scope="session")
def collected(tmp_path_factory):
    """A log of three short episodes, seeds 0, 1 and 2, in the tiny model's size."""
    from agent.collect import CollectSettings, collect
    from agent.settings import EnvConfig

    out = tmp_path_factory.mktemp("logs") / "play"
    settings = CollectSettings(steps=12, env=EnvConfig(image_size_px=TINY_PX))
    collect(out, episodes=3, workers=1, settings=settings)
    return out


VOID = {"meta", "img", "br", "hr", "link", "input", "source"}


class Page(HTMLParser):
    """Checks that tags nest, and keeps what the page says and shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.wrong, self.words, self.shown, self.tags = [], [], [], [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        found = dict(attributes)
        if tag in ("img", "video"):
            self.shown.append((tag, found["src"]))
        self.wrong += [f"{tag} {k}" for k in ("href", "srcset", "data") if k in found]
        if not found.get("poster", "data:").startswith("data:"):
            self.wrong.append(f"{tag} poster")
        if tag in ("script", "link", "iframe"):
            self.wrong.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"/{tag}")

    def handle_data(self, data):
        self.words.append(data)


def _read_page(path):
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.wrong == []
    assert page.open == []
    outside = re.sub(r'(src|poster)="data:[^"]*"', "", re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL))
    assert not re.search(r"https?://|file:|url\(|@import|src=", outside), (
        "the page needs something outside itself"
    )
    for tag, source in page.shown:
        kind, data = re.fullmatch(r"data:([a-z]+/[a-z0-9+]+);base64,(.+)", source).groups()
        whole = base64.b64decode(data, validate=True)
        if tag == "video":
            assert kind == "video/mp4"
            assert whole[4:8] == b"ftyp"
        else:
            Image.open(io.BytesIO(whole)).verify()
    for rule in (
        "prefers-color-scheme:dark",
        "@media print",
        'name="viewport"',
        'content="light dark"',
        'lang="en"',
    ):
        assert rule in text, rule
    return page


@pytest.fixture(scope="session")
def read_page():
    """Reads an HTML page and holds it to what a page of ours must be: whole, and in need of nothing outside itself."""
    return _read_page
