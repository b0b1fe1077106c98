"""Finds the episode folders below a root, and again later without looking into those that did not change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Known = dict[str, tuple[int, list[str], list[str]]]  # folder -> change time, its subfolders, episodes in it


class Folders:
    """A tree in which some folders are episodes; `known` is what an index remembers between runs."""

    def __init__(self, root: Path, is_episode: Callable[[set[str]], bool], unfinished: str = "") -> None:
        self.root = root
        self.is_episode = is_episode
        self.unfinished = unfinished
        self.known: Known = {}

    def find(self) -> list[str]:
        """Paths of the episode folders below the root, sorted; folders seen before are only asked for their time."""
        found: list[str] = []
        seen: Known = {}
        queue = [""]
        if self.is_episode(set(os.listdir(self.root))):
            return ["."]
        while queue:
            folder = queue.pop()
            changed = os.stat(self.root / folder).st_mtime_ns
            before = self.known.get(folder)
            if before is not None and before[0] == changed:
                seen[folder] = before
            else:
                seen[folder] = (changed, *self._look(folder))
            queue += seen[folder][1]
            found += seen[folder][2]
        self.known = seen
        return sorted(found)

    def first(self, limit: int = 500) -> str | None:
        """One episode folder, or None if there is none among the first few hundred folders."""
        queue = [""]
        if self.is_episode(set(os.listdir(self.root))):
            return "."
        for _ in range(limit):
            if not queue:
                return None
            subfolders, episodes = self._look(queue.pop(0), enough=1)
            finished = [e for e in episodes if not self._is_unfinished(e)]
            if finished:
                return finished[0]
            queue += subfolders[:20]
        return None

    def _is_unfinished(self, folder: str) -> bool:
        return bool(self.unfinished) and self.unfinished in folder.rsplit("/", 1)[-1]

    def _look(self, folder: str, enough: int | None = None) -> tuple[list[str], list[str]]:
        """Subfolders to walk and episodes, among the children of one folder."""
        subfolders: list[str] = []
        episodes: list[str] = []
        with os.scandir(self.root / folder) as children:
            for child in sorted(children, key=lambda c: c.name):
                if not child.is_dir():
                    continue
                path = f"{folder}/{child.name}" if folder else child.name
                if self._is_unfinished(path):
                    episodes.append(path)
                    continue
                if child.name.startswith("."):
                    continue
                if self.is_episode(set(os.listdir(child.path))):
                    episodes.append(path)
                else:
                    subfolders.append(path)
                if enough is not None and len(episodes) >= enough:
                    break
        return subfolders, episodes
