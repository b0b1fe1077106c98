"""The pages that teach: `forearm` alone and `forearm <command> --help`."""

from __future__ import annotations

import ast
import inspect
import itertools
import os
import re
import sys
import textwrap
import typing
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agent.cli.schemas import COMMANDS, RUN_KEYS, Command, Leaf, choices_of, config_folder, flat_yaml

CHAPTERS = {
    "Use it": ("demo", "plan", "goal", "evaluate", "imagine"),
    "Your logs": ("collect", "convert", "inspect"),
    "Learn": ("pretrain", "train"),
    "Your machine and arm": ("doctor", "calibrate"),
}
UNITS = {
    "m": "metres", "mm": "millimetres", "s": "seconds", "ms": "milliseconds", "hz": "per second", "px": "pixels",
    "rad": "radians", "deg": "degrees", "n": "newtons", "kg": "kilograms", "mb": "megabytes", "gb": "gigabytes",
    "minutes": "minutes", "hours": "hours",
}  # fmt: skip
FIRST_STEPS = (
    "forearm demo                                 plan to a goal image with the shipped model",
    "forearm collect episodes=50 to=my_logs       record episodes in simulation",
    "forearm train data=my_logs                   post-train the world model on them",
)


def overview() -> str:
    lines = [
        bold("forearm")
        + ": foresight for robot arms.  Show it a goal picture; it imagines what its actions would",
        "lead to and drives the arm there.",
        "",
        "  forearm <command> [key=value ...]          forearm <command> --help explains a command",
        "",
        *(f"  {line}" for line in FIRST_STEPS),
    ]
    for chapter, names in CHAPTERS.items():
        lines += ["", bold(chapter)]
        lines += [f"  {name:<10} {purpose(name)}" for name in names if purpose(name)]
    lines += [
        "",
        "Options: -v shows the log, -m runs every combination of key=a,b, --cfg prints the configuration.",
    ]
    return "\n".join(lines)


def purpose(name: str) -> str:
    """The first line of the command's Config docstring, without importing the command."""
    spec = find_spec("agent.cli.commands")
    assert spec is not None
    assert spec.submodule_search_locations
    assert name in COMMANDS
    path = Path(next(iter(spec.submodule_search_locations))) / f"{name}.py"
    if not path.exists():
        return ""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            return (ast.get_docstring(node) or "").split("\n")[0]
    return ""


def command_page(command: Command, extra: Path | None = None) -> str:
    lines = [bold(f"forearm {command.name}") + f": {inspect.getdoc(command.Config) or ''}", ""]
    lines += [f"  {example}" for example in command.examples]
    if command.groups:
        lines += ["", bold("Choices") + " (group=choice; * is the default)"]
        wide = max(len(g) for g in command.groups)
        for group, default in command.groups.items():
            named = [f"*{c}" if c == default else c for c in command.choices(group, extra)]
            lines += _wrapped(f"  {group:<{wide}}  ", "  ".join(named))
    lines += ["", bold("Values") + " (key=value)"]
    given = _yaml_values(command)
    lines += _rows(
        [row for leaf in command.leaves.values() if not _heading(leaf) for row in _values(leaf, given)]
    )
    for heading in dict.fromkeys(filter(None, map(_heading, command.leaves.values()))):
        under = [leaf for leaf in command.leaves.values() if _heading(leaf) == heading]
        lines += ["", bold(heading), *_rows([row for leaf in under for row in _values(leaf, given)])]
    run_keys = {k: v for k, v in RUN_KEYS.items() if k not in command.own_run_keys}
    if not command.resumes:
        run_keys.pop("resume", None)
    if command.keeps_run:
        lines += ["", bold("Every run")]
        lines += _rows([(key, text) for key, text in run_keys.items()])
    return "\n".join(lines)


def _heading(leaf: Leaf) -> str:
    """The heading that the class which brought a field gives it; most are under the common one."""
    brought = next(c for c in leaf.owner.__mro__ if leaf.field in vars(c).get("__annotations__", {}))
    return vars(brought).get("HEADING", "")


def _values(leaf: Leaf, given: dict[str, tuple[Any, str]]) -> list[tuple[str, str]]:
    """The rows of one field; what they say is taken out of `given`."""
    key = leaf.key
    default, _ = given.pop(key, (leaf.default, ""))
    under = {k: given.pop(k) for k in list(given) if k.startswith(f"{key}.")}
    mapping = under and default == {}
    rows = [(f"{key}.*" if mapping else f"{key.removesuffix('_')}={_shown(default)}", _sentence(leaf))]
    # What stands in a chosen YAML alone, under a mapping: said by its comment, or by the class that it builds.
    for k, (value, comment) in under.items():
        head, _, last = k.rpartition(".")
        if last != "_target_":
            target = under.get(f"{head}._target_", (None, ""))[0]
            rows.append((f"{k}={_shown(value)}", comment or _sentence_at(target, last)))
    return rows


def _sentence_at(target: str | None, field: str) -> str:
    """The sentence under a field of a class that is named by its import path; the class is not imported."""
    module, _, name = (target or "").rpartition(".")
    spec = find_spec(module) if module else None
    if spec is None or spec.origin is None:
        return ""
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _sentences(node).get(field, "")
    return ""


def _sentence(leaf: Leaf) -> str:
    text = field_sentences(leaf.owner).get(leaf.field, "")
    names = [m.name for m in choices_of(leaf.hint) or ()]
    if any(not re.search(rf"\b{name}\b", text) for name in names):
        some = "One of" if isinstance(leaf.hint, type) else "Some of"
        text = f"{text} {some}: {', '.join(names)}."
    unit = unit_of(leaf.field)
    if unit and unit.rstrip("s") not in text.lower():
        text = f"{text} [{unit}]"
    return text.strip()


def unit_of(name: str) -> str:
    last = name.rsplit("_", 1)[-1] if "_" in name else ""
    return UNITS.get(last, "")


@cache
def field_sentences(schema: type) -> dict[str, str]:
    """The string under each field of a dataclass."""
    found: dict[str, str] = {}
    for base in reversed(schema.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError):
            continue
        found |= _sentences(typing.cast(ast.ClassDef, tree.body[0]))
    return found


def _sentences(node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, after in itertools.pairwise(node.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = after.value.value if _is_text(after) else ""
            found[field.target.id] = " ".join(text.split())
    return found


def _is_text(node: ast.stmt) -> typing.TypeGuard[Any]:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _yaml_values(command: Command) -> dict[str, tuple[Any, str]]:
    """Dotted key -> (value, comment) from the command's YAML files as they stand by default."""
    found: dict[str, tuple[Any, str]] = {}
    for group, choice in command.groups.items():
        path = command.choice_file(group, choice)
        if path is not None:
            found |= flat_yaml(path, prefix=group.replace("/", ".") + ".")
    path = config_folder() / f"{command.name}.yaml"
    if path.exists():
        found |= flat_yaml(path, prefix="")
    return found


def _shown(value: Any) -> str:
    import dataclasses

    if value is dataclasses.MISSING:
        return "..."
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_shown(v) for v in value) + "]"
    if value is None or value == {}:
        return "null" if value is None else "{}"
    return str(value)


def _rows(pairs: list[tuple[str, str]]) -> list[str]:
    wide = min(34, max((len(k) for k, _ in pairs), default=0))
    return [line for key, text in pairs for line in _wrapped(f"  {key:<{wide}}  ", text)]


def _wrapped(head: str, text: str) -> list[str]:
    width = int(os.environ.get("COLUMNS", 0)) or 110
    return textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    ) or [head.rstrip()]


def bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text
