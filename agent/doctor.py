"""What this machine can do, what is missing, and what to do about it: a line for each, really tried."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from agent import probes
from envs.gl import REMEDY

SHIPPED = "forearm-panda"
LOW_DISK_GB, LITTLE_DISK_GB = 1.0, 10.0
CLIENTS = {  # module -> what it drives and how it comes
    "franky": "FR3, pip install 'forearm[fr3]'",
    "pylibfranka": "FR3, pip install 'forearm[fr3]'",
    "panda_py": "Panda, pip install 'forearm[panda]'",
    "zerorpc": "DROID, pip install 'forearm[droid]'",
    "cv2": "cameras, pip install 'forearm[camera]'",
    "pyrealsense2": "RealSense, pip install pyrealsense2",
    "pyzed": "ZED, with the ZED SDK",
}


class Verdict(Enum):
    ok = "OK"
    note = "note"  # works, could be better, or is not needed by the demo
    bad = "BAD"  # the demo cannot run


@dataclass(kw_only=True)
class Finding:
    """One line of the table."""

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""


def examine(folder: Path | None = None) -> Iterator[Finding]:
    """Look at this machine; `folder` is where results would go."""
    checks: tuple[Callable[[], Finding], ...] = (
        python, torch, rendering, mujoco, pybullet, codecs, rerun, robots, lambda: disk(folder or Path()), model,
    )  # fmt: skip
    for check in checks:
        yield check()


def python() -> Finding:
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    return Finding(
        what="Python",
        verdict=Verdict.ok if good else Verdict.bad,
        found=f"{version} at {sys.executable}",
        remedy=""
        if good
        else "Forearm needs Python 3.11 or newer: make clean, then PYTHON=python3.11 make setup",
    )


def torch() -> Finding:
    try:
        import torch as library
    except (ImportError, OSError) as error:
        return Finding(what="torch", verdict=Verdict.bad, found=str(error), remedy="make clean && make setup")
    device, why = device_and_why()
    return Finding(what="torch", verdict=Verdict.ok, found=f"{library.__version__}; {device}: {why}")


def device_and_why() -> tuple[str, str]:
    """The device that is best here, and the reason in words."""
    import torch as library

    if library.cuda.is_available():
        major, minor = library.cuda.get_device_capability()
        return "cuda", f"{library.cuda.get_device_name()} (compute {major}.{minor}, {_bf16_on_cuda()})"
    if library.backends.mps.is_available():
        return "mps", "Apple GPU"
    no_gpu = "this torch has no CUDA" if library.version.cuda is None else "no CUDA device found"
    flags = cpu_flags()
    threads = f"{library.get_num_threads()} threads"
    if "amx_bf16" in flags:
        return "cpu", f"{no_gpu}; bfloat16 matrix units (AMX) are used; {threads}"
    if "avx512_bf16" in flags:
        return "cpu", f"{no_gpu}; bfloat16 in AVX-512, no AMX; {threads}"
    return "cpu", f"{no_gpu}; {library.backends.cpu.get_cpu_capability()}, float32 is fastest; {threads}"


def _bf16_on_cuda() -> str:
    import torch as library

    return "bfloat16" if library.cuda.is_bf16_supported() else "no bfloat16"


def cpu_flags() -> set[str]:
    """Instruction sets that Linux reports; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def rendering() -> Finding:
    found, wrong = probes.ask("rendering")
    if found is None:
        return Finding(what="rendering", verdict=Verdict.bad, found=wrong, remedy=REMEDY)
    text = f"{found['backend']}, {found['renderer']}, {found['frames_per_s']:.0f} frames/s of a small scene at 128 px"
    return Finding(what="rendering", verdict=Verdict.ok, found=text)


def mujoco() -> Finding:
    return _engine(
        "MuJoCo", "mujoco", lambda f: f"{f['version']}, {f['steps_per_s']:.0f} steps/s", Verdict.bad
    )


def pybullet() -> Finding:
    shown = "Panda of {joints} joints, {steps_per_s:.0f} steps/s"
    return _engine("PyBullet", "pybullet", lambda f: shown.format(**f), Verdict.bad)


def _engine(what: str, probe: str, show: Callable[[dict[str, Any]], str], worst: Verdict) -> Finding:
    found, wrong = probes.ask(probe)
    if found is None:
        return Finding(what=what, verdict=worst, found=wrong, remedy="make clean && make setup")
    return Finding(what=what, verdict=Verdict.ok, found=show(found))


def codecs() -> Finding:
    found, wrong = probes.ask("codecs")
    if found is None:
        return Finding(what="video", verdict=Verdict.bad, found=wrong, remedy="make clean && make setup")
    good = [name for name, value in found.items() if isinstance(value, float) and value < 12]
    broken = {name: value for name, value in found.items() if name not in good}
    text = f"{', '.join(good) or 'nothing'} encoded and decoded"
    if broken:
        text += "; not " + "; ".join(f"{n} ({v})" for n, v in broken.items())
    if "h264" not in good:
        return Finding(
            what="video", verdict=Verdict.bad, found=text, remedy="pip install --force-reinstall av"
        )
    remedy = "" if not broken else f"logs in {', '.join(broken)} cannot be read: pip install --upgrade av"
    return Finding(what="video", verdict=Verdict.note if broken else Verdict.ok, found=text, remedy=remedy)


def rerun() -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    try:
        sdk = version("rerun-sdk")
    except PackageNotFoundError:
        return Finding(
            what="Rerun", verdict=Verdict.bad, found="not installed", remedy="make clean && make setup"
        )
    viewer = shutil.which("rerun", path=str(Path(sys.executable).parent)) or shutil.which("rerun")
    if viewer is None:
        return Finding(
            what="Rerun",
            verdict=Verdict.note,
            found=f"SDK {sdk}, no viewer",
            remedy=f"pip install rerun-sdk=={sdk}",
        )
    return Finding(what="Rerun", verdict=Verdict.ok, found=f"SDK {sdk}, viewer at {viewer}")


def robots() -> Finding:
    found = [name for name in CLIENTS if importlib.util.find_spec(name) is not None]
    if found:
        text = ", ".join(f"{name} ({CLIENTS[name].split(',')[0]})" for name in found)
        return Finding(what="real arms", verdict=Verdict.ok, found=text)
    return Finding(
        what="real arms",
        verdict=Verdict.ok,
        found="no client installed, none is needed in simulation",
        remedy="for a real arm: docs/real_arm.md",
    )


def disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    verdict = Verdict.ok if free > LITTLE_DISK_GB else Verdict.note if free > LOW_DISK_GB else Verdict.bad
    remedy = "" if verdict is Verdict.ok else "runs go to out=DIR: choose a folder on a larger disk"
    return Finding(
        what="disk", verdict=verdict, found=f"{free:.1f} GB free at {folder.resolve()}", remedy=remedy
    )


def model() -> Finding:
    """The shipped model is there, and each file of it is the one that was shipped."""
    from world_model.checkpoint import load_heads, load_model, resolve

    again = "install Forearm again (in a checkout: git checkout -- world_model/shipped)"
    try:
        folder = resolve(SHIPPED)
        parameters = sum(p.numel() for p in load_model(folder).parameters())
        heads = load_heads(folder)
    except (OSError, ValueError) as error:
        return Finding(what="model", verdict=Verdict.bad, found=str(error), remedy=again)
    names = ", ".join(heads) or "no heads"
    text = f"{SHIPPED}: {parameters / 1e6:.1f} million parameters, {names}; checksums hold"
    return Finding(what="model", verdict=Verdict.ok, found=text)


def table(findings: list[Finding], width: int = 110) -> str:
    """The lines as a person reads them: the remedy stands under what it mends."""
    import textwrap

    wide = max(len(f.what) for f in findings)
    lines = []
    for f in findings:
        head = f"{f.verdict.value:<4}  {f.what:<{wide}}  "
        under = " " * len(head)
        lines += textwrap.wrap(f.found, width, initial_indent=head, subsequent_indent=under) or [
            head.rstrip()
        ]
        if f.remedy:
            lines += textwrap.wrap(
                f"-> {f.remedy}", width, initial_indent=under, subsequent_indent=under + "   "
            )
    return "\n".join(lines)
