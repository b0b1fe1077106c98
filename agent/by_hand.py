"""Record demonstrations of one's own: a person at the keyboard drives the simulated arm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.types import Observation
from envs.keyboard import HELP, Finished, KeyboardHand, ThrownAway, picture, terminal_keys

from .arms import open_arm
from .collect import CollectSettings, Tally, episode_uuid, recorded, write_episode


def collect_by_hand(
    out: Path,
    *,
    episodes: int,
    seed: int = 0,
    settings: CollectSettings | None = None,
    read_key: Callable[[], str] | None = None,
    show: Callable[[str], None] = print,
) -> list[Tally]:
    """Record until `episodes` are there or the input ends; an episode thrown away is tried again.

    `read_key` None: the terminal this runs in.
    """
    if read_key is None:
        with terminal_keys() as keys:
            return collect_by_hand(
                out, episodes=episodes, seed=seed, settings=settings, read_key=keys, show=show
            )
    settings = settings or CollectSettings()
    out.mkdir(parents=True, exist_ok=True)
    there = recorded(out)
    wanted = [s for s in range(seed, seed + episodes) if episode_uuid(settings, s) not in there]
    arm, driver = open_arm(settings.env)
    tallies: list[Tally] = []
    try:
        while wanted:
            hand = _Watched(KeyboardHand(read_key), show, f"episode of seed {wanted[0]}\n{HELP}")
            try:
                tally = write_episode(out, wanted[0], settings, arm, driver, kind="by_hand", hand=hand)
            except ThrownAway:
                if not hand.moved:  # at once, without a move: the person wants to leave
                    break
                show("thrown away; the same scene again (x at once leaves)")
                continue
            tallies.append(tally)
            wanted.pop(0)
            show(f"kept: {'placed' if tally.placed else 'lifted' if tally.lifted else 'moved'}")
    finally:
        arm.close()
    return tallies


class _Watched:
    """Shows what the cameras see before it asks for the next key."""

    def __init__(self, hand: KeyboardHand, show: Callable[[str], None], text: str) -> None:
        self._hand, self._show, self._text = hand, show, text
        self.moved = False

    def see(self, observation: Observation) -> None:
        x, y, z = observation.pose[:3]
        self._show(
            f"{picture(observation.frames)}{self._text}\n"
            f"tool {x:.2f} {y:+.2f} {z:.2f} m   closed {observation.pose[6]:.0%}   "
            f"step {self._hand.step_m * 100:.0f} cm   "
        )

    def act(self, pose: np.ndarray, commanded: np.ndarray, objects: dict[str, np.ndarray]) -> np.ndarray:
        try:
            action = self._hand.act(pose, commanded, objects)
        except Finished as ended:
            if self.moved:
                raise
            raise ThrownAway from ended  # nothing was done: nothing to keep
        self.moved = True
        return action
