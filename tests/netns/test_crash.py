"""kill -9 anywhere, start again: the same end state, and a steady flow loses nothing."""

from __future__ import annotations

import random
import time
from functools import partial

import pytest

from tests.applied import HEAD, program
from tests.flow import steady_flow
from tests.netns.conftest import LAN4, LAN6, WAN4, WAN6, Site
from tests.netns.forked import forked
from tests.running import ROOT, Router, until

pytestmark = pytest.mark.netns

ATTACKER4, ATTACKER6 = f"{WAN4}.66", f"{WAN6}:66"
EVERYTHING = (
    "{rateLimiting: {enabled: true, packetsPerSecond: 100000}, stateful: true,"
    " synFloodProtection: true, udpFloodProtection: true, connectionsPerIP: 100,"
    f" blacklist: {{enabled: true, mapRef: bad, ips: [{ATTACKER4}, '{ATTACKER6}']}}}}"
)


def bad_map(entries: int, room: int) -> str:
    rows = "".join(f"  - {{key: 192.0.{i}.0/24, value: 1}}\n" for i in range(entries))
    return (
        f"{HEAD}kind: EBPFMap\nmetadata: {{name: bad}}\nspec:\n  type: lpm_trie\n  keySize: 8\n"
        f"  valueSize: 4\n  maxEntries: {room}\n  initData:\n{rows}"
    )


def tree(version: int) -> dict[str, str]:
    """Return a tree of manifests; from one version to the next almost everything changes."""
    files = {
        "bad.yaml": bad_map(3 + version, 16 * (1 + version % 2)),
        "edge.yaml": program("edge", "wan0", EVERYTHING, priority=version % 2 * 20),
        "second.yaml": program("second", "wan0", '{blacklist: {enabled: true, ips: ["9.9.9.9"]}}'),
        "lan.yaml": program("lan", "lan0", "{stateful: true}"),
    }
    if version % 2:
        files.pop("lan.yaml")
        files["more.yaml"] = program("more", "lan0", "{icmpFloodProtection: true}", priority=3)
    return files


def write(router: Router, files: dict[str, str]) -> None:
    """Swap the whole tree in one step."""
    fresh = router.folder / f"tree-{time.monotonic_ns()}"
    fresh.mkdir()
    for name, content in files.items():
        (fresh / name).write_text(content)
    link = router.folder / "swap"
    link.symlink_to(fresh)
    if router.policy.is_dir() and not router.policy.is_symlink():
        router.policy.rmdir()
    link.rename(router.policy)


def pins(router: Router) -> list[str]:
    """Return what is pinned, the state of the end."""
    paths = (path for path in router.bpffs.rglob("*") if not path.is_dir())
    return sorted(str(path.relative_to(router.bpffs)) for path in paths)


def settled(router: Router) -> bool:
    status = router.status()
    return bool(status["healthy"]) and status["passes"]["count"] > 0


def reference(router: Router, files: dict[str, str]) -> list[str]:
    """Return the pins after a fresh start with a tree, and remove them again."""
    write(router, files)
    router.start()
    until(lambda: settled(router), 20)
    found = pins(router)
    router.stop()
    command = [str(ROOT / ".venv/bin/fos1d"), "purge", "--config", str(router.config)]
    router.namespace.run(*command)
    return found


@pytest.fixture
def site_without_limit(site: Site) -> Site:
    site.router.settings = "[reconcile]\nprune_limit_percent = 100"
    site.router.write_settings()
    return site


def test_killed_after_every_single_action(site_without_limit: Site) -> None:
    site, router = site_without_limit, site_without_limit.router
    ends = [reference(router, tree(version)) for version in (0, 1)]
    write(router, tree(0))
    router.start()
    until(lambda: settled(router), 20)
    router.kill()
    with (
        steady_flow(site.wan, site.lan, f"{WAN4}.2", f"{LAN4}.2") as flow4,
        steady_flow(site.wan, site.lan, f"{WAN6}:2", f"{LAN6}:2") as flow6,
    ):
        for actions in range(1, 60):
            version = actions % 2
            write(router, tree(version))
            died = _run_until_death(router, actions)
            router.start()
            until(lambda: settled(router), 20)
            assert pins(router) == ends[version], f"killed after {actions} actions"
            assert not site.ping(ATTACKER4), f"killed after {actions} actions"
            router.kill()
            if not died:
                break
        else:
            pytest.fail("the pass has more actions than were tried")
    assert actions > 20, "the pass was too small to prove anything"
    assert flow4.sent > 1000 and flow6.sent > 1000
    assert (flow4.lost(), flow6.lost()) == ([], [])


def _run_until_death(router: Router, actions: int) -> bool:
    """Start a daemon that dies after so many actions; False if it had fewer to do."""
    try:
        router.start(partial(forked, dies_after=actions))
    except AssertionError as error:
        assert "the daemon ended" in str(error)
        router.process = None
        return True
    router.kill()
    return False


def test_killed_at_random_moments(site_without_limit: Site) -> None:
    site, router = site_without_limit, site_without_limit.router
    ends = [reference(router, tree(version)) for version in (0, 1)]
    chance = random.Random(7)
    with steady_flow(site.wan, site.lan, f"{WAN4}.2", f"{LAN4}.2") as flow:
        for round_ in range(12):
            write(router, tree(round_ % 2))
            router.start()
            write(router, tree((round_ + 1) % 2))
            time.sleep(chance.random() * 0.2)
            router.kill()
            router.start()
            until(lambda: settled(router), 20)
            assert pins(router) == ends[(round_ + 1) % 2]
            router.kill()
    assert flow.lost() == []


def test_programs_replaced_a_hundred_times_under_a_steady_flow(site_without_limit: Site) -> None:
    site, router = site_without_limit, site_without_limit.router
    router.write("edge.yaml", program("edge", "wan0", EVERYTHING.replace("mapRef: bad, ", "")))
    router.start()
    with (
        steady_flow(site.wan, site.lan, f"{WAN4}.2", f"{LAN4}.2") as flow4,
        steady_flow(site.wan, site.lan, f"{WAN6}:2", f"{LAN6}:2") as flow6,
    ):
        before = router.xdp("wan0")
        for number in range(100):
            listed = f"[{ATTACKER4}, 198.18.{number}.0/24, '{ATTACKER6}']"
            settings = f"{{stateful: true, blacklist: {{enabled: true, ips: {listed}}}}}"
            router.write("edge.yaml", program("edge", "wan0", settings))
            until(lambda before=before: router.xdp("wan0") != before, 5)  # type: ignore[misc]
            before = router.xdp("wan0")
        assert not site.ping(ATTACKER4)
    assert flow4.sent > 1000
    assert (flow4.lost(), flow6.lost()) == ([], [])


def test_a_restart_between_two_kernels_features(site_without_limit: Site) -> None:
    """TCX one day, clsact the next (a kernel downgrade, a setting), and back: no gap, no double.

    The qdisc is there from the start: to add one takes the device down for a moment.
    """
    site, router = site_without_limit, site_without_limit.router
    for name in ("wan0", "lan0"):
        router.namespace.run("tc", "qdisc", "add", "dev", name, "clsact")
    write(router, tree(0))
    with steady_flow(site.wan, site.lan, f"{WAN4}.2", f"{LAN4}.2") as flow:
        for how in ("tcx", "clsact", "tcx", "clsact"):
            router.settings = f'[kernel]\ntc_attach = "{how}"'
            router.write_settings()
            router.start()
            until(lambda: settled(router), 20)
            router.kill()
            filters = router.namespace.run("tc", "filter", "show", "dev", "wan0", "egress")
            assert ("fos1" in filters) == (how == "clsact")
            assert bool(list((router.bpffs / "link").rglob("*:8"))) == (how == "tcx")
    assert flow.lost() == []
