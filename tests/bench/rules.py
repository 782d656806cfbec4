"""Rules of network and port range, drawn at random, and as manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.applied import HEAD
from tests.bench.networks import Networks, Random, prefixes4, prefixes6
from tests.bench.wire import INTERFACE

SOURCE_PORT, DEST_PORT = 4242, 9


@dataclass(frozen=True, slots=True)
class Rules:
    """Networks that may send, each to its own range of ports; the lab's port is in all ranges.

    The networks do not overlap, so that every peer can hold the same rules.
    """

    networks: Networks
    first: Sequence[int]
    last: Sequence[int]

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        short = (line.replace(":0:0:0:0:0/", "::/") for line in self.networks.lines())
        return zip(short, self.first, self.last, strict=True)


def draw_rules(count: int, random: Random, family: int = 4) -> Rules:
    """Return random rules, of /16 or /48 networks."""
    networks = prefixes4(count, 16, random) if family == 4 else prefixes6(count, 48, random)
    first = random.integers(1, DEST_PORT, count, endpoint=True)
    last = random.integers(DEST_PORT, 65535, count, endpoint=True)
    return Rules(networks, first.tolist(), last.tolist())


def network_policy(
    rules: Rules,
    stateful: bool = True,
    selector: str = f"{{interfaces: [{INTERFACE}]}}",
    way: str = "ingress",
) -> str:
    """Return the rules as an EBPFNetworkPolicy."""
    end = {"ingress": "from", "egress": "to"}[way]
    head = (
        f"{HEAD}kind: EBPFNetworkPolicy\nmetadata: {{name: bench}}\nspec:\n"
        f"  policyType: filtering\n  stateful: {str(stateful).lower()}\n"
        f"  selector: {selector}\n  {way}:\n"
    )
    return head + "".join(
        f"  - {{{end}: [{{ipBlock: {{cidr: {network}}}}}],"
        f" ports: [{{protocol: UDP, port: {first}, endPort: {last}}}]}}\n"
        for network, first, last in rules
    )


def container_policy(rules: Rules, way: str, bits_per_s: int) -> str:
    """Return the rules as an EBPFContainerPolicy for all workloads, with a limit each way."""
    control = way.capitalize()
    head = (
        f"{HEAD}kind: EBPFContainerPolicy\nmetadata: {{name: bench}}\nspec:\n"
        f"  selector: {{podSelector: {{}}}}\n"
        f"  resourceLimits: {{bandwidthLimits: {{ingressBitsPerSecond: {bits_per_s},"
        f" egressBitsPerSecond: {bits_per_s}}}}}\n"
        f"  networkControls:\n    enable{control}Control: true\n"
        f"    default{control}Action: deny\n    {way}Rules:\n"
    )
    return head + "".join(
        f"    - {{ipBlock: {{cidr: {network}}},"
        f" ports: [{{protocol: UDP, port: {first}, endPort: {last}}}]}}\n"
        for network, first, last in rules
    )
