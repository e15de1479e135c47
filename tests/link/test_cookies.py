"""Cookies and rates: what an address must prove before a handshake, and how many handshakes it gets.

Pure functions; the time is an argument.
"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.link.cookies import COOKIE_SIZE, Cookies, HandshakeRates
from trio_chat.link.pending import HANDSHAKE_LIFETIME, MAX_ACCEPTED
from trio_chat.protocol.limits import LIMITS, Rate
from trio_chat.protocol.token_buckets import FairBudget, TokenBuckets

ADDRESS = ("10.0.0.1", 5000)
INIT = bytes(range(120))
NOON = 720 * 60.0


def test_a_cookie_is_valid_for_its_minute_and_the_next():
    cookies = Cookies(b"secret" * 6)
    cookie = cookies.make(ADDRESS, INIT, NOON + 59)
    assert len(cookie) == COOKIE_SIZE == 16
    for later, is_good in ((59, True), (60, True), (119, True), (120, False), (180, False), (-1, False)):
        assert cookies.is_valid(cookie, ADDRESS, INIT, NOON + later) == is_good


def test_a_cookie_is_for_one_address_one_port_one_init_and_one_secret():
    cookies = Cookies(b"secret" * 6)
    cookie = cookies.make(ADDRESS, INIT, NOON)
    assert not cookies.is_valid(cookie, ("10.0.0.2", 5000), INIT, NOON)
    assert not cookies.is_valid(cookie, ("10.0.0.1", 5001), INIT, NOON)
    assert not cookies.is_valid(cookie, ADDRESS, INIT[:-1] + b"\0", NOON)
    assert not Cookies(b"other " * 6).is_valid(cookie, ADDRESS, INIT, NOON)
    assert not cookies.is_valid(bytes(16), ADDRESS, INIT, NOON)
    assert not cookies.is_valid(b"", ADDRESS, INIT, NOON)


@given(st.text("0123456789abcdef.:", max_size=45), st.integers(1, 65535), st.binary(max_size=20), st.data())
def test_different_addresses_or_inits_have_different_cookies(host, port, init, data):
    cookies = Cookies(b"secret" * 6)
    cut = data.draw(st.integers(0, len(host)))
    elsewhere = (host[:cut], port)
    longer = host[cut:].encode() + init
    same = (host, port) == elsewhere and init == longer
    assert (cookies.make((host, port), init, NOON) == cookies.make(elsewhere, longer, NOON)) == same


def test_a_bucket_gives_its_burst_and_then_its_rate():
    buckets = TokenBuckets(Rate(5, 20))
    assert [buckets.take("a", 0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert buckets.take("b", 0.0), "other keys are not affected"
    assert [buckets.take("a", 0.05) for _ in range(2)] == [True, False]
    assert [buckets.take("a", 1000.0) for _ in range(6)] == [True] * 5 + [False], "no more than the burst is kept"


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=200))
def test_no_timing_gets_more_than_burst_and_rate(pauses):
    buckets = TokenBuckets(Rate(5, 20))
    now = taken = 0.0
    for pause in pauses:
        now += pause
        taken += buckets.take("a", now)
    assert taken <= 5 + 20 * now + 1e-6


def test_a_refusal_costs_nothing():
    buckets = TokenBuckets(Rate(1, 1))
    assert buckets.take("a", 0.0)
    assert not any(buckets.take("a", n / 10) for n in range(1, 10))
    assert buckets.take("a", 1.0)


def test_the_number_of_buckets_is_bounded_and_the_least_recently_used_is_dropped():
    buckets = TokenBuckets(Rate(1, 1), limit=3)
    for key in "abc":
        assert buckets.take(key, 0.0)
    assert not buckets.take("a", 0.0)
    assert buckets.take("d", 0.0)
    assert len(buckets) == 3
    assert not buckets.take("a", 0.0), "used recently"
    assert buckets.take("b", 0.0), "dropped, so its bucket is full again"


def test_the_last_half_of_a_budget_is_for_those_who_have_used_little():
    budget = FairBudget(Rate(100, 10), Rate(5, 1))
    assert sum(budget.take("greedy", 0.0) for _ in range(200)) == 50, "five of them as a newcomer"
    assert sum(budget.take(f"newcomer {n}", 0.0) for n in range(200)) == 50, "the other half"
    assert not budget.take("greedy", 0.5)
    assert budget.take("greedy", 1.0), "one a second, as anybody"
    assert sum(budget.take("greedy", 3.0) for _ in range(200)) == 2
    assert budget.pause() == pytest.approx(2.4), "until there is more than the half for newcomers"
    assert budget.take("greedy", 3.0 + budget.pause())


def test_who_asks_all_the_time_is_no_newcomer_even_if_they_get_nothing():
    budget = FairBudget(Rate(2, 0.001), Rate(5, 1))
    assert [budget.take("greedy", n / 100) for n in range(100)] == [True] * 2 + [False] * 98
    budget = FairBudget(Rate(100, 0.001), Rate(5, 1))
    assert sum(budget.take("greedy", 0.0) for _ in range(100)) == 50
    assert not any(budget.take("greedy", n / 100) for n in range(100))


def allow(rates, address, now, is_peer=False):
    return rates.allow(address, now, is_peer=is_peer)


def test_the_rates_of_handshakes():
    rates = HandshakeRates(LIMITS)
    assert sum(allow(rates, ADDRESS, 0.0) for _ in range(100)) == 5
    assert sum(allow(rates, ADDRESS, 1.0) for _ in range(100)) == 5
    steady = sum(allow(rates, ADDRESS, 2 + n / 1000) for n in range(1000))
    assert 20 <= steady <= 25
    assert sum(allow(rates, ("10.0.0.3", port), 5.0) for port in range(1, 2000)) == 500
    assert not allow(rates, ("10.0.0.3", 2000), 5.0)
    assert allow(rates, ("10.0.0.4", 1), 5.0), "the other half is for newcomers"
    assert rates.refused.keys() == {"handshakes_per_port", "handshakes_per_address", "handshakes_of_strangers"}


def test_while_datagrams_wait_strangers_get_fewer_handshakes_and_peers_as_many():
    rates = HandshakeRates(LIMITS)
    strangers = [("10.0.0.3", port) for port in range(1, 2000)]
    assert sum(rates.allow(address, 0.0, is_peer=False, is_behind=True) for address in strangers) == 62
    assert rates.allow(("10.0.0.4", 1), 0.0, is_peer=False, is_behind=True), "newcomers first"
    assert sum(rates.allow(address, 0.0, is_peer=True, is_behind=True) for address in strangers) == 1000


def test_an_ipv6_network_counts_as_one_address():
    rates = HandshakeRates(LIMITS)
    network = [(f"2001:db8:1:1::{n:x}", 5000) for n in range(20_000)]
    assert sum(allow(rates, address, 0.0) for address in network) == 500
    assert allow(rates, ("2001:db8:1:2::1", 5000), 0.0)


def test_strangers_at_the_address_of_a_peer_do_not_keep_it_from_renewing():
    rates = HandshakeRates(LIMITS)
    for n in range(100_000):
        allow(rates, (f"10.{n % 60}.0.1", n // 60 + 1), n / 10_000)
    assert rates.refused["handshakes_of_strangers"] > 10_000
    assert not allow(rates, ("10.7.0.1", 60_000), 10.0)
    assert allow(rates, ("10.7.0.1", 60_001), 10.0, is_peer=True)


def test_no_flood_pushes_out_a_half_open_handshake():
    """What the rates allow while a handshake may be confirmed, of strangers and of peers, fits beside it."""
    rates = HandshakeRates(LIMITS)
    times = [step * HANDSHAKE_LIFETIME / 1000 for step in range(1000)]
    addresses = ((f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 5000) for n in itertools.count())
    answered = sum(
        allow(rates, next(addresses), now, is_peer) for now in times for _ in range(10) for is_peer in (True, False)
    )
    answered += sum(allow(rates, next(addresses), 0.0, is_peer) for _ in range(3000) for is_peer in (True, False))
    assert 7000 < answered < MAX_ACCEPTED
    rates = HandshakeRates(LIMITS)
