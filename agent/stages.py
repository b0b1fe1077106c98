"""Several `forearm` commands, one after the other, each once: what is done is taken as it is, what was begun goes on."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class StageFailed(RuntimeError):
    """A command did not end well; what it said stands above."""


def done(folder: Path) -> dict[str, Any] | None:
    """The results that a command left in its folder, or None while it has not ended well."""
    results = folder / "results.json"
    found = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
    return found if found.get("status") == "done" else None


def stage(command: str, folder: Path, words: Sequence[str]) -> dict[str, Any]:
    """The results of a command in a folder; it is printed before it runs, and not run again when it is done."""
    from agent.cli.schemas import Command

    if (before := done(folder)) is not None:
        return before
    if folder.is_dir() and not (folder / "results.json").is_file():
        shutil.rmtree(folder)  # killed before it had begun
    asked = [*words, f"out={folder}"]
    if folder.is_dir():
        asked = [f"resume={folder}"] if Command(command).resumes else [*asked, "overwrite=true"]
    print(f"\n--- forearm {command} {shlex.join(asked)}", flush=True)
    status = subprocess.run([sys.executable, "-P", "-m", "agent.cli.main", command, *asked]).returncode
    if status or (results := done(folder)) is None:
        raise StageFailed(f"forearm {command} ended with status {status} in {folder}")
    return results
