"""Log lines, as text for people or JSON for machines, on standard error.

Whatever others can cause may be caused a million times, so a server's lines are limited by kind: a
kind is a logger with the text before its fields are put in. The first `_BURST` lines of a kind
within a minute come out, then one at the end of each minute, which has the last of those that were
held back and their number. A line has at most 8 KiB, and nothing in it moves a cursor, begins a
line or turns the direction of writing. Not limited: what the operator alone causes (start, reload,
stop), the query log, which has a measure of its own, and commands that end by themselves.
"""

import datetime
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes of every record; all others came by `extra`."""
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    code: f"\\u{code:04x}"
    for code in (*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF)
}
"""Control characters are shown, so that names and objects make no lines and no colours."""
_MOST_BYTES: Final = 8 << 10
_WINDOW_S: Final = 60.0
_BURST: Final = 20
_MOST_KINDS: Final = 512
_UNLIMITED: Final = ("mcsdns.app.", "mcsdns.web.listener", "mcsdns.server.query_log")


class _Kind:
    """The lines of one kind in the minute that began at `begin_s`."""

    __slots__ = ("begin_s", "held", "last", "passed")

    def __init__(self, begin_s: float, passed: int = 0) -> None:
        self.begin_s = begin_s
        self.passed = passed
        self.held = 0
        self.last = ""


_Key = tuple[str, int, str]


class Limit(logging.Filter):
    """Holds lines of one handler back, and says how many (see above).

    Attributes:
        held: how many lines were held back since the start.
    """

    def __init__(
        self, handler: logging.Handler, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take what writes lines, and a clock in seconds."""
        super().__init__()
        self.held = 0
        self._handler = handler
        self._clock = clock
        self._kinds: dict[_Key, _Kind] = {}
        self._lock = threading.RLock()
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line comes out now."""
        if record.name.startswith(_UNLIMITED):
            return True
        with self._lock:
            self.tell()
            key = _kind_of(record)
            kind = self._kinds.get(key)
            if kind is None:
                if len(self._kinds) >= _MOST_KINDS:
                    self._end(next(iter(self._kinds)))
                kind = self._kinds[key] = _Kind(self._clock())
            if kind.passed < _BURST:
                kind.passed += 1
                return True
            kind.held += 1
            kind.last = _cut(record.getMessage(), _MOST_BYTES // 2)
            self.held += 1
            return False

    def tell(self, *, at_end: bool = False) -> None:
        """Say how many were held back in the minutes that are over, or until now."""
        now_s = self._clock()
        if now_s < self._next_s and not at_end:
            return
        self._next_s = now_s + 1.0
        with self._lock:
            for key, kind in list(self._kinds.items()):
                if now_s >= kind.begin_s + _WINDOW_S or at_end:
                    self._end(key)

    def _end(self, key: _Key) -> None:
        """End the minute of a kind; one that was held back has no other burst in the next."""
        kind = self._kinds.pop(key)
        if not kind.held:
            return
        text = kind.last
        if kind.held > 1:
            text += f" ... and {kind.held - 1:,} more of the kind in the last minute"
        name, level, _ = key
        line = {"name": name, "levelno": level, "levelname": logging.getLevelName(level)}
        record = logging.makeLogRecord({**line, "msg": "%s", "args": (text,), "held": kind.held})
        with self._handler.lock or self._lock:
            self._handler.emit(record)
        self._kinds[key] = _Kind(self._clock(), passed=_BURST)


def _kind_of(record: logging.LogRecord) -> _Key:
    """Return what a line is like: for others' loggers, whose texts are made before, who says it."""
    if not record.name.startswith("mcsdns"):
        return record.name, record.levelno, ""
    return record.name, record.levelno, f"{record.msg} {getattr(record, 'reason', '')}"


def _cut(text: str, most_bytes: int) -> str:
    """Return a text, or its beginning and end, in at most so many octets."""
    if len(text) * 4 <= most_bytes:
        return text
    octets = text.encode(errors="backslashreplace")
    if len(octets) <= most_bytes:
        return text
    half = (most_bytes - 64) // 2
    ends = (octets[:half].decode(errors="ignore"), octets[-half:].decode(errors="ignore"))
    return f"{ends[0]} ... ({len(octets) - 2 * half:,} octets) ... {ends[1]}"


class _TextFormatter(logging.Formatter):
    """Time in UTC (RFC 3339), level and message, on one line; a fault's lines are set in."""

    def format(self, record: logging.LogRecord) -> str:
        return _cut(super().format(record), _MOST_BYTES)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        text = _cut(super().formatMessage(record), _MOST_BYTES)
        return _cut(text.translate(_CONTROLS), _MOST_BYTES)

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401 - as it is declared
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {line.translate(_CONTROLS)}" for line in lines)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _JsonFormatter(_TextFormatter):
    """One JSON object a line: time, level, logger, message and the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(record.getMessage(), _MOST_BYTES),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = logging.Formatter.formatException(self, record.exc_info)
        text = json.dumps(line, default=str)
        while len(text) > _MOST_BYTES:  # characters are octets here: all others are escaped
            sizes = {key: len(json.dumps(value, default=str)) for key, value in line.items()}
            longest = max(sizes, key=lambda key: sizes[key])
            value = line[longest] if isinstance(line[longest], str) else str(line[longest])
            line[longest] = f"{value[: len(value) // 2 - 8]} ..."
            text = json.dumps(line, default=str)
        return text


def configure(log_format: str, level: str, *, is_limited: bool = False) -> None:
    """Send all logging to standard error in one format, limited where it is a server's."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(_TextFormatter("%(asctime)s %(levelname)s %(message)s"))
    if is_limited:
        limit = Limit(handler)
        limit.held = held()
        handler.addFilter(limit)
    tell(at_end=True)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


def tell(*, at_end: bool = False) -> None:
    """Say what was held back in the minutes that are over, or until now."""
    for limit in _limits():
        limit.tell(at_end=at_end)


def held() -> int:
    """Return how many lines were held back since the start."""
    return sum(limit.held for limit in _limits())


def _limits() -> list[Limit]:
    filters = (each for handler in logging.getLogger().handlers for each in handler.filters)
    return [each for each in filters if isinstance(each, Limit)]
