"""Things that must be tried to be known, each in a process of its own: `python -P -m agent.probes rendering`.

A missing GL or a broken wheel can end a process; a probe tells its parent by one JSON line, or by dying.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from data.priority import usual_priority

SCENE = """<mujoco><visual><quality offsamples="0" shadowsize="0"/></visual><worldbody><light pos="0 0 3" castshadow="false"/><geom type="plane" size="1 1 .1" rgba=".3 .5 .7 1"/>
<body pos="0 0 .3"><freejoint/><geom type="box" size=".1 .1 .1" mass="1" rgba=".9 .2 .1 1"/></body>
<camera name="eye" pos="0 -1 .6" xyaxes="1 0 0 0 .5 1"/></worldbody></mujoco>"""


def rendering() -> dict[str, Any]:
    """A small picture of a small scene: which GL drew it, how many a second."""
    import mujoco
    from OpenGL import GL

    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, 128, 128) as renderer:
        renderer.update_scene(data, camera="eye")
        picture = renderer.render()
        if len({tuple(p) for p in picture[::8, ::8].reshape(-1, 3).tolist()}) < 3:
            raise RuntimeError("the picture is blank")
        began, frames = time.perf_counter(), 0
        while time.perf_counter() - began < 0.5:
            renderer.update_scene(data, camera="eye")
            renderer.render()
            frames += 1
        rate = frames / (time.perf_counter() - began)
        name = GL.glGetString(GL.GL_RENDERER)
    return {"backend": os.environ.get("MUJOCO_GL", "default"), "renderer": _text(name), "frames_per_s": rate}


def mujoco() -> dict[str, Any]:
    """A box falls on a plane and comes to rest where it should."""
    import mujoco as engine

    model = engine.MjModel.from_xml_string(SCENE)
    data = engine.MjData(model)
    began = time.perf_counter()
    for _ in range(2000):
        engine.mj_step(model, data)
    rate = 2000 / (time.perf_counter() - began)
    height = float(data.qpos[2])
    if abs(height - 0.1) > 0.01:
        raise RuntimeError(f"a box of 0.1 m half size came to rest at {height:.3f} m")
    return {"version": engine.__version__, "steps_per_s": rate}


def pybullet() -> dict[str, Any]:
    """The Panda that both engines are built from loads, and time passes."""
    from pathlib import Path

    import pybullet as engine
    import pybullet_data

    client = engine.connect(engine.DIRECT)
    urdf = Path(pybullet_data.getDataPath()) / "franka_panda" / "panda.urdf"
    panda = engine.loadURDF(str(urdf), useFixedBase=True, physicsClientId=client)
    began = time.perf_counter()
    for _ in range(500):
        engine.stepSimulation(physicsClientId=client)
    rate = 500 / (time.perf_counter() - began)
    joints = engine.getNumJoints(panda, physicsClientId=client)
    return {"api": engine.getAPIVersion(client), "joints": joints, "steps_per_s": rate}


@usual_priority()
def codecs() -> dict[str, Any]:
    """A moving pattern is encoded and decoded again: codec -> mean error in grey levels, or what went wrong."""
    import av
    import numpy as np

    rows, columns = np.mgrid[0:64, 0:96]
    shades = [
        np.stack([rows * 3, columns * 2, rows + columns + 4 * i], -1).astype(np.uint8) for i in range(8)
    ]
    found: dict[str, Any] = {}
    for name, encoder in {"h264": "libx264", "mpeg4": "mpeg4", "hevc": "libx265", "av1": "libsvtav1"}.items():
        try:
            file = io.BytesIO()
            with av.open(file, "w", format="mp4") as container:
                stream: Any = container.add_stream(encoder, rate=10)
                stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
                stream.options = {"svtav1-params": "rc=0"} if name == "av1" else {}
                for shade in shades:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
                container.mux(stream.encode(None))
            file.seek(0)
            with av.open(file) as container:
                back = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
            if len(back) != len(shades):
                raise RuntimeError(f"{len(back)} of {len(shades)} frames came back")
            error = float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(shades, back)]))
            found[name] = error
        except Exception as error:  # whatever a codec does is the answer
            found[name] = f"{type(error).__name__}: {error}"
    return found


def _text(name: bytes | str | None) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


PROBES: dict[str, Callable[[], dict[str, Any]]] = {
    "rendering": rendering,
    "mujoco": mujoco,
    "pybullet": pybullet,
    "codecs": codecs,
}


def ask(probe: str, timeout_s: float = 60.0) -> tuple[dict[str, Any] | None, str]:
    """Run a probe in a child process: (what it found, "") or (None, what went wrong)."""
    environment = dict(os.environ)
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", "agent.probes", probe],
            capture_output=True, text=True, timeout=timeout_s, env=environment, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"no answer within {timeout_s:.0f} s"
    said = child.stdout.strip().splitlines()
    if child.returncode == 0 and said:
        return json.loads(said[-1]), ""
    wrong = [line for line in child.stderr.strip().splitlines() if line and not line.startswith(" ")]
    if child.returncode < 0:
        return None, f"the process died of signal {-child.returncode}"
    return None, wrong[-1] if wrong else f"exit status {child.returncode}"


def main(words: list[str]) -> int:
    if len(words) != 1 or words[0] not in PROBES:
        print(f"usage: python -m agent.probes {'|'.join(PROBES)}", file=sys.stderr)
        return 2
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")
    print(json.dumps(PROBES[words[0]]()), flush=True)
    # Some drivers crash while the interpreter takes itself apart; the answer is already out.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
