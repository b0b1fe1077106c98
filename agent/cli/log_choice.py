"""What the commands on logs share: opening one as its options say, and ending with the report."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from agent.cli.runs import Run
from data.options import LogOptions
from data.report import Report
from data.source import Log, open_log

SHOWN = 8  # findings printed; all are in report.json


def open_chosen(options: LogOptions, path: Path, format: str | None) -> Log:
    """Open a log with the options that a command's config inherits."""
    chosen = {f.name: getattr(options, f.name) for f in fields(LogOptions)}
    return open_log(path, format=str(format) if format else None, **chosen)


def say_report(report: Report, run: Run) -> None:
    """The findings, the line that counts them, and report.json beside the run."""
    findings = [*report.skipped, *report.flagged]
    for finding in findings[:SHOWN]:
        run.say(f"{'skipped' if finding.skips else 'flagged'}  {finding}")
    path = report.write(run.dir / "report.json")
    if len(findings) > SHOWN:
        run.say(f"... and {len(findings) - SHOWN} more in {path}")
    run.results["report"] = report.summary()
    run.say(report.summary())
