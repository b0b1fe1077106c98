"""One process or many: who we are, what we share, how a model is split.

`torchrun --nproc_per_node=N` sets the environment that `join` reads; without it there is one process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn


@dataclass(kw_only=True, frozen=True)
class Group:
    """The processes that train together, seen from one of them."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def main(self) -> bool:
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """For each flag: is it raised in some process?  All processes must ask together."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def mean(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The figures averaged over the processes."""
        if self.size == 1 or not figures:
            return dict(figures)
        values = torch.tensor(list(figures.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(values)
        return dict(zip(figures, (values / self.size).tolist()))

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


def join(device: str = "auto") -> Group:
    """Join the process group that torchrun describes, or stand alone."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    if device == "auto":
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    where = torch.device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return Group(device=where)
    if not dist.is_initialized():
        backend = "nccl" if where.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=10))
    return Group(rank=dist.get_rank(), size=dist.get_world_size(), device=where)


def spread(program: nn.Module, group: Group, *, parallel: str) -> nn.Module:
    """Make a module train on all processes: `ddp` copies it, `none` leaves it alone."""
    if parallel == "none":
        if group.size > 1:
            raise ValueError(
                f"{group.size} processes but parallel=none: they would train {group.size} separate models; use ddp or fsdp2"
            )
        return program
    if group.size == 1:
        return program
    if parallel == "ddp":
        devices = [group.device] if group.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(program, device_ids=devices)
    raise ValueError(f"parallel={parallel!r} is not known; there are none, ddp and fsdp2")
