"""Random packets through NAT and through a naive one that knows only what RFC 4787 says."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from fos1d.kernel.port import RealKernel
from tests import frames as f
from tests.kernel.nat_packets import Seen, error, tcp, udp
from tests.kernel.nat_places import (
    ADDRESS,
    ANY,
    DROPPED,
    PORT,
    End,
    Place,
    dest,
    masquerade,
    source,
)
from tests.kernel.nat_rig import Nat

pytestmark = pytest.mark.kernel

PACKETS = 600


@dataclass
class Naive:
    """A NAT that remembers who has which outside port, and who spoke to whom; it never forgets.

    Which port a newcomer gets is not its to say: it learns that, and objects to what must not be.
    """

    outside: str
    filtering: int
    ports: dict[tuple[int, End], int] = field(default_factory=dict)
    owners: dict[tuple[int, int], End] = field(default_factory=dict)
    spoken: set[tuple[int, End, str, int]] = field(default_factory=set)

    def sent(self, protocol: int, inside: End, far: End, got: End) -> None:
        """Look at what became of the source of a packet that left."""
        assert got[0] == self.outside
        if (protocol, inside) not in self.ports:
            assert (protocol, got[1]) not in self.owners
            assert (got[1] ^ inside[1]) & 1 == 0
            if (protocol, inside[1]) not in self.owners:
                assert got[1] == inside[1]
            self.ports[protocol, inside] = got[1]
            self.owners[protocol, got[1]] = inside
        assert got[1] == self.ports[protocol, inside]
        self.spoken.add((protocol, inside, *far))

    def expected(self, protocol: int, far: End, port: int) -> End:
        """Say what becomes of the destination of a packet that comes in."""
        inside = self.owners.get((protocol, port))
        if inside is None:
            return self.outside, port
        if self.filtering == PORT:
            known = (protocol, inside, *far) in self.spoken
        else:
            known = any(row[:3] == (protocol, inside, far[0]) for row in self.spoken)
        if known or self.filtering == ANY:
            self.spoken.add((protocol, inside, *far))
            return inside
        return DROPPED


@pytest.mark.parametrize("filtering", [PORT, ADDRESS, ANY])
@pytest.mark.parametrize("seed", [1, 2])
def test_random_packets(kernel: RealKernel, at: Place, filtering: int, seed: int) -> None:
    random = Random(seed)
    nat = Nat(kernel, at.family, masquerade(at, filtering=filtering))
    naive = Naive(at.outside, filtering)
    insiders = [(host, port) for host in (at.inside, at.second) for port in range(5000, 5006)]
    strangers = [(host, port) for host in (at.far, at.other) for port in (53, 80)]
    for _ in range(PACKETS):
        protocol = random.choice([f.UDP, f.TCP])
        make = udp if protocol == f.UDP else tcp
        inside, far = random.choice(insiders), random.choice(strangers)
        port = random.choice([*range(5000, 5008), *(p for _, p in naive.owners)])
        turn = random.random()
        if turn < 0.4:
            naive.sent(protocol, inside, far, source(nat, make(*inside, *far)))
        elif turn < 0.9:
            expected = naive.expected(protocol, far, port)
            assert dest(nat, make(*far, at.outside, port)) == expected
        else:
            quoted = make(at.outside, port, *far)
            seen = nat.come(error(at.far, at.outside, quoted))
            owner = naive.owners.get((protocol, port))
            known = owner is not None and (protocol, owner, *far) in naive.spoken
            back = owner if owner and known else (at.outside, port)
            assert seen is not None
            assert seen.quoted == Seen(back[0], back[1], far[0], far[1], protocol)
