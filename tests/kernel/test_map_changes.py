"""An EBPFMap that changes while others write to it: what is declared is there, always."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fos1d.kernel import bpf, contents, libbpf
from fos1d.kernel.bpf import Fd
from fos1d.model.objects import Map, MapType, key_of
from tests import lab
from tests.applied import HEAD, Applied, applied
from tests.contract import reconcile_once

pytestmark = pytest.mark.kernel

KEYED = ("hash", "percpu_hash", "lru_hash")


@pytest.fixture
def kernel(namespace: lab.Namespace, bpffs: Path) -> Iterator[Applied]:
    with applied(namespace, bpffs) as made:
        yield made


def declared(kind: str, most: int, keys: Mapping[int, int], **spec: object) -> dict[str, str]:
    """Return the manifest of a map with 4-byte keys and values."""
    entries = ", ".join(f"{{key: {key}, value: {value}}}" for key, value in keys.items())
    extra = "".join(f"  {name}: {value}\n" for name, value in spec.items())
    text = (
        f"{HEAD}kind: EBPFMap\nmetadata: {{name: m}}\nspec:\n  type: {kind}\n  keySize: 4\n"
        f"  maxEntries: {most}\n  valueSize: 4\n{extra}  initData: [{entries}]\n"
    )
    return {"m.yaml": text}


def number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def opened(kernel: Applied) -> Fd:
    """Open the map."""
    (path,) = kernel.kernel.bpffs.pins("map/default:m")
    return kernel.kernel.bpffs.open(path)


def held(kernel: Applied) -> dict[int, int]:
    """Return what the map holds."""
    with opened(kernel) as fd:
        found = contents.read_entries(fd, bpf.map_info(fd))
    return {
        int.from_bytes(key, "little"): int.from_bytes(value, "little")
        for key, value in found.items()
    }


def put(kernel: Applied, keys: Mapping[int, int]) -> None:
    """Write entries as somebody else does at run time."""
    with opened(kernel) as fd:
        records = {number(key): number(value) for key, value in keys.items()}
        contents.write_entries(fd, bpf.map_info(fd), records)


@pytest.mark.parametrize("kind", KEYED)
def test_a_full_map_takes_other_entries(kernel: Applied, kind: str) -> None:
    kernel.apply(declared(kind, 2, {1: 1, 2: 2}))
    kernel.apply(declared(kind, 2, {3: 3, 4: 4}))
    assert held(kernel) == {3: 3, 4: 4}


def test_a_full_trie_takes_other_entries(kernel: Applied) -> None:
    def trie(prefix: str) -> dict[str, str]:
        text = declared("lpm_trie", 1, {0: 1})["m.yaml"].replace("keySize: 4", "keySize: 8")
        return {"m.yaml": text.replace("key: 0", f"key: {prefix}")}

    kernel.ready(trie("10.0.0.0/8"))
    kernel.ready(trie("10.1.0.0/16"))
    (key,) = held(kernel)
    assert key.to_bytes(8, "little") == bytes([16, 0, 0, 0, 10, 1, 0, 0])


@pytest.mark.parametrize("kind", ["hash", "percpu_hash"])
def test_a_map_that_shrinks_keeps_what_is_declared(kernel: Applied, kind: str) -> None:
    others = {key: key for key in range(1, 15)}
    kernel.ready(declared(kind, 16, {1000: 1, 2000: 2}))
    put(kernel, others)
    kernel.ready(declared(kind, 4, {1000: 7, 3000: 3}))
    found = held(kernel)
    assert (found.pop(1000), found.pop(3000)) == (7, 3)
    assert len(found) == 2, "and as many of the others as fit"
    assert found.items() <= others.items()


def test_an_exclusive_map_that_changes_its_size_hands_nothing_on(kernel: Applied) -> None:
    kernel.ready(declared("hash", 8, {1: 1}, exclusive="true"))
    put(kernel, {key: key for key in range(2, 9)})
    kernel.ready(declared("hash", 1, {1: 1}, exclusive="true"))
    assert held(kernel) == {1: 1}


def test_an_exclusive_map_that_others_filled_takes_its_entries(kernel: Applied) -> None:
    kernel.ready(declared("hash", 2, {1: 1}, exclusive="true"))
    put(kernel, {8: 8})
    kernel.ready(declared("hash", 2, {1: 1, 2: 2}, exclusive="true"))
    assert held(kernel) == {1: 1, 2: 2}


@pytest.mark.parametrize("kind", ["hash", "array"])
def test_a_map_that_grows_keeps_what_others_wrote(kernel: Applied, kind: str) -> None:
    kernel.ready(declared(kind, 4, {1: 1}))
    put(kernel, {2: 2, 3: 3})
    kernel.ready(declared(kind, 8, {1: 5}))
    assert held(kernel) == {1: 5, 2: 2, 3: 3}


def test_a_map_that_others_filled_says_what_to_do(kernel: Applied) -> None:
    kernel.ready(declared("hash", 2, {1: 1}))
    put(kernel, {8: 8})
    report = kernel.apply(declared("hash", 2, {1: 1, 2: 2}))
    (refusal,) = report.facts.refusals.values()
    assert "is full (maxEntries 2)" in str(refusal)
    assert held(kernel) == {1: 1, 8: 8}


def test_a_pin_among_our_own_is_refused(kernel: Applied) -> None:
    """The root is a setting, which `validate` does not know."""
    root = kernel.kernel.bpffs.root
    report = kernel.apply(declared("hash", 2, {1: 1}, pinPath=root / "program/mine"))
    (refusal,) = report.facts.refusals.values()
    assert "the daemon's own folder" in str(refusal)
    assert not (root / "program/mine").exists()


@pytest.mark.parametrize("kind", ["queue", "stack"])
@pytest.mark.parametrize("most", [4, 16])
def test_a_queue_that_changes_its_size_keeps_its_order(
    kernel: Applied, kind: str, most: int
) -> None:
    pushed = [number(value) for value in range(1, 5)]
    kernel.ready(elements(kind, 8))
    with opened(kernel) as fd:
        for value in pushed:
            assert libbpf.lib().bpf_map_update_elem(fd.number, None, value, 0) == 0
    kernel.ready(elements(kind, most))
    with opened(kernel) as fd:
        found = list(contents.pop_elements(fd, bpf.map_info(fd)))
    assert found == (pushed if kind == "queue" else pushed[::-1])


def elements(kind: str, most: int) -> dict[str, str]:
    """Return the manifest of a queue or stack."""
    spec = f"{{type: {kind}, maxEntries: {most}, valueSize: 4}}"
    return {"m.yaml": f"{HEAD}kind: EBPFMap\nmetadata: {{name: m}}\nspec: {spec}\n"}


@pytest.mark.parametrize("kind", [MapType.HASH, MapType.LRU_HASH, MapType.PERCPU_HASH])
def test_what_a_program_remembers_survives_a_longer_record(kernel: Applied, kind: MapType) -> None:
    """As when an upgrade adds fields: the new ones are zero."""
    short = Map("state/_flow/what", kind, 4, 12, 8)
    reconcile_once(kernel.kernel, {key_of(short): short})
    cpus = contents.possible_cpus() if kind is MapType.PERCPU_HASH else 1
    with kernel.kernel.bpffs.open(short.path) as fd:
        slots = [bytes([1 + cpu] * 12) for cpu in range(cpus)]
        passed = b"".join(slot.ljust(16, b"\0") for slot in slots) if cpus > 1 else slots[0]
        contents.write_raw_one(fd, bpf.map_info(fd), number(7), passed)
    longer = Map("state/_flow/what", kind, 4, 24, 8)
    reconcile_once(kernel.kernel, {key_of(longer): longer})
    with kernel.kernel.bpffs.open(longer.path) as fd:
        (values,) = [values for _, values in contents.read_raw(fd, bpf.map_info(fd))]
    assert values == b"".join(slot.ljust(24, b"\0") for slot in slots)
