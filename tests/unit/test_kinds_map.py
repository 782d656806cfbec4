"""EBPFMap: sizes by type, and declared entries as the kernel holds them."""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_network
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fos1d.kinds.entries import Shape, pack, pack_entries, pack_key, pack_prefix
from fos1d.kinds.map import EBPFMap, MapSpec
from fos1d.kinds.map_flags import ACCEPTED, BITS
from fos1d.manifest import Hex
from tests.manifests import found, manifest, resource

ORDER: Literal["little", "big"] = sys.byteorder


def spec(text: str) -> MapSpec:
    return resource(EBPFMap, text).spec


def complaints(text: str) -> list[str]:
    return found(manifest("EBPFMap", text))


def order(number: int, size: int = 4) -> bytes:
    return number.to_bytes(size, ORDER)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("hash", "keySize: 4\nvalueSize: 8"),
        ("array", "keySize: 4\nvalueSize: 8"),
        ("lru_hash", "keySize: 16\nvalueSize: 8"),
        ("lpm_trie", "keySize: 8\nvalueSize: 4"),
        ("percpu_hash", "keySize: 4\nvalueSize: 8"),
        ("percpu_array", "keySize: 4\nvalueSize: 8"),
        ("stack", "valueSize: 8"),
        ("queue", "valueSize: 8"),
        ("ringbuf", ""),
        ("perf_event_array", ""),
    ],
)
def test_all_types(kind: str, sizes: str) -> None:
    found_spec = spec(f"type: {kind}\nmaxEntries: 4096\n{sizes}")
    assert found_spec.shape.type == kind
    assert found_spec.effective_max_entries() == 4096
    assert found_spec.kernel_flags == (1 if kind == "lpm_trie" else 0)


@pytest.mark.parametrize(
    ("asked", "page", "effective"),
    [
        (1, 4096, 4096),
        (4096, 4096, 4096),
        (4097, 4096, 8192),
        (70000, 4096, 131072),
        (1, 65536, 65536),
    ],
)
def test_a_ringbuf_is_a_power_of_two_of_pages(asked: int, page: int, effective: int) -> None:
    ringbuf = spec(f"type: ringbuf\nmaxEntries: {asked}")
    assert ringbuf.max_entries == asked
    assert ringbuf.effective_max_entries(page) == effective


def test_the_entries_of_the_guide() -> None:
    trie = spec("""
        type: lpm_trie
        maxEntries: 1024
        keySize: 8
        valueSize: 4
        initData:
          - {key: "0x0a0a0a00/24", value: "0x00000001"}
        """)
    (record,) = trie.records
    assert record.key == order(24) + bytes([10, 10, 10, 0])
    assert record.value == bytes([0, 0, 0, 1])


@pytest.mark.parametrize(
    ("written", "size", "packed"),
    [
        ("0x1", 4, bytes([0, 0, 0, 1])),
        ("0x0102", 4, bytes([0, 0, 1, 2])),
        ("0xABCDEF", 3, bytes([0xAB, 0xCD, 0xEF])),
        (5, 4, order(5)),
        ("5", 4, order(5)),
        (5, 1, bytes([5])),
        (2**64 - 1, 8, b"\xff" * 8),
        ("10.0.0.1", 4, bytes([10, 0, 0, 1])),
        ("2001:db8::1", 16, ip_address("2001:db8::1").packed),
    ],
)
def test_values(written: str | int, size: int, packed: bytes) -> None:
    assert pack(written, size) == packed


def test_unquoted_hex_is_hex() -> None:
    table = spec("""
        type: hash
        maxEntries: 8
        keySize: 4
        valueSize: 20
        initData:
          - {key: 0x0a000001, value: 0x0000000000000000000000000000000000000001}
          - {key: "0x0a000002", value: "0x01"}
        """)
    assert [record.key.hex() for record in table.records] == ["0a000001", "0a000002"]
    assert table.records[0].value == table.records[1].value == bytes(19) + b"\x01"


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("0x0102030405", 4),
        (256, 1),
        (1, 3),
        (-1, 4),
        ("10.0.0.1", 8),
        ("fe80::1%eth0", 16),
        ("0x", 4),
        ("", 4),
        ("x" * 5000, 4),
    ],
)
def test_values_that_do_not_fit(written: str | int, size: int) -> None:
    with pytest.raises(ValueError):
        pack(written, size)


@pytest.mark.parametrize(
    ("written", "size", "length", "address"),
    [
        ("10.10.10.0/24", 8, 24, "10.10.10.0"),
        ("10.1.2.3", 8, 32, "10.1.2.3"),
        ("0x0a000000/8", 8, 8, "10.0.0.0"),
        ("0x0a010203", 8, 32, "10.1.2.3"),
        (Hex("0x0a010203").text, 8, 32, "10.1.2.3"),
        ("0.0.0.0/0", 8, 0, "0.0.0.0"),
        ("2001:db8::/32", 20, 32, "2001:db8::"),
        ("::1", 20, 128, "::1"),
    ],
)
def test_prefixes(written: str, size: int, length: int, address: str) -> None:
    assert pack_prefix(written, size) == order(length) + ip_address(address).packed


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_hex_and_dotted_prefixes_are_the_same(number: int, length: int) -> None:
    network = ip_network((number, length), strict=False)
    written = f"0x{int(network.network_address):08x}/{length}"
    assert pack_prefix(written, 8) == pack_prefix(str(network), 8)


@given(st.binary(min_size=1, max_size=40))
def test_hex_is_taken_as_written(data: bytes) -> None:
    assert pack(f"0x{data.hex()}", len(data)) == data


@given(st.text(max_size=30) | st.integers(), st.sampled_from([4, 8, 20]))
def test_any_key_is_packed_or_refused(key: str | int, size: int) -> None:
    for kind in ("hash", "lpm_trie", "array"):
        try:
            assert len(pack_key(key, Shape(kind, size if kind != "array" else 4, 4, 8))) in (
                4,
                size,
            )
        except ValueError as error:
            assert str(error)


def test_entries_keep_their_order_and_the_good_ones() -> None:
    packed = pack_entries(Shape("hash", 4, 4, 8), [(2, 1), (1, 1), (2, 3), ("zebra", 1), (3, "x")])
    assert [record.key for record in packed.records] == [order(2), order(1)]
    assert [fault.loc for fault in packed.faults] == [(2, "key"), (3, "key"), (4, "value")]


@pytest.mark.parametrize("kind", sorted(ACCEPTED))
def test_flags_by_number_and_by_name(kind: str) -> None:
    sizes = {
        "stack": "valueSize: 4",
        "queue": "valueSize: 4",
        "ringbuf": "",
        "perf_event_array": "",
    }
    written = sizes.get(kind, f"keySize: {8 if kind == 'lpm_trie' else 4}\nvalueSize: 4")
    for name, bit in BITS.items():
        for flags in (f"[{name}]", f"[BPF_F_{name.upper()}]", str(bit), hex(bit)):
            text = f"type: {kind}\nmaxEntries: 4096\nflags: {flags}\n{written}"
            if ACCEPTED[kind] & bit:
                assert spec(text).flags == bit
            else:
                assert len(complaints(text)) == 1


def test_no_entries_where_there_are_no_keys() -> None:
    assert complaints(
        "type: queue\nmaxEntries: 4\nvalueSize: 4\ninitData: [{key: 1, value: 1}]"
    ) == ["spec.initData does not belong to type queue: a queue has no keys"]
