"""One process or many: who we are, what we share, how a model is split.

`torchrun --nproc_per_node=N` sets the environment that `join` reads; without it there is one process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint

from world_model.losses.reduce import mean_over_processes, sum_over_processes


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

    def part(self) -> None:
        """The common work is done: nobody is waited for any more."""
        if self.size > 1:
            dist.destroy_process_group()


def join(device: str = "auto") -> Group:
    """Join the process group that torchrun describes, or stand alone."""
    alone = by_itself(device)
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return alone
    if not dist.is_initialized():
        backend = "nccl" if alone.device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=10))
    return Group(rank=dist.get_rank(), size=dist.get_world_size(), device=alone.device)


def by_itself(device: str = "auto") -> Group:
    """This process without the others that torchrun may have started."""
    if device == "auto":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    where = torch.device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    return Group(device=where)


def spread(program: nn.Module, group: Group, *, parallel: str) -> nn.Module:
    """Make a module train on all processes: `ddp` copies it, `fsdp2` shards it block by block."""
    if parallel not in ("none", "ddp", "fsdp2"):
        raise ValueError(f"parallel={parallel!r} is not known; there are none, ddp and fsdp2")
    if group.size > 1 and parallel == "none":
        raise ValueError(
            f"parallel=none, but torchrun started {group.size} processes: they would train as many separate models; "
            "use parallel=ddp or parallel=fsdp2"
        )
    if group.size == 1:
        return program
    reduce_batch_norm(program)
    if parallel == "ddp":
        devices = [group.device] if group.device.type == "cuda" else None
        # A recipe may leave parameters out (V-JEPA 2-AC's extrinsics encoder): DDP must not wait for them.
        return nn.parallel.DistributedDataParallel(program, device_ids=devices, find_unused_parameters=True)
    mesh = init_device_mesh(group.device.type, (group.size,))
    for block in blocks(program):
        fully_shard(block, mesh=mesh)
    fully_shard(program, mesh=mesh)
    return program


def blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated parts of a model: members of its ModuleLists that hold no further ModuleList."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    members = [b for blocks in lists for b in blocks if next(b.parameters(), None) is not None]
    return [b for b in members if not any(isinstance(m, nn.ModuleList) for m in b.modules())]


def checkpoint_activations(model: nn.Module) -> int:
    """Recompute each block's activations in the backward pass instead of keeping them; returns how many blocks."""
    found = blocks(model)
    for block in found:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return len(found)


class ReducedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm with the statistics of all processes' samples; torch's own runs on GPUs only."""

    def _check_input_dim(self, input: Tensor) -> None:
        return

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            x = input.float().movedim(1, -1)
            flat = x.reshape(-1, x.shape[-1])
            mean, count = mean_over_processes(flat, 0)
            variance = sum_over_processes((flat - mean).square().sum(0)) / count
            self._remember(mean.detach(), (variance * count / (count - 1)).detach())
            x = (x - mean) * torch.rsqrt(variance + self.eps)
            if self.affine:
                x = x * self.weight + self.bias
            return x.movedim(-1, 1).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.item()
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def reduce_batch_norm(model: nn.Module) -> None:
    """Let every batch norm of a model count all processes' samples; parameters and names stay."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.__class__ = ReducedBatchNorm
