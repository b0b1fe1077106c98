"""The Panda in a Rerun recording: its meshes once, thinned out, and a transform per link and step."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import mujoco
import numpy as np
import rerun as rr

from envs.meshes import read_obj
from envs.panda import panda_folder, panda_spec

from .rows import Rows, transforms

_DARK = ("panda_hand", "panda_leftfinger", "panda_rightfinger")
_CELL_M = 0.009  # of the grid that vertices are merged on; hand and fingers have a finer one
_FINE_CELL_M = 0.005


class RobotView:
    """Draws an arm at `root` from its joints; needs no simulator, so that real arms look the same."""

    def __init__(self, recording: rr.RecordingStream, rows: Rows, root: str = "world/arm") -> None:
        self._rows, self._root = rows, root
        self._model = panda_spec().compile()
        self._data = mujoco.MjData(self._model)
        self._links = [
            self._model.body(i).name
            for i in range(1, self._model.nbody)
            if self._model.body(i).name not in ("panda_grasptarget", "panda_link8")  # these have no shape
        ]
        self._ids = [self._model.body(link).id for link in self._links]
        for link in self._links:
            shape = {"panda_leftfinger": "finger", "panda_rightfinger": "finger"}.get(
                link, link.removeprefix("panda_")
            )
            vertices, normals, triangles = link_mesh(shape)
            if link == "panda_rightfinger":  # the same mesh, turned half round
                turn = np.array([-1.0, -1.0, 1.0], np.float32)
                vertices, normals = vertices * turn, normals * turn
            recording.log(
                f"{root}/{link}",
                rr.Mesh3D(
                    vertex_positions=vertices,
                    vertex_normals=normals,
                    triangle_indices=triangles,
                    albedo_factor=[60, 62, 66] if link in _DARK else [236, 238, 241],
                ),
                static=True,
            )

    def show(self, joints: np.ndarray, closedness: float) -> None:
        """Add to the rows where every link is."""
        self._data.qpos[:7] = joints
        self._data.qpos[7:9] = 0.04 * (1.0 - closedness)
        mujoco.mj_kinematics(self._model, self._data)
        turns = self._data.xquat[self._ids][:, [1, 2, 3, 0]]
        for link, placed in zip(self._links, np.hstack([self._data.xpos[self._ids], turns]), strict=True):
            self._rows.add(f"{self._root}/{link}", transforms, placed)


@cache
def link_mesh(shape: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices and normals float32 [N, 3], triangles uint32 [M, 3] of a link: its full mesh, else its hull."""
    meshes = panda_folder() / "meshes"
    visual = meshes / "visual" / f"{shape}.obj"
    file: Path = visual if visual.is_file() else meshes / "collision" / f"{shape}.obj"
    fine = shape in ("hand", "finger")
    return thinned(*read_obj(file), cell_m=_FINE_CELL_M if fine else _CELL_M)


def thinned(
    vertices: np.ndarray, triangles: np.ndarray, *, cell_m: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mesh with one vertex for each cell of a grid, in the middle of those it stands for; its normals are theirs."""
    corners = vertices[triangles]
    faces = np.cross(
        corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    )  # as long as twice the area
    _, cell = np.unique(np.round(vertices / cell_m).astype(np.int64), axis=0, return_inverse=True)
    cell = cell.ravel()
    count = cell.max() + 1
    merged, normals = np.zeros((count, 3)), np.zeros((count, 3))
    np.add.at(merged, cell, vertices)
    merged /= np.bincount(cell, minlength=count)[:, None]
    for corner in range(3):
        np.add.at(normals, cell[triangles[:, corner]], faces)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    left = cell[triangles]
    a, b, c = left.T
    left = left[(a != b) & (b != c) & (a != c)]
    _, first = np.unique(np.sort(left, 1), axis=0, return_index=True)
    # Numbers that end in zeros compress: a quarter of a millimetre and half a degree are not seen.
    merged, normals = np.round(merged * 4096) / 4096, np.round(normals * 128) / 128
    return merged.astype(np.float32), normals.astype(np.float32), left[np.sort(first)].astype(np.uint32)
