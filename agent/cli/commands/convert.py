"""`forearm convert`: rewrite a log as raw DROID or LeRobot v3.0."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.choices import Format, Written
from agent.cli.runs import Run
from data.options import LogOptions


@dataclass(kw_only=True)
class Config(LogOptions):
    """Rewrite robot logs of any known format as raw DROID or LeRobot v3.0; the damaged ones are named."""

    from_: Path
    """The log to read, in any format that Forearm reads."""
    to: Path
    """A folder for the new log."""
    format: Format | None = None
    """Format of the log to read, where it cannot be found out by looking."""
    to_format: Written = Written.droid
    """Format to write: droid or lerobot."""


EXAMPLES = (
    "forearm convert from=lerobot_data to=my_logs",
    "forearm convert from=bags to=my_logs key_map.pose=/franka/ee_pose 'cameras=[exterior,wrist]'",
    "forearm convert from=my_logs to=for_lerobot to_format=lerobot",
)


def run(config: Config, run: Run) -> int:
    from agent.cli.log_choice import open_chosen, say_report
    from data.convert import convert

    log = open_chosen(config, config.from_, config.format)

    def tell(done: int, total: int) -> None:
        if done in (1, total) or done % max(1, total // 10) == 0:
            run.say(f"{done} of {total} episodes")

    report = convert(log, config.to, format=str(config.to_format), progress=tell)
    say_report(report, run)
    if not report.accepted:
        run.say(f"nothing was written to {config.to}: no episode could be used")
        return 1
    run.say(f"written to {config.to} as {config.to_format}")
    return 0
