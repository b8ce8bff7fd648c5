"""The form of a case file, one struct for each mapping of the YAML; docs/ci.md explains it.

A key that is not here is an error. What the texts in it mean is for `form`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mcsdns.dns import MAX_UDP_BYTES

Octet = Annotated[int, Meta(ge=0, le=0xFF)]
Uint16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
FlagName = Literal["qr", "aa", "tc", "rd", "ra", "z", "ad", "cd"]


class Option(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An EDNS option to send: its code, and its content in hexadecimal digits."""

    code: Uint16
    hex: str = ""


class With(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a question is asked."""

    edns: bool = True
    size: Uint16 = MAX_UDP_BYTES
    version: Octet = 0
    do: bool = False
    options: list[Option] = []
    rd: bool = True
    cd: bool = False
    ad: bool = False


class ExpectedEdns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The OPT record of the reply; what is left out is not compared, `options` are codes."""

    size: Uint16 | None = None
    version: Octet | None = None
    do: bool | None = None
    options: list[Uint16] | None = None


class ExpectedEde(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Extended DNS Error of the reply; `text` is a part of its text."""

    code: Uint16 | None = None
    text: str | None = None


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One question and the reply it must get."""

    ask: str
    why: str = ""
    spec: str = ""
    asked_with: With = msgspec.field(name="with", default=With())
    transport: Literal["udp", "tcp", "both"] = "both"
    rcode: str = "NOERROR"
    flags: list[FlagName] | None = None
    answer: list[str] = []
    authority: list[str] | None = None
    additional: list[str] | None = None
    edns: ExpectedEdns | Literal["none"] | None = None
    ede: ExpectedEde | Literal["none"] | None = None


class CaseFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole file."""

    cases: list[Case]
    manifests: list[str] = []
    settings: dict[str, Any] = {}
