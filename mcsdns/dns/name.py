r"""Domain names: the only place that knows how labels are laid out and escaped.

A `Name` is the uncompressed wire form (RFC 1035, 3.1) in lower case, root label included, so it
is hashable, comparable and always within the limits. Case is folded for ASCII only (RFC 4343).
No wire message, no record and no zone is known here.
"""

import re
from collections.abc import Iterable
from typing import NewType

from mcsdns.errors import InvalidNameError

Name = NewType("Name", bytes)
"""Absolute name in wire form, lower case: b"\\x03www\\x07example\\x00"."""

ROOT = Name(b"\0")
SVC = b"\x03svc"
"""The label between the namespaces and the zone (KEP-1645 specification, 2.3)."""
MAX_LABEL_BYTES = 63
MAX_NAME_BYTES = 255

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_ESCAPE = re.compile(rb"\\([0-9]{3}|[^0-9])", re.DOTALL)
_UNESCAPED_DOT = re.compile(rb"\.|((?:\\[0-9]{3}|\\[^0-9]|[^.\\])+)|\\", re.DOTALL)


def is_dns_label(text: str) -> bool:
    """Return whether `text` is a lower-case DNS label as Kubernetes uses the word (RFC 1123)."""
    return _LABEL.fullmatch(text) is not None


def wire_label(text: str) -> bytes:
    """Return one label in wire form, from text that is known to be ASCII and short enough."""
    return bytes((len(text),)) + text.encode("ascii")


def service_name(service: bytes, zone: Name) -> Name:
    """Return `<svc>.<ns>.svc.<zone>`; `service` is the first two labels in wire form."""
    return Name(service + SVC + zone)


def from_labels(labels: Iterable[bytes]) -> Name:
    """Build a name from its labels, without the root; folds case.

    Raises:
        InvalidNameError: a label is empty or over 63 octets, or the name is over 255.
    """
    parts = bytearray()
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL_BYTES:
            raise InvalidNameError(
                f"a label has {len(label)} octets; 1 to {MAX_LABEL_BYTES} are allowed"
            )
        parts.append(len(label))
        parts += label
    parts.append(0)
    if len(parts) > MAX_NAME_BYTES:
        raise InvalidNameError(f"the name has {len(parts)} octets; {MAX_NAME_BYTES} are allowed")
    return Name(bytes(parts).lower())


def wire_from_text(text: str) -> bytes:
    r"""Read presentation form (RFC 1035, 5.1: `\.` and `\DDD`) into wire form, keeping the case.

    A name is taken as absolute whether or not it ends in a dot.

    Raises:
        InvalidNameError: an empty or long label, a long name or a bad escape.
    """
    raw = text.encode("utf-8", "surrogateescape")
    if raw in {b".", b""}:
        return ROOT
    wire = bytearray()
    for label in _split(raw):
        if not 0 < len(label) <= MAX_LABEL_BYTES:
            raise InvalidNameError(
                f"{text!r}: a label has {len(label)} octets; 1 to {MAX_LABEL_BYTES} are allowed"
            )
        wire.append(len(label))
        wire += label
    wire.append(0)
    if len(wire) > MAX_NAME_BYTES:
        raise InvalidNameError(f"{text!r}: {len(wire)} octets; {MAX_NAME_BYTES} are allowed")
    return bytes(wire)


def from_text(text: str) -> Name:
    """Read presentation form into a `Name`; see `wire_from_text`."""
    return Name(wire_from_text(text).lower())


def to_text(wire: bytes) -> str:
    """Write a name in presentation form, with the trailing dot."""
    if wire == ROOT:
        return "."
    return "".join(_escape(label) + "." for label in labels_of(wire))


def labels_of(wire: bytes) -> tuple[bytes, ...]:
    """Return the labels of a name in wire form, leftmost first, without the root."""
    labels: list[bytes] = []
    at = 0
    while at < len(wire) and (length := wire[at]):
        labels.append(wire[at + 1 : at + 1 + length])
        at += 1 + length
    return tuple(labels)


def is_at_or_below(name: Name, zone: Name) -> bool:
    """Return whether `name` is `zone` or stands below it."""
    if not name.endswith(zone):
        return False
    at, start = 0, len(name) - len(zone)
    while at < start:
        at += 1 + name[at]
    return at == start


def _split(raw: bytes) -> list[bytes]:
    labels: list[bytes] = []
    pieces = raw[:-1] if raw.endswith(b".") and not _ends_escaped(raw) else raw
    current = b""
    for match in _UNESCAPED_DOT.finditer(pieces):
        if match.group() == b".":
            labels.append(current)
            current = b""
        elif match.group() == b"\\":
            raise InvalidNameError(
                f"{raw!r}: a backslash is followed by three digits or a character"
            )
        else:
            current = _ESCAPE.sub(_unescape, match.group())
    labels.append(current)
    return labels


def _ends_escaped(raw: bytes) -> bool:
    stem = raw[:-1]
    return (len(stem) - len(stem.rstrip(b"\\"))) % 2 == 1


def _unescape(match: re.Match[bytes]) -> bytes:
    body = match.group(1)
    if len(body) < 3:  # noqa: PLR2004 - `\X` against `\DDD`
        return body
    if int(body) > 255:  # noqa: PLR2004 - an octet
        raise InvalidNameError(f"\\{body.decode()}: no octet has that value")
    return bytes((int(body),))


def _escape(label: bytes) -> str:
    return "".join(
        f"\\{chr(octet)}"
        if octet in b'."\\;()@$'
        else chr(octet)
        if 0x21 <= octet <= 0x7E  # noqa: PLR2004 - printable ASCII
        else f"\\{octet:03d}"
        for octet in label
    )
