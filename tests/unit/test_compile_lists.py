"""What is remembered of lists gives the same sets as reading everything anew."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from ipaddress import IPv4Network, IPv6Network, ip_network

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fos1d.compile import lists
from fos1d.compile.lists import AddressSet, ListStore
from fos1d.compile.netset import NetSet, read_netset
from fos1d.compile.ranges import Ranges4
from fos1d.compile.shards import changed, shards_of
from fos1d.errors import ListError
from fos1d.model.snapshot import Blob

Network = IPv4Network | IPv6Network


def blob(data: bytes, path: str = "list.netset") -> Blob:
    return Blob(path, f"{path}-{hash(data)}", len(data), lambda: data)


def same(one: AddressSet, other: AddressSet) -> bool:
    """Whether two sets have the same members, digests and arrays."""
    ours, theirs = ((s.digest4, s.digest6, s.sample(), len(s.v4), len(s.v6)) for s in (one, other))
    arrays = [
        (one.set4.lines, other.set4.lines),
        (one.set4.leaves, other.set4.leaves),
        (one.set4.blocks, other.set4.blocks),
    ]
    if len(one.v6):
        arrays += [(one.set6.nodes, other.set6.nodes)]
        assert one.set6.level_base == other.set6.level_base
        assert one.set6.filter.tobytes() == other.set6.filter.tobytes()
    return ours == theirs and all(a.tobytes() == b.tobytes() for a, b in arrays)


LINES = """10.0.0.1|10.0.0.1|10.0.0.0/24|10.0.0.0/30|8.0.0.0/6|11.0.0.0/8|255.255.255.255|
192.0.2.128/25|2001:db8::/32|2001:db8::1|fe00::/7|# a comment||10.9.9.9 ; why|wrong|10.0.0.1/8"""
LINE = st.sampled_from(LINES.replace("\n", "").split("|"))
VERSIONS = st.lists(st.lists(LINE, max_size=12), min_size=1, max_size=6)


@pytest.fixture(autouse=True)
def _small_is_big(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "BIG_BYTES", 0)


@settings(deadline=None, max_examples=25)
@given(VERSIONS, st.lists(LINE, max_size=3))
def test_a_new_version_gives_what_a_fresh_start_gives(
    versions: list[list[str]], others: list[str]
) -> None:
    # So much that is the same in all versions that an edit is always worth reading alone.
    padding = "".join(f"198.51.{n}.{n}\n" for n in range(60))
    own: list[Network] = [ip_network("10.0.0.0/28"), ip_network("2001:db8::/48")]
    store = ListStore()
    for version in versions:
        data = (padding + "\n".join(version) + "\n" + padding).encode()
        beside = blob("\n".join(others).encode(), "other.netset")
        assert store.problems_of(blob(data)) == ListStore().problems_of(blob(data))
        found, wanted = (_outcome(one, own, [blob(data), beside]) for one in (store, ListStore()))
        if isinstance(found, AddressSet) and isinstance(wanted, AddressSet):
            assert same(found, wanted)
        else:
            assert str(found) == str(wanted)
        store.end_pass()


def _outcome(store: ListStore, own: list[Network], blobs: list[Blob]) -> AddressSet | ListError:
    try:
        return store.set_of(own, blobs)
    except ListError as error:
        return error


def test_a_line_of_all_addresses_is_reported_with_its_number() -> None:
    store, lines = ListStore(), b"192.0.2.1\n2001:db8::1\n" * (lists.BIG_BYTES // 20)
    assert store.problems_of(blob(lines)) == ()
    for text, version in (("0.0.0.0/0", 4), ("::/0", 6), ("0.0.0.0/00", 4)):
        problems = store.problems_of(blob(lines + text.encode() + b" # all\n" + lines))
        number = lines.count(b"\n") + 1
        assert problems == ((number, f"`{text}` would drop every IPv{version} packet"),)


def test_everything_comes_and_goes() -> None:
    padding = b"192.0.2.1\n2001:db8::1\n" * 30
    store = ListStore()
    for middle in (b"", b"0.0.0.0/1\n::/1\n128.0.0.0/1\n8000::/1\n", b"0.0.0.0/1\n::/1\n", b""):
        version = blob(padding + middle + padding)
        assert same(store.set_of((), [version]), ListStore().set_of((), [version]))
        store.end_pass()


RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=10)


@settings(deadline=None)
@given(RANGES, RANGES)
def test_shards_lose_and_gain_ranges(
    kept: list[tuple[int, int]], gone: list[tuple[int, int]]
) -> None:
    added = [(2 * n + 1, size) for n, size in gone]
    unit = np.int64(1) << 19

    def ranges(pairs: list[tuple[int, int]]) -> Ranges4:
        first = np.array([n for n, _ in pairs], np.int64) * unit
        return Ranges4.from_bounds(first, first + unit * np.array([s for _, s in pairs], np.int64))

    def counted(parts: dict[int, Ranges4]) -> Counter[tuple[int, int]]:
        rows = [zip(p.first.tolist(), p.last.tolist(), strict=True) for p in parts.values()]
        return Counter(row for part in rows for row in part)

    before = shards_of(ranges([*kept, *gone]))
    after = changed(before, ranges(gone), ranges(added))
    assert counted(after) == counted(shards_of(ranges([*kept, *added])))
    untouched = changed(before, ranges(gone), ranges(gone))
    assert all(untouched[octet] is before[octet] for octet in before)


def test_a_range_that_is_not_there_cannot_go() -> None:
    one, other = (Ranges4.of([IPv4Network(text)]) for text in ("10.0.0.0/8", "10.0.0.0/9"))
    with pytest.raises(ValueError, match="not there"):
        changed(shards_of(one), other, Ranges4.empty())


def test_only_what_differs_is_read_and_built_again() -> None:
    reads: list[int] = []

    def read(data: bytes) -> NetSet:
        reads.append(len(data))
        return read_netset(data)

    store = ListStore(read)
    lines = [b"%d.1.2.3\n" % octet for octet in range(1, 224)] * 2
    old = store.set_of((), [blob(b"".join(lines))])
    store.end_pass()
    new = store.set_of((), [blob(b"".join([*lines[:99], b"100.9.9.9\n", *lines[99:]]))])
    assert reads[0] == len(b"".join(lines))
    assert sum(reads[1:]) < 60
    shared = [octet for octet in old.v4.parts if new.v4.parts[octet] is old.v4.parts[octet]]
    assert set(old.v4.parts) - set(shared) == {100}


def test_what_nobody_asks_for_is_forgotten() -> None:
    store = ListStore()
    store.set_of((), [blob(b"10.0.0.1\n")])
    store.end_pass()
    store.set_of((), [blob(b"10.0.0.2\n")])
    store.end_pass()
    store.end_pass()
    assert not (store._lists or store._texts or store._sets or store._own)


def test_the_same_members_have_the_same_digest_however_written() -> None:
    ways = [b"10.0.0.0/7\n", b"11.0.0.0/8\n10.0.0.0/8\n", b"10.0.0.0/8\n11.0.0.0/9\n11.128.0.0/9\n"]
    found = [ListStore().set_of((), [blob(way)]) for way in ways]
    assert len({one.digest4 for one in found}) == 1
    other = ListStore().set_of((), [blob(b"10.0.0.0/8\n")])
    assert other.digest4 != found[0].digest4


def test_what_is_remembered_of_a_big_list_is_small() -> None:
    """40 MB for a million lines, bytes of the file among them, and no object a line."""
    lines = 100_000
    random = np.random.default_rng(3)
    packed = random.integers(0x01000000, 0xDF000000, lines, np.uint32).astype(">u4").tobytes()
    octets = np.frombuffer(packed, np.uint8).reshape(-1, 4).tolist()
    data = "".join(f"{a}.{b}.{c}.{d}\n" for a, b, c, d in octets).encode()
    del octets
    tracemalloc.start()
    try:
        store = ListStore()
        assert store.set_of((), [blob(bytes(bytearray(data)))]).set4.leaves.nbytes > 0
        store.end_pass()
        remembered, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    fixed = 256 * 256 * 64 + 2_000_000  # the lines of all /16s, and objects a shard
    assert remembered < fixed + 36 * lines
