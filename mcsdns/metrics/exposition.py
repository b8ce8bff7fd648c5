"""One snapshot -> what Prometheus scrapes, in the format it asks for.

Nothing is put into the global registry of prometheus_client. Its encoders are given a hundred
samples at a time, so that whoever renders can let queries have their turn in between.
"""

import copy
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain
from typing import Final

import prometheus_client
from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mcsdns.metrics.collector import families
from mcsdns.metrics.snapshot import Snapshot

Rendered = tuple[bytes, str]
"""A body and its content type."""
Encode = Callable[[Collector], bytes]

_PROCESS: Final = ProcessCollector(registry=None)
_AT_ONCE: Final = 100
"""Samples; a millisecond at most."""
_END: Final = b"# EOF\n"


def render(snapshot: Snapshot, accept: str) -> Rendered:
    """Return the body and its content type; `accept` is the header of the request, or empty."""
    work = rendering(snapshot, accept)
    while True:
        try:
            next(work)
        except StopIteration as done:
            rendered: Rendered = done.value
            return rendered


def rendering(snapshot: Snapshot, accept: str) -> Generator[None, None, Rendered]:
    """Do what `render` does, and yield wherever a turn may end."""
    encode, content_type = _encoder(accept)
    is_open = encode(_Families(())) == _END
    parts: list[bytes] = []
    for family in chain(families(snapshot), _PROCESS.collect()):
        for part in _encoded(family, encode):
            parts.append(part)
            yield
    if is_open:
        parts.append(_END)
    return b"".join(parts), content_type


class _Families(Collector):
    """What an encoder asks for the families that it is to write."""

    def __init__(self, found: Iterable[prometheus_client.Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[prometheus_client.Metric]:
        return self._found


def _encoder(accept: str) -> tuple[Encode, str]:
    """Choose the format; who asks for what cannot be understood gets the oldest."""
    try:
        return choose_encoder(accept)
    except (ValueError, TypeError):  # of a version that is none, as it compares what it read
        return choose_encoder("")


def _encoded(family: prometheus_client.Metric, encode: Encode) -> Iterator[bytes]:
    """Write a family part by part; only the first part says what it is."""
    for begin in range(0, len(family.samples), _AT_ONCE):
        part = copy.copy(family)
        part.samples = family.samples[begin : begin + _AT_ONCE]
        text = encode(_Families((part,))).removesuffix(_END)
        yield text if not begin else _without_comments(text)


def _without_comments(text: bytes) -> bytes:
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))
