"""`forearm doctor`: the machine, or a folder of logs, looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.cli.runs import Run

KEEPS_RUN = False


@dataclass(kw_only=True)
class Config:
    """See what this machine can do and what is missing; or whether a folder of logs is sound."""

    data: Path | None = None
    """A log folder to check instead of the machine, in any format that Forearm reads."""


EXAMPLES = (
    "forearm doctor",
    "forearm doctor data=datasets/my_logs",
    "MUJOCO_GL=osmesa forearm doctor            # would another GL do?",
)


def run(config: Config, run: Run) -> int:
    if config.data is not None:
        return _check_logs(config.data, run)
    from agent.doctor import Verdict, examine, table

    findings = []
    for finding in examine():
        findings.append(finding)
    run.say(table(findings))
    bad = [f.what for f in findings if f.verdict is Verdict.bad]
    run.say(f"\n`forearm demo` cannot run: {', '.join(bad)}." if bad else "\n`forearm demo` can run.")
    return 1 if bad else 0


def _check_logs(path: Path, run: Run) -> int:
    from data.source import open_log

    log = open_log(path)
    report = log.check()
    run.say(f"{path}: {log.format}, {len(log)} episodes")
    for finding in [*report.skipped, *report.flagged][:20]:
        run.say(f"{'skipped' if finding.skips else 'flagged'}  {finding.episode}: {finding}")
    run.say(report.summary())
    return 0 if report.accepted else 1
