"""`forearm <command> -m key=a,b`: one run for each combination, through Hydra's sweeper and launchers.

`hydra/launcher=joblib hydra.launcher.n_jobs=2` runs them side by side; a cluster's launcher plugs in the same way.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from agent.cli import runs, schemas
from agent.cli.schemas import Command, UsageError
from agent.cli.words import prepare, split_run_keys


class Job:
    """The task that Hydra calls for each combination; picklable, so that a launcher may send it elsewhere."""

    def __init__(self, command: str, verbose: bool) -> None:
        self.command = command
        self.verbose = verbose

    def __call__(self, composed: Any) -> int:
        from hydra.core.hydra_config import HydraConfig

        from agent.cli.main import execute

        command = Command(self.command)
        hydra_config = HydraConfig.get()
        overrides = [_as_typed(str(o)) for o in hydra_config.overrides.task]
        folder = Path(hydra_config.runtime.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            config = schemas.to_config(command, composed)
        except ValueError as error:
            print(f"forearm: {shlex.join(overrides)}: {error}", file=sys.stderr)
            return 2
        print(f"-- {hydra_config.job.num}: {shlex.join(overrides)}", flush=True)
        run = runs.Run(command.name, folder, facts=runs.facts_of(config, overrides))
        again = shlex.join(
            ["forearm", command.name, *([f"resume={folder}"] if command.resumes else overrides)]
        )
        status = execute(command, config, run, again=again, verbose=self.verbose)
        if status == 130:
            raise KeyboardInterrupt
        return status


def _as_typed(override: str) -> str:
    """Undo what `schemas.prepare` did for Hydra's grammar."""
    key, _, value = override.partition("=")
    quoted = len(value) > 1 and value[0] == value[-1] == "'"
    return f"{key.removesuffix('_')}={value[1:-1] if quoted else value}"


def sweep(command: Command, words: list[str], *, extra: Path | None, verbose: bool) -> int:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if not command.keeps_run:
        raise UsageError(f"{command.name} makes no run folder, so there is nothing to run many times (-m)")
    taken, overrides = split_run_keys(command, words)
    if taken.get("resume"):
        raise UsageError("resume= goes on with one run; leave -m out, or name the run: resume=DIR")
    prepared = prepare(command, overrides, multirun=True, extra=extra)
    folder = runs.make_folder(
        command.name,
        out=taken.get("out"),
        name=taken.get("name", "sweep"),
        overwrite=taken.get("overwrite", "false").lower() == "true",
        resumed=False,
    )
    primary = schemas.register(command)
    quiet = ["hydra/hydra_logging=none", "hydra/job_logging=none", "hydra.output_subdir=null"]
    where = [f"hydra.sweep.dir='{folder}'", "hydra.sweep.subdir=${hydra.job.num}"]
    if extra is not None:
        quiet.append(f"hydra.searchpath=[file://{extra.resolve()}]")
    before, sys.argv = sys.argv, ["forearm", "-m", *prepared, *quiet, *where]
    try:
        hydra.main(version_base="1.3", config_path="pkg://configs", config_name=primary)(
            Job(command.name, verbose)
        )()
    except (HydraException, OmegaConfBaseException) as error:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise UsageError(schemas.in_words(command, error)) from error
    except KeyboardInterrupt:
        print(f"\nStopped. {_so_far(command, folder)}", file=sys.stderr)
        return 130
    finally:
        sys.argv = before
    return _summary(command, folder)


def _so_far(command: Command, folder: Path) -> str:
    """What a sweep that was stopped leaves, and how to go on."""
    begun = sorted(folder.glob("*/results.json"), key=lambda p: int(p.parent.name))
    left = [path.parent for path in begun if json.loads(path.read_text())["status"] != "done"]
    text = f"{len(begun) - len(left)} of {len(begun)} runs begun are done, in {folder}."
    if left and command.resumes:
        again = [f"forearm {command.name} resume={shlex.quote(str(path))}" for path in left]
        return f"{text} Go on with: {'; '.join(again)}"
    return f"{text} Go on with the values that are left."


def _summary(command: Command, folder: Path) -> int:
    """Print one line a job; the status is the worst."""
    jobs = sorted(folder.glob("*/results.json"), key=lambda p: int(p.parent.name))
    rows = [json.loads(path.read_text()) for path in jobs]
    for path, row in zip(jobs, rows, strict=True):
        print(f"{row['status']:<11} {row['seconds']:8.1f} s  {path.parent}  {shlex.join(row['overrides'])}")
    good = sum(row["status"] == "done" for row in rows)
    runs.write_json(folder / "results.json", {"command": command.name, "jobs": rows})
    print(f"{good} of {len(rows)} runs done\nresults  {folder / 'results.json'}")
    return 0 if rows and good == len(rows) else 1
