"""`forearm <command> [key=value ...]`: find the command, fill its config in, run it, end it well."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.schemas import COMMANDS, Command, UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.cli.runs import Run

ROOMS = ("agent", "data", "envs", "planners", "world_model")
STOPPED = 130  # the shell's number for a command ended by Ctrl-C
FLAGS = {
    "--help": "show this",
    "--verbose": "show the log and, for an error, the traceback",
    "--multirun": "run every combination of key=a,b",
    "--cfg": "print the configuration that would be used, and stop",
    "--config-dir": "DIR: a folder with more choices, as configs/ has them",
    "--version": "print the version",
    "--completion": "bash|zsh: print the script for tab completion",
}
SHORT = {"-h": "--help", "-v": "--verbose", "-m": "--multirun"}


@dataclass
class Line:
    """A command line, taken apart."""

    command: str | None = None
    overrides: list[str] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)


def parse(words: list[str]) -> Line:
    line = Line()
    waiting = iter(words)
    for word in waiting:
        if word.startswith("-") and len(word) > 1:
            flag, _, value = word.partition("=")
            flag = SHORT.get(flag, flag)
            if flag not in FLAGS:
                key = flag.lstrip("-").replace("-", "_")
                hint = f"values are given as key=value: {key}={value or '...'}"
                if len(flag) == 2 or get_close_matches(flag, FLAGS, cutoff=0.7):
                    hint = nearest(flag, [*FLAGS, *SHORT])
                raise UsageError(f"there is no option {flag}; {hint}")
            if flag in ("--config-dir", "--completion"):
                value = value or next(waiting, "")
                if not value:
                    raise UsageError(f"{flag} wants {FLAGS[flag]}")
            line.flags[flag] = value
        elif line.command is None and "=" not in word:
            line.command = word
        else:
            line.overrides.append(word)
    return line


def main(words: list[str] | None = None) -> int:
    """The console script.  Returns the exit status: 0 done, 1 not, 2 the user's error, 130 stopped."""
    status = ended(list(sys.argv[1:] if words is None else words))
    if words is None and status == STOPPED:
        from agent.cli.interrupts import end_now

        end_now(status)
    return status


def ended(words: list[str]) -> int:
    """A command line, run to its end; its exit status."""
    verbose = "-v" in words or "--verbose" in words
    try:
        if words[:1] == ["--complete"]:
            from agent.cli.complete import candidates

            print("\n".join(candidates(words[1:])))
            return 0
        return dispatch(parse(words), words)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # `forearm ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return report(error, verbose=verbose)


def dispatch(line: Line, words: list[str]) -> int:
    from agent.cli import help as pages

    if "--version" in line.flags:
        from importlib.metadata import version

        print(f"forearm {version('forearm')}")
        return 0
    if shell := line.flags.get("--completion"):
        from agent.cli.complete import script

        print(script(shell))
        return 0
    if line.command in (None, "help"):
        if line.overrides and "=" in line.overrides[0]:
            raise UsageError(f"name a command before {line.overrides[0]}: {', '.join(COMMANDS)}")
        if not line.overrides:
            print(pages.overview())
            return 0
        line = Line(line.overrides[0], [], {"--help": ""})
    assert line.command is not None
    command = Command(line.command)
    extra = Path(line.flags["--config-dir"]).expanduser() if "--config-dir" in line.flags else None
    if extra is not None and not extra.is_dir():
        raise UsageError(f"--config-dir {extra}: there is no such folder")
    if "--help" in line.flags or line.overrides == ["help"]:
        print(pages.command_page(command, extra))
        return 0
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")  # must stand before the first import of mujoco
    os.environ.setdefault(
        "SVT_LOG", "1"
    )  # the AV1 encoder writes to the terminal by itself: errors alone, please
    verbose = "--verbose" in line.flags
    if "--multirun" in line.flags:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints its errors and ends the process
        from agent.cli.multirun import sweep

        return sweep(command, line.overrides, extra=extra, verbose=verbose)
    return single(command, line, words, extra=extra, verbose=verbose)


def single(command: Command, line: Line, words: list[str], *, extra: Path | None, verbose: bool) -> int:
    from agent.cli import runs, schemas
    from agent.cli.words import prepare, split_run_keys

    taken, overrides = split_run_keys(command, line.overrides)
    own = [w for w in overrides if w.partition("=")[0] in command.own_run_keys]
    overrides = [w for w in overrides if w not in own]
    resumed = taken.get("resume", "false").lower() not in ("", "false", "null")
    out = taken.get("out")
    overwrite = taken.get("overwrite", "false").lower() in ("true", "1", "yes")
    if not command.keeps_run and taken.keys() - command.own_run_keys:
        raise UsageError(
            f"{command.name} makes no run folder: {' '.join(f'{k}=' for k in taken)} means nothing"
        )
    if resumed:
        if not command.resumes:
            raise UsageError(f"{command.name} cannot go on with an earlier run; leave resume= out")
        found = runs.find_run(command.name, taken["resume"], out)
        if taken["resume"].lower() in ("true", "last") and "resume" in command.own_run_keys:
            own = [f"resume={found}" if w.startswith("resume=") else w for w in own]
        out = str(found)
        overrides = _later_wins([*runs.earlier_overrides(found), *overrides])
    prepared = prepare(command, [*overrides, *own], multirun=False, extra=extra)
    config = schemas.compose(command, prepared, extra=extra)
    if "--cfg" in line.flags:
        print(as_yaml(config), end="")
        return 0
    folder = None
    if command.keeps_run:
        name = slug(taken.get("name") or ",".join(overrides)) or command.name
        folder = runs.make_folder(command.name, out=out, name=name, overwrite=overwrite, resumed=resumed)
    facts = runs.facts_of(config, overrides) if runs.rank() == 0 else {}
    run = runs.Run(command.name, folder, facts=facts, resumed=resumed)
    if command.resumes and folder is not None:
        again = f"forearm {command.name} resume={shlex.quote(str(folder))}"
    else:
        again = shlex.join(["forearm", *words])
    return execute(command, config, run, again=again, verbose=verbose)


def execute(command: Command, config: Any, run: Run, *, again: str, verbose: bool) -> int:
    """Run a command; whatever happens, results.json says how it ended."""
    from agent.cli.interrupts import Watch
    from agent.cli.runs import write_text

    def stopped() -> None:
        run.save("interrupted")
        where = f" What was done so far is in {run.dir}." if run.keeps else ""
        print(f"\nStopped.{where} Go on with: {again}", file=sys.stderr, flush=True)

    log = run.dir / "log.txt" if run.keeps and run.first else None
    with logging_to(log, verbose=verbose), Watch(stopped) as watch:
        try:
            if run.keeps and run.first:
                write_text(run.dir / "config.yaml", as_yaml(config))
                run.save()
            status = int(command.run(config, run) or 0)
        except KeyboardInterrupt:
            watch.finish()
            return STOPPED
        except Exception as error:
            if watch.came:
                watch.finish()
                return STOPPED
            run.log.debug("traceback", exc_info=True)
            status = report(error, verbose=verbose, log=log)
            run.save("failed", f"{type(error).__name__}: {error}")
        else:
            if status == STOPPED:  # the command itself ended early and well
                watch.finish()
                return STOPPED
            run.save("done" if status == 0 else "failed")
    if run.keeps and run.first:
        print(f"run      {run.dir}\nresults  {run.dir / 'results.json'}", flush=True)
    return status


def is_users_error(error: BaseException) -> bool:
    """ValueError, OSError and every exception class of our own are said in one line; the rest are bugs."""
    ours = type(error).__module__.partition(".")[0] in ROOMS
    return ours or isinstance(error, (ValueError, OSError))


def report(error: Exception, *, verbose: bool, log: Path | None = None) -> int:
    """Print an error for a person; returns the exit status."""
    if verbose:
        traceback.print_exception(error)
    if is_users_error(error):
        print(f"forearm: {error}", file=sys.stderr)
        return 2
    if not verbose and log is None:
        traceback.print_exception(error)
    place = "above" if verbose or log is None else f"in {log}; -v shows it"
    said = str(error).strip().split("\n")[0]
    print(f"forearm: unexpected {type(error).__name__}: {said} (traceback {place})", file=sys.stderr)
    return 1


def as_yaml(config: Any) -> str:
    import yaml

    from agent.cli.runs import plain

    def typed(node: Any) -> Any:
        return {k.removesuffix("_"): typed(v) for k, v in node.items()} if isinstance(node, dict) else node

    return yaml.safe_dump(typed(plain(config)), sort_keys=False, allow_unicode=True)


def slug(text: str, limit: int = 40) -> str:
    """Part of a folder's name: letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:limit].rstrip("-.")


def _later_wins(overrides: list[str]) -> list[str]:
    return list({word.partition("=")[0]: word for word in overrides}.values())


@contextmanager
def logging_to(path: Path | None, *, verbose: bool) -> Iterator[None]:
    """All loggers to log.txt; warnings (with -v everything) to the terminal too."""
    root = logging.getLogger()
    before = root.level
    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(logging.INFO if verbose else logging.WARNING)
    screen.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    screen.addFilter(lambda record: not getattr(record, "said", False))
    handlers: list[logging.Handler] = [screen]
    if path is not None:
        file = logging.FileHandler(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(file)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.getLogger("forearm").setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


if __name__ == "__main__":
    sys.exit(main())
