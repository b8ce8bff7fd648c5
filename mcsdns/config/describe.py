"""The schema, a setting at a time, as flags, variables, keys and their pages need it."""

import typing
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Meta

from mcsdns.config.schema import Settings

ENVIRONMENT_PREFIX: Final = "MCSDNS_"


class Field(msgspec.Struct, frozen=True):
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
    description: str
    placeholder: str
    bounds: str

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def default_text(self) -> str:
        """The default for people; empty where there is none, or the description tells it."""
        if self.default in ([], None, "", False) or "(default" in self.description:
            return ""
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return ", ".join(map(str, self.default)) if self.repeats else str(self.default)


def fields() -> Iterator[Field]:
    """Iterate over the schema."""
    hints = typing.get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        base, meta = typing.get_args(hints[field.name])
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = typing.cast("Callable[[], Any]", field.default_factory)()
        yield Field(
            field.name,
            hints[field.name],
            typing.get_origin(base) is list,
            base is bool,
            default,
            meta.description,
            meta.examples[0],
            _bounds(meta),
        )


def _bounds(meta: Meta) -> str:
    least = meta.ge if meta.gt is None else f"above {meta.gt}"
    most = meta.le
    if least is None:
        return ""
    return f"{least} to {most}" if most is not None else f"at least {least}"
