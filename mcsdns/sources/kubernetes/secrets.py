"""Our credentials, and what peers say without them: who echoes a token puts it into no log."""

import contextlib
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

_LEAST: Final = 8
"""Shorter ones would take words out of what is said."""
_LEAST_PART: Final = 16
_MOST: Final = 16
"""A token is renewed now and then; so many are known at once."""
_HIDDEN: Final = "[hidden]"
UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""Whatever msgspec raises for octets that are not the JSON that is wanted."""


class Secrets:
    """The credentials that were sent, the last of them."""

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[str, bytes] = {}
        self._parts: list[str] = []

    def know(self, header: str) -> None:
        """Take the value of an Authorization header."""
        self._add(header.partition(" ")[2].strip() or header.strip())

    def know_proxy(self, url: str) -> None:
        """Take the password of a proxy's URL."""
        try:
            password = urlsplit(url).password
        except ValueError:
            return
        if password:
            self._add(password)
            self._add(unquote(password))

    def hide(self, text: str) -> str:
        """Return a text without them; a part of a token, such as its signature, is one too.

        A text may quote JSON. It is cut after this: half of a token would not be found.
        """
        if "\\" in text:
            plain = _unescaped(text.replace("\\\\", "\\").encode("raw_unicode_escape"))
            if any(part in plain for part in self._parts):
                text = plain
        for part in self._parts:
            text = text.replace(part, _HIDDEN)
        return text

    def hide_octets(self, octets: bytes) -> bytes:
        """Return a JSON document without them, also where it writes characters by number."""
        if b"\\u" in octets or b"\\/" in octets:
            plain = _unescaped(octets)
            if any(secret in plain for secret in self._known):
                with contextlib.suppress(*UNREADABLE):
                    octets = msgspec.json.encode(msgspec.json.decode(octets))  # has no such escapes
        for secret in self._known.values():
            if secret in octets:
                octets = octets.replace(secret, _HIDDEN.encode())
        return octets

    def _add(self, secret: str) -> None:
        if len(secret) < _LEAST or secret in self._known:
            return
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[secret] = secret.encode(errors="surrogateescape")
        parts = (part for each in self._known for part in each.split("."))
        self._parts = [*self._known, *(part for part in parts if len(part) >= _LEAST_PART)]


def _unescaped(json: bytes) -> str:
    """Return JSON in which characters stand for themselves; not JSON any more, but to search in."""
    return json.decode("raw_unicode_escape", "ignore").replace("\\/", "/")
