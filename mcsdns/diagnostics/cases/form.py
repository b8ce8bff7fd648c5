"""A case file's text -> rows that can be asked and compared; every mistake with its line.

No question is asked here. What may stand in a file: tests/cases/README.md and docs/ci.md.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from mcsdns import yaml_text
from mcsdns.diagnostics.cases.pattern import Pattern, read_pattern
from mcsdns.dns import MAX_UDP_BYTES
from mcsdns.dns import name as names
from mcsdns.dns.rdata import (
    class_number,
    type_number,
)
from mcsdns.dns.request import Request, Transport
from mcsdns.dns.types import Rcode, RRClass
from mcsdns.errors import CasesError, InvalidNameError
from mcsdns.yaml_text import Document

SUFFIXES: Final = (".yaml", ".yml")
_UNKNOWN_KEY = re.compile(r"Object contains unknown field `(.*)`")
_RCODE_NUMBER = re.compile(r"RCODE([0-9]{1,4})")

T = TypeVar("T")
Octet = Annotated[int, Meta(ge=0, le=0xFF)]
Uint16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
FlagName = Literal["qr", "aa", "tc", "rd", "ra", "z", "ad", "cd"]


class Option(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An EDNS option to send: its code, and its content in hexadecimal digits."""

    code: Uint16
    hex: str = ""


class With(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a question is asked; the fields are those of `Request`."""

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


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One case, ready to be asked.

    Attributes:
        file, line: where it stands. asked: the question, for people.
        answer: patterns; of authority and additional, None means: not compared.
    """

    file: str
    line: int
    why: str
    spec: str
    asked: str
    request: Request
    transports: tuple[Transport, ...]
    rcode: int
    flags: frozenset[str] | None
    answer: tuple[Pattern, ...]
    authority: tuple[Pattern, ...] | None
    additional: tuple[Pattern, ...] | None
    edns: ExpectedEdns | str | None
    ede: ExpectedEde | str | None


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
    place = _Place(path, document)
    for repeated in document.repeated:
        raise place.inside(repeated).error("the key stands there twice")
    file = _convert(place, document.value)
    starts = document.lines_of(f"$.cases[{number}]" for number in range(len(file.cases)))
    rows = tuple(
        _row(case, place.inside(start), line)
        for case, (start, line) in zip(file.cases, starts.items(), strict=True)
    )
    folder = os.path.dirname(path)
    manifests = [os.path.join(folder, each) for each in file.manifests]
    settings_at = f"{path}:{place.line('$.settings')}: $.settings"
    return Rows(path, rows, manifests, file.settings, settings_at)


def _document(text: str, path: str) -> Document:
    """Read the one document of a case file."""
    documents: list[Document] = []
    for document in yaml_text.read(text):
        if not isinstance(document, Document):
            raise CasesError(f"{path}:{document.line}: not YAML: {document.why}")
        documents.append(document)
    if not documents:
        documents.append(Document(None, "$", "", 0, 1, []))
    if len(documents) > 1:
        line = documents[1].line
        raise CasesError(f"{path}:{line}: a case file is one document; move the rest to another")
    return documents[0]


class _Place:
    """A place in a file: makes the errors that say where it is."""

    def __init__(self, file: str, document: Document, path: str = "$") -> None:
        self.file = file
        self._document = document
        self._path = path

    def inside(self, path: str) -> "_Place":
        return _Place(self.file, self._document, path)

    def line(self, path: str) -> int:
        return self._document.lines_of([path])[path]

    def error(self, why: object, below: str = "") -> CasesError:
        path = self._path + below
        return CasesError(f"{self.file}:{self.line(path)}: {path}: {why}")

    def read(self, below: str, read: Callable[[str], T], text: str) -> T:
        """Read a text; an error says where it stands."""
        try:
            return read(text)
        except (ValueError, InvalidNameError) as error:
            raise self.error(error, below) from None


def _convert(place: _Place, plain: object) -> CaseFile:
    try:
        return msgspec.convert(plain, CaseFile)
    except msgspec.ValidationError as error:
        why, _, path = str(error).rpartition(" - at `")
        why, path = (why, path.rstrip("`")) if why else (str(error), "$")
        unknown = _UNKNOWN_KEY.fullmatch(why)
        if unknown is None:
            raise place.inside(path).error(why) from None
        close = difflib.get_close_matches(unknown[1], _keys_of(path), 1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        raise place.inside(f"{path}.{unknown[1]}").error(f"no such key{hint}") from None


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


def _row(case: Case, place: _Place, line: int) -> Row:
    qname, qclass, qtype = place.read(".ask", read_ask, case.ask)
    sections = {
        section: None
        if texts is None
        else tuple(
            place.read(f".{section}[{number}]", read_pattern, text)
            for number, text in enumerate(texts)
        )
        for section, texts in (
            ("answer", case.answer),
            ("authority", case.authority),
            ("additional", case.additional),
        )
    }
    return Row(
        file=place.file,
        line=line,
        why=" ".join(case.why.split()),
        spec=" ".join(case.spec.split()),
        asked=case.ask,
        request=_request(case.asked_with, qname, qclass, qtype, place),
        transports=tuple(t for t in Transport if case.transport in (t, "both")),
        rcode=place.read(".rcode", _read_rcode, case.rcode),
        flags=None if case.flags is None else frozenset(case.flags),
        answer=sections["answer"] or (),
        authority=sections["authority"],
        additional=sections["additional"],
        edns=case.edns,
        ede=case.ede,
    )


def _request(how: With, name: bytes, qclass: int, qtype: int, place: _Place) -> Request:
    options = b""
    for number, option in enumerate(how.options):
        content = place.read(f".with.options[{number}].hex", bytes.fromhex, option.hex)
        options += option.code.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content
    others = msgspec.structs.asdict(how)
    del others["options"]
    return Request(name=name, qtype=qtype, qclass=qclass, options=options, **others)


def read_ask(text: str) -> tuple[bytes, int, int]:
    """Read `NAME [CLASS] TYPE`: the name in wire form, class and type.

    Raises:
        ValueError, InvalidNameError: the text is no question; says why.
    """
    words = text.split()
    if len(words) not in (2, 3):
        raise ValueError(f"{text!r} is not NAME TYPE or NAME CLASS TYPE")
    qclass = class_number(words[1]) if len(words) == 3 else RRClass.IN  # noqa: PLR2004
    if qclass is None:
        raise ValueError(f"{words[1]!r} is no class; write IN, CH or CLASS255")
    return names.wire_from_text(words[0]), qclass, type_number(words[-1])


def _read_rcode(text: str) -> int:
    match = _RCODE_NUMBER.fullmatch(text)
    if match:
        return int(match[1])
    if text not in Rcode.__members__:
        raise ValueError(f"{text!r} is no rcode; write one of {', '.join(Rcode.__members__)}")
    return Rcode[text]
