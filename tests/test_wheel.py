"""The wheel: exactly our packages, and it works beside folders that have the same names."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
ROOMS = ("agent", "configs", "data", "envs", "planners", "world_model")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git knows, so that no stale build folder can put files into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=HOUSE, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if not name.startswith(("tests/", "docs/", "benchmarks/")) and (HOUSE / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(HOUSE / name, source / name) if _same_disk(source) else _copy(HOUSE / name, source / name)
    # The build backend of this environment: no registry is asked.
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def _same_disk(folder: Path) -> bool:
    return folder.stat().st_dev == HOUSE.stat().st_dev


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def test_wheel_holds_exactly_the_house(wheel: Path) -> None:
    held = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    wanted = {
        str(path.relative_to(HOUSE))
        for room in ROOMS
        for path in (HOUSE / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    ours = {
        n
        for n in wanted
        if n.endswith((".py", "py.typed")) or n.startswith(("configs/", "world_model/shipped/"))
    }
    assert held - ours == set(), "in the wheel, and should not be"
    assert ours - held == set(), "missing from the wheel"
    assert wanted - ours == set(), "files in the packages that no rule ships"


def test_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [n for n in names if n.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert "Name: forearm\n" in text
    assert "License-Expression: Apache-2.0" in text


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel; the libraries that it needs are lent by this one."""
    place = tmp_path_factory.mktemp("clean")
    venv.create(place, with_pip=False)
    lib = place / Path(sysconfig.get_path("purelib", vars={"base": "", "platbase": ""}).lstrip("/"))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, "--target", str(lib), str(wheel)], check=True)
    # Only as a search path: a .pth file found there (the editable install) is not followed.
    (lib / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    script = place / "bin" / "forearm"
    script.write_text(
        f"#!{place}/bin/python\nimport sys\nfrom agent.cli.main import main\nsys.exit(main())\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    return place


def decoys(folder: Path, *, packages: bool) -> Path:
    for name in ROOMS:
        (folder / name).mkdir(parents=True)
        if packages:
            (folder / name / "__init__.py").write_text("raise SystemExit('a stranger')\n")
    (folder / "data.py").write_text("raise SystemExit('a stranger')\n")
    return folder


@pytest.mark.parametrize("packages", [False, True], ids=["folders", "packages"])
def test_installed_it_works_beside_decoys(installed: Path, tmp_path: Path, packages: bool) -> None:
    cwd = decoys(tmp_path / "cwd", packages=packages)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def forearm(*words: str) -> str:
        done = subprocess.run(
            [str(installed / "bin" / "forearm"), *words],
            cwd=cwd, env=environment, capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "forearm <command>" in forearm()
    assert "episodes" in forearm("collect", "--help")
    assert "engine" in forearm("collect", "--cfg")
    place = subprocess.run(
        [str(installed / "bin" / "python"), "-P", "-c", "import agent, data, envs; print(data.__file__)"],
        cwd=cwd, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert place.startswith(str(installed)), "the checkout stood in for the wheel"
    # It collects: physics, cameras, video, the writer, all from the wheel.
    forearm("collect", "episodes=1", "out=logs")
    assert "accepted 1" in forearm("doctor", "data=logs")


@pytest.mark.parametrize("packages", [False, True], ids=["folders", "packages"])
def test_the_checkout_works_beside_decoys(tmp_path: Path, packages: bool) -> None:
    cwd = decoys(tmp_path / "cwd", packages=packages)
    script = Path(sys.executable).with_name("forearm")
    done = subprocess.run([str(script), "collect", "--help"], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_intruder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    script = Path(sys.executable).with_name("forearm")
    done = subprocess.run([str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert str(tmp_path / "data") in done.stderr
    assert "imported instead" in done.stderr
