"""Opens a log of any format: `open_log(path)` finds the format by looking and gives its episodes.

log = open_log("my_logs")
report = log.check()        # every episode looked at once, in a child process; remembered
episode = log.open(log.accepted[0])
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from data.checks import Damaged, Finding
from data.formats import READERS
from data.formats.fields import LogOptions
from data.index import Entry, Index, IndexedReader, in_validation
from data.report import Report
from data.sandbox import Sandbox, shared
from data.survey import open_checked
from data.types import Episode


def open_log(path: Path | str, *, format: str | None = None, **options: Any) -> Log:
    """Open a log; `options` are those of `data.formats.fields.LogOptions` (key_map, cameras, position_scale ...)."""
    root = Path(path).expanduser()
    if not root.exists():
        near = sorted(p.name for p in root.parent.iterdir())[:10] if root.parent.is_dir() else []
        raise ValueError(
            f"{root}: no such file or folder" + (f"; beside it are {', '.join(near)}" if near else "")
        )
    unknown = sorted(set(options) - set(LogOptions.__dataclass_fields__))
    if unknown:
        raise ValueError(
            f"option {unknown[0]!r} is not known; there are {sorted(LogOptions.__dataclass_fields__)}"
        )
    chosen = LogOptions(**options)
    if format is not None and format not in READERS:
        raise ValueError(f"format {format!r} is not known; there are {', '.join(READERS)}")
    remembered = Index.load(root, format or "", chosen.digest())
    name = format or remembered.format or _recognise(root)
    if name is not None:
        return Log(root, READERS[name](root, chosen), chosen, remembered)
    raise ValueError(
        f"{root}: no format recognised. It holds {_glimpse(root)}. Known formats: {', '.join(READERS)}; "
        "docs/logs.md shows a plain folder that any log can be brought into."
    )


def _recognise(root: Path) -> str | None:
    for name, reader in READERS.items():
        if reader.by_name and reader.recognises(root):
            return name
    try:
        return shared().ask("recognise", os.path.abspath(root), file=root)
    except Damaged as damage:
        raise ValueError(f"{root}: the format cannot be found out: {damage} Or set format=NAME.") from damage


def _glimpse(root: Path) -> str:
    if root.is_file():
        return f"a file of {root.stat().st_size} bytes"
    names = sorted(p.name for p in root.iterdir())
    return f"{', '.join(names[:6])}{' ...' if len(names) > 6 else ''}" if names else "nothing"


class Log:
    """A folder of episodes in some format, with its index."""

    def __init__(self, path: Path, reader: IndexedReader, options: LogOptions, remembered: Index) -> None:
        self.path = path
        self.reader = reader
        self.options = options
        self._remembered = remembered
        self._index: Index | None = None

    @property
    def format(self) -> str:
        return self.reader.name

    @property
    def index(self) -> Index:
        """The index, built or refreshed at first use."""
        return self._index or self.refresh()

    def refresh(self, progress: Callable[[int, int], None] | None = None) -> Index:
        """Look again what lies in the folder."""
        self._remembered.format = self.format
        self._remembered.refresh(self.reader, partial(self._ask, shared()), progress)
        self._remembered.save()
        self._index = self._remembered
        return self._index

    def _ask(
        self, sandbox: Sandbox, question: str, *rest: Any, file: Path, limit_s: float | None = None
    ) -> Any:
        about = (os.path.abspath(self.path), self.format, self.options.to_json())
        return sandbox.ask(question, *about, *rest, file=file, limit_s=limit_s)

    @property
    def entries(self) -> Mapping[str, Entry]:
        return self.index.entries

    @property
    def keys(self) -> list[str]:
        """All episodes, damaged ones included."""
        return list(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def open(self, key: str) -> Episode:
        """Open one episode; raises `Damaged` where it cannot be trusted.

        One that was never checked is opened by a child process first.
        """
        entry = self.entries.get(key)
        if entry is None:
            near = difflib.get_close_matches(key, self.keys, n=1)
            raise KeyError(
                f"{self.path} has no episode {key!r}" + (f"; the nearest is {near[0]!r}" if near else "")
            )
        if entry.findings is None:
            self._examine(shared(), entry, thorough=False)
        for finding in entry.findings or ():
            if finding.skips:
                raise Damaged.of(finding)
        return open_checked(self.reader, key)[0]

    def check(
        self,
        *,
        thorough: bool = False,
        min_rows: int = 2,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Look at every episode not looked at before, in child processes; `thorough` decodes all frames."""
        entries = self.index.entries
        todo = [
            e for e in entries.values() if e.findings is None or (thorough and not e.thorough and e.usable)
        ]
        done = 0
        lock = threading.Lock()

        def work(share: list[Entry]) -> None:
            nonlocal done
            with Sandbox() if parallel > 1 else nullcontext(shared()) as sandbox:
                for entry in share:
                    self._examine(sandbox, entry, thorough)
                    with lock:
                        done += 1
                        if progress is not None:
                            progress(done, len(todo))

        # A child takes seconds to start: more than one pays for large folders only.
        parallel = workers or min(os.cpu_count() or 1, 8, 1 + len(todo) // 200)
        if todo:
            with ThreadPoolExecutor(parallel) as pool:
                list(pool.map(work, [todo[i::parallel] for i in range(parallel)]))
            self.index.changed = True
            self.index.save()
        report = Report(path=str(self.path))
        uuids: dict[str, str] = {}
        for entry in entries.values():
            findings = list(entry.findings or ())
            if entry.usable and entry.rows < min_rows:
                findings.insert(0, _too_short(entry, min_rows))
            elif entry.usable and uuids.setdefault(entry.uuid or entry.key, entry.key) != entry.key:
                findings.insert(0, _duplicate(entry, uuids[entry.uuid]))
            report.add(entry.key, findings)
        return report

    def _examine(self, sandbox: Sandbox, entry: Entry, thorough: bool) -> None:
        # Decoding every frame takes as long as it takes; hanging is still found out.
        limit_s = sandbox.limit_s + (0.1 * entry.rows if thorough else 0.0)
        try:
            findings, summary = self._ask(
                sandbox, "examine", entry.key, thorough, file=self.path / entry.key, limit_s=limit_s
            )
        except Damaged as damage:
            findings, summary = [damage.finding], None
        entry.findings, entry.summary, entry.thorough = findings, summary, thorough
        if summary is not None:
            entry.rows, entry.seconds = summary["rows"], summary["seconds"]
            entry.task, entry.success = summary["task"], summary["success"]
            entry.uuid = str(summary["uuid"] or entry.uuid or entry.key)

    def usable(self, report: Report) -> list[str]:
        """The accepted keys; raises ValueError at once if there are none."""
        if not report.accepted:
            first = report.skipped[0] if report.skipped else "the folder holds no episode"
            raise ValueError(f"{self.path}: nothing can be used: {report.summary()}. First: {first}")
        return report.accepted

    def split(self, keys: list[str], validation: float = 0.1) -> tuple[list[str], list[str]]:
        """Training and validation keys, by the hash of each episode's identity."""
        held = {key for key in keys if in_validation(self.entries[key].uuid or key, validation)}
        return [k for k in keys if k not in held], [k for k in keys if k in held]


def _too_short(entry: Entry, min_rows: int) -> Finding:
    return Finding(
        reason="short",
        file=entry.key,
        value=f"{entry.rows} rows",
        remedy=f"Windows of {min_rows} rows were asked for: shorten the window, or leave it.",
    )


def _duplicate(entry: Entry, first: str) -> Finding:
    return Finding(
        reason="duplicate",
        file=entry.key,
        value=f"same identity {entry.uuid} as {first}",
        remedy="Nothing to do: the first is used. Delete one of them.",
    )
