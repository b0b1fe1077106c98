"""Opens a log of any format: `open_log(path)` finds the format by looking and gives its episodes.

log = open_log("my_logs")
report = log.check()        # every episode looked at once, in a child process; remembered
episode = log.open(log.accepted[0])
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.checks import Damaged, Finding, Report, check_numbers
from data.formats import READERS
from data.formats.fields import LogOptions
from data.index import Entry, Index, IndexedReader, in_validation
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
    for name, reader in READERS.items():
        if name == format or (format is None and reader.recognises(root)):
            return Log(root, reader(root, chosen), chosen)
    raise ValueError(
        f"{root}: no format recognised. It holds {_glimpse(root)}. Known formats: {', '.join(READERS)}; "
        "docs/logs.md shows a plain folder that any log can be brought into."
    )


def _glimpse(root: Path) -> str:
    if root.is_file():
        return f"a file of {root.stat().st_size} bytes"
    names = sorted(p.name for p in root.iterdir())
    return f"{', '.join(names[:6])}{' ...' if len(names) > 6 else ''}" if names else "nothing"


class Log:
    """A folder of episodes in some format, with its index."""

    def __init__(self, path: Path, reader: IndexedReader, options: LogOptions) -> None:
        self.path = path
        self.reader = reader
        self.options = options
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
        default = self.options == LogOptions()
        text = json.dumps(asdict(self.options), sort_keys=True)
        digest = "" if default else hashlib.sha256(text.encode()).hexdigest()[:8]
        self._index = Index.load(self.path, self.format, digest)
        self._index.refresh(self.reader, progress)
        self._index.save()
        return self._index

    @property
    def entries(self) -> Mapping[str, Entry]:
        return self.index.entries

    @property
    def keys(self) -> list[str]:
        """All episodes, damaged ones included."""
        return list(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def open(self, key: str, min_rows: int = 2) -> Episode:
        """Open one episode; raises `Damaged` where its numbers cannot be trusted."""
        return open_checked(self.reader, key, min_rows=min_rows)[0]

    def split(self, keys: list[str], validation: float = 0.1) -> tuple[list[str], list[str]]:
        """Training and validation keys, by the hash of each episode's identity."""
        held = {key for key in keys if in_validation(self.entries[key].uuid or key, validation)}
        return [k for k in keys if k not in held], [k for k in keys if k in held]


def open_checked(reader: IndexedReader, key: str, *, min_rows: int = 2) -> tuple[Episode, list[Finding]]:
    """Open an episode and check its numbers: the episode and what is to be told of it, or `Damaged`."""
    try:
        episode = reader.open(key)
        findings = list(check_numbers(episode, file=episode.meta.get("source", key), min_rows=min_rows))
    except Damaged:
        raise
    except MemoryError as error:
        raise Damaged("sizes make no sense", file=key, value=error, remedy="Copy the file again.") from error
    except Exception as error:  # files are not to be trusted: whatever a library makes of one must be named
        raise Damaged(
            "unreadable",
            file=getattr(reader, "path", key),
            value=f"{key}: {type(error).__name__}: {error}",
            remedy="Copy the file again from the original; if others read it, report this message.",
        ) from error
    for finding in findings:
        if finding.skips:
            raise Damaged.of(finding)
    episode.meta.pop("euler", None)
    return episode, findings


__all__ = ["Log", "Report", "open_checked", "open_log"]
