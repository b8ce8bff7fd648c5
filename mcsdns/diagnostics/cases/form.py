"""A case file's text -> rows that can be asked and compared; every mistake with its line.

No question is asked here. What may stand in a file: tests/cases/README.md and docs/ci.md.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from mcsdns import yaml_text
from mcsdns.dns import MAX_UDP_BYTES, rdata
from mcsdns.dns import name as names
from mcsdns.dns.message_reader import QuestionEntry, Record
from mcsdns.dns.request import Request, Transport
from mcsdns.dns.types import OPTION, Rcode, RRClass
from mcsdns.errors import CasesError, InvalidNameError
from mcsdns.yaml_text import Document

SUFFIXES: Final = (".yaml", ".yml")
ANY_FIELD: Final = "*"
_UNKNOWN_KEY = re.compile(r"Object contains unknown field `(.*)`")
_RCODE_NUMBER = re.compile(r"RCODE([0-9]{1,4})")

Octet = Annotated[int, Meta(ge=0, le=0xFF)]
Uint16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
FlagName = Literal["qr", "aa", "tc", "rd", "ra", "z", "ad", "cd"]


class Question:
    """A question, read from `NAME [CLASS] TYPE`.

    Attributes:
        text: as the file has it. entry: what is asked, and what the reply must repeat.
    """

    def __init__(self, text: str) -> None:
        """Read it.

        Raises:
            ValueError, InvalidNameError: the text is no question; says why.
        """
        words = text.split()
        if len(words) not in (2, 3):
            raise ValueError(f"{text!r} is not NAME TYPE or NAME CLASS TYPE")
        qclass = rdata.class_number(words[1]) if len(words) == 3 else RRClass.IN  # noqa: PLR2004
        if qclass is None:
            raise ValueError(f"{words[1]!r} is no class; write IN, CH or CLASS255")
        self.text = text
        self.entry = QuestionEntry(
            names.wire_from_text(words[0]), rdata.type_number(words[-1]), qclass
        )


class Pattern:
    """One record that is expected, read from `OWNER [TTL] [CLASS] TYPE RDATA`.

    In the text `*` stands for any one field. What is None matches anything.

    Attributes:
        text: as the file has it. owner: in wire form and lower case. data: the fields of RDATA.
    """

    def __init__(self, text: str) -> None:
        """Read it.

        Raises:
            ValueError, InvalidNameError: the text is no record; says why.
        """
        fields = rdata.split_fields(text)
        owner, rest = fields[:1], _without_any(fields[1:])
        ttl = rclass = rtype = None
        if rest and rest[0].isdigit():
            ttl, rest = int(rest[0]), _without_any(rest[1:])
        if rest and (number := rdata.class_number(rest[0])) is not None:
            rclass, rest = number, rest[1:]
        if len(rest) < 2:  # noqa: PLR2004 - type and at least one field
            raise ValueError(f"{text!r} is not OWNER [TTL] [CLASS] TYPE RDATA")
        if rest[0] != ANY_FIELD:
            rtype = rdata.type_number(rest[0])
        self.text = " ".join(fields)
        self.owner = None if owner == [ANY_FIELD] else names.from_text(owner[0])
        self.ttl, self.rclass, self.rtype = ttl, rclass, rtype
        self.data = tuple(_read_rdata(rtype, rest[1:]))

    def matches(self, record: Record) -> bool:
        """Return whether a record is one that is expected here."""
        return (
            self.owner in (None, record.owner.lower())
            and self.ttl in (None, record.ttl)
            and self.rclass in (None, record.rclass)
            and self.rtype in (None, record.rtype)
            and len(self.data) == len(record.data)
            and all(want in (None, got) for want, got in zip(self.data, record.data, strict=True))
        )


def _without_any(fields: list[str]) -> list[str]:
    """Leave out a `*` for TTL or class: one that a class or a type follows."""
    if len(fields) > 2 and fields[0] == ANY_FIELD and _is_class_or_type(fields[1]):  # noqa: PLR2004
        return fields[1:]
    return fields


def _is_class_or_type(text: str) -> bool:
    try:
        return rdata.class_number(text) is not None or rdata.type_number(text) > 0
    except ValueError:
        return False


def _read_rdata(rtype: int | None, fields: list[str]) -> list[str | None]:
    """Give fields the spelling that replies are shown with."""
    layout = rdata.LAYOUTS.get(rtype) if rtype is not None else None
    if layout is None:
        return [None if field == ANY_FIELD else field for field in fields]
    assert rtype is not None
    kinds = layout if layout != rdata.STRINGS else rdata.STRINGS * len(fields)
    if len(kinds) != len(fields):
        raise ValueError(
            f"{rdata.type_name(rtype)} has {len(kinds)} fields of data, not {len(fields)}: "
            f"{' '.join(fields)}"
        )
    return [
        None if field == ANY_FIELD else rdata.normal_field(kind, field)
        for kind, field in zip(kinds, fields, strict=True)
    ]


class RcodeNumber(int):
    """A response code, read from its name or `RCODE9`."""

    @classmethod
    def from_text(cls, text: str) -> "RcodeNumber":
        """Read it.

        Raises:
            ValueError: the text is no response code.
        """
        if match := _RCODE_NUMBER.fullmatch(text):
            return cls(match[1])
        if text not in Rcode.__members__:
            raise ValueError(f"{text!r} is no rcode; write one of {', '.join(Rcode.__members__)}")
        return cls(Rcode[text])


class Octets(bytes):
    """Octets, read from hexadecimal digits."""


class Line(str):
    """Text on one line, however the file folds it."""

    __slots__ = ()


class Option(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An EDNS option to send: its code, and its content in hexadecimal digits."""

    code: Uint16
    hex: Octets = Octets()


class With(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a question is asked; the fields are those of `Request`."""

    edns: bool = True
    size: Uint16 = MAX_UDP_BYTES
    version: Octet = 0
    do: bool = False
    options: tuple[Option, ...] = ()
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
    """One question and the reply it must get, as it stands in a file; None is not compared."""

    ask: Question
    why: Line = Line()
    spec: Line = Line()
    asked_with: With = msgspec.field(name="with", default=With())
    transport: Literal["udp", "tcp", "both"] = "both"
    rcode: RcodeNumber = RcodeNumber(Rcode.NOERROR)
    flags: tuple[FlagName, ...] | None = None
    answer: tuple[Pattern, ...] = ()
    authority: tuple[Pattern, ...] | None = None
    additional: tuple[Pattern, ...] | None = None
    edns: ExpectedEdns | Literal["none"] | None = None
    ede: ExpectedEde | Literal["none"] | None = None


class Row(Case, frozen=True, kw_only=True):
    """A case and where it stands."""

    file: str
    line: int

    @property
    def request(self) -> Request:
        """What is to be sent."""
        how = msgspec.structs.asdict(self.asked_with)
        how["options"] = b"".join(
            OPTION.pack(option.code, len(option.hex)) + option.hex
            for option in self.asked_with.options
        )
        return Request(**msgspec.structs.asdict(self.ask.entry), **how)

    @property
    def transports(self) -> tuple[Transport, ...]:
        """The transports to ask over."""
        return tuple(each for each in Transport if self.transport in (each, "both"))


class CaseFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole file, as it is written."""

    cases: list[Case]
    manifests: list[str] = []
    settings: dict[str, Any] = {}


class Rows(msgspec.Struct, frozen=True):
    """A whole file.

    Attributes:
        manifests: paths, seen from where we run. settings: keys of the config file.
        settings_at: where the settings stand, for errors in them.
    """

    file: str
    rows: tuple[Row, ...]
    manifests: list[str]
    settings: dict[str, Any]
    settings_at: str


_READERS: Final[dict[type, Callable[[str], object]]] = {
    Question: Question,
    Pattern: Pattern,
    RcodeNumber: RcodeNumber.from_text,
    Octets: Octets.fromhex,
    Line: lambda text: Line(" ".join(text.split())),
}


def find_files(paths: Iterable[str]) -> list[str]:
    """Return the case files that paths name: files, and the YAML files right inside folders.

    Raises:
        CasesError: a path does not exist, or a folder has no such file.
    """
    found: list[str] = []
    for path in paths:
        try:
            inside = sorted(os.listdir(path)) if os.path.isdir(path) else []
        except OSError as error:
            raise CasesError(f"{path}: {error.strerror}") from None
        files = [os.path.join(path, name) for name in inside if name.endswith(SUFFIXES)]
        if os.path.isdir(path) and not files:
            raise CasesError(f"{path}: no .yaml file in this folder; name a file of cases")
        found += files or [path]
    return found


def load(path: str) -> Rows:
    """Read one case file.

    Raises:
        CasesError: it cannot be read, or is not of the documented form; says where.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise CasesError(f"{path}: {error.strerror}; name a YAML file of cases") from None
    except UnicodeDecodeError:
        raise CasesError(f"{path}: not UTF-8 text; name a YAML file of cases") from None
    return parse(text, path)


def parse(text: str, path: str) -> Rows:
    """Read the text of a case file; see `load`."""
    document = _document(text, path)

    def at(place: str) -> str:
        return f"{path}:{document.lines_of([place])[place]}: {place}"

    for repeated in document.repeated:
        raise CasesError(f"{at(repeated)}: the key stands there twice")
    try:
        file = msgspec.convert(document.value, CaseFile, dec_hook=_read)
    except msgspec.ValidationError as error:
        place, why = _told(str(error))
        raise CasesError(f"{at(place)}: {why}") from None
    lines = document.lines_of(f"$.cases[{number}]" for number in range(len(file.cases))).values()
    rows = [
        Row(**msgspec.structs.asdict(case), file=path, line=line)
        for case, line in zip(file.cases, lines, strict=True)
    ]
    manifests = [os.path.join(os.path.dirname(path), each) for each in file.manifests]
    return Rows(path, tuple(rows), manifests, file.settings, at("$.settings"))


def _document(text: str, path: str) -> Document:
    """Read the one document of a case file."""
    documents: list[Document] = []
    for document in yaml_text.read(text):
        if not isinstance(document, Document):
            raise CasesError(f"{path}:{document.line}: not YAML: {document.why}")
        documents.append(document)
    if len(documents) > 1:
        line = documents[1].line
        raise CasesError(f"{path}:{line}: a case file is one document; move the rest to another")
    return documents[0] if documents else Document(None, "$", "", 0, 1, [])


def _read(form: type, given: object) -> object:
    """Read the text of a question, a record, a response code or octets."""
    try:
        return _READERS[form](msgspec.convert(given, str))
    except (InvalidNameError, msgspec.ValidationError) as error:
        raise ValueError(str(error)) from None


def _told(error: str) -> tuple[str, str]:
    """Return the place that an error of msgspec is about, and what is wrong there."""
    why, _, path = error.rpartition(" - at `")
    why, path = (why, path.removesuffix("`")) if why else (error, "$")
    unknown = _UNKNOWN_KEY.fullmatch(why)
    if unknown is None:
        return path, why
    close = difflib.get_close_matches(unknown[1], _keys_of(path), 1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return f"{path}.{unknown[1]}", f"no such key{hint}"


def _keys_of(path: str) -> list[str]:
    """Return the keys that may stand in the mapping at a path."""
    last = path.rpartition(".")[2].partition("[")[0]
    structs: dict[str, type[msgspec.Struct]] = {
        "$": CaseFile,
        "cases": Case,
        "with": With,
        "options": Option,
        "edns": ExpectedEdns,
        "ede": ExpectedEde,
    }
    return [field.encode_name for field in msgspec.structs.fields(structs.get(last, Case))]
