"""The same rules as nftables holds them: each a rule, or all in a map."""

from __future__ import annotations

import tempfile

from tests.bench.peers import PATIENCE_S
from tests.bench.rules import Rules
from tests.bench.wire import INTERFACE, Router
from tests.lab import Namespace


def run_nftables(router: Router, rules: Rules, body: str) -> None:
    """Load a table whose chain judges what is forwarded."""
    router.poll_without_xdp()
    load_nftables(router.namespace, rules, body)


def load_nftables(namespace: Namespace, rules: Rules, body: str) -> None:
    """Load a table by nft(8), as people do."""
    text = f"table {_ip(rules)} bench {{\n{body}\n}}\n"
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(text)
        file.flush()
        namespace.run("nft", "-f", file.name, timeout_s=PATIENCE_S)


def _ip(rules: Rules) -> str:
    return "ip" if rules.networks.family == 4 else "ip6"


def chain(rules: str) -> str:
    """Return the chain of nftables that drops what the rules do not accept."""
    return (
        f" chain in {{ type filter hook forward priority 0; policy drop;\n"
        f'  iifname != "{INTERFACE}" accept\n{rules}\n }}'
    )


def linear(rules: Rules) -> str:
    """Return one rule of nftables for each."""
    lines = (
        f"  {_ip(rules)} saddr {n} udp dport {first}-{last} accept" for n, first, last in rules
    )
    return chain("\n".join(lines))


def verdict_map(rules: Rules) -> str:
    """Return a verdict map of networks, each to a chain with its ports."""
    chains = "\n".join(
        f" chain c{number} {{ udp dport {first}-{last} accept; }}"
        for number, (_, first, last) in enumerate(rules)
    )
    elements = ",\n".join(f"{n} : jump c{number}" for number, (n, _, _) in enumerate(rules))
    return f"{chains}\n{chain(f'  {_ip(rules)} saddr vmap {{ {elements} }}')}"


def concatenation(rules: Rules) -> str:
    """Return a verdict map of networks and port ranges side by side."""
    elements = ",\n".join(f"{n} . {first}-{last} : accept" for n, first, last in rules)
    return chain(f"  {_ip(rules)} saddr . udp dport vmap {{ {elements} }}")


def tracked(rules: Rules) -> str:
    """Return the same behind connection tracking."""
    elements = ",\n".join(f"{n} . {first}-{last} : accept" for n, first, last in rules)
    return chain(
        "  ct state established,related accept\n"
        f"  {_ip(rules)} saddr . udp dport vmap {{ {elements} }}"
    )
