"""The daemon on real packets: declared, enforced, changed, healed."""

from __future__ import annotations

import signal
import time

import pytest

from tests.applied import HEAD, program
from tests.netns.conftest import LAN4, LAN6, WAN4, WAN6, Site
from tests.running import spawned, until

pytestmark = pytest.mark.netns

ATTACKER4, ATTACKER6 = f"{WAN4}.66", f"{WAN6}:66"
BLOCK = f'{{blacklist: {{enabled: true, ips: ["{ATTACKER4}", "{ATTACKER6}"]}}}}'
QUICK_S = 2.0


def blocked(site: Site) -> bool:
    return not site.ping(ATTACKER4)


def healed(site: Site) -> int:
    return int(site.router.status()["driftHealed"])


@pytest.fixture
def protected(site: Site) -> Site:
    """A site whose attacker is blocked."""
    site.router.write("edge.yaml", program("edge", "wan0", BLOCK))
    site.router.start()
    until(lambda: site.router.ready("ebpf", "edge"), 10)
    return site


def test_an_attacker_is_dropped_and_others_pass(protected: Site) -> None:
    assert blocked(protected)
    assert protected.ping(f"{WAN4}.2")
    until(lambda: protected.ping(f"{WAN6}:2", f"{LAN6}:2"), 3, "neighbours have found each other")
    assert not protected.ping(ATTACKER6, f"{LAN6}:2")
    details = protected.router.json("get", "ebpf/edge")["status"]
    assert details["state"] == "Active"
    assert details["attachedTo"][0]["mode"] == "native"


def test_a_changed_manifest_is_enforced_within_a_second(protected: Site) -> None:
    protected.router.write("edge.yaml", program("edge", "wan0", "{}"))
    until(lambda: protected.ping(ATTACKER4), QUICK_S)
    protected.router.write("edge.yaml", program("edge", "wan0", BLOCK))
    until(lambda: blocked(protected), QUICK_S)
    assert protected.router.json("get", "ebpf/edge")["metadata"]["generation"] == 3


def test_a_removed_manifest_takes_its_objects_along(protected: Site) -> None:
    protected.router.write("other.yaml", program("other", "lan0", "{}"))
    until(lambda: protected.router.ready("ebpf", "other"), 5)
    (protected.router.policy / "edge.yaml").unlink()
    until(lambda: protected.ping(ATTACKER4), 3)
    until(lambda: protected.router.xdp("wan0") == "", 3)
    assert not list(protected.router.bpffs.glob("*/default:edge"))


def test_a_detached_program_is_put_back_and_counted(protected: Site) -> None:
    before = healed(protected)
    protected.router.ip("link", "set", "dev", "wan0", "xdp", "off")
    until(lambda: protected.router.xdp("wan0"), QUICK_S, "attached again")
    until(lambda: blocked(protected), QUICK_S)
    until(lambda: healed(protected) > before, 3)
    assert "DriftHealed" in protected.router.ctl("events", "ebpf/edge").stdout


@pytest.mark.parametrize("what", ["program", "state", "table"])
def test_a_removed_pin_is_put_back(protected: Site, what: str) -> None:
    place = next(path for path in (protected.router.bpffs / what).rglob("*") if path.is_file())
    place.unlink()
    until(place.exists, QUICK_S, f"{place} is back")
    until(lambda: blocked(protected), QUICK_S)
    until(lambda: protected.router.ready("ebpf", "edge"), QUICK_S)


def test_everything_removed_is_put_back(protected: Site) -> None:
    paths = [path for path in protected.router.bpffs.rglob("*") if path.is_file()]
    for path in paths:
        path.unlink()
    until(lambda: all(path.exists() for path in paths), QUICK_S)
    assert blocked(protected)


def test_an_entry_deleted_or_changed_is_put_right(site: Site) -> None:
    bad = (
        f"{HEAD}kind: EBPFMap\nmetadata: {{name: bad}}\nspec:\n  type: hash\n  keySize: 4\n"
        "  valueSize: 4\n  maxEntries: 8\n  initData:\n  - {key: 1, value: '0x11'}\n"
        "  - {key: 2, value: '0x22'}\n"
    )
    site.router.settings = '[reconcile]\nresync = "1s"'
    site.router.write_settings()
    site.router.write("map.yaml", bad)
    site.router.start()
    (pin,) = (site.router.bpffs / "map/default:bad").iterdir()
    site.router.namespace.run(*f"bpftool map delete pinned {pin} key 1 0 0 0".split())
    site.router.namespace.run(*f"bpftool map update pinned {pin} key 2 0 0 0 value 9 9 9 9".split())
    site.router.namespace.run(*f"bpftool map update pinned {pin} key 7 0 0 0 value 7 7 7 7".split())
    dump = f"bpftool map dump pinned {pin}".split()

    def right() -> bool:
        said = site.router.namespace.run(*dump)
        return "00 00 00 11" in said and "00 00 00 22" in said and "07 07 07 07" in said

    until(right, 5, "both put right, the stranger's left alone")


def test_link_down_and_up(protected: Site) -> None:
    protected.router.ip("link", "set", "dev", "wan0", "down")
    time.sleep(0.2)
    protected.router.ip("link", "set", "dev", "wan0", "up")
    until(lambda: protected.ping(f"{WAN4}.2"), 10)
    assert blocked(protected)
    assert protected.router.ready("ebpf", "edge")


def test_an_interface_that_comes_and_comes_back(site: Site) -> None:
    """Missing is waiting, not failing; another ifindex is programmed within a second."""
    site.router.write("edge.yaml", program("edge", "ppp0", "{stateful: true}"))
    site.router.start()
    condition = site.router.condition("ebpf", "edge")
    assert (condition["status"], condition["reason"]) == ("False", "InterfaceMissing")
    assert site.router.json("get", "ebpf/edge")["status"]["state"] == "Pending"
    for _ in range(3):
        site.router.ip("link", "add", "name", "ppp0", "type", "veth", "peer", "name", "other")
        until(lambda: site.router.xdp("ppp0"), QUICK_S, "attached")
        until(lambda: site.router.ready("ebpf", "edge"), QUICK_S)
        site.router.ip("link", "del", "dev", "ppp0")
        until(lambda: not site.router.ready("ebpf", "edge"), QUICK_S)


def test_a_glob_takes_new_interfaces_in(site: Site) -> None:
    site.router.write("edge.yaml", program("edge", '"ppp*"', "{}"))
    site.router.start()
    for name in ("ppp0", "ppp1"):
        site.router.ip("link", "add", "name", name, "type", "veth", "peer", "name", f"{name}x")
    until(lambda: all(site.router.xdp(name) for name in ("ppp0", "ppp1", "ppp0x", "ppp1x")), 3)


def test_a_bad_manifest_harms_nobody_not_even_itself(protected: Site) -> None:
    protected.router.write("other.yaml", program("other", "lan0", "{}"))
    protected.router.write("edge.yaml", program("edge", "wan0", "{blacklst: {enabled: true}}"))
    until(lambda: protected.router.ready("ebpf", "other"), 5, "the rest goes on")
    condition = protected.router.condition("ebpf", "edge", "Accepted")
    assert condition["status"] == "False"
    assert "edge.yaml:7:14" in condition["message"] and "blacklist" in condition["message"]
    assert blocked(protected), "its previous version stays in force"
    protected.router.kill()
    protected.router.start()
    assert blocked(protected), "and after a restart too"
    assert not protected.router.ready("ebpf", "edge")
    protected.router.write("edge.yaml", program("edge", "wan0", BLOCK))
    until(lambda: protected.router.ready("ebpf", "edge"), 5)


def test_a_file_that_is_no_yaml_removes_nothing(protected: Site) -> None:
    protected.router.write("edge.yaml", "apiVersion: [unclosed\n")
    protected.router.write("other.yaml", program("other", "lan0", "{}"))
    until(lambda: protected.router.ready("ebpf", "other"), 5)
    assert blocked(protected)


def test_a_revision_that_removes_too_much_waits_for_a_person(protected: Site) -> None:
    protected.router.write("other.yaml", program("other", "lan0", "{}"))
    until(lambda: protected.router.ready("ebpf", "other"), 5)
    for name in ("edge.yaml", "other.yaml"):
        (protected.router.policy / name).unlink()
    until(lambda: "confirm" in protected.router.ctl("status", check=None).stdout, 5)
    assert blocked(protected)
    protected.router.ctl("confirm")
    until(lambda: protected.ping(ATTACKER4), 5)


def test_suspended_means_hands_off(protected: Site) -> None:
    protected.router.ctl("suspend", "--for", "1h")
    protected.router.ip("link", "set", "dev", "wan0", "xdp", "off")
    time.sleep(1)
    assert protected.router.xdp("wan0") == ""
    protected.router.ctl("resume")
    until(lambda: blocked(protected), QUICK_S)


def test_stopping_changes_nothing(protected: Site) -> None:
    protected.router.stop()
    assert blocked(protected)
    protected.router.start(spawned)
    events = protected.router.ctl("events").stdout
    assert "Created" not in events and "Replaced" not in events, "a second boot finds its state"


def test_a_hangup_makes_a_pass(protected: Site) -> None:
    before = int(protected.router.status()["passes"]["count"])
    protected.router.signal(signal.SIGHUP)
    until(lambda: int(protected.router.status()["passes"]["count"]) > before, 3)


def test_what_keeps_coming_back_is_contested(protected: Site) -> None:
    for _ in range(8):
        protected.router.ip("link", "set", "dev", "wan0", "xdp", "off")
        until(lambda: protected.router.xdp("wan0"), 10, "attached again")
    until(lambda: protected.router.condition("ebpf", "edge", "Contested"), 10)
    assert protected.router.condition("ebpf", "edge", "Contested")["status"] == "True"


def test_purge_leaves_nothing_of_ours(protected: Site) -> None:
    protected.router.stop()
    said = protected.router.namespace.run(
        ".venv/bin/fos1d", "purge", "--config", str(protected.router.config)
    )
    assert "removed" in said
    assert protected.router.xdp("wan0") == ""
    assert protected.ping(ATTACKER4)
    assert not [path for path in protected.router.bpffs.rglob("*") if not path.is_dir()]


def test_there_is_only_one(protected: Site) -> None:
    import subprocess

    command = [".venv/bin/fos1d", "once", "--config", str(protected.router.config)]
    words = [*protected.router.namespace.prefix(), *command]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert protected.router.process is not None
    assert f"process {protected.router.process.pid}" in done.stderr


def test_once(site: Site) -> None:
    command = [".venv/bin/fos1d", "once", "--config", str(site.router.config)]
    site.router.write("edge.yaml", program("edge", "wan0", BLOCK))
    site.router.namespace.run(*command)
    assert blocked(site)
    site.router.write("bad.yaml", "kind: EBPFMap\n")
    import subprocess

    done = subprocess.run([*site.router.namespace.prefix(), *command], check=False)
    assert done.returncode == 3
    assert site.ping(f"{WAN4}.2", f"{LAN4}.2")
