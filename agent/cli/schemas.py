"""From a command's `Config` dataclass and the words a user typed to a filled-in `Config`.

Hydra composes: the dataclass is the schema, configs/<command>.yaml (if any) names the groups, configs/<group>/
holds the choices.  agent/cli/words.py adds what Hydra lacks: errors that name the nearest right key or value.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

COMMANDS = (
    "demo", "plan", "evaluate", "imagine", "goal",
    "collect", "convert", "inspect",
    "pretrain", "train",
    "calibrate", "doctor",
)  # fmt: skip
# Understood for every command; taken off before Hydra sees the rest.
RUN_KEYS = {
    "out": "Folder for the run instead of outputs/<command>/<date>/<time>-<name>.",
    "name": "Last part of the run folder's name.",
    "overwrite": "true: an existing run in out= is deleted first.",
    "resume": "Run folder to go on with, or `last`.",
}


class UsageError(ValueError):
    """Something that the user typed; the message says what would be right."""


def nearest(word: str, options: Iterable[str], *, shown: int = 12) -> str:
    """'nearest: a, b' (or all, when they are few) for the end of an error message."""
    options = sorted(set(options))
    lower = {o.lower(): o for o in options}
    close = [lower[o] for o in difflib.get_close_matches(word.lower(), lower, n=3, cutoff=0.5)]
    close += [o for o in options if o.rsplit(".", 1)[-1] == word and o not in close]
    if not options:
        return "there are none"
    if close:
        return f"nearest: {', '.join(close)}"
    more = f" and {len(options) - shown} more" if len(options) > shown else ""
    return f"there are: {', '.join(options[:shown])}{more}"


@dataclass(kw_only=True, slots=True)
class Leaf:
    """One value that can be set: its dotted key, its type, its default and the class and field that hold it."""

    key: str
    hint: Any
    default: Any
    owner: type
    field: str


def unwrap_optional(hint: Any) -> Any:
    """`X | None` -> X; everything else as it is."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint


def origin(hint: Any) -> Any:
    return typing.get_origin(hint) or hint


def choices_of(hint: Any) -> type[Enum] | None:
    """The Enum of a field that is one, or a list of them."""
    kind = (typing.get_args(hint) or (None,))[0] if origin(hint) in (list, tuple) else hint
    return kind if isinstance(kind, type) and issubclass(kind, Enum) else None


def leaves(schema: type, prefix: str = "") -> Iterator[Leaf]:
    """Every field of a dataclass, nested dataclasses opened."""
    hints = typing.get_type_hints(schema)
    for f in dataclasses.fields(schema):
        hint = unwrap_optional(hints[f.name])
        if dataclasses.is_dataclass(hint):
            yield from leaves(typing.cast(type, hint), f"{prefix}{f.name}.")
            continue
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        yield Leaf(key=prefix + f.name, hint=hint, default=default, owner=schema, field=f.name)


def config_folder() -> Path:
    spec = importlib.util.find_spec("configs")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def flat_yaml(path: Path, prefix: str) -> dict[str, tuple[Any, str]]:
    """Dotted key -> (value, the comment behind it)."""
    text = path.read_text(encoding="utf-8")
    comments = {}
    for line in text.splitlines():
        code, mark, comment = line.partition("  #")
        if mark and ":" in code:
            comments[code.split(":")[0].strip()] = comment.strip()
    found: dict[str, tuple[Any, str]] = {}

    def walk(node: dict[str, Any], at: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict) and value:
                walk(value, f"{at}{key}.")
            else:
                found[f"{at}{key}"] = (value, comments.get(str(key), ""))

    content = yaml.safe_load(text) or {}
    walk({k: v for k, v in content.items() if k not in ("defaults", "hydra")}, prefix)
    return found


class Command:
    """A command found as agent/cli/commands/<name>.py."""

    def __init__(self, name: str) -> None:
        if name not in COMMANDS:
            raise UsageError(f"there is no command '{name}'; {nearest(name, COMMANDS, shown=20)}")
        if importlib.util.find_spec(f"agent.cli.commands.{name}") is None:
            raise UsageError(f"the command '{name}' is not in this installation")
        module = importlib.import_module(f"agent.cli.commands.{name}")
        self.name = name
        self.Config: type = module.Config
        self.examples: tuple[str, ...] = module.EXAMPLES
        self.run: Callable[..., int] = module.run
        self.keeps_run: bool = getattr(module, "KEEPS_RUN", True)
        own = {f.name for f in dataclasses.fields(self.Config)}
        self.resumes: bool = "resume" in own or getattr(module, "RESUMES", False)
        self.own_run_keys = own & set(RUN_KEYS)

    @cached_property
    def leaves(self) -> dict[str, Leaf]:
        return {leaf.key: leaf for leaf in leaves(self.Config)}

    @cached_property
    def primary(self) -> dict[str, Any]:
        """configs/<name>.yaml, or nothing."""
        path = config_folder() / f"{self.name}.yaml"
        return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}

    @cached_property
    def groups(self) -> dict[str, str]:
        """Group -> the choice taken when none is given."""
        found: dict[str, str] = {}
        for item in self.primary.get("defaults", []):
            if isinstance(item, dict):
                (group, choice), *_ = item.items()
                words = str(group).split()
                if "override" not in words and isinstance(choice, str):
                    found[words[-1].split("@")[0]] = choice.removesuffix(".yaml")
        return found

    def choice_file(self, group: str, choice: str, extra: Path | None = None) -> Path | None:
        for folder in ([extra] if extra else []) + [config_folder()]:
            path = folder / group / f"{choice}.yaml"
            if path.exists():
                return path
        return None

    def choices(self, group: str, extra: Path | None = None) -> list[str]:
        folders = [config_folder() / group, *([extra / group] if extra else [])]
        return sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})


def register(command: Command) -> str:
    """Give Hydra the command's schema and its primary config; returns the primary config's name."""
    from hydra.core.config_store import ConfigStore

    schema, primary = f"{command.name}_schema", f"{command.name}_primary"
    values = dict(command.primary)
    defaults = [d for d in values.pop("defaults", []) if d != schema]
    if "_self_" not in defaults:
        defaults.append("_self_")
    store = ConfigStore.instance()
    store.store(name=schema, node=command.Config)
    store.store(name=primary, node={"defaults": [schema, *defaults], **values})
    return primary


def compose(command: Command, overrides: list[str], *, extra: Path | None = None) -> Any:
    """The `Config` that these (prepared) overrides give."""
    import hydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    primary = register(command)
    # Hydra takes `model=x` for a choice of the group as soon as configs/model/ exists, also where it is a plain key.
    plain = [w for w in overrides if _is_plain(command, w.partition("=")[0])]
    overrides = [w for w in overrides if w not in plain]
    extra_path = [f"hydra.searchpath=[file://{extra.resolve()}]"] if extra else []
    try:
        with hydra.initialize_config_module("configs", version_base="1.3", job_name=command.name):
            composed = hydra.compose(primary, overrides=[*overrides, *extra_path])
        for override in OverridesParser.create().parse_overrides(plain):
            OmegaConf.update(composed, override.key_or_group, override.value())
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(in_words(command, error)) from error
    return to_config(command, composed)


def _is_plain(command: Command, key: str) -> bool:
    return key in command.leaves and key not in command.groups and (config_folder() / key).is_dir()


def in_words(command: Command, error: Exception) -> str:
    cause = error.__cause__ if error.__cause__ is not None else error
    text = str(cause).split("\n")[0].removeprefix("Error merging override ")
    if missing := re.search(r"Key '([^']+)' (?:is )?not in", str(cause)):
        word = missing.group(1)
        full = str(getattr(cause, "full_key", None) or word)
        holder = getattr(cause, "object_type", None)
        if full.startswith("hydra.") and holder is not None:
            known = [f.name for f in dataclasses.fields(holder)]
            return f"{command.name}: there is no key '{full}'; {nearest(word, known)}"
        return f"{command.name}: there is no key '{word}'; {nearest(word, command.leaves)}"
    if unknown := re.search(
        r"Could not find '([^']+)'\n\nAvailable options in '[^']+':\n([^\n]+(?:\n\t[^\n]+)*)", str(cause)
    ):
        group, _, choice = unknown.group(1).rpartition("/")
        return f"{group}={choice}: no such choice; {nearest(choice, unknown.group(2).split())}"
    if plugin := re.search(r"Could not load 'hydra/launcher/(submitit|ray)", str(cause)):
        extra = {"submitit": "slurm", "ray": "ray"}[plugin.group(1)]
        return f"this launcher is not installed: pip install -e '.[{extra}]' in the checkout (docs/training.md, Sweeps)"
    return f"{command.name}: {text}"


def to_config(command: Command, composed: Any) -> Any:
    """An OmegaConf tree -> the command's dataclass, with `~` expanded and required keys present."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        merged = OmegaConf.merge(OmegaConf.structured(command.Config), composed)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            keys = " ".join(f"{k.removesuffix('_')}=..." for k in missing)
            raise UsageError(f"{command.name} needs {keys}; `forearm {command.name} --help` explains")
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise UsageError(in_words(command, error)) from error
    _finish(config)
    return config


def _finish(config: Any) -> None:
    """What OmegaConf leaves out: `~` in paths, tuples (it makes lists of them)."""
    hints = typing.get_type_hints(type(config))
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            _finish(value)
        elif isinstance(value, Path):
            setattr(config, f.name, value.expanduser())
        elif isinstance(value, list) and origin(unwrap_optional(hints[f.name])) is tuple:
            setattr(config, f.name, tuple(value))
