"""What the reflector asks and tells, by scripts of (message, events, next request, pause)."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import ImportType, Kind, ServiceImport
from mcsdns.sources.kubernetes.reflector import (
    TABLE,
    Bookmark,
    Compare,
    Discover,
    Ended,
    Gone,
    ListPage,
    Message,
    Newest,
    PageEnd,
    Phase,
    Reflector,
    Request,
    Shown,
    Step,
    StreamList,
    Trouble,
    Watch,
    goes_back,
)

KIND = Kind.SERVICE_IMPORT
KEY, OTHER = ("shop", "web"), ("shop", "db")


def an_import(name: str = "web", version: str = "1") -> ServiceImport:
    return ServiceImport(
        namespace="shop",
        name=name,
        type=ImportType.HEADLESS,
        ips=(),
        ports=(),
        clusters=(),
        conditions=(),
        uid="",
        resource_version=version,
        api_version="",
        creation="",
        origin="",
    )


WEB, DB = an_import(), an_import("db")
INIT, DONE = Init(KIND), InitDone(KIND)
READ_ON = Step()
LIST_NOW = Step((INIT,), StreamList())
LIST_LATER = Step((INIT,), StreamList(), pause=True)
PAGES = Step((INIT,), ListPage())
PAGES_LATER = Step((INIT,), ListPage(), pause=True)
PAGE_AGAIN = Step((), ListPage("next"), pause=True)
COMPARE = Step((), Compare())
COMPARE_LATER = Step((), Compare(), pause=True)
WATCH_ON = Step((), Watch("10"))
DISCOVER_LATER = Step((), Discover(), pause=True)

REACHING: dict[Phase, tuple[Message, ...]] = {
    Phase.IDLE: (Trouble.NOT_FOUND,),
    Phase.STREAMING: (),
    Phase.PAGING: (Trouble.NO_END, PageEnd("9", "next")),
    Phase.WATCHING: (Bookmark("10", ends_list=True),),
}
"""What a started reflector hears until it is in a state; a watch is at 10, a page asked for."""


def a_reflector(state: Phase, *, namespace: str = "") -> Reflector:
    reflector = Reflector(KIND, namespace)
    reflector.start()
    for message in REACHING[state]:
        reflector.receive(message)
    assert reflector.state is state
    return reflector


# Failures and ends: every cell of the table.

CELLS: dict[tuple[Phase, Trouble | type[Ended]], Step] = {
    (Phase.STREAMING, Ended): PAGES_LATER,
    (Phase.STREAMING, Trouble.EXPIRED): LIST_LATER,
    (Phase.STREAMING, Trouble.TOO_NEW): LIST_LATER,
    (Phase.STREAMING, Trouble.NOT_SUPPORTED): PAGES,
    (Phase.STREAMING, Trouble.NO_END): PAGES,
    (Phase.STREAMING, Trouble.NOT_FOUND): DISCOVER_LATER,
    (Phase.STREAMING, Trouble.UNAUTHORIZED): LIST_LATER,
    (Phase.STREAMING, Trouble.FORBIDDEN): LIST_LATER,
    (Phase.STREAMING, Trouble.THROTTLED): LIST_LATER,
    (Phase.STREAMING, Trouble.UNAVAILABLE): PAGES_LATER,
    (Phase.STREAMING, Trouble.LOST): PAGES_LATER,
    (Phase.STREAMING, Trouble.DEAD): PAGES_LATER,
    (Phase.STREAMING, Trouble.UNREADABLE): PAGES_LATER,
    (Phase.PAGING, Ended): PAGE_AGAIN,
    (Phase.PAGING, Trouble.EXPIRED): LIST_LATER,
    (Phase.PAGING, Trouble.TOO_NEW): LIST_LATER,
    (Phase.PAGING, Trouble.NOT_SUPPORTED): LIST_LATER,
    (Phase.PAGING, Trouble.NO_END): PAGE_AGAIN,
    (Phase.PAGING, Trouble.NOT_FOUND): DISCOVER_LATER,
    (Phase.PAGING, Trouble.UNAUTHORIZED): PAGE_AGAIN,
    (Phase.PAGING, Trouble.FORBIDDEN): PAGE_AGAIN,
    (Phase.PAGING, Trouble.THROTTLED): PAGE_AGAIN,
    (Phase.PAGING, Trouble.UNAVAILABLE): PAGE_AGAIN,
    (Phase.PAGING, Trouble.LOST): PAGE_AGAIN,
    (Phase.PAGING, Trouble.DEAD): PAGE_AGAIN,
    (Phase.PAGING, Trouble.UNREADABLE): LIST_LATER,
    (Phase.WATCHING, Ended): COMPARE,
    (Phase.WATCHING, Trouble.EXPIRED): LIST_NOW,
    (Phase.WATCHING, Trouble.TOO_NEW): LIST_LATER,
    (Phase.WATCHING, Trouble.NOT_SUPPORTED): LIST_LATER,
    (Phase.WATCHING, Trouble.NO_END): COMPARE_LATER,
    (Phase.WATCHING, Trouble.NOT_FOUND): DISCOVER_LATER,
    (Phase.WATCHING, Trouble.UNAUTHORIZED): COMPARE_LATER,
    (Phase.WATCHING, Trouble.FORBIDDEN): COMPARE_LATER,
    (Phase.WATCHING, Trouble.THROTTLED): COMPARE_LATER,
    (Phase.WATCHING, Trouble.UNAVAILABLE): COMPARE_LATER,
    (Phase.WATCHING, Trouble.LOST): COMPARE_LATER,
    (Phase.WATCHING, Trouble.DEAD): COMPARE_LATER,
    (Phase.WATCHING, Trouble.UNREADABLE): LIST_LATER,
    (Phase.IDLE, Ended): DISCOVER_LATER,
} | {(Phase.IDLE, trouble): DISCOVER_LATER for trouble in Trouble}


def test_every_end_in_every_state_has_a_row() -> None:
    ends = [Ended, *Trouble]
    assert set(CELLS) == {(state, end) for state in Phase for end in ends}
    assert set(TABLE) == set(ends)


@pytest.mark.parametrize(
    ("state", "end", "expected"),
    [
        pytest.param(*cell, step, id=f"{cell[0].name}-{getattr(cell[1], 'name', 'ENDED')}")
        for cell, step in CELLS.items()
    ],
)
def test_after_an_end(state: Phase, end: Trouble | type[Ended], expected: Step) -> None:
    reflector = a_reflector(state)
    assert reflector.receive(Ended() if end is Ended else end) == expected  # type: ignore[arg-type]


# What is read, in each state.

READ: list[tuple[str, Phase, Message, Step]] = [
    ("object of a stream", Phase.STREAMING, Shown(KEY, WEB, "7"), Step((InitApply(WEB),))),
    (
        "not for us, in a stream",
        Phase.STREAMING,
        Shown(KEY, None, "7"),
        Step((Delete(KIND, KEY),)),
    ),
    ("deleted in a stream", Phase.STREAMING, Gone(KEY, "7"), Step((Delete(KIND, KEY),))),
    ("another bookmark first", Phase.STREAMING, Bookmark("7"), PAGES),
    ("end of a stream", Phase.STREAMING, Bookmark("7", ends_list=True), Step((DONE,))),
    ("end of a stream, nowhere", Phase.STREAMING, Bookmark("", ends_list=True), PAGES_LATER),
    ("object of a page", Phase.PAGING, Shown(KEY, WEB, "7"), Step((InitApply(WEB),))),
    ("not for us, in a page", Phase.PAGING, Shown(KEY, None, "7"), Step((Delete(KIND, KEY),))),
    ("deleted in a page", Phase.PAGING, Gone(KEY, "7"), Step((Delete(KIND, KEY),))),
    ("bookmark in a page", Phase.PAGING, Bookmark("7"), READ_ON),
    ("end bookmark in a page", Phase.PAGING, Bookmark("7", ends_list=True), READ_ON),
    ("a page, not the last", Phase.PAGING, PageEnd("9", "more"), Step((), ListPage("more"))),
    ("the last page", Phase.PAGING, PageEnd("9"), Step((DONE,), Watch("9"))),
    ("the last page, nowhere", Phase.PAGING, PageEnd(""), LIST_LATER),
    ("changed", Phase.WATCHING, Shown(KEY, WEB, "11"), Step((Apply(WEB),))),
    (
        "changed, not for us now",
        Phase.WATCHING,
        Shown(KEY, None, "11"),
        Step((Delete(KIND, KEY),)),
    ),
    ("deleted", Phase.WATCHING, Gone(KEY, "11"), Step((Delete(KIND, KEY),))),
    ("bookmark", Phase.WATCHING, Bookmark("11"), READ_ON),
    ("the same bookmark again", Phase.WATCHING, Bookmark("10"), READ_ON),
    ("end bookmark of a watch", Phase.WATCHING, Bookmark("11", ends_list=True), READ_ON),
    ("line below ours", Phase.WATCHING, Shown(KEY, WEB, "9"), LIST_LATER),
    ("line not for us, below", Phase.WATCHING, Shown(KEY, None, "9"), LIST_LATER),
    ("deletion below ours", Phase.WATCHING, Gone(KEY, "9"), LIST_LATER),
    ("bookmark below ours", Phase.WATCHING, Bookmark("9"), LIST_LATER),
    ("shorter, but greater as text", Phase.WATCHING, Bookmark("9"), LIST_LATER),
    ("longer, but less as text", Phase.WATCHING, Bookmark("100"), READ_ON),
    ("not a number", Phase.WATCHING, Bookmark("abc"), READ_ON),
    ("newest is ours", Phase.WATCHING, Newest("10"), WATCH_ON),
    ("newest is newer", Phase.WATCHING, Newest("11"), WATCH_ON),
    ("newest is below ours", Phase.WATCHING, Newest("9"), LIST_LATER),
    ("newest without a version", Phase.WATCHING, Newest(""), WATCH_ON),
    ("newest is no number", Phase.WATCHING, Newest("abc"), WATCH_ON),
    ("line without a version", Phase.WATCHING, Shown(KEY, WEB), Step((Apply(WEB),))),
    ("negative", Phase.WATCHING, Bookmark("-1"), READ_ON),
]


def test_every_message_is_read_in_every_state_it_can_come_in() -> None:
    seen = {(state, type(message)) for _, state, message, _ in READ}
    anywhere = {
        (state, form)
        for state in Phase
        if state is not Phase.IDLE
        for form in (Shown, Gone, Bookmark)
    }
    assert seen == anywhere | {(Phase.PAGING, PageEnd), (Phase.WATCHING, Newest)}


@pytest.mark.parametrize(
    ("state", "message", "expected"),
    [pytest.param(*row, id=f"{row[0].name}-{why}") for why, *row in READ],
)
def test_reading(state: Phase, message: Message, expected: Step) -> None:
    assert a_reflector(state).receive(message) == expected


# Scripts.


class Script(NamedTuple):
    """Why, and what comes in beside what goes out; it begins with a start."""

    why: str
    rows: list[tuple[Message, Step]]


END = Bookmark("10", ends_list=True)
ENDED_AT_10 = (END, Step((DONE,)))

SCRIPTS = [
    Script("a stream and its changes, resumed from the last line", [
        (Shown(KEY, WEB, "3"), Step((InitApply(WEB),))),
        (Shown(OTHER, DB, "4"), Step((InitApply(DB),))),
        ENDED_AT_10,
        (Shown(KEY, WEB, "12"), Step((Apply(WEB),))),
        (Gone(OTHER, "14"), Step((Delete(KIND, OTHER),))),
        (Ended(), COMPARE),
        (Newest("15"), Step((), Watch("14"))),
    ]),
    Script("resumed from a bookmark", [
        ENDED_AT_10,
        (Bookmark("20"), READ_ON),
        (Trouble.LOST, COMPARE_LATER),
        (Newest("20"), Step((), Watch("20"))),
    ]),
    Script("a line without a version changes nothing of where we are", [
        ENDED_AT_10,
        (Shown(KEY, WEB), Step((Apply(WEB),))),
        (Trouble.LOST, COMPARE_LATER),
        (Newest("10"), WATCH_ON),
    ]),
    Script("versions that are no numbers are passed on and not compared", [
        (Bookmark("b", ends_list=True), Step((DONE,))),
        (Shown(KEY, WEB, "a"), Step((Apply(WEB),))),
        (Ended(), COMPARE),
        (Newest("0"), Step((), Watch("a"))),
    ]),
    Script("a server that does not stream is not asked to again", [
        (Trouble.NOT_SUPPORTED, PAGES),
        (PageEnd("10"), Step((DONE,), Watch("10"))),
        (Trouble.EXPIRED, PAGES),
    ]),
    Script("a server that watches instead of listing is asked for pages", [
        (Shown(KEY, WEB, "3"), Step((InitApply(WEB),))),
        (Bookmark("4"), PAGES),
        (PageEnd("10"), Step((DONE,), Watch("10"))),
    ]),
    Script("a stream that breaks off is a list by pages this time", [
        (Trouble.LOST, PAGES_LATER),
        (PageEnd("10"), Step((DONE,), Watch("10"))),
        (Trouble.EXPIRED, LIST_NOW),
        (Ended(), PAGES_LATER),
    ]),
    Script("a stream without an end is given up once", [
        (Shown(KEY, WEB, "3"), Step((InitApply(WEB),))),
        (Trouble.NO_END, PAGES),
        (PageEnd("10"), Step((DONE,), Watch("10"))),
        (Trouble.EXPIRED, LIST_NOW),
    ]),
    Script("a page that failed is asked for again, the list goes on", [
        (Trouble.NOT_SUPPORTED, PAGES),
        (Trouble.UNAVAILABLE, Step((), ListPage(), pause=True)),
        (Shown(KEY, WEB, "3"), Step((InitApply(WEB),))),
        (PageEnd("10", "one"), Step((), ListPage("one"))),
        (Trouble.LOST, Step((), ListPage("one"), pause=True)),
        (Trouble.THROTTLED, Step((), ListPage("one"), pause=True)),
        (Shown(OTHER, DB, "4"), Step((InitApply(DB),))),
        (PageEnd("10", "two"), Step((), ListPage("two"))),
        (PageEnd("10"), Step((DONE,), Watch("10"))),
    ]),
    Script("no token outlives a 410", [
        (Trouble.NOT_SUPPORTED, PAGES),
        (PageEnd("10", "one"), Step((), ListPage("one"))),
        (Trouble.EXPIRED, Step((INIT,), ListPage(), pause=True)),
        (Trouble.LOST, Step((), ListPage(), pause=True)),
    ]),
    Script("a storage restored from a backup: lists anew, at a version below", [
        ENDED_AT_10,
        (Shown(KEY, WEB, "5"), LIST_LATER),
        (Bookmark("5", ends_list=True), Step((DONE,))),
        (Shown(KEY, WEB, "6"), Step((Apply(WEB),))),
        (Ended(), COMPARE),
        (Newest("6"), Step((), Watch("6"))),
    ]),
    Script("a storage restored while nobody watched: lists anew before a watch could be silent", [
        ENDED_AT_10,
        (Trouble.LOST, COMPARE_LATER),
        (Trouble.UNAVAILABLE, COMPARE_LATER),
        (Newest("5"), LIST_LATER),
        (Bookmark("5", ends_list=True), Step((DONE,))),
        (Ended(), COMPARE),
        (Newest("5"), Step((), Watch("5"))),
    ]),
    Script("a stream that ends at no version is a list anew", [
        (Shown(KEY, WEB, "3"), Step((InitApply(WEB),))),
        (Bookmark("", ends_list=True), PAGES_LATER),
        (PageEnd("10"), Step((DONE,), Watch("10"))),
    ]),
    Script("pages that end at no version are a list anew", [
        (Trouble.NOT_SUPPORTED, PAGES),
        (PageEnd("", "one"), Step((), ListPage("one"))),
        (PageEnd(""), Step((INIT,), ListPage(), pause=True)),
        (PageEnd("10"), Step((DONE,), Watch("10"))),
    ]),
    Script("a version of the future: lists anew", [
        ENDED_AT_10,
        (Trouble.TOO_NEW, LIST_LATER),
        (Bookmark("4", ends_list=True), Step((DONE,))),
    ]),
    Script("a list that is broken off begins with an Init again", [
        (Shown(KEY, WEB, "3"), Step((InitApply(WEB),))),
        (Trouble.FORBIDDEN, LIST_LATER),
        (Shown(KEY, WEB, "3"), Step((InitApply(WEB),))),
        (Trouble.LOST, PAGES_LATER),
        (Shown(KEY, WEB, "3"), Step((InitApply(WEB),))),
        (PageEnd("10"), Step((DONE,), Watch("10"))),
    ]),
    Script("nowhere: asks where, again and again, after pauses", [
        ENDED_AT_10,
        (Trouble.NOT_FOUND, DISCOVER_LATER),
        (Trouble.NOT_FOUND, DISCOVER_LATER),
        (Trouble.LOST, DISCOVER_LATER),
    ]),
    Script("an object that becomes unreadable while it is listed is not served", [
        (Shown(KEY, WEB, "3"), Step((InitApply(WEB),))),
        (Shown(KEY, None, "4"), Step((Delete(KIND, KEY),))),
        ENDED_AT_10,
    ]),
]  # fmt: skip


@pytest.mark.parametrize("script", [pytest.param(each, id=each.why) for each in SCRIPTS])
def test_script(script: Script) -> None:
    reflector = Reflector(KIND)
    assert reflector.start() == LIST_NOW
    for number, (message, expected) in enumerate(script.rows):
        assert reflector.receive(message) == expected, f"{script.why}: row {number}"


def test_start_after_discovery_tries_streams_again() -> None:
    reflector = Reflector(KIND)
    reflector.start()
    assert reflector.receive(Trouble.NOT_SUPPORTED) == PAGES
    reflector.receive(Trouble.NOT_FOUND)
    assert reflector.start() == LIST_NOW


def test_nothing_is_asked_before_the_start() -> None:
    reflector = Reflector(KIND)
    assert (reflector.state, reflector.resource_version) == (Phase.IDLE, "")


@pytest.mark.parametrize("namespace", ["", "shop"])
@pytest.mark.parametrize("kind", list(Kind))
def test_list_is_of_its_kind_and_namespace(kind: Kind, namespace: str) -> None:
    reflector = Reflector(kind, namespace)
    assert reflector.start().events == (Init(kind, namespace),)
    assert reflector.receive(END).events == (InitDone(kind, namespace),)
    assert reflector.receive(Trouble.EXPIRED).events == (Init(kind, namespace),)
    assert reflector.receive(Trouble.NO_END).events == (Init(kind, namespace),)
    assert reflector.receive(PageEnd("12")).events == (InitDone(kind, namespace),)
    assert reflector.receive(Gone(KEY, "13")).events == (Delete(kind, KEY),)


def test_resource_version_is_that_of_what_was_told() -> None:
    reflector = a_reflector(Phase.STREAMING)
    reflector.receive(Shown(KEY, WEB, "99"))
    assert reflector.resource_version == ""
    reflector.receive(END)
    assert reflector.resource_version == "10"
    reflector.receive(Bookmark("9"))
    assert reflector.state is Phase.STREAMING
    reflector.receive(Bookmark("9", ends_list=True))
    assert reflector.resource_version == "9"


@pytest.mark.parametrize(
    ("known", "seen", "expected"),
    [
        ("10", "9", True),
        ("10", "10", False),
        ("9", "10", False),
        ("", "1", False),
        ("10", "", False),
        ("x", "1", False),
        ("10", "y", False),
        ("10", "9.5", False),
        ("18446744073709551616", "18446744073709551615", True),
        ("10", "²", False),
        ("010", "9", True),
        ("010", "10", False),
        ("9", "010", False),
        ("0", "000", False),
        ("1", "0", True),
    ],
)
def test_only_numbers_go_back(known: str, seen: str, *, expected: bool) -> None:
    assert goes_back(known, seen) is expected


def test_number_without_measure_is_compared() -> None:
    assert not goes_back("10", "1" * 5000)
    assert goes_back("1" * 5000, "10")


# Properties.

VERSIONS = st.one_of(
    st.integers(0, 30).map(str), st.sampled_from(["", "abc", "-1", "01", "9" * 40]), st.text()
)
KEYS = st.sampled_from([KEY, OTHER])
SEEN = st.builds(Shown, KEYS, st.sampled_from([WEB, DB, None]), VERSIONS)
GONE = st.builds(Gone, KEYS, VERSIONS)
BOOKMARKS = st.builds(Bookmark, VERSIONS, st.booleans())
PAGE_ENDS = st.builds(PageEnd, VERSIONS, st.sampled_from(["", "", "one", "two"]))
ENDS = st.one_of(st.just(Ended()), st.sampled_from(Trouble))
NEWEST = st.builds(Newest, VERSIONS)
MESSAGES = st.one_of(SEEN, GONE, BOOKMARKS, PAGE_ENDS, NEWEST, ENDS)

MAY_COME: dict[Phase, tuple[type[Message], ...]] = {
    Phase.IDLE: (Trouble,),
    Phase.STREAMING: (Shown, Gone, Bookmark, Ended, Trouble),
    Phase.PAGING: (Shown, PageEnd, Trouble),
    Phase.WATCHING: (Shown, Gone, Bookmark, Newest, Ended, Trouble),
}
"""What a driver can tell in a state: the others are left out of a sequence."""


class Listening:
    """Checks that lists have a beginning and an end, and that tokens are those of their list."""

    def __init__(self) -> None:
        self.is_open = False
        self.tokens: set[str] = set()

    def take(self, message: Message | None, step: Step) -> None:
        for event in step.events:
            self.take_event(event)
        if isinstance(message, PageEnd):
            self.tokens.add(message.continue_token)
        self.take_request(step.request, begins=INIT in step.events)

    def take_event(self, event: Event) -> None:
        match event:
            case Init():
                self.is_open, self.tokens = True, set()
            case InitDone():
                assert self.is_open
                self.is_open = False
            case InitApply():
                assert self.is_open
            case Apply():
                assert not self.is_open
            case Delete():
                pass

    def take_request(self, request: Request | None, *, begins: bool) -> None:
        match request:
            case StreamList():
                assert begins
            case ListPage(continue_token=token):
                assert self.is_open
                assert token in self.tokens or not token
            case Watch() | Compare():
                assert not self.is_open
            case _:
                assert not begins


@given(st.lists(MESSAGES, max_size=40))
def test_no_sequence_of_messages_raises(messages: list[Message]) -> None:
    reflector = Reflector(KIND)
    for message in messages:
        reflector.receive(message)
    assert reflector.start().events == (INIT,)


@given(st.lists(MESSAGES, max_size=60))
def test_every_list_has_a_beginning_and_at_most_one_end(messages: list[Message]) -> None:
    reflector, listening = Reflector(KIND), Listening()
    listening.take(None, reflector.start())
    for message in messages:
        if not isinstance(message, MAY_COME[reflector.state]):
            continue
        step = reflector.receive(message)
        listening.take(message, step)
        if isinstance(step.request, Discover):
            assert step.pause
            listening.take(None, reflector.start())


@given(st.lists(MESSAGES, max_size=60))
def test_failure_is_always_followed_by_a_request(messages: list[Message]) -> None:
    reflector = Reflector(KIND)
    reflector.start()
    for message in messages:
        step = reflector.receive(message)
        if isinstance(message, Trouble | Ended):
            assert step.request is not None
        if reflector.state is Phase.IDLE:
            reflector.start()
