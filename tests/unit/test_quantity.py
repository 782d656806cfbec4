"""Rates, sizes, times and ports: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fos1d.quantity import (
    MOST,
    PortRange,
    duration_ns,
    duration_text,
    port_range,
    rate_bits_per_s,
    rate_text,
    shown,
    shown_number,
    size_bytes,
    size_text,
)


@pytest.mark.parametrize(
    ("text", "bits_per_s"),
    [
        ("8bit", 8),
        ("15kbit", 15_000),
        ("1Mbit", 1_000_000),
        ("1mbit", 1_000_000),
        ("1MBIT", 1_000_000),
        ("2.5Gbit", 2_500_000_000),
        ("1Tbit", 10**12),
        ("1Kibit", 1024),
        ("1mibit", 1024**2),
        ("1Gibit", 1024**3),
        ("0.5Tibit", 1024**4 // 2),
    ],
)
def test_rates(text: str, bits_per_s: int) -> None:
    assert rate_bits_per_s(text) == bits_per_s


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1500", 1500), ("15b", 15), ("15kb", 15360), ("1.5KB", 1536), ("2mb", 2 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_bytes(text) == size


def test_a_bare_number_is_bytes() -> None:
    assert size_bytes(32768) == 32768


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [("1us", 1000), ("50ms", 50_000_000), ("1.5s", 1_500_000_000), ("7440S", 7440 * 10**9)],
)
def test_times(text: str, time_ns: int) -> None:
    assert duration_ns(text) == time_ns


def test_ports() -> None:
    assert port_range(443) == PortRange(443, 443)
    assert port_range("443") == PortRange(443, 443)
    assert port_range("5060-5080") == PortRange(5060, 5080)
    assert port_range("5060-5080").count == 21
    assert PortRange(1, 5).overlaps(PortRange(5, 9))
    assert not PortRange(1, 5).overlaps(PortRange(6, 9))


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (
            rate_bits_per_s,
            "100Mbps",
            '"100Mbps" is ambiguous: tc(8) reads it as bytes per second (800Mbit), most people as'
            " bits per second (100Mbit); write 800Mbit or 100Mbit",
        ),
        (
            rate_bits_per_s,
            "1.5kibps",
            '"1.5kibps" is ambiguous: tc(8) reads it as bytes per second (12Kibit), most people as'
            " bits per second (1.5Kibit); write 12Kibit or 1.5Kibit",
        ),
        (
            rate_bits_per_s,
            "8bps",
            '"8bps" is ambiguous: tc(8) reads it as bytes per second (64bit), most people as'
            " bits per second (8bit); write 64bit or 8bit",
        ),
        (rate_bits_per_s, "10Mbit/s", '"10Mbit/s" is not a rate; write 10Mbit, without /s'),
        (
            rate_bits_per_s,
            "100",
            '"100" has no unit; units of a rate: bit kbit Mbit Gbit Tbit Kibit Mibit Gibit Tibit',
        ),
        (
            rate_bits_per_s,
            "100Mb",
            '"100Mb" has the unknown unit "Mb"; units of a rate: bit kbit Mbit Gbit Tbit Kibit'
            " Mibit Gibit Tibit",
        ),
        (
            rate_bits_per_s,
            "fast",
            '"fast" is not a rate; write a number and a unit without a space, such as 100Mbit;'
            " units: bit kbit Mbit Gbit Tbit Kibit Mibit Gibit Tibit",
        ),
        (rate_bits_per_s, "0.3bit", '"0.3bit" is no whole number of bit'),
        (rate_bits_per_s, "99999999999Tbit", '"99999999999Tbit" is too large'),
        (size_bytes, "15kbit", '"15kbit" counts bits, a size counts bytes; units: b kb mb gb'),
        (size_bytes, "15k", '"15k" has the unknown unit "k"; units of a size: b kb mb gb'),
        (duration_ns, "50", '"50" has no unit; write for example 50s or 50ms'),
        (duration_ns, "5min", '"5min" has the unknown unit "min"; units of a time: us ms s'),
        (
            duration_ns,
            "50 ms",
            '"50 ms" is not a time; write a number and a unit without a space, such as 50ms;'
            " units: us ms s",
        ),
        (port_range, "0", "0 is no port; ports are 1 to 65535"),
        (port_range, "80-65536", "65536 is no port; ports are 1 to 65535"),
        (port_range, "80-70", '"80-70" runs backwards; write 70-80'),
        (
            port_range,
            "http",
            '"http" is no port; write a number from 1 to 65535, or a range such as "5060-5080"',
        ),
    ],
)
def test_refusals(parse: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert str(caught.value) == message


@given(st.integers(0, MOST))
def test_rates_and_sizes_survive_being_written(value: int) -> None:
    small = value % 10**18
    assert rate_bits_per_s(rate_text(small)) == small
    assert size_bytes(size_text(small)) == small


@given(st.integers(0, 10**15))
def test_times_survive_being_written(microseconds: int) -> None:
    assert duration_ns(duration_text(microseconds * 1000)) == microseconds * 1000


@given(st.integers(1, 65535), st.integers(1, 65535))
def test_ports_survive_being_written(one: int, other: int) -> None:
    ports = PortRange(min(one, other), max(one, other))
    assert port_range(str(ports)) == ports


@given(st.text(max_size=40) | st.from_regex(r"[0-9.]{1,30}[a-zA-Z/]{0,8}", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (rate_bits_per_s, size_bytes, duration_ns, port_range):
        try:
            parse(text)
        except ValueError as error:
            assert str(error).isprintable()


def test_messages_stay_short_and_printable() -> None:
    assert shown("a\x00b") == '"a\\x00b"'
    assert len(shown("x" * 1000)) < 70
    assert shown_number(10**30) == "10000000000000000..."
