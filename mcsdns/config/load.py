"""Reads settings: flags, `MCSDNS_*`, a YAML file and defaults, in that order, by one schema.

Flags, variables and keys of the file are made from the fields of `schema.Settings`, and so is the
page of the documentation.
"""

import argparse
import difflib
import functools
import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Meta

from mcsdns import yaml_text
from mcsdns.config.schema import Setting, Settings
from mcsdns.errors import ConfigError, InvalidNameError
from mcsdns.yaml_text import Document, is_mapping

_PREFIX: Final = "MCSDNS_"
_CONFIG_VARIABLE: Final = _PREFIX + "CONFIG"
_SERVICE_LINK = re.compile(
    r"MCSDNS_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?"
    r"|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
"""Kubernetes sets these in every pod of a namespace for each Service called mcsdns or mcsdns-*."""
_MAX_FILE_BYTES: Final = 1 << 20


class Field(Setting, frozen=True, kw_only=True):
    """One setting, as flags and documentation need it.

    Attributes:
        repeats: whether it is a list. is_switch: whether the flag takes no value.
        bounds: such as `0 to 3600`, or empty.
    """

    name: str
    type: Any
    repeats: bool
    is_switch: bool
    default: Any
    bounds: str

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return _PREFIX + self.name.upper()

    @property
    def default_text(self) -> str:
        """The default for people; empty where there is none, or the description has it."""
        if self.default in ([], None, "", False) or "(default" in self.description:
            return ""
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return ", ".join(map(str, self.default)) if self.repeats else str(self.default)


@functools.cache
def fields() -> tuple[Field, ...]:
    """Return all settings, in the order of the schema."""
    hints = typing.get_type_hints(Settings, include_extras=True)
    found: list[Field] = []
    for field in msgspec.structs.fields(Settings):
        base, *about = typing.get_args(hints[field.name])
        (setting,) = (each for each in about if isinstance(each, Setting))
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = typing.cast("Callable[[], Any]", field.default_factory)()
        found.append(
            Field(
                **{name: getattr(setting, name) for name in Setting.__struct_fields__},
                name=field.name,
                type=hints[field.name],
                repeats=typing.get_origin(base) is list,
                is_switch=base is bool,
                default=default,
                bounds="".join(_bounds(each) for each in about if isinstance(each, Meta)),
            )
        )
    return tuple(found)


def fields_of(command: str) -> list[Field]:
    """Return the settings that a command takes: `serve` all, others some."""
    return [each for each in fields() if command == "serve" or command in each.commands]


def _bounds(meta: Meta) -> str:
    least = meta.ge if meta.gt is None else f"above {meta.gt}"
    if least is None:
        return ""
    return f"at least {least}" if meta.le is None else f"{least} to {meta.le}"


def add_flags(parser: argparse.ArgumentParser, command: str = "serve") -> None:
    """Add a flag for each setting that a command takes; what is not given stays absent.

    Lists take several values after one flag only where no positional argument could follow.
    """
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings")
    for field in fields_of(command):
        help_text = field.description.replace("%", "%%")
        if field.default_text:
            help_text += f" (default {field.default_text})"
        options: dict[str, Any] = {"metavar": field.placeholder}
        if field.is_switch:
            options = {"action": "store_true"}
        elif field.repeats:
            options |= {"action": "append", "nargs": "+" if command == "serve" else 1}
        parser.add_argument(
            field.flag, dest=field.name, help=help_text, default=argparse.SUPPRESS, **options
        )


def load(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Merge all sources of settings.

    Raises:
        ConfigError: says which setting, where it was given, and what would be right.
    """
    values: dict[str, Any] = {}
    path = file_of(flags, environment)
    if path:
        values.update(_from_file(path))
    values.update(_from_environment(environment))
    values.update(_from_flags(flags))
    return Settings(**values)


def file_of(flags: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return which file of settings is read; empty for none."""
    return flags.get("config") or environment.get(_CONFIG_VARIABLE) or ""


def from_mapping(plain: Mapping[str, object], where: str) -> Settings:
    """Read settings that stand in some other document; `where` begins each error.

    Raises:
        ConfigError: as `load`.
    """
    return Settings(**_from_plain(plain, lambda key: f"{where}: {key}"))


def _from_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields():
        given = flags.get(field.name)
        if given is not None:
            if field.repeats:
                given = [value for group in given for value in group]
            values[field.name] = _convert(field, given, field.flag)
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Read the variables that are ours; one that is empty is as good as not there."""
    known = {field.variable: field for field in fields()}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX) or _SERVICE_LINK.fullmatch(variable):
            continue
        if not text or variable == _CONFIG_VARIABLE:
            continue
        if variable not in known:
            raise ConfigError(f"{variable}: no such setting{_suggest(variable, known)}")
        field = known[variable]
        given = [each.strip() for each in text.split(",")] if field.repeats else text
        values[field.name] = _convert(field, given, variable)
    return values


def _from_file(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            octets = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a YAML file of settings") from None
    if len(octets) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {_MAX_FILE_BYTES} octets; name a file of settings")
    documents: list[Document] = []
    for document in yaml_text.read(yaml_text.decode(octets)):
        if not isinstance(document, Document):
            raise ConfigError(f"{path}:{document.line}: not YAML: {document.why}")
        documents.append(document)
    if not documents:
        return {}
    value = documents[0].value
    if len(documents) > 1 or not is_mapping(value):
        raise ConfigError(f"{path}: a config file is one mapping of settings, such as `ttl: 5`")
    document = documents[0]

    def place_of(key: str) -> str:
        path_of_key = "$." + key
        return f"{path}:{document.lines_of([path_of_key])[path_of_key]}: {key}"

    return _from_plain(value, place_of, document.repeated)


def _from_plain(
    plain: Mapping[str, object], where: Callable[[str], str], repeated: Iterable[str] = ()
) -> dict[str, Any]:
    known = {field.name: field for field in fields()}
    twice = {path.removeprefix("$.") for path in repeated}
    values: dict[str, Any] = {}
    for key, given in plain.items():
        field = known.get(key.replace("-", "_"))
        if field is None:
            raise ConfigError(f"{where(key)}: no such setting{_suggest(key, known)}")
        if field.name in values or key in twice:
            raise ConfigError(f"{where(key)}: it stands there twice; keep one")
        if field.repeats and isinstance(given, str):
            given = [given]  # noqa: PLW2901 - one value for a list
        values[field.name] = _convert(field, given, where(key))
    return values


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else "; `mcsdns serve --help` lists them"


def _convert(field: Field, given: object, where: str) -> object:
    try:
        value: object = msgspec.convert(given, field.type, strict=False)
        if field.check is not None:
            for each in typing.cast("list[str]", value if field.repeats else [value]):
                field.check(each)
    except msgspec.ValidationError as error:
        why = str(error).partition(" - at `")[0]
        shown = json.dumps(given, ensure_ascii=False, default=str)
        raise ConfigError(f"{where}: {shown}: {why}; wanted: {field.description}") from None
    except (ConfigError, InvalidNameError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None
    return value
