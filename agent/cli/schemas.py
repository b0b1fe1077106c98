"""From a command's `Config` dataclass and the words a user typed to a filled-in `Config`.

Hydra composes: the dataclass is the schema, configs/<command>.yaml (if any) names the groups, configs/<group>/
holds the choices.  This file adds what Hydra lacks: errors that name the nearest right key or value.
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
    close = difflib.get_close_matches(word, options, n=3, cutoff=0.5)
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


def split_run_keys(command: Command, overrides: list[str]) -> tuple[dict[str, str], list[str]]:
    """Take `out=`, `name=`, `overwrite=`, `resume=` off, except for fields of the command's own."""
    taken: dict[str, str] = {}
    rest = []
    for word in overrides:
        key, equals, value = word.partition("=")
        if equals and key in RUN_KEYS:
            taken[key] = value.strip("'\"")
            if key not in command.own_run_keys:
                continue
        rest.append(word)
    return taken, rest


def prepare(
    command: Command, overrides: list[str], *, multirun: bool, extra: Path | None = None
) -> list[str]:
    """Check each override and put it into Hydra's grammar: names, quotes, lists, enum names."""
    return [_prepare_one(command, word, multirun, extra) for word in overrides]


def _prepare_one(command: Command, word: str, multirun: bool, extra: Path | None) -> str:
    if word.startswith(("~", "hydra.", "hydra/")):
        return word
    plus = "+" * (len(word) - len(word.lstrip("+")))
    key, equals, value = word.lstrip("+").partition("=")
    key = key.strip()
    if key + "_" in command.leaves:
        key += "_"
    options = {k.removesuffix("_") for k in command.leaves} | set(command.groups) | set(RUN_KEYS)
    if not equals:
        raise UsageError(f"'{word}' is not of the form key=value; {nearest(word, options)}")
    group = key.split("@")[0]
    if group in command.groups:
        found = command.choices(group, extra)
        for choice in value.split(",") if multirun else [value]:
            if choice.strip("'\"") not in found and choice not in ("null", ""):
                raise UsageError(
                    f"{group}={choice}: no such choice in group '{group}'; {nearest(choice, found)}"
                )
        return f"{key}={value}"
    leaf = command.leaves.get(key)
    if leaf is None:
        if any(key.startswith((f"{k}.", f"{k}[")) for k in _open_nodes(command)):
            return f"{plus or '++'}{key}={value}"  # Hydra adds to a mapping only when told so
        if plus and (config_folder() / group).is_dir():
            return f"{plus}{key}={value}"
        raise UsageError(f"{command.name} has no key '{key}'; {nearest(key, options)}")
    return f"{key}={_in_grammar(leaf, value, multirun)}"


def _open_nodes(command: Command) -> set[str]:
    """Keys under which any key may stand: mappings, and groups without a dataclass."""
    mappings = {k for k, leaf in command.leaves.items() if leaf.hint is Any or _origin(leaf.hint) is dict}
    return mappings | {g.replace("/", ".") for g in command.groups}


def _origin(hint: Any) -> Any:
    return typing.get_origin(hint) or hint


def _in_grammar(leaf: Leaf, value: str, multirun: bool) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if _origin(leaf.hint) in (list, tuple) and not multirun and not value.startswith(("[", "${")):
        value = f"[{value}]" if value not in ("null", "") else value
    if isinstance(leaf.hint, type) and issubclass(leaf.hint, Enum):
        value = (
            ",".join(_enum_name(leaf, v) for v in value.split(",")) if multirun else _enum_name(leaf, value)
        )
    parser = OverridesParser.create()
    if leaf.hint in (str, Path):
        words = value.split(",") if multirun else [value]
        value = ",".join(_quoted(word) for word in words)
    try:
        parsed = parser.parse_override(f"{leaf.key}={value}")
    except HydraException:
        parsed = None
    if parsed is None or (parsed.is_sweep_override() and not multirun):
        value = _quoted(value)
        parsed = parser.parse_override(f"{leaf.key}={value}")
    if not parsed.is_sweep_override():
        _check_value(leaf, parsed.value())
    return value


def _quoted(value: str) -> str:
    """Text as it stands: blanks, brackets, commas and '=' are not in Hydra's grammar, and 007 is no number."""
    if (
        value in ("null", "???")
        or value.startswith("${")
        or (len(value) > 1 and value[0] == value[-1] in "'\"")
    ):
        return value
    # In Hydra's quotes a backslash is special only in front of a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m.group(1) * 2 + ("\\'" if m.group(2) else ""), value)
    return f"'{escaped}'"


def _enum_name(leaf: Leaf, word: str) -> str:
    """Members are known to OmegaConf by name; a user may type name or value in any case."""
    word = word.strip("'\" ")
    for member in leaf.hint:
        if word.lower() in (member.name.lower(), str(member.value).lower()):
            return member.name
    if word == "null" or word.startswith("${"):
        return word
    raise UsageError(f"{leaf.key}={word}: no such choice; {nearest(word, [m.name for m in leaf.hint])}")


def _check_value(leaf: Leaf, value: Any) -> None:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(value, str) and value.startswith("${"):
        return
    try:
        OmegaConf.update(OmegaConf.structured(leaf.owner), leaf.field, value)
    except OmegaConfBaseException:
        wanted = getattr(leaf.hint, "__name__", None) if not typing.get_args(leaf.hint) else None
        article = {"int": "a whole number", "float": "a number", "bool": "true or false"}
        kind = article.get(wanted or "", wanted or str(leaf.hint))
        raise UsageError(f"{leaf.key.removesuffix('_')}={value}: wants {kind}") from None


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
        raise UsageError(_in_words(command, error)) from error
    return to_config(command, composed)


def _is_plain(command: Command, key: str) -> bool:
    return key in command.leaves and key not in command.groups and (config_folder() / key).is_dir()


def _in_words(command: Command, error: Exception) -> str:
    cause = error.__cause__ if error.__cause__ is not None else error
    text = str(cause).split("\n")[0].removeprefix("Error merging override ")
    if missing := re.search(r"Key '([^']+)' (?:is )?not in", str(cause)):
        word = missing.group(1)
        return f"{command.name}: there is no key '{word}'; {nearest(word, command.leaves)}"
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
        raise UsageError(_in_words(command, error)) from error
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
        elif isinstance(value, list) and _origin(unwrap_optional(hints[f.name])) is tuple:
            setattr(config, f.name, tuple(value))
