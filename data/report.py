"""What of a folder can be used and what cannot: the line that commands end with, and report.json."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data.checks import Finding


@dataclass(kw_only=True, slots=True)
class Report:
    """What of a folder can be used and what cannot, with the reasons."""

    path: str
    accepted: list[str] = field(default_factory=list)
    skipped: list[Finding] = field(default_factory=list)  # one per episode, the first that skips it
    flagged: list[Finding] = field(default_factory=list)

    def add(self, key: str, findings: Sequence[Finding]) -> None:
        """Judge one episode by its findings."""
        for finding in findings:
            finding.episode = key
        fatal = [f for f in findings if f.skips]
        if fatal:
            self.skipped.append(fatal[0])
        else:
            self.accepted.append(key)
            self.flagged.extend(findings)

    def summary(self) -> str:
        """`accepted 812, skipped 14 (9 no recordings, 3 truncated mp4, 2 short)`."""
        text = f"accepted {len(self.accepted)}, skipped {len(self.skipped)}{_counted(self.skipped)}"
        if self.flagged:
            text += f", flagged {len({f.episode for f in self.flagged})}{_counted(self.flagged)}"
        return text

    def write(self, path: Path) -> Path:
        """Write report.json; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "path": self.path,
            "summary": self.summary(),
            "accepted": len(self.accepted),
            "skipped": [asdict(f) for f in self.skipped],
            "flagged": [asdict(f) for f in self.flagged],
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(content, indent=1))
        os.replace(temporary, path)
        return path


def _counted(findings: Sequence[Finding]) -> str:
    counts = Counter(f.reason for f in findings)
    return f" ({', '.join(f'{n} {reason}' for reason, n in counts.most_common())})" if counts else ""
