"""fos1d as the thing under test: manifests applied the whole way to a router of the lab."""

from __future__ import annotations

from collections.abc import Mapping

from fos1d.kernel.port import RealKernel
from fos1d.model.facts import FastPath
from tests.applied import HEAD, Applied, program
from tests.bench.networks import Networks
from tests.bench.objects import compiled
from tests.bench.wire import INTERFACE, Router
from tests.lab import bpf_folder

LIST = "listed.netset"
OBJECT = "bare.bpf.o"
BLACKLIST = f"blacklist: {{enabled: true, files: [{LIST}]}}"

# Everything that the built-in program can do, with limits that a legitimate sender never meets.
EVERYTHING = (
    f"{BLACKLIST}, rateLimiting: {{enabled: true, packetsPerSecond: 100000000}}, stateful: true, "
    "synFloodProtection: true, icmpFloodProtection: true, udpFloodProtection: true, "
    "connectionsPerSecond: 1000, connectionsPerIP: 1000"
)


def applied_to(
    router: Router, files: Mapping[str, str | bytes], fast_path: FastPath = FastPath.OFF
) -> Applied:
    """Apply manifests to a router; its kernel objects go with the lab."""
    folder = router.stack.enter_context(bpf_folder())
    with router.namespace.entered():
        kernel = RealKernel(folder / "fos1", fast_path=fast_path)
        router.stack.callback(kernel.close)
        made = Applied(kernel)
        made.ready(files)
    return made


def run_blacklist(router: Router, networks: Networks) -> Applied:
    """Drop the networks as a manifest with a list file says."""
    manifest = program("bench", INTERFACE, f"{{{BLACKLIST}}}")
    return applied_to(router, {"bench.yaml": manifest, LIST: networks.netset()})


def run_everything(router: Router, networks: Networks) -> Applied:
    """Switch on all that the built-in program can do."""
    manifest = program("bench", INTERFACE, f"{{{EVERYTHING}}}")
    return applied_to(router, {"bench.yaml": manifest, LIST: networks.netset()})


def run_blacklist_before_drop(router: Router, networks: Networks) -> Applied:
    """Drop the networks, and then all else too by a user's program that follows: so what a packet
    costs that passes the blacklist is not lost in what the kernel does with it afterwards."""
    first = program("bench", INTERFACE, f"{{{BLACKLIST}}}", priority=1)
    files: dict[str, str | bytes] = {"bench.yaml": first, "end.yaml": user_program("bare_drop")}
    files |= {LIST: networks.netset(), OBJECT: compiled("bare").read_bytes()}
    return applied_to(router, files)


def user_program(function: str) -> str:
    """Return the manifest of one of the bare programs, as a user's own."""
    return (
        f"{HEAD}kind: EBPFProgram\nmetadata: {{name: end}}\nspec:\n  type: xdp\n"
        f"  interface: {INTERFACE}\n  priority: 90\n"
        f"  source: {{object: {OBJECT}, program: {function}}}\n"
    )
