"""The fast path of translations, and that programs have the maps that they are bound to."""

from __future__ import annotations

import numpy as np
import pytest

from fos1d import abi
from fos1d.abi import PlaceFlag
from fos1d.kinds.assemble import Assembled
from fos1d.model.facts import FastPath, Features
from fos1d.model.objects import Attachment, Entries, Hook, Map, Program, needs
from tests.translated import BALANCED, LAN, MASQUERADE, WAN, assembled, nat

EVERY_TYPE = (
    MASQUERADE,
    nat("web", BALANCED),
    nat("any", "{type: masquerade, interface: lan0}"),
    nat(
        "dmz", "{type: full, interface: wan0, externalIP: 203.0.113.8, sourceAddresses: [10.0.0.5]}"
    ),
    nat("six", "{type: nat64, interface: wan0, externalIP: 203.0.113.1}"),
)


@pytest.mark.parametrize("fast_path", list(FastPath))
@pytest.mark.parametrize("manifests", [(one,) for one in EVERY_TYPE] + [EVERY_TYPE])
def test_programs_have_all_that_they_are_bound_to(
    fast_path: FastPath, manifests: tuple[str, ...]
) -> None:
    objects = assembled(*manifests, features=Features(True, fast_path)).lowered.objects
    for found in objects.values():
        assert set(needs(found)) <= objects.keys()


def xdp(made: Assembled) -> dict[str, Program]:
    """Return the XDP programs by interface."""
    objects = list(made.lowered.objects.values())
    programs = {found.path: found for found in objects if isinstance(found, Program)}
    return {
        found.interface: programs[found.program]
        for found in objects
        if isinstance(found, Attachment) and found.hook is Hook.XDP
    }


def flags(made: Assembled) -> dict[int, int]:
    """Return what the XDP program knows of interfaces, by index."""
    entries = next(
        e
        for e in made.lowered.objects.values()
        if isinstance(e, Entries) and "/interfaces-" in e.map
    )
    size = entries.key_bytes + entries.value_bytes
    rows = [entries.packed[at : at + size] for at in range(0, len(entries.packed), size)]
    kind = np.dtype(abi.PLACE)
    found = {int.from_bytes(r[:4], "little"): np.frombuffer(r[4:], kind)["flags"][0] for r in rows}
    return {index: int(words[0]) for index, words in found.items()}


JUDGED = nat(
    "all",
    "{policyType: filtering, selector: {interfaces: [lan0]}, ingress: [{ports: [{port: 80}]}]}",
    "EBPFNetworkPolicy",
)
TAKES, OUTSIDE4 = PlaceFlag.PLACE_TAKES_FRAMES, PlaceFlag.PLACE_OUTSIDE4


@pytest.mark.parametrize("manifests", [(MASQUERADE,), (MASQUERADE, JUDGED)])
def test_the_fast_path_translates(manifests: tuple[str, ...]) -> None:
    made = assembled(*manifests, features=Features(True, FastPath.XDP))
    found = xdp(made)
    assert found.keys() == {"wan0", "lan0"}
    assert {dict(p.maps)["nat_flows4"].split("/")[1] for p in found.values()} == {"_nat"}
    known = flags(made)
    assert known[WAN.index] == TAKES | OUTSIDE4
    assert known[LAN.index] & (TAKES | OUTSIDE4) == TAKES


def test_xdp_is_brought_nowhere_by_itself() -> None:
    made = assembled(MASQUERADE, features=Features(True, FastPath.AUTO))
    assert not xdp(made)
    assert not any("policy_rules" in key.name for key in made.lowered.objects)
    filtered = nat("edge", "{type: xdp, interface: wan0}", "EBPFProgram")
    both = assembled(MASQUERADE, filtered, features=Features(True, FastPath.AUTO))
    assert xdp(both).keys() == {"wan0"}


def test_policies_alone_have_small_maps_of_translations() -> None:
    made = assembled(JUDGED)
    maps = [m for m in made.lowered.objects.values() if isinstance(m, Map) and "nat_" in m.family]
    assert {found.max_entries for found in maps} == {1}
