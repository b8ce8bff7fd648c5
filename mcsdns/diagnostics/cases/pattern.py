"""One line of an expected section -> a pattern of records: `OWNER [TTL] [CLASS] TYPE RDATA`."""

from typing import Final

import msgspec

from mcsdns.dns import name as names
from mcsdns.dns.rdata import (
    LAYOUTS,
    STRINGS,
    class_number,
    normal_field,
    split_fields,
    type_name,
    type_number,
)

ANY_FIELD: Final = "*"


class Pattern(msgspec.Struct, frozen=True):
    """One record that is expected; None stands for anything.

    Attributes:
        text: as the file has it. owner: in wire form and lower case. data: the fields of RDATA.
    """

    text: str
    owner: bytes | None
    ttl: int | None
    rclass: int | None
    rtype: int | None
    data: tuple[str | None, ...]


def read_pattern(text: str) -> Pattern:
    """Read `OWNER [TTL] [CLASS] TYPE RDATA`, where `*` stands for any one field.

    Raises:
        ValueError, InvalidNameError: the text is no record; says why.
    """
    fields = split_fields(text)
    owner, rest = fields[:1], fields[1:]
    ttl = rclass = rtype = None
    rest = _without_any(rest)
    if rest and rest[0].isdigit():
        ttl, rest = int(rest[0]), _without_any(rest[1:])
    if rest and (number := class_number(rest[0])) is not None:
        rclass, rest = number, rest[1:]
    if len(rest) < 2:  # noqa: PLR2004 - type and at least one field
        raise ValueError(f"{text!r} is not OWNER [TTL] [CLASS] TYPE RDATA")
    if rest[0] != ANY_FIELD:
        rtype = type_number(rest[0])
    return Pattern(
        text=" ".join(fields),
        owner=None if owner == [ANY_FIELD] else names.from_text(owner[0]),
        ttl=ttl,
        rclass=rclass,
        rtype=rtype,
        data=tuple(_read_rdata(rtype, rest[1:])),
    )


def _without_any(fields: list[str]) -> list[str]:
    """Leave out a `*` for TTL or class: one that a class or a type follows."""
    if len(fields) > 2 and fields[0] == ANY_FIELD and _is_class_or_type(fields[1]):  # noqa: PLR2004
        return fields[1:]
    return fields


def _is_class_or_type(text: str) -> bool:
    try:
        return class_number(text) is not None or type_number(text) > 0
    except ValueError:
        return False


def _read_rdata(rtype: int | None, fields: list[str]) -> list[str | None]:
    """Give fields the spelling that replies are shown with."""
    layout = LAYOUTS.get(rtype) if rtype is not None else None
    if layout is None:
        return [None if field == ANY_FIELD else field for field in fields]
    assert rtype is not None
    kinds = layout if layout != STRINGS else STRINGS * len(fields)
    if len(kinds) != len(fields):
        raise ValueError(
            f"{type_name(rtype)} has {len(kinds)} fields of data, not {len(fields)}: "
            f"{' '.join(fields)}"
        )
    return [
        None if field == ANY_FIELD else normal_field(kind, field)
        for kind, field in zip(kinds, fields, strict=True)
    ]
