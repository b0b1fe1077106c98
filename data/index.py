"""The index of a log: what each episode is and whether it may be used, remembered beside the log.

Built once; opening the log again asks the file system for change times and opens no episode.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from data.checks import Damaged, Finding
from data.types import EpisodeReader

log = logging.getLogger(__name__)
VERSION = 1
NAME = ".forearm-index"
ALL = "*"  # stands for all episodes of a log whose list is damaged
_LIST_S = 120.0
_TOGETHER = 64  # episodes asked for at once


@dataclass(kw_only=True, slots=True)
class Entry:
    """One episode as the index knows it.  `findings` is None until its file has been checked."""

    key: str
    uuid: str = ""
    rows: int = 0
    seconds: float = 0.0
    task: str | None = None
    success: bool | None = None
    stamp: int = 0
    findings: list[Finding] | None = None
    thorough: bool = False  # every frame was decoded
    summary: dict[str, Any] | None = None  # what `inspect` adds up: histograms of steps, share of contact

    @property
    def usable(self) -> bool:
        """Whether it has been checked and found fit."""
        return self.findings is not None and not any(f.skips for f in self.findings)


class IndexedReader(EpisodeReader, Protocol):
    """A reader that can say little of an episode without reading it whole."""

    central: bool  # its list comes out of files, which only a child opens; else out of names
    path: Path

    def stamp(self, key: str) -> int:
        """A number that changes when the files of an episode do; "" stands for the files of a central list."""
        ...

    def entry(self, key: str) -> Entry: ...


def stamp_of(*paths: Path | str) -> int:
    """Change times and sizes of files (and folders) as one number; an absent one counts as such."""
    total = 0
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            total = total * 31 + 1
            continue
        total = total * 31 + status.st_mtime_ns + status.st_size
    return total % (1 << 61)


def in_validation(uuid: str, share: float = 0.1) -> bool:
    """Whether an episode is held out: by the hash of its identity alone, so the same on every machine for ever."""
    number = int.from_bytes(hashlib.sha256(uuid.encode()).digest()[:8], "big")
    return number < share * 2**64


class Index:
    """Entries by key, with the file that they are remembered in."""

    def __init__(self, file: Path, format_name: str) -> None:
        self.file = file
        self.format = format_name
        self.entries: dict[str, Entry] = {}
        self.folders: dict[str, Any] = {}
        self.changed = False

    @classmethod
    def load(cls, root: Path, format_name: str, options_digest: str) -> Index:
        """The remembered index of a log, or an empty one; without a format name, of whatever format it is."""
        for file in _places(root, options_digest):
            try:
                content = json.loads(file.read_text())
                if content["version"] != VERSION or format_name not in ("", content["format"]):
                    continue
                index = cls(file, content["format"])
                columns = content["entries"]
                for values in zip(*(columns[f.name] for f in fields(Entry))):
                    entry = Entry(**dict(zip((f.name for f in fields(Entry)), values)))
                    if entry.findings:
                        entry.findings = [Finding(**finding) for finding in entry.findings]  # type: ignore[arg-type]
                    index.entries[entry.key] = entry
                index.folders = content["folders"]
                return index
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("%s: index unreadable (%s), building it again", file, error)
        return cls(_writable(root, options_digest), format_name)

    def refresh(
        self,
        reader: IndexedReader,
        ask: Callable[..., Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Bring the entries up to date with the files; `ask` opens those that are new or changed in a child."""
        known, self.entries = self.entries, {}
        if reader.central:
            stamp = reader.stamp("")
            if stamp == self.folders.get("", [None])[0]:
                found = [known[key] for key in known]
            else:
                try:
                    found = ask("entries", file=reader.path, limit_s=_LIST_S)
                except Damaged as damage:  # none of its episodes can be told from another
                    found = [Entry(key=ALL, uuid=ALL, findings=[damage.finding])]
                self.folders, self.changed = {"": [stamp, [], []]}, True
            keys = {entry.key: entry for entry in found}
        else:
            folders = getattr(reader, "folders", None)
            if folders is not None:
                folders.known = {name: (v[0], v[1], v[2]) for name, v in self.folders.items()}
            keys = dict.fromkeys(reader.list())
            if folders is not None:
                self.folders = folders.known
        stamps = {key: 0 if key == ALL else reader.stamp(key) for key in keys}
        fresh = [key for key in keys if key not in known or known[key].stamp != stamps[key]]
        new: dict[str, Entry] = {}
        if reader.central:
            new = {key: entry for key in fresh if (entry := keys[key]) is not None}
        for start in range(0, len(fresh) if not reader.central else 0, _TOGETHER):
            some = fresh[start : start + _TOGETHER]
            new |= _ask_for(some, ask, reader.path)
            if progress is not None:
                progress(start + len(some), len(fresh))
        for key in keys:
            self.entries[key] = new.get(key) or known[key]
            self.entries[key].stamp = stamps[key]
        self.changed |= bool(fresh) or len(known) != len(self.entries)

    def save(self) -> None:
        """Write the index if it changed; whole or not at all, so that two processes may do it at once."""
        if not self.changed:
            return
        columns: dict[str, list[Any]] = {f.name: [] for f in fields(Entry)}
        for entry in self.entries.values():
            for name, values in columns.items():
                values.append(getattr(entry, name))
        columns["findings"] = [f if f is None else [asdict(x) for x in f] for f in columns["findings"]]
        content = {"version": VERSION, "format": self.format, "folders": self.folders, "entries": columns}
        temporary = self.file.with_name(f"{self.file.name}.{os.getpid()}.tmp")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(content))
            os.replace(temporary, self.file)
            self.changed = False
        except OSError as error:  # a full or read-only disk costs time at the next start, nothing else
            log.warning("%s: index not kept (%s)", self.file, error)


def _ask_for(keys: list[str], ask: Callable[..., Any], root: Path) -> dict[str, Entry]:
    """Entries of some episodes, in one question; one by one where one of them took the child with it."""
    try:
        found = ask("entry", keys, file=root)
    except Damaged as damage:
        if len(keys) > 1:
            return {k: e for key in keys for k, e in _ask_for([key], ask, root / key).items()}
        found = [damage.finding]
    return {
        key: Entry(key=key, uuid=key, findings=[entry]) if isinstance(entry, Finding) else entry
        for key, entry in zip(keys, found, strict=True)
    }


def _places(root: Path, options_digest: str) -> list[Path]:
    """Where an index may lie: beside the log, else in the user's cache folder."""
    name = f"{NAME}{f'-{options_digest}' if options_digest else ''}.json"
    beside = root / name if root.is_dir() else root.with_name(f"{NAME}-{root.name}{options_digest}.json")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forearm" / "index"
    digest = hashlib.sha256(f"{root.resolve()}{options_digest}".encode()).hexdigest()[:16]
    return [beside, cache / f"{digest}.json"]


def _writable(root: Path, options_digest: str) -> Path:
    beside, cached = _places(root, options_digest)
    return beside if os.access(beside.parent, os.W_OK) else cached
