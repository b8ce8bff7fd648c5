import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mcsdns.diagnostics.client import RemoteServer, server_from_text
from mcsdns.dns import read_query
from mcsdns.dns.name import wire_from_text
from mcsdns.dns.request import Received, Request, Transport, ask_whole
from mcsdns.errors import ConfigError, NoReplyError
from tests.waiting import DEADLINE_S

QUESTION = Request(name=wire_from_text("web.shop.svc.clusterset.local."), qtype=1)
Behaviour = Callable[[bytes], list[bytes]]


def reply_to(message: bytes, *, flags: int = 0x8000, tail: bytes = b"") -> bytes:
    return message[:2] + flags.to_bytes(2, "big") + message[4:] + tail


@contextmanager
def udp_server(behave: Behaviour) -> Iterator[int]:
    """A server that sends what `behave` returns; it ends with an empty datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while message := (received := sock.recvfrom(4096))[0]:
                for reply in behave(message):
                    sock.sendto(reply, received[1])

        thread = threading.Thread(target=serve)
        thread.start()
        yield sock.getsockname()[1]
        sock.sendto(b"", sock.getsockname())
        thread.join()


@contextmanager
def tcp_server(pieces: Callable[[bytes], list[bytes]]) -> Iterator[int]:
    """A server that answers one connection with pieces of octets and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                for piece in pieces(connection.recv(4096)[2:]):
                    connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


@contextmanager
def silent_port(kind: socket.SocketKind) -> Iterator[int]:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            sock.listen()
        yield sock.getsockname()[1]


def closed_port(kind: socket.SocketKind) -> int:
    with silent_port(kind) as port:
        return port


def ask(port: int, transport: Transport = Transport.UDP, **options: float) -> Received:
    return RemoteServer("127.0.0.1", port, **options).ask(QUESTION, transport)  # type: ignore[arg-type]


def test_request_is_what_the_server_reads() -> None:
    request = Request(
        name=wire_from_text("WEB.example."),
        qtype=33,
        qclass=3,
        rd=False,
        cd=True,
        do=True,
        size=700,
    )
    query = read_query(request.encode(0x1234))
    assert query is not None
    assert query.id == b"\x12\x34"
    assert query.question == b"\x03WEB\x07example\x00\x00\x21\x00\x03"
    assert (query.rd, query.cd) == (False, True)
    assert query.edns is not None
    assert (query.edns.size, query.edns.do, query.edns.version) == (700, True, 0)


def test_request_without_edns_has_no_opt_record() -> None:
    query = read_query(Request(name=b"\0", qtype=1, edns=False).encode(1))
    assert query is not None
    assert query.edns is None


def test_reply_over_udp() -> None:
    with udp_server(lambda message: [reply_to(message)]) as port:
        received = ask(port)
    assert received.server == f"127.0.0.1#{port}(127.0.0.1)"
    assert received.transport is Transport.UDP
    assert received.elapsed_s > 0


def test_silent_server_is_asked_three_times() -> None:
    asked: list[bytes] = []
    with (
        udp_server(lambda message: asked.append(message) or []) as port,  # type: ignore[func-returns-value]
        pytest.raises(NoReplyError, match=r"over UDP, 3 tries of 0\.02 s; is it up"),
    ):
        ask(port, timeout_s=0.02)
    assert len(asked) == 3
    assert len(set(asked)) == 1


def test_second_try_is_answered() -> None:
    asked: list[bytes] = []

    def behave(message: bytes) -> list[bytes]:
        asked.append(message)
        return [reply_to(message)] if len(asked) > 1 else []

    with udp_server(behave) as port:
        assert ask(port, timeout_s=0.3, tries=100).wire == reply_to(asked[0])


@pytest.mark.parametrize(
    "other",
    [
        lambda message: bytes((message[0] ^ 1,)) + reply_to(message)[1:],  # another ID
        lambda message: message,  # a request, not a reply
        lambda message: message[:11],  # no whole header
        lambda _: b"",
    ],
)
def test_what_is_no_reply_to_the_question_is_passed_over(other: Callable[[bytes], bytes]) -> None:
    with udp_server(lambda message: [other(message), reply_to(message, tail=b"good")]) as port:
        assert ask(port).wire.endswith(b"good")


def test_wrong_replies_do_not_lengthen_the_wait() -> None:
    times = iter([0.0, 0.0, 0.0, 0.5 * DEADLINE_S, DEADLINE_S])
    with (
        udp_server(lambda message: [b"x" * 20] * 3) as port,
        pytest.raises(NoReplyError),
    ):
        RemoteServer("127.0.0.1", port, timeout_s=DEADLINE_S, tries=1, clock=times.__next__).ask(
            QUESTION, Transport.UDP
        )
    assert list(times) == []


@pytest.mark.parametrize("transport", list(Transport))
def test_closed_port_says_what_to_do(transport: Transport) -> None:
    kind = socket.SOCK_DGRAM if transport is Transport.UDP else socket.SOCK_STREAM
    port = closed_port(kind)
    with pytest.raises(NoReplyError) as caught:
        ask(port, transport)
    assert str(caught.value) == (
        f"no reply from 127.0.0.1:{port}: nothing listens there on {transport.upper()}; "
        "start the server, or give --server its address and port"
    )


def test_name_of_several_addresses_is_asked_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    with udp_server(lambda message: [reply_to(message)]) as port:
        addresses = [
            (socket.AF_INET, 0, 0, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        received = RemoteServer("dns.test", port).ask(QUESTION, Transport.UDP)
    assert received.server == f"127.0.0.1#{port}(dns.test)"


def test_unknown_host_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(NoReplyError, match=r"dns\.test: Name or service not known; give --"):
        RemoteServer("dns.test", 53).ask(QUESTION, Transport.UDP)


def test_reply_over_tcp_in_pieces() -> None:
    def pieces(message: bytes) -> list[bytes]:
        reply = reply_to(message)
        return [b"\0", bytes((len(reply),)) + reply[:5], reply[5:]]

    with tcp_server(pieces) as port:
        received = ask(port, Transport.TCP)
    assert received.transport is Transport.TCP
    assert len(received.wire) == len(QUESTION.encode(0))


def test_other_messages_over_tcp_are_passed_over() -> None:
    def pieces(message: bytes) -> list[bytes]:
        reply = reply_to(message)
        return [b"\0\x0c" + b"x" * 12, len(reply).to_bytes(2, "big") + reply]

    with tcp_server(pieces) as port:
        assert ask(port, Transport.TCP).wire[2] == 0x80


def test_closed_connection_is_no_reply() -> None:
    with (
        tcp_server(lambda _: [b"\0\x20", b"short"]) as port,
        pytest.raises(NoReplyError, match="it closed the connection; is it a DNS server"),
    ):
        ask(port, Transport.TCP)


def test_silent_connection_is_no_reply() -> None:
    with (
        silent_port(socket.SOCK_STREAM) as port,
        pytest.raises(NoReplyError, match=r"over TCP within 0\.02 s; is it up"),
    ):
        ask(port, Transport.TCP, timeout_s=0.02)


class Scripted:
    """Whoever says that the reply over UDP is truncated."""

    def __init__(self) -> None:
        self.asked: list[Transport] = []

    def ask(self, request: Request, transport: Transport) -> Received:
        self.asked.append(transport)
        flags = 0x8200 if transport is Transport.UDP else 0x8000
        return Received(reply_to(request.encode(1), flags=flags), "scripted", transport, 0)


def test_truncated_reply_is_asked_for_over_tcp() -> None:
    asker = Scripted()
    received, was_truncated = ask_whole(asker, QUESTION, Transport.UDP)
    assert (received.transport, was_truncated) == (Transport.TCP, True)
    assert asker.asked == [Transport.UDP, Transport.TCP]


def test_whole_reply_is_taken_as_it_is() -> None:
    asker = Scripted()
    received, was_truncated = ask_whole(asker, QUESTION, Transport.TCP)
    assert (received.transport, was_truncated) == (Transport.TCP, False)
    assert asker.asked == [Transport.TCP]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:1053", ("127.0.0.1", 1053)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[fd00::1]:1053", ("fd00::1", 1053)),
        ("2001:db8::53%en0", ("2001:db8::53", 53)),
        ("[2001:db8::53%en0]:54", ("2001:db8::53", 54)),
        ("fe80::1%eth0", ("fe80::1%eth0", 53)),
        ("dns.example:53", ("dns.example", 53)),
        ("localhost", ("localhost", 53)),
    ],
)
def test_server_is_address_and_port(text: str, expected: tuple[str, int]) -> None:
    assert server_from_text(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":53", "127.0.0.1:", "127.0.0.1:dns", "127.0.0.1:0", "127.0.0.1:65536", "[::1]53"]
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not ADDR or ADDR:PORT, such as"):
        server_from_text(text)


def test_server_is_shown_with_brackets() -> None:
    assert str(RemoteServer("::1", 53)) == "[::1]:53"
