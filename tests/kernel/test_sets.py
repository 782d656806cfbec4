"""Sets of IPv6 addresses in the kernel: every depth of the tree loads and has its members."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from random import Random

import pytest

from tests import frames as f
from tests import lab
from tests.applied import XDP_DROP, XDP_PASS, Applied, applied, program, verdict

pytestmark = pytest.mark.kernel

BLOCK = "{blacklist: {enabled: true, files: [listed.netset]}}"
# So many ranges make a tree of 1, 2, 3, 4, 5 and 6 levels.
COUNTS = [3, 30, 300, 2_900, 26_000, 230_000]
BASE = 0x2A00 << 112


@pytest.fixture
def kernel(namespace: lab.Namespace, bpffs: Path) -> Iterator[Applied]:
    with applied(namespace, bpffs) as made:
        yield made


def frame(source: int) -> bytes:
    return f.ethernet(f.ipv6(str(IPv6Address(source)), "2001:db8::1", f.UDP, f.udp(1, 2)))


def check(kernel: Applied, lines: list[str], members: list[int], others: list[int]) -> None:
    files = {"p.yaml": program("p", "v0", BLOCK), "listed.netset": "\n".join(lines)}
    with kernel.open(files) as fd:
        assert {verdict(fd, frame(source)) for source in members} == {XDP_DROP}
        assert {verdict(fd, frame(source)) for source in others} == {XDP_PASS}


@pytest.mark.parametrize("count", COUNTS)
def test_a_tree_of_networks(kernel: Applied, count: int) -> None:
    random = Random(count)
    starts = [BASE + (n << 81) for n in random.sample(range(4 * count), count)]
    some = random.sample(starts, min(count, 100))
    inside = [start + random.randrange(1 << 80) for start in some]
    behind = [start + (1 << 80) + random.randrange(1 << 80) for start in some]
    check(kernel, [f"{IPv6Address(s)}/48" for s in starts], [*some, *inside], behind)


@pytest.mark.parametrize("count", COUNTS[:5])
def test_a_tree_of_hosts_that_differ_in_their_last_bits(kernel: Applied, count: int) -> None:
    hosts = range(BASE, BASE + 2 * count, 2)
    some = Random(count).sample(hosts, min(count, 100))
    others = [host + 1 for host in some]
    check(kernel, [str(IPv6Address(host)) for host in hosts], some, [*others, BASE - 1])


def test_a_tree_of_networks_that_differ_in_bit_64(kernel: Applied) -> None:
    nets = range(BASE, BASE + (60 << 64), 2 << 64)
    members = [net + n for net in nets for n in (0, (1 << 64) - 1)]
    others = [net + (1 << 64) + n for net in nets for n in (0, (1 << 64) - 1)]
    check(kernel, [f"{IPv6Address(net)}/64" for net in nets], members, others)
