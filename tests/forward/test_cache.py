import gc
import struct
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.errors import ConfigError
from mcsdns.forward.cache import Cache, CachedReply, Settings, key_of
from mcsdns.forward.render import render
from mcsdns.forward.reply import UpstreamReply, read_upstream_reply
from mcsdns.stats import ReplyKind
from tests.forward import client_query, errors_of, parsed, question, upstream_message

KEY = key_of(client_query())
SOA = "example 300 SOA ns.example h.example 1 2 3 4 60"
STALE, CACHED_ERROR, STALE_NXDOMAIN = 3, 13, 19


def reply_of(
    ttl: int = 60,
    *,
    answers: list[str] | None = None,
    authority: list[str] | None = None,
    rcode: int = 0,
    bits: int = 0,
    errors: list[bytes] | None = None,
) -> UpstreamReply:
    if answers is None:
        answers = [f"www.example {ttl} A 1.2.3.4"]
    octets = upstream_message(answers, authority or [], rcode=rcode, bits=bits, errors=errors or [])
    return read_upstream_reply(octets, question())


def denial(rcode: int = 3, soa: str = SOA) -> UpstreamReply:
    return reply_of(answers=[], authority=[soa], rcode=rcode)


def cache(**settings: float) -> Cache:
    return Cache(msgspec.convert(settings, Settings))


def rendered(found: CachedReply | None) -> bytes:
    assert found is not None
    return render(found.reply, client_query(), 1232, found.errors, tcp=False)


def ttls(found: CachedReply | None) -> list[int]:
    seen = parsed(rendered(found))
    return [each.ttl for each in [*seen.rr, *seen.auth]]


def is_stale(found: CachedReply) -> bool:
    return found.kind is ReplyKind.STALE


def test_key_folds_the_name_and_tells_type_do_cd_and_rd_apart() -> None:
    assert key_of(client_query("wWw.eXample", do=None, size=512)) == KEY
    others = [
        client_query(qtype="AAAA"),
        client_query("ww.example"),
        client_query(do=True),
        client_query(cd=True),
        client_query(do=True, cd=True),
        client_query(rd=False),
    ]
    assert len({KEY, *map(key_of, others)}) == 7


def test_nothing_is_found_before_it_is_put() -> None:
    empty = cache()
    assert empty.find(KEY, 0.0) is None
    assert empty.find_stale(KEY, 0.0) is None
    assert empty.statistics().misses == 1


@pytest.mark.parametrize("put_s", [0.0, 0.75, 1e6 + 0.3])
def test_ttl_counts_down_until_the_reply_ends(put_s: float) -> None:
    kept = cache()
    kept.put(KEY, reply_of(3), put_s)
    seen = [(at, ttls(kept.find(KEY, put_s + at))) for at in (0.0, 0.5, 1.25, 1.5, 2.9)]
    assert seen == [
        (0.0, [3]),
        (0.5, [3]),
        (1.25, [2]),
        (1.5, [2]),
        (2.9, [1]),
    ]
    assert kept.find(KEY, put_s + 3.0) is None


def test_ttls_are_counted_down_once_a_second() -> None:
    kept = cache()
    kept.put(KEY, reply_of(), 0.0)
    found = kept.find(KEY, 5.1)
    assert found is not None
    assert (found.age_s, found.until_s) == (5, 6.0)
    first = found.reply
    assert kept.find(KEY, 5.9) is found
    assert found.reply is first
    assert kept.find(KEY, 6.0) is found
    assert (found.age_s, found.until_s) == (6, 7.0)
    assert ttls(found) == [54]


NEVER = {
    "truncated": reply_of(bits=0x0200),
    "FORMERR": reply_of(answers=[], rcode=1),
    "NOTIMP": reply_of(answers=[], rcode=4),
    "REFUSED": reply_of(rcode=5),
    "BADVERS": reply_of(answers=[], rcode=16),
    "TTL of 0": reply_of(0),
    "NODATA without SOA": reply_of(answers=[]),
    "NXDOMAIN without SOA": reply_of(answers=[], rcode=3),
    "MINIMUM of 0": denial(soa="example 300 SOA ns.example h.example 1 2 3 4 0"),
    "referral": reply_of(answers=[], authority=["example 300 NS ns.example"]),
    "truncated SERVFAIL": reply_of(answers=[], rcode=2, bits=0x0200),
}


@pytest.mark.parametrize("reply", NEVER.values(), ids=NEVER)
def test_never_kept(reply: UpstreamReply) -> None:
    kept = cache(least_ttl_s=10)
    assert kept.put(KEY, reply, 0.0) is reply
    assert kept.find(KEY, 0.0) is None
    assert kept.statistics().size_bytes == 0


def test_a_reply_that_may_not_be_kept_ends_an_older_one() -> None:
    kept = cache()
    kept.put(KEY, reply_of(), 0.0)
    assert kept.find(KEY, 0.1)
    kept.put(KEY, reply_of(0), 0.2)
    assert kept.find(KEY, 0.3) is None
    assert kept.find_stale(KEY, 0.3) is None


@pytest.mark.parametrize("name", ["REFUSED", "FORMERR", "truncated"])
def test_what_says_nothing_of_the_name_ends_nothing(name: str) -> None:
    kept = cache()
    kept.put(KEY, reply_of(), 0.0)
    kept.put(KEY, NEVER[name], 1.0)
    assert ttls(kept.find(KEY, 2.0)) == [58]


@pytest.mark.parametrize(
    ("reply", "settings", "told", "ends_s"),
    [
        (reply_of(100), {}, [100], 100),
        (reply_of(100), {"most_ttl_s": 50}, [50], 50),
        (reply_of(3), {"least_ttl_s": 5}, [5], 5),
        (reply_of(100), {"most_negative_ttl_s": 50}, [100], 100),
        (denial(), {}, [60], 60),
        (denial(0), {"most_ttl_s": 50, "most_negative_ttl_s": 60}, [60], 60),
        (denial(), {"most_negative_ttl_s": 20}, [20], 20),
        (denial(), {"least_ttl_s": 90}, [90], 90),
        (
            reply_of(answers=["www.example 900 CNAME a.example"], authority=[SOA]),
            {},
            [60, 60],
            60,
        ),
    ],
)
def test_ttls_are_bounded_by_settings(
    reply: UpstreamReply, settings: dict[str, int], told: list[int], ends_s: int
) -> None:
    kept = cache(**settings)
    sent = kept.put(KEY, reply, 0.0)
    assert [struct.unpack_from("!I", sent.records, at)[0] for at in sent.ttls] == told
    assert ttls(kept.find(KEY, 0.0)) == told
    assert ttls(kept.find(KEY, ends_s - 1)) == [each - ends_s + 1 for each in told]
    assert kept.find(KEY, ends_s) is None


def test_nothing_denied_is_kept_where_the_setting_is_zero() -> None:
    kept = cache(most_negative_ttl_s=0)
    kept.put(KEY, reply_of(), 0.0)
    kept.put(KEY, denial(), 1.0)
    assert kept.find(KEY, 1.0) is None


@pytest.mark.parametrize(
    "settings",
    [{"failure_s": 0.5}, {"failure_s": 301}, {"least_ttl_s": -1}, {"least_ttl_s": 3601}],
)
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="write"):
        Settings(**settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("reply", "code"), [(reply_of(), STALE), (denial(), STALE_NXDOMAIN)])
def test_stale_reply_has_a_ttl_of_30_and_says_so(reply: UpstreamReply, code: int) -> None:
    kept = cache(stale_s=100)
    kept.put(KEY, reply, 0.0)
    assert kept.find(KEY, 60.0) is None
    found = kept.find_stale(KEY, 60.0)
    assert ttls(found) == [30]
    assert errors_of(rendered(found)) == [(code, b"")]
    assert found is not None
    assert is_stale(found)
    assert kept.find_stale(KEY, 159.9)
    assert kept.find_stale(KEY, 160.0) is None


def test_stale_name_is_asked_upstream_every_5_seconds_at_most() -> None:
    kept = cache()
    kept.put(KEY, reply_of(), 0.0)
    assert kept.find_stale(KEY, 100.0)
    for now_s in (100.0, 101.0, 104.9):
        found = kept.find(KEY, now_s)
        assert found is not None
        assert is_stale(found)
        assert ttls(found) == [30]
    assert kept.find(KEY, 105.0) is None
    assert kept.find_stale(KEY, 105.0)
    assert kept.find(KEY, 109.9)


def test_fresh_reply_ends_staleness_at_once() -> None:
    kept = cache()
    kept.put(KEY, reply_of(), 0.0)
    kept.find_stale(KEY, 100.0)
    kept.put(KEY, reply_of(20), 101.0)
    found = kept.find(KEY, 101.0)
    assert ttls(found) == [20]
    assert found is not None
    assert not is_stale(found)


def test_what_is_still_fresh_is_not_told_stale() -> None:
    kept = cache()
    kept.put(KEY, reply_of(), 0.0)
    found = kept.find_stale(KEY, 10.0)
    assert ttls(found) == [50]
    assert not errors_of(rendered(found))


def test_failure_is_kept_briefly_and_says_so() -> None:
    kept = cache(failure_s=2)
    kept.put_failure(KEY, 10.0, b"\0\x0f\0\2\0\x17")
    found = kept.find(KEY, 11.9)
    assert parsed(rendered(found)).header.rcode == 2
    assert errors_of(rendered(found)) == [(23, b""), (CACHED_ERROR, b"")]
    assert kept.find(KEY, 12.0) is None
    assert kept.statistics().size_bytes == 0


def test_servfail_of_an_upstream_is_a_failure_with_its_errors() -> None:
    kept = cache()
    kept.put(KEY, reply_of(answers=[], rcode=2, errors=[b"\0\x06bogus"]), 0.0)
    assert errors_of(rendered(kept.find(KEY, 4.9))) == [(6, b"bogus"), (CACHED_ERROR, b"")]
    assert kept.find(KEY, 5.0) is None


def test_failure_hides_no_fresh_reply_and_what_is_stale_is_better() -> None:
    kept = cache()
    kept.put(KEY, reply_of(), 0.0)
    kept.put_failure(KEY, 58.0)
    assert ttls(kept.find(KEY, 59.0)) == [1]
    found = kept.find(KEY, 60.0)
    assert ttls(found) == [30]
    assert errors_of(rendered(found)) == [(STALE, b"")]
    assert kept.find(KEY, 63.0) is None


def test_failure_is_told_where_the_reply_is_too_old() -> None:
    kept = cache(stale_s=10)
    kept.put(KEY, reply_of(), 0.0)
    kept.put_failure(KEY, 69.0)
    assert ttls(kept.find(KEY, 69.5)) == [30]
    assert parsed(rendered(kept.find(KEY, 70.0))).header.rcode == 2


def test_reply_ends_a_failure() -> None:
    kept = cache()
    kept.put_failure(KEY, 0.0)
    assert kept.find(KEY, 0.5)
    kept.put(KEY, reply_of(0), 1.0)
    assert kept.find(KEY, 1.0) is None
    assert kept.statistics().failures == 0


@pytest.mark.parametrize(("ttl", "begins_s"), [(5, 4), (30, 27), (100, 90), (300, 270)])
def test_popular_reply_wants_a_refresh_once_before_its_end(ttl: int, begins_s: int) -> None:
    kept = cache()
    kept.put(KEY, reply_of(ttl), 0.0)
    wanted = []
    for tenth in range(10 * ttl):
        found = kept.find(KEY, tenth / 10)
        assert found is not None
        wanted += [tenth / 10] * kept.wants_refresh(found)
    assert wanted == [begins_s]
    kept.put(KEY, reply_of(ttl), float(ttl))
    kept.find(KEY, 2.0 * ttl - 1.5)
    again = kept.find(KEY, 2.0 * ttl - 0.5)
    assert again is not None
    assert kept.wants_refresh(again)
    assert kept.statistics().refreshes == 2


def test_unpopular_reply_wants_no_refresh() -> None:
    kept = cache(prefetch_asked=3)
    kept.put(KEY, reply_of(), 0.0)
    for now_s in (1.0, 1.1, 1.2, 1.3, 59.0, 59.5):
        found = kept.find(KEY, now_s)
        assert found is not None
        assert not kept.wants_refresh(found)


def test_what_was_not_used_for_longest_is_pushed_out() -> None:
    kept = cache(max_entries=8)
    keys = [bytes((number,)) for number in range(7)]
    for key in keys:
        kept.put(key, reply_of(), 0.0)
    assert kept.find(keys[0], 1.0)
    kept.put(b"new", reply_of(), 1.0)
    assert kept.find(keys[0], 2.0)
    assert kept.find(keys[1], 2.0) is None
    assert kept.statistics().evicted == 1


def test_a_flood_of_failures_pushes_out_no_reply() -> None:
    kept = cache(max_entries=800)
    kept.put(KEY, reply_of(), 0.0)
    for number in range(5000):
        kept.put_failure(b"%d" % number, 1.0)
    assert kept.find(KEY, 1.0)
    assert kept.statistics().failures == 100


def test_reply_larger_than_the_cache_is_sent_but_not_kept() -> None:
    kept = cache(max_bytes=2000)
    reply = reply_of(answers=[f"www.example 60 A 10.0.0.{n}" for n in range(100)])
    assert kept.put(KEY, reply, 0.0) is reply
    assert kept.find(KEY, 0.0) is None


def test_statistics_tell_hits_apart() -> None:
    kept = cache()
    kept.put(KEY, reply_of(), 0.0)
    kept.find(KEY, 0.0)
    kept.find(KEY, 0.1)
    kept.find_stale(KEY, 100.0)
    kept.find(KEY, 101.0)
    kept.put_failure(b"other", 0.0)
    kept.find(b"other", 0.0)
    seen = kept.statistics()
    assert (seen.hits, seen.stale_hits, seen.failure_hits, seen.inserted) == (2, 2, 1, 1)


@pytest.mark.parametrize("records", [1, 20, 500])
def test_counted_octets_are_close_to_what_is_allocated(records: int) -> None:
    octets = upstream_message([f"www.example 60 A 10.0.{n >> 8}.{n & 255}" for n in range(records)])
    asked = question()
    number = 200000 // (400 + 16 * records) * 16
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = cache()
        for each in range(number):
            key = b"\x06%06d\x07example\0\0\1\0\1\0" % each
            kept.put(key, read_upstream_reply(octets, asked), each / 1000)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept.statistics().replies == number
    assert 0.85 * used < kept.statistics().size_bytes < 1.3 * used


REPLIES = {
    "short": reply_of(2),
    "long": reply_of(7),
    "denial": denial(soa="example 4 SOA ns.example h.example 1 2 3 4 60"),
    "zero": reply_of(0),
    "servfail": reply_of(answers=[], rcode=2),
    "refused": reply_of(answers=[], rcode=5),
    "large": reply_of(answers=[f"www.example 5 A 10.0.0.{n}" for n in range(60)]),
}
STEPS = st.tuples(
    st.sampled_from(["find", "find_stale", "put_failure", *REPLIES, *REPLIES]),
    st.integers(0, 11),
    st.sampled_from([0.0, 0.25, 0.75, 1.0, 2.5]),  # exact in binary
)


@given(st.lists(STEPS, max_size=80), st.integers(0, 10), st.sampled_from([0, 900, 6000, 50000]))
def test_bounds_hold_and_nothing_is_found_past_its_end(
    steps: list[tuple[str, int, float]], max_entries: int, max_bytes: int
) -> None:
    kept = cache(max_entries=max_entries, max_bytes=max_bytes, stale_s=3, recheck_s=1, failure_s=1)
    last: dict[bytes, tuple[UpstreamReply, float]] = {}
    failed: dict[bytes, float] = {}
    now_s = 0.0
    for action, number, passed_s in steps:
        key = bytes((number,))
        now_s += passed_s
        if action == "put_failure" or action == "servfail":
            kept.put_failure(key, now_s)
            failed[key] = now_s
        elif action in REPLIES:
            kept.put(key, REPLIES[action], now_s)
            if action != "refused":
                last[key] = (REPLIES[action], now_s)
                failed.pop(key, None)
        else:
            found = (kept.find if action == "find" else kept.find_stale)(key, now_s)
            if found is not None:
                check_found(found, key, now_s, last, failed)
        check_bounds(kept, max_entries, max_bytes)


def check_found(
    found: CachedReply,
    key: bytes,
    now_s: float,
    last: dict[bytes, tuple[UpstreamReply, float]],
    failed: dict[bytes, float],
) -> None:
    assert now_s <= found.until_s
    if found.reply.rcode == 2:
        assert now_s < failed[key] + 1
        return
    reply, put_s = last[key]
    assert msgspec.structs.replace(found.reply, records=reply.records) == reply
    left_s = put_s + reply.lifetime_s - now_s
    if is_stale(found):
        assert -3 < left_s <= 0
    else:
        assert left_s > 0
        assert 0 < min(ttls(found)) < left_s + 1


def check_bounds(kept: Cache, max_entries: int, max_bytes: int) -> None:
    seen = kept.statistics()
    assert seen.replies + seen.failures <= max_entries
    assert 0 <= seen.size_bytes <= max_bytes
    if not seen.replies + seen.failures:
        assert seen.size_bytes == 0
