"""What the router spends on packets that it forwards, with nothing and everything on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pyroute2.ethtool.ioctl import IoctlEthtool

from fos1d.kernel import bpf
from fos1d.model.objects import Attachment, Hook
from tests import frames, lab
from tests.applied import Applied
from tests.bench import ours
from tests.bench.drop import QUICK, Effort, Side, compared, rows_of
from tests.bench.networks import Networks, prefixes4, strangers
from tests.bench.results import Table
from tests.bench.wire import OUT, PAYLOAD, Lab, Router, datagram, laboratory

BEHIND = {4: "203.0.113.9", 6: "2001:db8:3::9"}
NEXT_HOP = "02:00:00:00:00:09"
FAR_END = "bench-far"
FLOWS = 8192
LISTED = 10_000


def forwarding(router: Router) -> None:
    """Let the router forward to a host that is not there: the far end takes no frames for it."""
    ends = ("name", OUT, "type", "veth", "peer", "name", FAR_END)
    router.namespace.ip("link", "add", *ends)
    for name in (OUT, FAR_END):
        router.namespace.ip("link", "set", "dev", name, "up")
    # Only where its peer polls does a veth take frames that XDP sends on.
    with router.namespace.entered():
        IoctlEthtool(FAR_END).set_offload_flag("generic-receive-offload", 1)
    lab.address(router.namespace, OUT, "203.0.113.1/24", "2001:db8:3::1/64")
    for host in BEHIND.values():
        router.namespace.ip(
            "neigh", "replace", host, "lladdr", NEXT_HOP, "dev", OUT, "nud", "permanent"
        )
    switches = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    router.namespace.run("sysctl", "-qw", *switches)


def legitimate(quick: bool) -> Table:
    """Forwarded packets: by nothing, by a bare pass, by the whole filter."""
    random = np.random.default_rng(8)
    listed = prefixes4(LISTED, 32, random)
    sources = strangers(listed, FLOWS, random)
    with laboratory() as found:
        sides = _sides(found, listed, sources)
        compared(found, sides, QUICK if quick else Effort(25, 100_000), most_delivered=None)
        bare = sides[1]
        rows = tuple(rows_of(sides, "", bare))
    notes = tuple(
        f"{side.what}: {side.ns - bare.ns:+.0f} ns a packet beside {bare.what}"
        for side in sides[2:]
    )
    return Table(
        "legitimate",
        f"Forwarding packets that nobody forbids, {FLOWS:,} flows",
        "ns/packet",
        bare.what,
        rows,
        (),
        notes,
    )


def _sides(found: Lab, listed: Networks, sources: Networks) -> list[Side]:
    frame = datagram(4, BEHIND[4])

    def side(what: str, setup: Callable[[Router], object]) -> Side:
        def both(router: Router) -> None:
            forwarding(router)
            setup(router)

        return Side(what, both, sources, frame=frame)

    def everything(router: Router) -> None:
        ours.run_everything(router, listed)

    def established(router: Router) -> None:
        begin_flows(ours.run_everything(router, listed), router, sources)

    return [
        side("no XDP program", lambda router: router.poll_without_xdp()),
        side("bare XDP_PASS", lambda router: router.run_xdp(found.bare.program("bare_pass"))),
        side("fos1d, block list of 10k", lambda router: ours.run_blacklist(router, listed)),
        side("fos1d, everything, established flows", established),
        side("fos1d, everything, unanswered sources", everything),
    ]


def begin_flows(made: Applied, router: Router, sources: Networks) -> None:
    """Let the inside send one datagram to every source, so that theirs are answers."""
    observed = made.kernel.observe({})
    companion = next(
        found.program
        for found in observed.values()
        if isinstance(found, Attachment) and found.hook is Hook.TC_EGRESS
    )
    with router.namespace.entered(), made.kernel.bpffs.open(companion) as program:
        for line in sources.lines():
            content = frames.udp(9, 4242, PAYLOAD)
            packet = frames.ipv4(BEHIND[4], line, frames.UDP, content)
            frame = frames.ethernet(packet)
            bpf.test_run(program, frame)
