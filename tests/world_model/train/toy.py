"""A toy that trains in milliseconds yet uses everything a resume can forget, and a child process that trains it.

Run as a script: toy.py OUT STEPS RESUME [PARALLEL], alone or as one of torchrun's processes.
"""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import torch
from tensordict import TensorDict
from torch import nn

from data.types import Conventions
from world_model.train.loop import train


class ToyModel(nn.Module):
    def __init__(self, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(48, 32), nn.BatchNorm1d(32), nn.SiLU(), nn.Linear(32, 8)
        )
        self.predictor = nn.Sequential(nn.Linear(15, 32), nn.SiLU(), nn.Dropout(dropout), nn.Linear(32, 8))
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in range(2))
        self.unused = nn.Linear(3, 3)  # as the extrinsics encoder of V-JEPA 2-AC's predictor
        self.target = nn.Linear(8, 8).requires_grad_(False)


class ToyRecipe:
    """Predict the next latent; dropout, batch norm, an EMA and a draw from the shared generator."""

    def __init__(self, *, dropout: float = 0.1) -> None:
        self.dropout = dropout

    def build(self, conventions: Conventions) -> ToyModel:
        return ToyModel(dropout=self.dropout)

    def loss(self, model, clip, step, generator):
        z = torch.stack([model.encoder(f) for f in clip["frames"].float().div(255).unbind(1)], 1)  # [B, T, D]
        guess = model.predictor(torch.cat([z[:, :-1], clip["actions"]], -1))
        for block in model.blocks:
            guess = guess + block(guess)
        direction = torch.randn(8, generator=generator, device=z.device)
        spread = (z @ direction).flatten().abs().sub(1).square().mean()
        error = (guess - model.target(z[:, 1:])).square().mean()
        return error + 0.1 * spread, {"error": float(error.detach())}

    def after_step(self, model, step):
        with torch.no_grad():
            model.target.weight.lerp_(model.blocks[0][1].weight, 0.01)


class Slow(ToyRecipe):
    """From a step on it takes ten seconds, batch norm's statistics being changed already."""

    def __init__(self, *, slow_at: int) -> None:
        super().__init__()
        self.slow_at = slow_at

    def loss(self, model, clip, step, generator):
        loss = super().loss(model, clip, step, generator)
        if step == self.slow_at:
            print("slow", flush=True)
            time.sleep(10)
        return loss


class ToyLoader:
    """Clips that are a function of their number, so the place in the order is one number; `rank` of `size` takes
    its share of each batch."""

    def __init__(
        self, *, batch: int = 8, rank: int = 0, size: int = 1, fail_at: int = -1, nan_at: int = -1
    ) -> None:
        self.batch, self.rank, self.size, self.fail_at, self.nan_at = batch, rank, size, fail_at, nan_at
        self.next = 0

    def __iter__(self):
        while True:
            if self.next == self.fail_at:
                raise FileNotFoundError(2, "No such file or directory", "/data/episode_7.h5")
            g = torch.Generator().manual_seed(self.next)
            frames = torch.randint(0, 256, (self.batch, 3, 4, 4, 3), generator=g, dtype=torch.uint8)
            actions = torch.randn(self.batch, 2, 7, generator=g)
            if self.next == self.nan_at:
                actions[3, 1, 2] = float("nan")
            share = slice(self.rank * self.batch // self.size, (self.rank + 1) * self.batch // self.size)
            clip = TensorDict({"frames": frames[share], "actions": actions[share]}, [self.batch // self.size])
            self.next += 1
            yield clip

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


def run(out: Path, *, steps: int, **options):
    """Train the toy with settings that the tests share."""
    options = {
        "learning_rate": 1e-2,
        "warmup_steps": 3,
        "save_every_steps": 5,
        "say": lambda _: None,
        **options,
    }
    loader = options.pop("loader", None) or ToyLoader()
    return train(options.pop("recipe", ToyRecipe()), loader, out=out, steps=steps, device="cpu", **options)


def listen() -> None:
    """As the command line does: who tells of two signals at once has saved, and the process ends."""
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno())

    def end() -> None:
        while len(heard.recv(16)) < 2:
            pass
        sys.stdout.flush()
        told.close()
        os._exit(130)

    threading.Thread(target=end, daemon=True).start()


if __name__ == "__main__":
    torch.set_num_threads(1)
    out, steps, resume, *rest = sys.argv[1:]
    if rest[:1] == ["slow"]:
        listen()
        run(Path(out), steps=int(steps), resume=resume, say=print, recipe=Slow(slow_at=int(rest[1])))
        sys.exit()
    parallel = rest[0] if rest else "none"
    share = ToyLoader(rank=int(os.environ.get("RANK", 0)), size=int(os.environ.get("WORLD_SIZE", 1)))
    recipe = ToyRecipe(dropout=0.1 if parallel == "none" else 0.0)
    resume = resume if resume != "none" else None
    run(Path(out), steps=int(steps), resume=resume, say=print, recipe=recipe, loader=share, parallel=parallel)
