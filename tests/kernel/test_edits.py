"""A thousand random edits of a tree end where a fresh start from the last tree ends."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from fos1d.kernel.port import RealKernel
from fos1d.model.objects import Entries, Key, Observed
from fos1d.plan.contents import unpack
from fos1d.reconcile import PassReport
from tests import lab
from tests.applied import HEAD, Applied, applied, program

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

EDITS = 1000
MAPS, PROGRAMS = 6, 5
TYPES = (
    ("hash", 4, 8),
    ("lpm_trie", 8, 4),
    ("array", 4, 8),
    ("percpu_hash", 4, 8),
    ("queue", 0, 4),
)
SWITCHES = ("synFloodProtection", "icmpFloodProtection", "udpFloodProtection", "stateful")


def a_map(chance: random.Random, number: int, pins: Path) -> str:
    kind, key, value = chance.choice(TYPES)
    spec = [f"type: {kind}", f"valueSize: {value}", f"maxEntries: {chance.choice((8, 16, 32))}"]
    if key:
        spec.append(f"keySize: {key}")
    if chance.random() < 0.3:
        spec.append(f"pinPath: {pins}/m{number}")
    if key and chance.random() < 0.7:
        rows = {_entry(chance, kind) for _ in range(chance.randrange(5))}
        spec.append("initData: [" + ", ".join(sorted(rows)) + "]")
    if kind == "lpm_trie" and chance.random() < 0.7:
        spec.append(f"accessedBy: [p{chance.randrange(PROGRAMS)}]")
    body = "".join(f"  {line}\n" for line in spec)
    return f"{HEAD}kind: EBPFMap\nmetadata: {{name: m{number}}}\nspec:\n{body}"


def _entry(chance: random.Random, kind: str) -> str:
    number = chance.randrange(6)
    key = f"10.{number}.0.0/16" if kind == "lpm_trie" else str(number)
    return f"{{key: {key}, value: '0x{number + 1:02x}'}}"


def a_program(chance: random.Random, number: int) -> str:
    parts = [f"{name}: true" for name in SWITCHES if chance.random() < 0.3]
    if chance.random() < 0.5:
        parts.append("rateLimiting: {enabled: true}")
    if chance.random() < 0.6:
        ips = ", ".join(f"198.18.{chance.randrange(200)}.0/24" for _ in range(3))
        parts.append(f"blacklist: {{enabled: true, ips: [{ips}, '2001:db8:{number}::/48']}}")
    interface = chance.choice(("v0", "v1", '"v*"', "missing0"))
    return program(
        f"p{number}", interface, "{" + ", ".join(parts) + "}", priority=chance.randrange(4)
    )


def edit(chance: random.Random, tree: dict[str, str], pins: Path) -> None:
    """Add, change, remove or break one manifest."""
    number = chance.randrange(MAPS + PROGRAMS)
    path = f"{number}.yaml"
    if path in tree and chance.random() < 0.25:
        del tree[path]
    elif chance.random() < 0.06:
        tree[path] = "kind: [broken\n"
    elif number < MAPS:
        tree[path] = a_map(chance, number, pins)
    else:
        tree[path] = a_program(chance, number - MAPS)


def image(
    kernel: RealKernel, report: PassReport, root: Path
) -> tuple[list[str], Mapping[Key, Observed]]:
    """Return all that can be seen: pins, and what is behind them."""
    paths = sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())
    state = {
        key: tuple(sorted(unpack(held).items())) if isinstance(held, Entries) else held
        for key, held in kernel.observe({}).items()
    }
    assert report.facts.claims or not state
    return paths, state  # type: ignore[return-value]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_edits(namespace: lab.Namespace, bpffs: Path, seed: int) -> None:
    chance = random.Random(seed)
    pins = bpffs.parent / "pins"
    tree: dict[str, str] = {}
    with applied(namespace, bpffs) as edited:
        for _ in range(EDITS // 2):
            edit(chance, tree, pins)
            report = edited.apply(tree)
            assert not report.facts.refusals, report.facts.refusals
            assert not report.facts.late
        good = {path: text for path, text in tree.items() if "broken" not in text}
        ending = edited.ready_or_waiting(good)
        first = image(edited.kernel, ending, bpffs)
        assert not edited.apply(good).plan.actions
        edited.apply({})
        edited.kernel.purge()
        fresh = Applied(edited.kernel)
        assert image(fresh.kernel, fresh.ready_or_waiting(good), bpffs) == first
        fresh.apply({})
