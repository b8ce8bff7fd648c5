"""Upstreams from a resolv.conf."""

import os
from pathlib import Path

import pytest

from mcsdns.forward.address import parse
from mcsdns.forward.resolv_conf import ResolvConf, is_own, nameservers


def texts(text: str, own: set[tuple[str, int]] | None = None) -> list[str]:
    return [address.text for address in nameservers(text, own or set())]


def test_all_name_servers_are_taken_in_order_and_once() -> None:
    text = """
# written by somebody
; another comment
search shop.svc.cluster.local svc.cluster.local
nameserver 10.96.0.10
nameserver\t2001:db8::53   # trailing words mean nothing
  nameserver fe80::1%eth0
options ndots:5
nameserver 10.96.0.10
nameserver 10.96.0.11
nameserver 10.96.0.12
nameserver 2001:db8::53%en0
nameserver 2001:db8::54%en0
#nameserver 10.96.0.13
"""
    assert texts(text) == [
        "10.96.0.10:53",
        "[2001:db8::53]:53",
        "[fe80::1%eth0]:53",
        "10.96.0.11:53",
        "10.96.0.12:53",
        "[2001:db8::54]:53",
    ]


@pytest.mark.parametrize(
    "word", ["", "dns.example", "10.0.0.1:54", "[::1]:54", "tcp://10.0.0.1", "10.0.0.1#x", "\ufffd"]
)
def test_a_bad_line_is_passed_over_and_logged_with_its_number(
    word: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert texts(f"nameserver 10.0.0.1\nnameserver {word}\nnameserver 10.0.0.2\n") == [
        "10.0.0.1:53",
        "10.0.0.2:53",
    ]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("resolv.conf line 2 is passed over: ")


@pytest.mark.parametrize(
    ("server", "own", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1", 53), True),
        ("127.0.0.1", ("127.0.0.1", 1053), False),
        ("127.0.0.1", ("127.0.0.2", 53), False),
        ("127.0.0.53", ("0.0.0.0", 53), True),
        ("192.0.2.254", ("0.0.0.0", 1053), False),
        ("198.51.100.7", ("0.0.0.0", 53), False),
        ("::1", ("::", 53), True),
        ("::1", ("0.0.0.0", 53), False),
        ("127.0.0.1", ("::", 53), False),
    ],
)
def test_what_would_come_back_to_us_is_our_own(
    server: str, own: tuple[str, int], expected: bool
) -> None:
    assert is_own(parse(server), {own}) is expected


def test_ourselves_are_left_out_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    text = "nameserver 127.0.0.1\nnameserver 10.96.0.10\n"
    assert texts(text, {("127.0.0.1", 53)}) == ["10.96.0.10:53"]
    assert "127.0.0.1:53 is this server itself" in caplog.text


def shown(conf: ResolvConf) -> list[str]:
    return [address.host for address in conf.addresses]


def test_a_change_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.0.0.1\n")
    conf = ResolvConf(str(path), set())
    assert conf.refresh()
    assert not conf.refresh()
    path.write_text("nameserver 10.0.0.1\nnameserver 10.0.0.2\n")
    assert conf.refresh()
    assert shown(conf) == ["10.0.0.1", "10.0.0.2"]


def test_a_change_of_other_lines_is_none(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.0.0.1\n")
    conf = ResolvConf(str(path), set())
    assert conf.refresh()
    path.write_text("nameserver 10.0.0.1\noptions ndots:5\n")
    assert not conf.refresh()


def test_a_file_of_same_size_and_time_behind_another_symlink_is_read(tmp_path: Path) -> None:
    for number in (1, 2):
        target = tmp_path / f"target{number}"
        target.write_text(f"nameserver 10.0.0.{number}\n")
        os.utime(target, (1000, 1000))
    link = tmp_path / "resolv.conf"
    link.symlink_to("target1")
    conf = ResolvConf(str(link), set())
    assert conf.refresh()
    link.unlink()
    link.symlink_to("target2")
    assert conf.refresh()
    assert shown(conf) == ["10.0.0.2"]


def test_a_file_that_goes_away_keeps_the_list_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.0.0.1\n")
    conf = ResolvConf(str(path), set())
    assert conf.refresh()
    path.unlink()
    assert not conf.refresh()
    assert not conf.refresh()
    assert shown(conf) == ["10.0.0.1"]
    assert len(caplog.messages) == 1
    assert "No such file or directory; the servers it had are used on" in caplog.text
    path.write_text("nameserver 10.0.0.3\n")
    assert conf.refresh()
    assert shown(conf) == ["10.0.0.3"]


def test_a_file_that_is_being_written_keeps_the_list(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.0.0.1\n")
    conf = ResolvConf(str(path), set())
    assert conf.refresh()
    path.write_text("")
    assert not conf.refresh()
    assert shown(conf) == ["10.0.0.1"]
    assert "it names no server that can be asked" in caplog.text


def test_a_file_that_was_never_there_gives_no_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conf = ResolvConf(str(tmp_path / "none"), set())
    assert not conf.refresh()
    assert conf.addresses == []
    assert "no server is known yet" in caplog.text


def test_octets_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(b"\xff\xfe\0nameserver\n\nnameserver 10.0.0.1\n")
    conf = ResolvConf(str(path), set())
    assert conf.refresh()
    assert shown(conf) == ["10.0.0.1"]
