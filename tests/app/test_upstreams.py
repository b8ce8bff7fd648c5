"""What is put together from the settings, and what changes while it runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mcsdns import config, dns
from mcsdns.app.upstreams import Forwarding
from mcsdns.dns import name as names
from tests.forward.scripted import request

OWN = [("127.0.0.1", 1053)]


class Stranger:
    """A client that may not have names looked up."""

    def address(self) -> bytes:
        return bytes((203, 0, 113, 9))

    def detach(self) -> Callable[[bytes], None]:
        raise AssertionError("nothing is asked upstream")


def made(**settings: object) -> Forwarding:
    return Forwarding(config.Settings(source="none", **settings))  # type: ignore[arg-type]


def upstreams(found: Forwarding) -> list[str]:
    return [each.health.upstream for each in found.forwarder.statistics().upstreams]


async def test_upstreams_and_stub_zones_of_the_settings() -> None:
    found = made(
        upstream=["192.0.2.1", "tcp://192.0.2.2"], stub_zone=["a.example=192.0.2.3+192.0.2.4"]
    )
    assert upstreams(found) == [
        *("192.0.2.1:53", "tcp://192.0.2.2:53", "192.0.2.3:53", "192.0.2.4:53"),
    ]
    found.close()


async def test_we_are_no_upstream_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    found = made(upstream=["127.0.0.1:1053", "127.0.0.1:9"])
    found.start(OWN)
    assert upstreams(found) == ["127.0.0.1:9"]
    assert "this server itself" in caplog.text
    found.close()


async def test_a_resolv_conf_adds_to_the_upstreams_and_is_followed(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.7\nnameserver 127.0.0.8\n")
    found = made(upstream=["127.0.0.7"], upstream_from=str(file))
    found.start(OWN)
    assert upstreams(found) == ["127.0.0.7:53", "127.0.0.8:53"]
    file.write_text("nameserver 127.0.0.9\n# changed\n")
    found.look()
    assert upstreams(found) == ["127.0.0.7:53", "127.0.0.9:53"]
    file.unlink()
    found.look()
    assert upstreams(found) == ["127.0.0.7:53", "127.0.0.9:53"]
    found.close()


async def test_a_resolv_conf_that_is_not_there_yet(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    found = made(upstream_from=str(file))
    found.start(OWN)
    assert upstreams(found) == []
    file.write_text("nameserver 127.0.0.9\n")
    found.look()
    assert upstreams(found) == ["127.0.0.9:53"]
    found.close()


async def test_both_transports_share_what_was_logged(caplog: pytest.LogCaptureFixture) -> None:
    found = made(upstream=["127.0.0.9"])
    message = request("www.example")
    query = dns.read_query(message)
    assert query is not None
    for handler in found.handlers:
        group = handler.find(query)
        assert group is not None
        assert handler.handle(group, query, message, Stranger(), 1232)
    assert len(caplog.records) == 1
    found.close()


def test_the_root_group_is_that_of_all_other_names() -> None:
    found = made(stub_zone=["a.example=192.0.2.3"])
    assert found.forwarder.router.find(names.ROOT, ()) is None
