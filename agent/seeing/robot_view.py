"""The Panda in a Rerun recording: hull meshes once, a transform per link and step."""

from __future__ import annotations

import mujoco
import numpy as np
import rerun as rr

from envs.meshes import read_obj
from envs.panda import panda_folder, panda_spec

_DARK = ("panda_hand", "panda_leftfinger", "panda_rightfinger")


class RobotView:
    """Draws an arm at `root` from its joints; needs no simulator, so that real arms look the same."""

    def __init__(self, recording: rr.RecordingStream, root: str = "world/arm") -> None:
        self._recording, self._root = recording, root
        self._model = panda_spec().compile()
        self._data = mujoco.MjData(self._model)
        self._links = [
            self._model.body(i).name
            for i in range(1, self._model.nbody)
            if self._model.body(i).name != "panda_grasptarget"
        ]
        for link in self._links:
            shape = {"panda_leftfinger": "finger", "panda_rightfinger": "finger"}.get(
                link, link.removeprefix("panda_")
            )
            file = panda_folder() / "meshes" / "collision" / f"{shape}.obj"
            if not file.is_file():
                continue
            vertices, triangles = read_obj(file)
            if link == "panda_rightfinger":  # the same mesh, turned half round
                vertices = vertices * np.array([-1.0, -1.0, 1.0])
            corners = vertices[triangles].reshape(-1, 3)  # flat shading: a normal for each triangle
            normals = np.cross(corners[1::3] - corners[::3], corners[2::3] - corners[::3])
            normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
            recording.log(
                f"{root}/{link}",
                rr.Mesh3D(
                    vertex_positions=corners.astype(np.float32),
                    vertex_normals=normals.repeat(3, 0).astype(np.float32),
                    albedo_factor=[60, 62, 66] if link in _DARK else [236, 238, 241],
                ),
                static=True,
            )

    def show(self, joints: np.ndarray, closedness: float) -> None:
        """Log where every link is, at the recording's current time."""
        self._data.qpos[:7] = joints
        self._data.qpos[7:9] = 0.04 * (1.0 - closedness)
        mujoco.mj_kinematics(self._model, self._data)
        for link in self._links:
            body = self._data.body(link)
            w, x, y, z = (float(v) for v in body.xquat)
            self._recording.log(
                f"{self._root}/{link}",
                rr.Transform3D(
                    translation=body.xpos.astype(np.float32), quaternion=rr.Quaternion(xyzw=[x, y, z, w])
                ),
            )
