"""Reads the Panda's OBJ files whole: MuJoCo's own reader keeps one group of a file that has several."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [N, 3] and triangles [M, 3] of every group; polygons become fans."""
    vertices: list[list[float]] = []
    triangles: list[list[int]] = []
    for line in path.read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(w) for w in words[1:4]])
        elif words[0] == "f":
            corners = [int(w.split("/")[0]) for w in words[1:]]
            corners = [c - 1 if c > 0 else len(vertices) + c for c in corners]
            triangles += [[corners[0], b, c] for b, c in itertools.pairwise(corners[1:])]
    return np.array(vertices), np.array(triangles)
