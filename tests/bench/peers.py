"""The yardsticks: what else can drop listed sources on a Linux router, each as its own users do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from fos1d.kernel import bpf, contents
from tests.bench.networks import Networks
from tests.bench.wire import INTERFACE, Router
from tests.lab import command

PATIENCE_S = 600.0
XDP_FILTER_MOST = 10_000
XDP_FILTER_PINS = Path("/sys/fs/bpf/xdp-filter")
XDP_FILTER_SOURCE = 1


def run_xdp_filter(router: Router, hosts: Networks) -> None:
    """Load xdp-filter with only its address lookup, and fill its table as `xdp-filter ip` would,
    but at once."""
    feature = f"ipv{hosts.family}"
    router.namespace.run(
        "xdp-filter", "load", INTERFACE, "-f", feature, "-p", "allow", "-m", "native"
    )
    router.stack.callback(router.namespace.run, "xdp-filter", "unload", INTERFACE, check=False)
    keys = hosts.low.astype(">u4").view("S4") if hosts.family == 4 else _keys6(hosts)
    with bpf.get(XDP_FILTER_PINS / f"filter_{feature}") as fd:
        info = bpf.map_info(fd)
        value = XDP_FILTER_SOURCE.to_bytes(8, "little")
        contents.write_entries(
            fd, info, {bytes(key).ljust(info.key_bytes, b"\0"): value for key in keys}
        )


def _keys6(hosts: Networks) -> Iterable[bytes]:
    import numpy as np

    rows = np.stack([hosts.high, hosts.low], axis=1).astype(">u8")
    return (row.tobytes() for row in rows)


def run_nftables(router: Router, networks: Networks) -> None:
    """Drop at nftables' earliest hook, by a set: of hosts, or of intervals."""
    router.poll_without_xdp()
    kind = f"ipv{networks.family}_addr"
    is_hosts = bool((networks.bits == networks.width).all())
    flags = "" if is_hosts else "flags interval; "
    elements = ",\n".join(networks.lines())
    protocol = "ip" if networks.family == 4 else "ip6"
    rules = (
        f"table netdev bench {{\n"
        f" set listed {{ type {kind}; {flags}elements = {{\n{elements}\n}} }}\n"
        f' chain in {{ type filter hook ingress device "{INTERFACE}" priority 0; policy accept;\n'
        f"  {protocol} saddr @listed drop\n }}\n}}\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(rules)
        file.flush()
        router.namespace.run("nft", "-f", file.name, timeout_s=PATIENCE_S)


def run_ipset(router: Router, networks: Networks) -> None:
    """Drop in the raw table, iptables' earliest hook, by an ipset: hash:ip or hash:net."""
    router.poll_without_xdp()
    is_hosts = bool((networks.bits == networks.width).all())
    family = "inet" if networks.family == 4 else "inet6"
    lines = [
        f"create listed hash:{'ip' if is_hosts else 'net'} family {family} "
        f"maxelem {max(len(networks), 65536)}"
    ]
    lines += [f"add listed {line}" for line in networks.lines()]
    with tempfile.NamedTemporaryFile("w", suffix=".ipset") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        router.namespace.run("ipset", "restore", "-file", file.name, timeout_s=PATIENCE_S)
    tables = "iptables" if networks.family == 4 else "ip6tables"
    words = ["-t", "raw", "-A", "PREROUTING", "-m", "set", "--match-set", "listed", "src"]
    router.namespace.run(tables, *words, "-j", "DROP")


def versions() -> str:
    """Return which yardsticks these are."""
    nft = command("nft", "--version").split()[1]
    ipset = command("ipset", "--version").split()[1].rstrip(",")
    iptables = " ".join(command("iptables", "--version").split()[1:])
    words = ("dpkg-query", "-W", "-f", "${Version}", "xdp-tools")
    xdp_filter = command(*words, check=False) or "of unknown version"
    return f"nftables {nft}, ipset {ipset}, iptables {iptables}, xdp-filter {xdp_filter}"
