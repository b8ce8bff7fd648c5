"""Questions over TCP and TLS, to small peers on loopback."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mcsdns.errors import ConfigError
from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.stream_pool import StreamPool, StreamPoolSettings
from tests.certificates import Authority, authority
from tests.forward.callers import QUESTION, RNG, Caller
from tests.waiting import until

__all__ = ["authority"]

Serve = Callable[["Connection"], Awaitable[None]]


class Connection:
    """What a peer holds of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def read(self) -> bytes:
        """Read one question."""
        size = int.from_bytes(await self._reader.readexactly(2), "big")
        return await self._reader.readexactly(size)

    @property
    def has_more(self) -> bool:
        """Whether more came than was read."""
        return bool(self._reader._buffer)  # type: ignore[attr-defined]

    async def read_end(self) -> bytes:
        return await self._reader.read()

    def write(self, message: bytes) -> None:
        self.writer.write(len(message).to_bytes(2, "big") + message)


class Peer:
    """A server in the test's loop; does with each connection what the test says."""

    def __init__(self, serve: Serve) -> None:
        self.connections: list[Connection] = []
        self.questions: list[bytes] = []
        self.ended = 0
        self.serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = Connection(reader, writer)
        self.connections.append(connection)
        try:
            await self.serve(connection)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self.ended += 1
            self._tasks.discard(task)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await until(lambda: not self._tasks)
        await asyncio.sleep(0)


async def echo(connection: Connection) -> None:
    while True:
        connection.write(await connection.read())


async def silence(connection: Connection) -> None:
    await connection.read_end()


class World:
    """Upstreams and one caller; whatever was opened is closed at the end."""

    def __init__(self) -> None:
        self.caller = Caller()
        self._streams: list[StreamPool[int]] = []
        self._peers: list[Peer] = []

    async def peer(
        self, serve: Serve, context: ssl.SSLContext | None = None, port: int = 0
    ) -> Peer:
        peer = Peer(serve)
        self._peers.append(peer)
        await peer.start(context, port)
        return peer

    def stream(self, peer: Peer | int, **settings: object) -> StreamPool[int]:
        port = peer if isinstance(peer, int) else peer.port
        return self.stream_to(Address(Protocol.TCP, "127.0.0.1", port), **settings)

    def stream_to(self, address: Address, **settings: object) -> StreamPool[int]:
        made: StreamPool[int] = StreamPool(
            address,
            self.caller.deliver,
            self.caller.fail,
            StreamPoolSettings(**settings),  # type: ignore[arg-type]
            RNG,
        )
        self._streams.append(made)
        return made

    async def ask(self, stream: StreamPool[int], token: int) -> None:
        """Ask and wait for the reply."""
        stream.send(token, QUESTION)
        await until(lambda: token in self.caller.tokens)

    async def close(self) -> None:
        for stream in self._streams:
            stream.close()
        for peer in self._peers:
            await peer.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


async def test_questions_are_pipelined_on_one_connection(world: World) -> None:
    peer = await world.peer(echo)
    stream = world.stream(peer)
    for token in range(100):
        stream.send(token, QUESTION)
    await until(lambda: len(world.caller.replies) == 100)
    assert world.caller.tokens == list(range(100))
    assert len({message[:2] for _, message in world.caller.replies}) == 100
    statistics = stream.statistics()
    assert (statistics.sent, statistics.received, statistics.dropped) == (100, 100, 0)
    assert (statistics.connected, statistics.open, statistics.errors) == (1, 1, 0)
    await world.ask(stream, 1000)
    assert len(peer.connections) == 1


async def test_replies_may_come_in_any_order(world: World) -> None:
    async def backwards(connection: Connection) -> None:
        for message in reversed([await connection.read() for _ in range(20)]):
            connection.write(message)
        await silence(connection)

    stream = world.stream(await world.peer(backwards))
    for token in range(20):
        stream.send(token, QUESTION)
    await until(lambda: len(world.caller.replies) == 20)
    assert [token for token, _ in world.caller.replies] == list(range(19, -1, -1))


@pytest.mark.parametrize("chunk", [1, 3, 50])
async def test_replies_may_come_in_any_pieces(world: World, chunk: int) -> None:
    async def in_pieces(connection: Connection) -> None:
        messages = [await connection.read() for _ in range(10)]
        octets = b"".join(len(each).to_bytes(2, "big") + each for each in messages)
        for at in range(0, len(octets), chunk):
            connection.writer.write(octets[at : at + chunk])
            await asyncio.sleep(0)
        await silence(connection)

    stream = world.stream(await world.peer(in_pieces))
    for token in range(10):
        stream.send(token, QUESTION)
    await until(lambda: len(world.caller.replies) == 10)
    assert {message[2:] for _, message in world.caller.replies} == {QUESTION[2:]}


async def test_a_message_of_64_kb_arrives_whole(world: World) -> None:
    big = QUESTION[2:].ljust(65533, b"x")

    async def serve(connection: Connection) -> None:
        connection.write((await connection.read())[:2] + big)
        await silence(connection)

    stream = world.stream(await world.peer(serve))
    taken: list[bytes] = []
    stream.deliver = lambda _, message, __: not taken.append(message)  # type: ignore[func-returns-value]
    stream.send(1, QUESTION)
    await until(lambda: taken)
    assert taken[0][2:] == big


async def test_a_full_connection_gets_company_until_all_are_full(world: World) -> None:
    peer = await world.peer(silence)
    stream = world.stream(peer, connections=3, most_awaited=10)
    handles = [stream.send(token, QUESTION) for token in range(32)]
    assert stream.statistics().open == 3
    assert world.caller.failed == [], "nobody is told from within send"
    stream.forget(handles[31])
    await until(lambda: world.caller.failed)
    assert world.caller.failed == [
        (30, "3 connections are full of questions without a reply"),
    ]
    await until(lambda: len(peer.connections) == 3)


async def test_a_closed_port_fails_at_once(world: World) -> None:
    peer = await world.peer(echo)
    port = peer.port
    await peer.close()
    stream = world.stream(port)
    stream.send(1, QUESTION)
    stream.send(2, QUESTION)
    await until(lambda: len(world.caller.failed) == 2)
    assert "Connect" in world.caller.failed[0][1]
    assert stream.statistics().errors == 1
    assert stream.statistics().open == 0


async def test_a_connection_that_does_not_come_about_is_given_up(world: World) -> None:
    """A plain server that never says a word of TLS."""
    peer = await world.peer(silence)
    address = Address(Protocol.TLS, "127.0.0.1", peer.port)
    stream = world.stream_to(address, connect_s=0.05)
    stream.send(1, QUESTION)
    await until(lambda: world.caller.failed)
    assert world.caller.failed == [(1, "no connection within 0.05 s")]
    assert stream.statistics().open == 0


async def test_who_forgets_while_connecting_is_not_told(world: World) -> None:
    peer = await world.peer(silence)
    address = Address(Protocol.TLS, "127.0.0.1", peer.port)
    stream = world.stream_to(address, connect_s=0.05)
    stream.forget(stream.send(1, QUESTION))
    stream.send(2, QUESTION)
    await until(lambda: world.caller.failed)
    assert world.caller.failed_tokens == [2]


async def test_a_question_forgotten_before_it_was_sent_is_not_sent(world: World) -> None:
    stream = world.stream(await world.peer(echo))
    stream.forget(stream.send(1, QUESTION))
    await world.ask(stream, 2)
    assert world.caller.tokens == [2]
    assert stream.statistics().dropped == 0


@pytest.mark.parametrize("sent", [b"\0", b"\0\x40", b"\0\x40" + bytes(63)])
async def test_a_close_in_mid_message_fails_all(world: World, sent: bytes) -> None:
    async def cut(connection: Connection) -> None:
        connection.write(await connection.read())
        await connection.read()
        await connection.read()
        connection.writer.write(sent)
        await connection.writer.drain()
        connection.writer.close()

    stream = world.stream(await world.peer(cut))
    await world.ask(stream, 1)
    stream.send(2, QUESTION)
    stream.send(3, QUESTION)
    await until(lambda: len(world.caller.failed) == 2)
    assert world.caller.whys == {"it closed the connection in the middle of a message"}
    assert stream.statistics().open == 0
    assert stream.statistics().retried == 0


@pytest.mark.parametrize("size", [0, 1, 11])
async def test_a_message_that_cannot_be_one_fails_all(world: World, size: int) -> None:
    async def garbage(connection: Connection) -> None:
        connection.write(await connection.read())
        await connection.read()
        connection.write(bytes(size))
        await silence(connection)

    peer = await world.peer(garbage)
    stream = world.stream(peer)
    await world.ask(stream, 1)
    stream.send(2, QUESTION)
    await until(lambda: world.caller.failed)
    assert world.caller.failed == [(2, f"it sent a message of {size} octets, which is no DNS")]
    assert stream.statistics().errors == 1
    await until(lambda: peer.ended == 1)


async def test_a_server_that_closes_before_any_reply_fails_the_question(world: World) -> None:
    async def close(connection: Connection) -> None:
        await connection.read()

    peer = await world.peer(close)
    stream = world.stream(peer)
    stream.send(1, QUESTION)
    await until(lambda: world.caller.failed)
    assert len(peer.connections) == 1
    assert stream.statistics().retried == 0


async def test_a_question_to_a_connection_that_is_being_closed_goes_on_to_another(
    world: World,
) -> None:
    async def one_reply(connection: Connection) -> None:
        connection.write(await connection.read())
        await connection.read()

    peer = await world.peer(one_reply)
    stream = world.stream(peer)
    await world.ask(stream, 1)
    await world.ask(stream, 2)
    assert len(peer.connections) == 2
    assert world.caller.failed == []
    statistics = stream.statistics()
    assert (statistics.retried, statistics.errors, statistics.sent) == (1, 0, 2)


async def test_a_question_goes_on_only_once(world: World) -> None:
    replies = iter([1, 0])

    async def fewer_and_fewer(connection: Connection) -> None:
        for _ in range(next(replies, 0)):
            connection.write(await connection.read())
        await connection.read()

    peer = await world.peer(fewer_and_fewer)
    stream = world.stream(peer)
    await world.ask(stream, 1)
    stream.send(2, QUESTION)
    await until(lambda: world.caller.failed)
    assert world.caller.failed_tokens == [2]
    assert len(peer.connections) == 2


async def test_a_question_that_was_forgotten_does_not_go_on(world: World) -> None:
    async def one_reply(connection: Connection) -> None:
        connection.write(await connection.read())
        await connection.read()

    peer = await world.peer(one_reply)
    stream = world.stream(peer)
    await world.ask(stream, 1)
    stream.forget(stream.send(2, QUESTION))
    await world.ask(stream, 3)
    assert world.caller.tokens == [1, 3]
    assert stream.statistics().retried <= 1


async def test_a_connection_that_the_server_closed_is_replaced(world: World) -> None:
    async def one_reply(connection: Connection) -> None:
        connection.write(await connection.read())
        await connection.writer.drain()
        connection.writer.close()

    stream = world.stream(await world.peer(one_reply))
    for token in range(100):
        await world.ask(stream, token)
        await until(lambda: stream.statistics().open == 0)
    statistics = stream.statistics()
    assert (statistics.connected, statistics.errors, statistics.retried) == (100, 0, 0)


async def test_an_idle_connection_is_closed(world: World) -> None:
    peer = await world.peer(echo)
    stream = world.stream(peer, idle_s=30)
    await world.ask(stream, 1)
    now = asyncio.get_running_loop().time()
    stream.close_idle(now)
    stream.close_idle(now + 29)
    assert stream.statistics().open == 1
    await world.ask(stream, 2)
    stream.close_idle(now + 31)
    stream.close_idle(now + 60)
    assert stream.statistics().open == 1
    stream.close_idle(now + 62)
    assert stream.statistics().open == 0
    await until(lambda: peer.ended == 1)
    await world.ask(stream, 3)
    assert stream.statistics().errors == 0


async def test_a_connection_where_replies_are_awaited_is_not_idle(world: World) -> None:
    stream = world.stream(await world.peer(silence), idle_s=30)
    stream.send(1, QUESTION)
    await until(lambda: stream.statistics().connected)
    for seconds in (0, 100, 200):
        stream.close_idle(asyncio.get_running_loop().time() + seconds)
    assert stream.statistics().open == 1


async def test_the_timer_closes_by_itself(world: World) -> None:
    stream = world.stream(await world.peer(echo), idle_s=0.01)
    await world.ask(stream, 1)
    await until(lambda: stream.statistics().open == 0)


async def test_a_connection_on_which_nothing_comes_is_left(world: World) -> None:
    peer = await world.peer(silence)
    stream = world.stream(peer, most_silent=3)
    for token in range(3):
        handle = stream.send(token, QUESTION)
        await until(lambda: stream.statistics().connected)
        stream.forget(handle)
    assert stream.statistics().open == 0
    stream.send(3, QUESTION)
    await until(lambda: len(peer.connections) == 2)
    assert world.caller.failed == []


async def test_a_silent_connection_is_not_closed_under_those_who_still_wait(world: World) -> None:
    release = asyncio.Event()

    async def slow(connection: Connection) -> None:
        messages = [await connection.read() for _ in range(4)]
        await release.wait()
        connection.write(messages[3])
        await silence(connection)

    stream = world.stream(await world.peer(slow), most_silent=3)
    handles = [stream.send(token, QUESTION) for token in range(4)]
    await until(lambda: stream.statistics().connected)
    for handle in handles[:3]:
        stream.forget(handle)
    release.set()
    await until(lambda: world.caller.replies)
    assert world.caller.tokens == [3]
    assert stream.statistics().open == 0


async def test_late_replies_are_dropped_and_counted(world: World) -> None:
    release = asyncio.Event()

    async def slow(connection: Connection) -> None:
        message = await connection.read()
        await release.wait()
        connection.write(message)
        await echo(connection)

    stream = world.stream(await world.peer(slow))
    handle = stream.send(1, QUESTION)
    await until(lambda: stream.statistics().connected)
    stream.forget(handle)
    release.set()
    await world.ask(stream, 2)
    assert world.caller.tokens == [2]
    assert stream.statistics().late == 1


async def test_a_second_reply_is_dropped(world: World) -> None:
    async def twice(connection: Connection) -> None:
        while True:
            message = await connection.read()
            connection.write(message)
            connection.write(message)

    stream = world.stream(await world.peer(twice))
    await world.ask(stream, 1)
    await world.ask(stream, 2)
    await until(lambda: stream.statistics().wrong == 2)
    assert world.caller.tokens == [1, 2]


async def test_a_reply_to_another_question_is_refused_and_the_right_one_taken(
    world: World,
) -> None:
    async def other_first(connection: Connection) -> None:
        message = await connection.read()
        connection.write(message[:12] + b"\1x\0\0\1\0\1")
        connection.write(message)
        await silence(connection)

    stream = world.stream(await world.peer(other_first))
    await world.ask(stream, 1)
    assert stream.statistics().refused == 1


async def test_a_flood_of_wrong_ids_ends_the_connection(world: World) -> None:
    async def flood(connection: Connection) -> None:
        message = await connection.read()
        wrong = bytes((message[0] ^ 1,)) + message[1:]
        for _ in range(100):
            connection.write(wrong)
        await silence(connection)

    stream = world.stream(await world.peer(flood), most_wrong=32)
    stream.send(1, QUESTION)
    await until(lambda: world.caller.failed)
    assert world.caller.failed == [(1, "it sent 32 replies to what it was not asked")]
    assert stream.statistics().wrong == 32


async def test_a_server_that_does_not_read_is_not_written_to_without_end(world: World) -> None:
    async def deaf(connection: Connection) -> None:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    stream = world.stream(await world.peer(deaf), most_awaited=100, connections=2)
    question = QUESTION + bytes(60_000)
    for token in range(1000):
        stream.send(token, question)
        await asyncio.sleep(0)
        if world.caller.failed:
            break
    assert world.caller.whys == {"2 connections are full of questions without a reply"}


async def test_whoever_is_told_may_ask_again_at_once(world: World) -> None:
    async def close(connection: Connection) -> None:
        await connection.read()

    stream = world.stream(await world.peer(close))
    world.caller.then = lambda: stream.send(2, QUESTION) if len(world.caller.failed) < 20 else None
    stream.send(1, QUESTION)
    await until(lambda: len(world.caller.failed) == 20)


async def test_it_may_be_closed_by_who_is_told(world: World) -> None:
    stream = world.stream(await world.peer(echo))
    world.caller.then = stream.close
    for token in range(10):
        stream.send(token, QUESTION)
    await until(lambda: world.caller.replies)
    assert len(world.caller.replies) == 1
    assert stream.statistics().open == 0


async def test_an_upstream_may_come_and_go_100_times(world: World) -> None:
    peer = await world.peer(echo)
    port = peer.port
    await peer.close()
    stream = world.stream(port)
    for number in range(100):
        stream.send(number, QUESTION)
        await until(lambda: len(world.caller.failed) == number + 1)  # noqa: B023
        peer = await world.peer(echo, port=port)
        await world.ask(stream, 1000 + number)
        await peer.close()
        await until(lambda: stream.statistics().open == 0)
    assert world.caller.failed_tokens == list(range(100))


class Narrow:
    """Takes so many questions of each connection, and ends it as the test says."""

    def __init__(self, end: Callable[[Connection], Awaitable[None]]) -> None:
        self.questions = 1
        self.now = self.most = 0
        self._end = end

    async def __call__(self, connection: Connection) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(self.questions):
                connection.write(await connection.read())
            await self._end(connection)
        finally:
            self.now -= 1


async def finish(connection: Connection) -> None:
    """Close in order: FIN, and what else comes is read away."""
    connection.writer.write_eof()
    await connection.read_end()


async def finish_tls(connection: Connection) -> None:
    connection.writer.close()
    await connection.writer.wait_closed()


async def reset(connection: Connection) -> None:
    """Close with RST, as the kernel does for who closes without reading all."""
    sock = connection.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def ask_at_once(world: World, stream: StreamPool[int], count: int) -> None:
    """Ask so many questions at once, and wait until all are answered."""
    before = len(world.caller.replies)
    for token in range(count):
        stream.send(before + token, QUESTION)
    await until(lambda: len(world.caller.replies) + len(world.caller.failed) >= before + count)
    assert world.caller.failed == []
    assert world.caller.tokens == list(range(before + count))


@pytest.mark.parametrize("end", [finish, reset])
async def test_a_server_that_takes_one_question_of_a_connection_answers_all(
    world: World, end: Callable[[Connection], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mcsdns")
    narrow = Narrow(end)
    peer = await world.peer(narrow)
    stream = world.stream(peer)
    await ask_at_once(world, stream, 100)
    assert stream.statistics().retried == 99
    assert narrow.most <= 65
    await ask_at_once(world, stream, 100)
    learnt = stream.statistics().retried
    assert learnt == 2 * 99
    for count in (1, 100, 300):
        await ask_at_once(world, stream, count)
    assert stream.statistics().retried == learnt, "each question had a connection of its own"
    assert narrow.most <= 65
    assert len(peer.connections) == 200 + 401
    await until(lambda: stream.statistics().open == 0)
    (line,) = caplog.messages
    assert line == (
        f"upstream tcp://127.0.0.1:{peer.port} takes one question of each connection; "
        "it is asked so for 600 s"
    )


async def test_a_server_of_tls_that_takes_one_question_answers_all(
    world: World, authority: Authority
) -> None:
    context = authority.server_context(authority.server("IP:127.0.0.1"))
    peer = await world.peer(Narrow(finish_tls), context)
    stream = world.stream_to(tls(peer), ca_file=str(authority.ca.cert))
    for _ in range(3):
        await ask_at_once(world, stream, 20)
    assert stream.statistics().retried == 2 * 19


async def test_what_was_learnt_of_a_server_is_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = Narrow(finish)
    peer = await world.peer(narrow)
    stream = world.stream(peer)
    for _ in range(3):
        await ask_at_once(world, stream, 5)
    assert len(peer.connections) == 15
    narrow.questions = 1000
    await ask_at_once(world, stream, 5)
    assert len(peer.connections) == 20
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + 601)
    await ask_at_once(world, stream, 5)
    assert len(peer.connections) == 21


@pytest.mark.parametrize("questions", [2, 3, 10])
async def test_a_server_that_takes_a_few_questions_of_a_connection_answers_all(
    world: World, questions: int
) -> None:
    narrow = Narrow(finish)
    narrow.questions = questions
    peer = await world.peer(narrow)
    stream = world.stream(peer)
    for _ in range(3):
        await ask_at_once(world, stream, 40)
    narrow.questions = 1000
    before = len(peer.connections)
    await ask_at_once(world, stream, 40)
    assert len(peer.connections) <= before + 1, "they share one: nothing was learnt"


async def test_a_restart_teaches_nothing(world: World) -> None:
    """Connections that end at once, with one reply each, and then others with many."""
    peer = await world.peer(echo)
    stream = world.stream(peer, connections=4, most_awaited=2)
    for _ in range(3):
        for connection in peer.connections:
            connection.writer.close()
        narrow = Narrow(finish)
        peer.serve = narrow
        await ask_at_once(world, stream, 8)
        peer.serve = echo
        await until(lambda: stream.statistics().open == 0)
        before = len(peer.connections)
        await ask_at_once(world, stream, 2)
        await ask_at_once(world, stream, 2)
        assert len(peer.connections) == before + 1


async def test_several_questions_that_are_closed_on_without_reply_go_on_alone(
    world: World,
) -> None:
    """A server that reads all that came, and takes it for one question."""

    async def one_or_none(connection: Connection) -> None:
        message = await connection.read()
        await asyncio.sleep(0)
        if not connection.has_more:
            connection.write(message)

    stream = world.stream(await world.peer(one_or_none))
    await ask_at_once(world, stream, 20)
    assert stream.statistics().retried == 20


async def test_queries_that_wait_for_a_connection_of_their_own_are_bounded(world: World) -> None:
    narrow = Narrow(finish)
    peer = await world.peer(narrow)
    stream = world.stream(peer, alone=3, connections=2, most_awaited=5)
    for _ in range(2):
        await ask_at_once(world, stream, 4)
    peer.serve = silence
    before = len(peer.connections)
    queries = [stream.send(100 + number, QUESTION) for number in range(15)]
    await until(lambda: world.caller.failed)
    assert world.caller.failed == [
        (113, "3 connections are full of questions without a reply"),
        (114, "3 connections are full of questions without a reply"),
    ]
    assert stream.statistics().open == 3
    await until(lambda: len(peer.connections) == before + 3)
    for query in queries[:2] + queries[5:]:
        stream.forget(query)
    await until(lambda: len(peer.connections) == before + 5)
    assert stream.statistics().open == 3, "two gave way to two that waited"
    for query in queries:
        stream.forget(query)
    assert stream.statistics().open == 0


async def test_a_connection_of_a_query_that_was_forgotten_is_not_made(world: World) -> None:
    """A plain server behind the name of one of TLS: connections hang while they are made."""
    peer = await world.peer(silence)
    stream = world.stream_to(Address(Protocol.TLS, "127.0.0.1", peer.port))
    stream.again([query := stream.send(1, QUESTION)], 1, 0.0)
    assert stream.statistics().open == 2
    await until(lambda: len(peer.connections) == 2)
    stream.forget(query)
    assert stream.statistics().open == 1
    await until(lambda: peer.ended == 1)


def tls(peer: Peer, name: str = "") -> Address:
    return Address(Protocol.TLS, "127.0.0.1", peer.port, name)


async def test_tls_goes_to_the_server_with_the_name(world: World, authority: Authority) -> None:
    context = authority.server_context(authority.server("DNS:dns.example"))
    context.set_alpn_protocols(["dot"])
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    peer = await world.peer(echo, context)
    stream = world.stream_to(tls(peer, "dns.example"), ca_file=str(authority.ca.cert))
    for token in range(50):
        stream.send(token, QUESTION)
    await until(lambda: len(world.caller.replies) == 50)
    assert names == ["dns.example"]
    [connection] = peer.connections
    spoken = connection.writer.get_extra_info("ssl_object")
    assert spoken.selected_alpn_protocol() == "dot"


async def test_tls_without_a_name_goes_by_the_address(world: World, authority: Authority) -> None:
    context = authority.server_context(authority.server("IP:127.0.0.1"))
    peer = await world.peer(echo, context)
    stream = world.stream_to(tls(peer), ca_file=str(authority.ca.cert))
    await world.ask(stream, 1)


async def test_a_tls_connection_is_kept_and_closed_when_idle(
    world: World, authority: Authority
) -> None:
    context = authority.server_context(authority.server("IP:127.0.0.1"))
    peer = await world.peer(echo, context)
    stream = world.stream_to(tls(peer), ca_file=str(authority.ca.cert))
    await world.ask(stream, 1)
    await world.ask(stream, 2)
    assert len(peer.connections) == 1
    now = asyncio.get_running_loop().time()
    stream.close_idle(now)
    stream.close_idle(now + 31)
    await until(lambda: peer.ended == 1)
    await world.ask(stream, 3)


@pytest.mark.parametrize(
    ("names", "name", "why"),
    [
        (["DNS:other.example"], "dns.example", "Hostname mismatch"),
        (["DNS:dns.example"], "", "IP address mismatch"),
        (["IP:127.0.0.1"], "dns.example", "write behind # the name that it is for"),
    ],
)
async def test_a_certificate_for_another_name_is_refused(
    world: World, authority: Authority, names: list[str], name: str, why: str
) -> None:
    peer = await world.peer(echo, authority.server_context(authority.server(*names)))
    stream = world.stream_to(tls(peer, name), ca_file=str(authority.ca.cert))
    stream.send(1, QUESTION)
    await until(lambda: world.caller.failed)
    assert world.caller.failed[0][1].startswith("certificate refused: ")
    assert why in world.caller.failed[0][1]
    assert stream.statistics().connected == 0


async def test_an_expired_certificate_is_refused(world: World, authority: Authority) -> None:
    certificate = authority.expired_server("DNS:dns.example")
    peer = await world.peer(echo, authority.server_context(certificate))
    stream = world.stream_to(tls(peer, "dns.example"), ca_file=str(authority.ca.cert))
    stream.send(1, QUESTION)
    await until(lambda: world.caller.failed)
    assert world.caller.whys == {
        "certificate refused: certificate has expired; renew it, or set the clock of this host"
    }


async def test_an_unknown_authority_is_refused(world: World, authority: Authority) -> None:
    peer = await world.peer(echo, authority.server_context(authority.server("IP:127.0.0.1")))
    stream = world.stream_to(tls(peer))
    stream.send(1, QUESTION)
    await until(lambda: world.caller.failed)
    assert "name its authority's certificate with --upstream-ca" in world.caller.failed[0][1]


async def test_a_server_that_speaks_no_tls_is_told(world: World) -> None:
    async def plain(connection: Connection) -> None:
        connection.write(b"no hello at all, just words")
        await silence(connection)

    stream = world.stream_to(tls(await world.peer(plain)))
    stream.send(1, QUESTION)
    await until(lambda: world.caller.failed)
    assert "does DNS over TLS listen on this port?" in world.caller.failed[0][1]


async def test_a_tls_server_that_hangs_up_fails_the_question(world: World) -> None:
    async def hang_up(_: Connection) -> None:
        return

    stream = world.stream_to(tls(await world.peer(hang_up)))
    stream.send(1, QUESTION)
    await until(lambda: world.caller.failed)
    assert stream.statistics().open == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file or directory"), ("nothing", "it holds no certificates")],
)
def test_a_bad_file_of_authorities_is_a_config_error(
    tmp_path: Path, content: str | None, why: str
) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        World().stream_to(Address(Protocol.TLS, "127.0.0.1", 853), ca_file=str(path))
    assert str(caught.value).startswith(f"--upstream-ca {path}: {why}; name a PEM file")
