"""Folders, results, resuming, stopping."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

TRAIN = ("train", "from=logs")


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def only_run(shell) -> Path:
    (folder,) = (shell.cwd / "outputs" / "train").glob("*/*")
    return folder


def test_a_run_leaves_its_folder(shell) -> None:
    done = shell(*TRAIN, "name=first try", "seed=7")
    assert done.returncode == 0, done.stderr
    folder = only_run(shell)
    assert folder.name.endswith("-first-try")
    assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "log.txt", "results.json"]
    assert str(folder.relative_to(shell.cwd)) in done.stdout
    found = results(folder)
    assert (found["status"], found["seed"], found["command"]) == ("done", 7, "train")
    assert found["overrides"] == ["from=logs", "seed=7"]
    assert found["figure"] is None, "NaN is not JSON"
    assert {"python", "torch", "mujoco", "forearm"} <= set(found["versions"])
    assert {"cpu", "cores", "memory_gb"} <= set(found["hardware"])
    assert "commit" in found
    assert "counting 4 of logs" in (folder / "log.txt").read_text()
    assert "from: logs" in (folder / "config.yaml").read_text()


def test_two_runs_in_one_second_have_two_folders(shell) -> None:
    running = [shell.start(*TRAIN) for _ in range(2)]
    assert [p.wait(250) for p in running] == [0, 0]
    assert len(list((shell.cwd / "outputs" / "train").glob("*/*/results.json"))) == 2


def test_an_existing_folder_is_refused_resumed_or_overwritten(shell) -> None:
    assert shell(*TRAIN, "out=here", "episodes=5").returncode == 0
    refused = shell(*TRAIN, "out=here")
    assert refused.returncode == 2
    assert "resume=true" in refused.stderr
    assert "overwrite=true" in refused.stderr
    assert results(shell.cwd / "here")["overrides"] == ["from=logs", "episodes=5"]

    assert shell("train", "out=here", "resume=true", "seed=3").returncode == 0
    again = results(shell.cwd / "here")
    assert again["resumed"] is True
    assert again["overrides"] == ["from=logs", "episodes=5", "seed=3"], "what was typed first still holds"

    (shell.cwd / "here" / "old").touch()
    assert shell(*TRAIN, "out=here", "overwrite=true").returncode == 0
    assert not (shell.cwd / "here" / "old").exists()


def test_overwrite_never_deletes_what_is_not_a_run(shell) -> None:
    (shell.cwd / "home").mkdir()
    (shell.cwd / "home" / "thesis.tex").touch()
    done = shell(*TRAIN, "out=home", "overwrite=true")
    assert done.returncode == 2
    assert "does not look like a run" in done.stderr
    assert (shell.cwd / "home" / "thesis.tex").exists()
    (shell.cwd / "empty").mkdir()
    assert shell(*TRAIN, "out=empty").returncode == 0


@pytest.mark.parametrize("form", ["last", "folder", "inside"])
def test_resume_in_three_forms(shell, form: str) -> None:
    assert shell(*TRAIN).returncode == 0
    folder = only_run(shell)
    (folder / "checkpoints" / "500").mkdir(parents=True)
    where = {"last": "last", "folder": folder, "inside": folder / "checkpoints" / "500"}[form]
    assert shell("train", f"resume={where}").returncode == 0
    assert results(only_run(shell))["resumed"] is True


def test_the_last_run_is_the_last_that_began(shell) -> None:
    assert shell(*TRAIN, "name=good").returncode == 0
    assert shell(*TRAIN, "name=mistyped", "fail=user").returncode == 2
    assert "good" in shell("train", "resume=last").stdout


@pytest.mark.parametrize(("status", "seconds"), [("interrupted", 700.0), ("running", 100.0)])
def test_the_seconds_of_a_resumed_run_count_its_earlier_parts(shell, status: str, seconds: float) -> None:
    """A killed run could not say how long it took: until its log's last line."""
    assert shell(*TRAIN, "out=here").returncode == 0
    file, log = shell.cwd / "here" / "results.json", shell.cwd / "here" / "log.txt"
    began = datetime.fromisoformat(results(file.parent)["started"]).timestamp()
    file.write_text(
        json.dumps({**results(file.parent), "status": status, "seconds": seconds, "earlier_seconds": 100.0})
    )
    os.utime(log, (began + 600, began + 600))
    assert shell("train", "resume=here").returncode == 0
    assert results(file.parent)["earlier_seconds"] == pytest.approx(700.0)
    assert 700.0 <= results(file.parent)["seconds"] < 800.0


def test_resume_of_nothing_says_what_there_is(shell) -> None:
    for where in ("last", "elsewhere"):
        done = shell("train", f"resume={where}")
        assert done.returncode == 2
        assert "no run" in done.stderr


@pytest.mark.parametrize(("fail", "status"), [("user", 2), ("own", 2), ("bug", 1)])
def test_errors_end_in_one_line_and_in_results(shell, fail: str, status: int) -> None:
    done = shell(*TRAIN, f"fail={fail}")
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    found = results(only_run(shell))
    assert found["status"] == "failed"
    assert found["error"].split(": ", 1)[1] in done.stderr
    assert "Traceback" in (only_run(shell) / "log.txt").read_text()


def test_verbose_shows_the_traceback(shell) -> None:
    assert "Traceback" in shell(*TRAIN, "fail=user", "-v").stderr


@pytest.mark.parametrize("how", ["sleep", "turned", "stubborn"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_saves_and_says_how_to_go_on(shell, how: str, number: signal.Signals) -> None:
    process = shell.start(*TRAIN, f"fail={how}")
    assert process.stdout is not None
    while "sleeping" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    # Undisturbed it would go on for half a minute or for ever; two seconds are what an idle machine takes.
    _, said = process.communicate(timeout=25)
    assert process.returncode == 130
    folder = only_run(shell).relative_to(shell.cwd)
    assert f"Go on with: forearm train resume={folder}" in said
    assert "Traceback" not in said
    assert results(only_run(shell))["status"] == "interrupted"
    assert shell("train", "resume=last", "fail=").returncode == 0


@pytest.mark.slow  # real time: needs a machine with nothing else to do
@pytest.mark.parametrize("how", ["sleep", "turned", "stubborn"])
def test_stopping_takes_two_seconds(shell, how: str) -> None:
    process = shell.start(*TRAIN, f"fail={how}")
    assert process.stdout is not None
    while "sleeping" not in process.stdout.readline():
        assert process.poll() is None
    began = time.perf_counter()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=25)
    assert time.perf_counter() - began < 2


LOST = """
import os, signal, time, weakref
from agent.cli.interrupts import Watch
class Thing: pass
def interrupted(_):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
thing = Thing()
reference = weakref.ref(thing, interrupted)
with Watch(lambda: None):
    try:
        del thing
        time.sleep(30)
        print("lost")
    except KeyboardInterrupt:
        print("came")
"""


def test_an_interrupt_while_python_cleans_up_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", LOST], capture_output=True, text=True, timeout=250)
    assert (done.stdout, done.stderr) == ("came\n", "")


def test_a_kill_leaves_a_readable_run(shell) -> None:
    process = shell.start(*TRAIN, "fail=sleep")
    assert process.stdout is not None
    while "sleeping" not in process.stdout.readline():
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert results(only_run(shell))["status"] == "running"
    assert shell("train", "resume=last", "fail=").returncode == 0


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]])
def test_multirun_makes_a_run_of_each_combination(shell, launcher: list[str]) -> None:
    done = shell("train", "-m", "from=a b,c", "env=small,large", "out=sweep", *launcher)
    assert done.returncode == 0, done.stderr
    rows = results(shell.cwd / "sweep")["jobs"]
    typed = [row["overrides"] for row in rows]
    assert typed == [[f"from={f}", f"env={e}"] for f in ("a b", "c") for e in ("small", "large")]
    assert "4 of 4 runs done" in done.stdout
    assert "period_s: 0.1" in (shell.cwd / "sweep" / "0" / "config.yaml").read_text()


def test_a_multirun_that_is_stopped_says_what_is_done_and_how_to_go_on(shell) -> None:
    process = shell.start("train", "-m", "from=a", "fail='',sleep", "out=sweep")
    assert process.stdout is not None
    while "sleeping" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=25)
    assert process.returncode == 130
    assert "1 of 2 runs begun are done, in sweep. Go on with: forearm train resume=sweep/1" in said
    assert "Traceback" not in said
    assert shell("train", "resume=sweep/1", "fail=").returncode == 0


def test_multirun_over_lists(shell) -> None:
    done = shell("train", "-m", "from=a", "tasks=reach,grasp", "cameras=[left,wrist]", "out=sweep")
    assert done.returncode == 0, done.stderr
    configs = [(shell.cwd / "sweep" / n / "config.yaml").read_text() for n in "01"]
    assert "tasks:\n- reach\ncameras:\n- left\n- wrist" in configs[0]
    assert "tasks:\n- grasp\n" in configs[1]


def test_multirun_goes_on_after_a_failure(shell) -> None:
    done = shell("train", "-m", "from=a", "fail=bug,''", "out=sweep")
    assert done.returncode == 1
    assert [row["status"] for row in results(shell.cwd / "sweep")["jobs"]] == ["failed", "done"]
    assert "Traceback" not in done.stderr


def test_under_torchrun_all_share_one_run_and_one_speaks(shell) -> None:
    shell.environment |= {"WORLD_SIZE": "2"}
    refused = shell(*TRAIN)
    assert refused.returncode == 2
    assert "out=DIR" in refused.stderr
    ranks = []
    for number in (1, 0):
        shell.environment["RANK"] = str(number)
        ranks.append(shell.start(*TRAIN, "out=here"))
    said = [process.communicate(timeout=250)[0] for process in ranks]
    assert said[0] == ""
    assert "counting" in said[1]
    assert results(shell.cwd / "here")["status"] == "done"
