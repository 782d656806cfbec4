"""The checks inside a virtual machine, on whatever kernel it has; each says a line when it holds.

The package is installed and its service runs under the systemd that booted. Traffic comes from a
network namespace, over a veth pair. Exits with 194 to be run again after a reboot.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from fos1d.kernel.features import has_stack_view, has_tcx
from fos1d.kernel.port import RealKernel
from fos1d.model.facts import FastPath
from fos1d.model.objects import Attachment, Hook
from tests import lab
from tests.applied import HEAD, Applied, program
from tests.vm.guest.policies import (
    ACCESS,
    ALLOWED,
    LAN,
    NAT,
    PROBE,
    PYTHON,
    QOS,
    ROUTE,
    SHOP,
    SLICE,
)

REBOOT = 194
POLICY = Path("/etc/fos1d/policy/edge.yaml")
BAD = ("203.0.113.66", "2001:db8:bad::66")
GOOD = ("203.0.113.2", "2001:db8:bad::2")
LISTED = '{enabled: true, ips: ["203.0.113.66", "2001:db8:bad::66"]}'
WAN = lab.Namespace("wan")


def say(what: str) -> None:
    """Tell that something holds, and when."""
    print(f"  {time.monotonic():6.1f} s  {what}", flush=True)


def until(true: Callable[[], object], what: str, timeout_s: float = 600.0) -> None:
    """Wait until something is true; an emulated processor on a busy machine is slow."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what}\n{log()}")
        time.sleep(0.2)


def log() -> str:
    """Return the daemon's log of this boot."""
    return lab.command("journalctl", "-b", "-u", "fos1d", "-o", "cat", "--no-pager", check=False)


def status() -> Any:
    """Return what `fos1ctl status` says; nothing where the daemon does not answer."""
    done = subprocess.run(["fos1ctl", "status", "-o", "json"], capture_output=True, check=False)
    return json.loads(done.stdout) if done.returncode in (0, 1) else {}


def systemctl(*words: str) -> str:
    """Run systemctl."""
    return lab.command("systemctl", *words, timeout_s=600).strip()


# Cables, packets, policy


def connect() -> None:
    """Make the host beside the router, with addresses of which some are listed."""
    lab.command("ip", "netns", "add", WAN.name)
    ends = ("name", "wan0", "type", "veth", "peer", "name", "eth0")
    lab.command("ip", "link", "add", *ends, "netns", WAN.name)
    ours = ("203.0.113.1/24", "2001:db8:bad::1/64")
    theirs = [f"{one}/{64 if ':' in one else 24}" for one in (*BAD, *GOOD)]
    for ip, interface, addresses in (
        (WAN.ip, "eth0", theirs),
        (lambda *words: lab.command("ip", *words), "wan0", ours),
    ):
        ip("link", "set", "dev", interface, "up")
        for address in addresses:
            ip("addr", "add", address, "dev", interface, *(["nodad"] if ":" in address else []))


def answered(source: str) -> bool:
    """Whether a ping from the host reaches the router and comes back."""
    router = "2001:db8:bad::1" if ":" in source else "203.0.113.1"
    words = ("ping", "-n", "-q", "-c", "1", "-W", "2", "-I", source, router)
    return ", 0% packet loss" in WAN.run(*words, check=False)


def in_force() -> bool:
    """Whether what is listed is dropped and what is not passes, in IPv4 and IPv6."""
    # The host asks for the router's link address by the first source that sends; let that be good.
    return all(map(answered, GOOD)) and not any(map(answered, BAD))


def shown() -> str:
    """Return what ip(8) says of the program on the outside."""
    words = lab.command("ip", "-d", "link", "show", "dev", "wan0")
    found = re.search(r"prog/xdp(\w*) id (\d+)|(xdp\w*) mode|prog/xdp id (\d+)", words)
    return found[0] if found else words


def revision() -> str:
    """Return which version of the manifests was read last; nothing where the daemon is silent."""
    return str(status().get("source", {}).get("revision", ""))


def passes() -> int:
    """Return how many passes the daemon has made; 0 where it is silent."""
    return int(status().get("passes", {}).get("count", 0))


def push(text: str, place: Path = POLICY) -> None:
    """Replace a manifest and wait until it is in force."""
    before = revision()
    staged = place.with_name(f"{place.name}~")
    staged.write_text(text)
    staged.rename(place)
    until(lambda: revision() not in ("", before), "it is read")
    until(lambda: status().get("healthy"), "it is Ready")


def remove(*places: Path) -> None:
    """Remove manifests, say that this is meant, and wait until they are gone."""
    for place in places:
        place.unlink()
    lab.command("fos1ctl", "reconcile", "--wait", check=False)
    lab.command("fos1ctl", "confirm", check=False)
    until(lambda: (now := status()) and now["healthy"] and not now["held"], "they are gone")


# What is checked


def check_start() -> None:
    assert systemctl("is-enabled", "fos1d") == "enabled"
    until(lambda: systemctl("show", "-P", "ActiveState", "fos1d") == "active", "it is active")
    say("the package is installed and its service is active")


def check_modes() -> None:
    for mode, wanted in (("native", "xdp"), ("generic", "xdpgeneric")):
        push(program("edge", "wan0", f"{{blacklist: {LISTED}}}", mode=mode))
        until(in_force, f"{mode}: listed sources are dropped, others pass")
        words = lab.command("ip", "link", "show", "dev", "wan0").split()
        assert wanted in words, words
        say(f"XDP {mode}: IPv4 and IPv6 sources are dropped, others pass")


def check_egress() -> None:
    push(program("edge", "wan0", f"{{stateful: true, blacklist: {LISTED}}}"))
    until(in_force, "stateful")
    filters = lab.command("tc", "filter", "show", "dev", "wan0", "egress")
    assert ("fos1" in filters) is not has_tcx(), filters
    assert has_tcx() or tuple(map(int, platform.release().split(".")[:2])) < (6, 6)
    say(f"egress is watched by {'a TCX link' if has_tcx() else 'a clsact filter: no TCX here'}")


def check_policies() -> None:
    access, shop = (POLICY.with_name(f"{name}.yaml") for name in ("access", "shop"))
    push(program("edge", "wan0", "{}"))
    push("---\n".join((ACCESS, QOS, ROUTE)), access)
    until(in_force, "what a policy denies is dropped, what it allows passes")
    assert all(ping(source) for source in ("203.0.113.1", "2001:db8:bad::1")), "answers come in"
    keep = ("systemd-run", "-q", "--unit=keep", f"--slice={SLICE}", "/bin/sleep", "infinity")
    lab.command(*keep)
    push(SHOP, shop)
    probe = ("systemd-run", "-q", "--wait", "--pipe", f"--slice={SLICE}", PYTHON, "-c", PROBE)
    assert lab.command(*probe, timeout_s=300).strip() == ALLOWED
    systemctl("stop", "keep")
    remove(access, shop)
    push(program("edge", "wan0", f"{{stateful: true, blacklist: {LISTED}}}"))
    until(in_force, "what is listed is dropped again")
    say("policies on an interface and on the units of a slice, IPv4 and IPv6, devices")


def ping(source: str) -> bool:
    """Whether the host answers the router."""
    dest = GOOD[1] if ":" in source else GOOD[0]
    words = ("ping", "-n", "-q", "-c", "1", "-W", "2", "-I", source, dest)
    return ", 0% packet loss" in lab.command(*words, check=False)


def check_translation() -> None:
    nat = POLICY.with_name("nat.yaml")
    with lab.namespaces("lan") as (lan,):
        lab.command("ip", "link", "add", "lan0", "type", "veth", "peer", "eth0", "netns", lan.name)
        lab.command("ip", "link", "set", "dev", "lan0", "up")
        lan.ip("link", "set", "dev", "eth0", "up")
        for version, net in LAN.items():
            bits, more = (24, ()) if version == 4 else (64, ("nodad",))
            lab.command("ip", "addr", "add", f"{net}1/{bits}", "dev", "lan0", *more)
            lan.ip("addr", "add", f"{net}2/{bits}", "dev", "eth0", *more)
            lan.ip(f"-{version}", "route", "add", "default", "via", f"{net}1")
            Path(f"/proc/sys/net/ipv{version}/conf/all/forwarding").write_text("1")
        assert not any(pings(lan, far) for far in GOOD), "nobody outside knows the way back"
        push(NAT, nat)
        for far in (*GOOD, f"64:ff9b::{GOOD[0]}"):
            until(partial(pings, lan, far), f"{far} answers what is translated")
        remove(nat)
        until(lambda: not pings(lan, GOOD[0]), "it is translated no more")
    say("translation of IPv4 and IPv6, and of IPv6 to IPv4")


def pings(host: lab.Namespace, far: str) -> bool:
    """Whether a host gets an answer."""
    words = ("ping", "-n", "-q", "-c", "1", "-W", "5", far)
    return ", 0% packet loss" in host.run(*words, check=False)


def check_lifecycle() -> None:
    number = shown()
    until(passes, "the daemon answers")
    before = passes()
    systemctl("reload", "fos1d")
    until(lambda: passes() > before, "a reload makes a pass")
    pid = systemctl("show", "-P", "MainPID", "fos1d")
    lab.command("kill", "-9", pid)
    assert in_force()
    until(lambda: systemctl("show", "-P", "MainPID", "fos1d") not in ("0", pid), "it comes back")
    until(lambda: status(), "it answers")
    systemctl("stop", "fos1d")
    assert in_force()
    assert shown() == number, (shown(), number)
    say("reload, kill -9 and its restart, stop: the same program goes on")


SWITCHES = {
    "list4": "",
    "list6": "",
    "live": "",
    "rate": "rateLimiting: {enabled: true}",
    "syn": "synFloodProtection: true",
    "icmp": "icmpFloodProtection: true",
    "udp": "udpFloodProtection: true",
    "persecond": "connectionsPerSecond: 5",
    "perip": "connectionsPerIP: 5",
    "stateful": "stateful: true",
}
LIVE = (
    f"{HEAD}kind: EBPFMap\nmetadata: {{name: live}}\nspec: {{type: lpm_trie, keySize: 8,"
    " valueSize: 4, maxEntries: 16, accessedBy: [p]}\n"
)


def settings(chosen: frozenset[str]) -> str:
    """Return the settings with these switches on."""
    ips = [
        ip for name, ip in (("list4", "1.2.3.0/24"), ("list6", "2001:db8::/48")) if name in chosen
    ]
    live = ", mapRef: live" if "live" in chosen else ""
    parts = [f"blacklist: {{enabled: true, ips: {json.dumps(ips)}{live}}}"] if ips or live else []
    parts += [text for name, text in SWITCHES.items() if name in chosen and text]
    return "{" + ", ".join(parts) + "}"


def variants() -> Iterator[frozenset[str]]:
    """Yield what is loaded: nothing, each switch, all but each, all."""
    names = list(SWITCHES)
    for few in (0, 1, len(names) - 1, len(names)):
        yield from map(frozenset, combinations(names, few))


def large_list() -> bytes:
    """Return so many networks that the search trees have all their levels."""
    v4 = (f"{n >> 8 & 255}.{n & 255}.{n % 251}.0/25" for n in range(256, 40000))
    v6 = (f"2001:{n:x}:{n % 97:x}::/{48 + n % 16}" for n in range(20000))
    return "\n".join((*v4, *v6)).encode()


def check_fast_path() -> None:
    with lab.namespaces("fast") as (place,), place.entered(), lab.bpf_folder() as folder:
        place.ip("link", "add", "name", "wan0", "type", "veth", "peer", "name", "v1")
        for name in ("wan0", "v1"):
            place.ip("link", "set", "dev", name, "up")
        kernel = Applied(RealKernel(folder / "fos1", fast_path=FastPath.XDP))
        report = kernel.ready({"access.yaml": ACCESS.replace("{action: log, ", "{action: deny, ")})
        attached = [
            one
            for one in report.facts.attached.values()
            if isinstance(one, Attachment) and one.hook is Hook.XDP
        ]
        assert bool(attached) is has_stack_view(), attached
        kernel.ready({})
        say(
            f"the fast path is {'loaded' if attached else 'left out: this kernel has no way to it'}"
        )


def check_loads() -> None:
    with lab.namespaces("load") as (place,), place.entered(), lab.bpf_folder() as folder:
        place.ip("link", "add", "name", "v0", "type", "veth", "peer", "name", "v1")
        place.ip("tuntap", "add", "mode", "tun", "name", "tun0")
        for name in ("v0", "tun0"):
            place.ip("link", "set", "dev", name, "up")
        kernel = Applied(RealKernel(folder / "fos1"))
        began = time.monotonic()
        count = load_all(kernel)
        kernel.ready({})
        say(f"{count} variants passed the verifier, in {time.monotonic() - began:.0f} s")


def load_all(kernel: Applied) -> int:
    """Load every variant; return how many there were."""
    count = 0
    for count, chosen in enumerate(variants(), 1):  # noqa: B007
        one = {"p.yaml": program("p", "v0", settings(chosen))}
        kernel.ready_or_waiting(one | ({"m.yaml": LIVE} if "live" in chosen else {}))
    everything = settings(frozenset(SWITCHES))
    for interface in ("v0", "tun0"):
        chain = {
            f"{n}.yaml": program(f"p{n}", interface, everything, priority=n) for n in (1, 2, 3)
        }
        kernel.ready(chain | {"m.yaml": LIVE.replace("[p]", "[p1, p2, p3]")})
    large = program("p", "v0", "{stateful: true, blacklist: {enabled: true, files: [a.netset]}}")
    kernel.ready({"p.yaml": large, "a.netset": large_list()})
    return count + 7


def check_second_boot() -> None:
    until(lambda: systemctl("show", "-P", "ActiveState", "fos1d") == "active", "it is active")
    assert not POLICY.exists()
    connect()
    until(in_force, "what was in force before the reboot is in force")
    active, network = (
        int(systemctl("show", "-P", "ActiveEnterTimestampMonotonic", unit))
        for unit in ("fos1d.service", "network-pre.target")
    )
    assert not network or active <= network
    assert not systemctl("--failed", "--no-legend"), systemctl("--failed")
    say("after a reboot without its source: the policy is in force, from /var/lib/fos1d")


def first_boot() -> int:
    """Check all that needs no reboot, and take the source away before one."""
    connect()
    for check in CHECKS:
        check()
    POLICY.unlink()
    POLICY.parent.rmdir()
    return REBOOT


CHECKS = (
    check_start,
    check_modes,
    check_egress,
    check_policies,
    check_translation,
    check_lifecycle,
    check_fast_path,
    check_loads,
)

if __name__ == "__main__":
    if sys.argv[1] == "1":
        sys.exit(first_boot())
    check_second_boot()
