"""What every planner shares: evaluate candidates, remember the best, keep the books, draw private noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from data.types import Imagined, Memory
from planners.actions import ActionSpace
from planners.deadline import Clock
from planners.local import Sample
from planners.protocols import Budget, Energy, Imagines, Plan, Proposes

INFINITY = float("inf")


@dataclass(kw_only=True)
class Pruning:
    """Look at the first steps of every candidate and imagine only the promising ones to the end."""

    steps: int = 2
    """Steps imagined before the choice."""
    keep: float = 0.5
    """Share of the candidates that goes on."""
    above: float = INFINITY
    """Candidates whose partial energy is above this are dropped."""


@dataclass(kw_only=True, slots=True)
class Best:
    """The best candidate of each problem so far."""

    energy: Tensor  # [B]
    actions: Tensor  # [B, H, A]
    imagined: Imagined  # K = 1
    terms: dict[str, Tensor]  # [B] each
    stage: Tensor  # [B] index into Search.stages

    def copy(self) -> Best:
        return replace(self)

    def keep(self, other: Best, where: Tensor) -> None:
        """Take `other` for the problems [B] where it is true."""

        def choose(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(where.reshape(-1, *[1] * (new.dim() - 1)), new, old)

        self.energy = choose(other.energy, self.energy)
        self.actions = choose(other.actions, self.actions)
        self.stage = choose(other.stage, self.stage)
        self.terms = {name: choose(value, self.terms[name]) for name, value in other.terms.items()}
        new, old = other.imagined, self.imagined
        extras = {name: choose(value, old.extras[name]) for name, value in new.extras.items()}
        self.imagined = Imagined(
            latents=choose(new.latents, old.latents), poses=choose(new.poses, old.poses), extras=extras
        )


@dataclass(kw_only=True)
class Search:
    """One call of a planner.  `seed` is one number for all problems or one for each."""

    memory: Memory
    model: Imagines
    energy: Energy
    space: ActionSpace
    horizon: int
    budget: Budget | None = None
    seed: int | Sequence[int] = 0
    keep_clouds: bool = False
    pruning: Pruning | None = None
    recall: int = 0  # evaluations whose imaginations are kept in `recent`
    now: ClassVar[Callable[[], float]] = (
        time.perf_counter
    )  # a machine that is busy may be timed by its CPU time

    best: Best | None = field(default=None, init=False)
    over: bool = field(default=False, init=False)  # the budget is spent
    stage: str = field(default="search", init=False)
    stages: list[str] = field(default_factory=list, init=False)
    info: dict[str, Any] = field(default_factory=dict, init=False)
    notes: list[str] = field(default_factory=list, init=False)
    recent: list[Sample] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"horizon is {self.horizon}; plan at least one step")
        self.clock = Clock(self.budget, self.now)
        self.problems = len(self.memory.poses)
        shared = isinstance(self.seed, int)
        seeds = [self.seed] if isinstance(self.seed, int) else list(self.seed)
        if not shared and len(seeds) != self.problems:
            raise ValueError(f"{len(seeds)} seeds for {self.problems} problems; give one number, or one each")
        self._generators = [torch.Generator().manual_seed(int(s)) for s in seeds]
        self._history: list[dict[str, float]] = []
        self._clouds: list[dict[str, Tensor]] = []
        self._seconds = {"imagine": 0.0, "score": 0.0}
        self._evaluated = 0

    def normal(self, *shape: int) -> Tensor:
        """Private standard normal noise [B, *shape]; a problem's noise does not depend on its neighbours."""
        return self._drawn([torch.randn(shape, generator=g, dtype=torch.float32) for g in self._generators])

    def uniform(self, *shape: int) -> Tensor:
        """Private uniform noise [B, *shape] within 0 and 1."""
        return self._drawn([torch.rand(shape, generator=g, dtype=torch.float32) for g in self._generators])

    def _drawn(self, draws: list[Tensor]) -> Tensor:
        noise = torch.stack(draws).to(self.memory.poses)
        return noise if len(draws) == self.problems else noise.expand(self.problems, *noise.shape[1:])

    def proposals(self, proposers: Sequence[Proposes], count: int = 1) -> Tensor | None:
        """What the proposers suggest, within the box: [B, P, H, A], each proposer's best guess first."""
        found: list[Tensor] = []
        for proposer in proposers:
            # A proposer draws for one problem: with a seed for each it is asked once for each.
            each = [proposer.propose(self.memory, self.horizon, count, g) for g in self._generators]
            drawn = each[0] if len(each) == 1 else torch.stack([d[b] for b, d in enumerate(each)])
            want = (self.problems, self.horizon, self.space.size)
            if drawn.dim() != 4 or (drawn.shape[0], *drawn.shape[2:]) != want:
                raise ValueError(
                    f"{type(proposer).__name__}.propose returned {list(drawn.shape)}; "
                    f"expected [{want[0]}, count, {want[1]}, {want[2]}]"
                )
            found.append(self.space.clip(drawn.detach().to(self.memory.poses)))
        return torch.cat(found, 1) if found else None

    def start(self, proposers: Sequence[Proposes], count: int = 1) -> Tensor:
        """Evaluate the proposals; the best [B, H, A], or holding still where there is none."""
        self.stage = "proposal"
        proposals = self.proposals(proposers, count)
        if proposals is None:
            return self.space.hold(self.memory, self.horizon)
        self.evaluate(proposals)
        assert self.best is not None
        return self.best.actions

    def evaluate(self, actions: Tensor, *, gradient: bool = False, always: bool = False) -> Tensor | None:
        """Energies [B, K] of actions [B, K, H, A]; infinite where the budget ran out, None where nothing fitted.

        With `gradient` the energies carry a graph and either all candidates are evaluated or none.  With
        `always` the budget is not asked: for what a plan cannot do without.
        """
        total, steps = actions.shape[1], self._steps_each()
        energies: list[Tensor] = []
        done = 0
        while done < total:
            fits = total if always else self.clock.fits(total - done, steps, gradient=gradient)
            if fits < (total if gradient else 1):
                self.over = True
                break
            part = actions if fits == total else actions[:, done : done + fits]
            energies.append(self._scored(part, gradient))
            done += fits
        if not energies:
            if self.best is not None or gradient:
                return None
            self.notes.append("the budget is smaller than one candidate: only one was looked at")
            energies.append(self._scored(actions[:, :1], False))
            done = 1
        if done < total:
            energies.append(energies[0].new_full((self.problems, total - done), INFINITY))
        return energies[0] if len(energies) == 1 else torch.cat(energies, 1)

    def _steps_each(self) -> int:
        if self.pruning is None or self.pruning.steps >= self.horizon:
            return self.horizon
        return self.horizon + self.pruning.steps

    def _scored(self, actions: Tensor, gradient: bool) -> Tensor:
        """Evaluate, time, and remember: energies [B, K]."""
        began = self._instant()
        count, steps = actions.shape[1], actions.shape[1] * self.horizon
        with torch.set_grad_enabled(gradient):
            if self.pruning is not None and not gradient and self.pruning.steps < self.horizon:
                energies, steps = self._pruned(actions)
            else:
                energies = self._looked_at(actions)
        self._evaluated += count
        self.clock.record(count, steps, self._instant() - began, gradient=gradient)
        return energies

    def _looked_at(self, actions: Tensor) -> Tensor:
        imagined, terms, energies = self._imagined(actions)
        self._remember(actions.detach(), imagined, terms, energies.detach())
        if self.recall and not energies.requires_grad:
            sample = Sample(actions=actions, imagined=imagined, energies=energies)
            self.recent = [*self.recent, sample][-self.recall :]
        return energies

    def _imagined(self, actions: Tensor) -> tuple[Imagined, dict[str, Tensor], Tensor]:
        began = self._instant()
        imagined = self.model.imagine(self.memory, actions)
        between = self._instant()
        terms = self.energy.terms(self.memory, imagined, actions)
        want = tuple(actions.shape[:2])
        for name, value in terms.items():
            if tuple(value.shape) != want:
                raise ValueError(
                    f"energy {name!r} has shape {list(value.shape)}; expected [B, K] = {list(want)}"
                )
        energies = sum(terms.values(), actions.new_zeros(()))
        assert isinstance(energies, Tensor)
        if not terms:
            raise ValueError("the energy has no terms: add at least one cost")
        energies = torch.nan_to_num(energies, nan=INFINITY, posinf=INFINITY, neginf=INFINITY)
        self._seconds["imagine"] += between - began
        self._seconds["score"] += self._instant() - between
        return imagined, terms, energies

    def _pruned(self, actions: Tensor) -> tuple[Tensor, int]:
        """Energies [B, K] and the steps imagined: the first steps of all, the rest of the promising ones."""
        assert self.pruning is not None
        count, first = actions.shape[1], self.pruning.steps
        _, _, partial = self._imagined(actions[:, :, :first])
        keep = max(1, round(self.pruning.keep * count))
        keep = min(keep, max(1, int((partial <= self.pruning.above).sum(1).max())))
        value, index = partial.topk(keep, 1, largest=False)
        rows = torch.arange(self.problems, device=actions.device)[:, None]
        kept = self._looked_at(actions[rows, index])
        dropped = (value > self.pruning.above) & (torch.arange(keep, device=value.device) > 0)
        energies = partial.new_full(partial.shape, INFINITY)
        return energies.scatter(
            1, index, kept.masked_fill(dropped, INFINITY)
        ), count * first + keep * self.horizon

    def _remember(
        self, actions: Tensor, imagined: Imagined, terms: dict[str, Tensor], energies: Tensor
    ) -> None:
        energy, index = energies.min(1)
        rows = torch.arange(self.problems, device=actions.device)
        if self.stage not in self.stages:
            self.stages.append(self.stage)

        def pick(value: Tensor) -> Tensor:
            return value.detach()[rows, index]

        found = Best(
            energy=energy,
            actions=pick(actions),
            imagined=Imagined(
                latents=pick(imagined.latents)[:, None],
                poses=pick(imagined.poses)[:, None],
                extras={name: pick(value)[:, None] for name, value in imagined.extras.items()},
            ),
            terms={name: pick(value) for name, value in terms.items()},
            stage=torch.full_like(index, self.stages.index(self.stage)),
        )
        if self.best is None:
            self.best = found
        else:
            self.best.keep(found, energy < self.best.energy)
        if self.keep_clouds:
            self._clouds.append({"actions": actions, "energies": energies, "poses": imagined.poses.detach()})

    def name_source(self, stage: str, energy: Tensor) -> None:
        """Where the best of a problem has this energy [B], it is of this stage and not of the one it was found in."""
        assert self.best is not None
        if stage not in self.stages:
            self.stages.append(stage)
        itself = torch.full_like(self.best.stage, self.stages.index(stage))
        self.best.stage = torch.where(self.best.energy == energy, itself, self.best.stage)

    def note_iteration(self, energies: Tensor, elites: Tensor | None = None) -> None:
        """Write one line of history: energies [B, K] of the iteration and of its elites [B, E]."""
        assert self.best is not None
        energies = energies.detach()
        line = {
            "best": self.best.energy.mean(),
            "mean": energies.masked_fill(energies == INFINITY, torch.nan).nanmean().nan_to_num(),
        }
        if elites is not None:
            line["elite"] = elites.detach().mean()
        line |= {f"term/{name}": value.mean() for name, value in self.best.terms.items()}
        values = torch.stack(list(line.values())).tolist()
        self._history.append({**dict(zip(line, values)), "milliseconds": self.clock.elapsed_ms()})

    def finish(self, *, finished: bool | None = None) -> Plan:
        """The best seen, with its reasons."""
        best = self.best
        if best is None or not bool(torch.isfinite(best.energy).all()):
            broken = [] if best is None else (~torch.isfinite(best.energy)).nonzero().flatten().tolist()
            raise ValueError(
                f"no candidate of problems {broken} has a finite energy: the world model or a cost returns "
                "infinities or NaN for every action; evaluate it on a zero action to see which"
            )
        total = self.clock.elapsed_ms()
        spent = {name: 1000.0 * seconds for name, seconds in self._seconds.items()}
        spent["search"] = total - sum(spent.values())
        self.info |= {
            "source": [self.stages[i] for i in best.stage.tolist()],
            "candidates": self._evaluated,
            "candidate_steps": int(self.clock.candidate_steps),
            "seed": self.seed,
        }
        return Plan(
            actions=best.actions,
            energy=best.energy,
            imagined=best.imagined,
            terms=best.terms,
            history=self._history,
            clouds=self._clouds,
            milliseconds={**spent, "total": total},
            finished=not self.over if finished is None else finished,
            notes=self.notes,
            info=self.info,
        )

    def _instant(self) -> float:
        if self.memory.poses.is_cuda:
            torch.cuda.synchronize(self.memory.poses.device)
        return self.now()
