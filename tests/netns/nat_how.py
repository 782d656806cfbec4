"""The same wishes for translation, met by the daemon or by nftables.

nftables is the yardstick: a test that fails with it too is a mistake of the test, unless the
reason is one that docs/design/nat-rfc.md names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Protocol

from tests.applied import HEAD
from tests.netns.nat_site import WAN, Household
from tests.running import Router, until

# The spec of an EBPFNATPolicy.
Spec = Mapping[str, Any]
LIMITLESS = "[reconcile]\nprune_limit_percent = 100\n"


class Translator(Protocol):
    """Who translates."""

    def __call__(self, site: Household, *specs: Spec) -> None:
        """Have these policies in force, and no others."""
        ...


def masquerade(**more: object) -> Spec:
    """Return the usual policy."""
    return {"type": "masquerade", "interface": WAN, **more}


def snat(outside: str, **more: object) -> Spec:
    """Return a policy with an address of its own."""
    return {"type": "snat", "interface": WAN, "externalIP": outside, **more}


def dnat(outside: str, *mappings: Spec, **more: object) -> Spec:
    """Return a policy that lets outsiders in."""
    base = {"type": "dnat", "interface": WAN, "externalIP": outside}
    return {**base, "portMappings": list(mappings), **more}


def full(outside: str, inside: str, **more: object) -> Spec:
    """Return a policy that gives a host an outside address of its own."""
    base = {"type": "full", "interface": WAN, "externalIP": outside}
    return {**base, "sourceAddresses": [inside], **more}


def manifest(name: str, spec: Spec) -> str:
    """Return a policy as people write it."""
    return f"{HEAD}kind: EBPFNATPolicy\nmetadata: {{name: {name}}}\nspec: {json.dumps(spec)}\n"


def by_daemon(site: Household, *specs: Spec) -> None:
    """Translate by our programs."""
    router = site.router
    names = [f"nat{number}" for number in range(len(specs))]
    if "prune_limit" not in router.settings:
        router.settings += LIMITLESS
        router.write_settings()
    for name, spec in zip(names, specs, strict=True):
        router.write(f"{name}.yaml", manifest(name, spec))
    for file in set(router.policy.glob("nat*.yaml")) - {router.policy / f"{n}.yaml" for n in names}:
        file.unlink()
    if router.process is None:
        router.start()
    else:
        router.ctl("reconcile", "--wait")
    until(lambda: known(router) == set(names), 15, "no other policies are in force")
    for name in names:
        until(
            lambda name=name: router.ready("enat", name),  # type: ignore[misc]
            15,
            f"{name} is Ready: {router.condition('enat', name)}",
        )


def known(router: Router) -> set[str]:
    """Return the names of the policies that the daemon has."""
    items = router.json("get", "enat", check=None)["items"]
    return {item["metadata"]["name"] for item in items}


def by_nftables(site: Household, *specs: Spec) -> None:
    """Translate by netfilter, as people have it in nftables."""
    site.middle.run("nft", "delete table inet nat", check=False)
    before = [rule for spec in specs for rule in _arriving(spec)]
    behind = [rule for spec in specs for rule in _leaving(spec)]
    site.middle.run("nft", _table(before, behind))


def _table(before: Sequence[str], behind: Sequence[str]) -> str:
    chains = (
        ("pre", "prerouting priority dstnat", before),
        ("post", "postrouting priority srcnat", behind),
    )
    bodies = (
        "\n".join((f"chain {name} {{", f"type nat hook {hook};", *rules, "}"))
        for name, hook, rules in chains
    )
    return "\n".join(("table inet nat {", *bodies, "}"))


def _family(address: str) -> str:
    return "ip" if ip_address(address.partition("/")[0]).version == 4 else "ip6"


def _literal(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _leaving(spec: Spec) -> Iterator[str]:
    """Yield the rules for what leaves, and for what turns round inside."""
    kind, outside = spec["type"], spec.get("externalIP", "")
    guard = f"oifname {spec['interface']}"
    for one in spec.get("excludeAddresses", ()):
        yield f"{_family(one)} saddr {one} accept"
    ports = f":{spec['portRange']}" if "portRange" in spec else ""
    if kind == "masquerade":
        to = f" to {ports}" if ports else ""
        for protocol in ("tcp", "udp") if ports else ():
            yield f"{guard} meta l4proto {protocol} masquerade{to}"
        yield f"{guard} masquerade"
    elif kind in ("snat", "full"):
        family = _family(outside)
        for one in spec.get("sourceAddresses", ["0.0.0.0/0" if family == "ip" else "::/0"]):
            to = f"{_literal(outside)}{ports}"
            limit = " meta l4proto { tcp, udp }" if ports else ""
            yield f"{guard} {family} saddr {one}{limit} snat {family} to {to}"
            turn = f"ct status dnat {family} saddr {one}{limit}"
            yield f"{turn} oifname != {spec['interface']} snat {family} to {to}"


def _arriving(spec: Spec) -> Iterator[str]:
    """Yield the rules for what comes for an outside address."""
    kind, outside = spec["type"], spec.get("externalIP", "")
    if kind == "full":
        family = _family(outside)
        (inside,) = spec["sourceAddresses"]
        yield f"{family} daddr {outside} dnat {family} to {inside}"
    for mapping in spec.get("portMappings", ()) if kind == "dnat" else ():
        family = _family(outside)
        port, protocol = mapping["externalPort"], mapping["protocol"]
        to = _literal(mapping["internalIP"])
        if "internalPort" in mapping and "-" not in str(port):
            to += f":{mapping['internalPort']}"
        yield f"{family} daddr {outside} {protocol} dport {port} dnat {family} to {to}"
