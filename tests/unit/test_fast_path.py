"""Where the fast path is: which interfaces, behind which programs, and what its rules replace."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fos1d import abi
from fos1d.compile.lists import ListStore
from fos1d.kernel.features import with_redirects
from fos1d.kernel.loader import object_digests
from fos1d.kernel.xdp_features import XdpFeature
from fos1d.kinds.admission import Accepted
from fos1d.kinds.assemble import assemble
from fos1d.kinds.lowered import Context
from fos1d.model.facts import Facts, FastPath, Features, Interface
from fos1d.model.objects import Attachment, Entries, Hook, Mode, Program, Slots
from fos1d.model.pins import SHARED_POLICY
from tests.applied import program
from tests.manifests import declared, manifest

LAN = Interface("lan0", 2, redirects=True, takes_frames=True)
WAN = Interface("wan0", 3, redirects=True, takes_frames=True)
ALLOWED = "ingress: [{ports: [{port: 80}]}]\n"
EVERYTHING = XdpFeature.BASIC | XdpFeature.REDIRECT | XdpFeature.TRANSMIT


def policy(spec: str = ALLOWED) -> str:
    head = "policyType: filtering\nselector: {interfaces: [lan0]}\n"
    return manifest("EBPFNetworkPolicy", head + spec)


def lowered(*manifests: str, wanted: FastPath = FastPath.XDP, lan: Interface = LAN) -> list[object]:
    interfaces = {found.name: found for found in (lan, WAN)}
    facts = Facts(interfaces, Features(True, wanted), object_digests())
    here = [Accepted(found, {}, "r1") for text in manifests for found in declared(text)]
    return list(assemble(here, Context(facts, ListStore())).lowered.objects.values())


def xdp(objects: list[object]) -> list[tuple[str, Mode]]:
    return [
        (found.interface, found.mode)
        for found in objects
        if isinstance(found, Attachment) and found.hook is Hook.XDP
    ]


def last_program(objects: list[object]) -> str:
    return next(found.programs[-1] for found in objects if isinstance(found, Slots))


def takers(objects: list[object]) -> set[int]:
    flag = int(abi.PlaceFlag.PLACE_TAKES_FRAMES)
    found = next(e for e in objects if isinstance(e, Entries) and "/interfaces-" in e.map)
    size = found.key_bytes + found.value_bytes
    rows = [found.packed[at : at + size] for at in range(0, len(found.packed), size)]
    return {
        int.from_bytes(row[:4], "little")
        for row in rows
        if int.from_bytes(row[-4:], "little") & flag
    }


def test_xdp_is_attached_natively_where_the_policy_is() -> None:
    objects = lowered(policy())
    assert xdp(objects) == [("lan0", Mode.NATIVE)]
    assert takers(objects) == {2, 3}


@pytest.mark.parametrize(
    ("spec", "wanted", "lan"),
    [
        (ALLOWED, FastPath.OFF, replace(LAN, redirects=False)),
        (ALLOWED, FastPath.AUTO, LAN),
        (ALLOWED, FastPath.XDP, replace(LAN, redirects=False)),
        (f"stateful: false\n{ALLOWED}", FastPath.XDP, LAN),
        ("ingress: [{action: log}, {}]\n", FastPath.XDP, LAN),
    ],
)
def test_nowhere_else(spec: str, wanted: FastPath, lan: Interface) -> None:
    assert not xdp(lowered(policy(spec), wanted=wanted, lan=lan))


def test_auto_joins_what_runs_natively() -> None:
    own = program("own", "lan0", "{}")
    objects = lowered(policy(), own, wanted=FastPath.AUTO)
    assert xdp(objects) == [("lan0", Mode.AUTO)]
    assert last_program(objects).startswith(f"program/{SHARED_POLICY}/")
    generic = lowered(policy(), program("own", "lan0", "{}", mode="generic"), wanted=FastPath.AUTO)
    assert not any(isinstance(found, Slots) for found in generic)


def test_changed_rules_replace_the_last_program_of_the_chain_and_no_other() -> None:
    own = program("own", "lan0", "{}")
    before, after = (
        lowered(policy(), own),
        lowered(policy("ingress: [{ports: [{port: 81}]}]\n"), own),
    )
    assert last_program(before) != last_program(after)
    chains = [[f.chain for f in objects if isinstance(f, Slots)] for objects in (before, after)]
    assert chains[0] == chains[1]
    filters = [
        [f.path for f in objects if isinstance(f, Program) and f.code.function == "fos1_xdp_filter"]
        for objects in (before, after)
    ]
    assert filters[0] == filters[1] != []


@pytest.mark.parametrize(
    ("features", "queue", "kind", "redirects", "takes"),
    [
        (EVERYTHING, "fq_codel", 1, True, True),
        (EVERYTHING, "htb", 1, True, False),
        (EVERYTHING, "noqueue", 65534, False, False),
        (XdpFeature.BASIC | XdpFeature.REDIRECT, "mq", 1, True, False),
        (XdpFeature(0), "mq", 1, False, False),
    ],
)
def test_what_interfaces_can_do(
    features: XdpFeature, queue: str, kind: int, redirects: bool, takes: bool
) -> None:
    found = with_redirects({"x": Interface("x", 7, kind)}, {7: features}, {7: queue})["x"]
    assert (found.redirects, found.takes_frames) == (redirects, takes)
