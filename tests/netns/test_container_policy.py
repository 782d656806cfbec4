"""EBPFContainerPolicy and podSelector policies on workloads, by a real daemon, on real packets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import lab
from tests.applied import HEAD
from tests.netns.forked import forked
from tests.netns.resident import Resident, resident
from tests.netns.talk import network_policy
from tests.running import ROOT, Router, router, until

pytestmark = pytest.mark.netns

GUIDE = ROOT / "tests/golden/guide/database-network-policy.yaml"
# The router's, a container's and a host's.
ROUTER, BOX = ("10.9.0.1", "2001:db8:9::1"), ("10.9.0.2", "2001:db8:9::2")
HOST = ("203.0.113.2", "2001:db8:113::2")
BOTH = pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
DATABASE = "{app: database}"


@dataclass
class House:
    """A router, a namespace `box` that stands for a container's, and a host outside."""

    router: Router
    cgroup: Path
    box: lab.Namespace
    host: lab.Namespace
    stack: ExitStack

    def workload(self, name: str, labels: str, *addresses: str, path: str = "") -> Path:
        """Make a workload with a file of its own."""
        place = self.cgroup / (path or name)
        place.mkdir(parents=True, exist_ok=True)
        staged = self.router.folder / f"{name}.new"
        staged.write_text(
            f"workloads: [{{name: {name}, labels: {labels}, cgroups: [{path or name}],"
            f" addresses: [{', '.join(map(repr, addresses))}]}}]\n"
        )
        staged.rename(self.router.workloads / f"{name}.yaml")
        return place

    def inside(self, cgroup: Path, namespace: lab.Namespace | None = None) -> Resident:
        """Start a program in a workload, by default in the router's own namespace."""
        where = namespace or self.router.namespace
        return self.stack.enter_context(resident(cgroup, where))

    def outside(self) -> Resident:
        """Start a program on the host outside."""
        return self.stack.enter_context(resident(self.cgroup, self.host))

    def ready(self, name: str, kind: str = "ecpol") -> None:
        """Wait until a policy is in force as it is written."""
        self.router.ctl("reconcile", "--wait")
        condition = self.router.condition(kind, name)
        assert condition.get("status") == "True", (condition, self.router.log()[-2000:])

    def metrics(self, name: str, kind: str = "ecpol") -> dict[str, int]:
        """Return what a policy's status counts."""
        found: dict[str, int] = self.router.json("get", f"{kind}/{name}")["status"]["metrics"]
        return found


@pytest.fixture
def house(bpffs: Path, tmp_path: Path, cgroup: Path) -> Iterator[House]:
    """The house; the daemon is not started."""
    with (
        lab.namespaces("box", "host", "rt") as (box, host, middle),
        router(middle, tmp_path, bpffs, launch=forked, cgroup=cgroup) as made,
        ExitStack() as stack,
    ):
        for inner, name, near, ours in (
            (box, "box0", BOX, ROUTER),
            (host, "wan0", HOST, ("203.0.113.1", "2001:db8:113::1")),
        ):
            lab.veth(inner, "eth0", middle, name)
            lab.address(inner, "eth0", f"{near[0]}/24", f"{near[1]}/64")
            lab.address(middle, name, f"{ours[0]}/24", f"{ours[1]}/64")
            for version, via in (("-4", ours[0]), ("-6", ours[1])):
                inner.ip(version, "route", "add", "default", "via", via)
        middle.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        yield House(made, cgroup, box, host, stack)


def container_policy(name: str, spec: str, labels: str = DATABASE) -> str:
    """Return a manifest; `spec` is YAML in flow style, without the selector."""
    selector = f"selector: {{podSelector: {{matchLabels: {labels}}}}}"
    head = f"{HEAD}kind: EBPFContainerPolicy\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {{{selector}, {spec}}}\n"


@contextmanager
def guide(house: House, own_addresses: bool) -> Iterator[tuple[Resident, Resident]]:
    """The guide's database, as it stands there, and a client."""
    place = house.workload("db", DATABASE, *(BOX if own_addresses else ()))
    house.router.write("db.yaml", GUIDE.read_text())
    house.router.start()
    house.ready("database-network-policy")
    yield house.inside(place, house.box if own_addresses else None), house.outside()


@BOTH
@pytest.mark.parametrize("own_addresses", [False, True], ids=["router", "box"])
def test_the_guides_database(house: House, version: int, own_addresses: bool) -> None:
    near = (BOX if own_addresses else ROUTER)[version]
    far, any_ = HOST[version], ("0.0.0.0", "::")[version]
    with guide(house, own_addresses) as (database, client):
        for port in (5432, 5433):
            assert database("serve", any_, port)
        for port in (53, 123, 124):
            assert client("serve", any_, port)
        assert client("connects", near, 5432) == ""
        assert client("connects", near, 5433) == "ETIMEDOUT"
        assert client("asks", near, 5432) == "ETIMEDOUT"
        assert database("asks", far, 53) == ""
        assert database("asks", far, 123) == ""
        assert database("asks", far, 124) in ("EPERM", "ETIMEDOUT")
        assert database("connects", far, 123) in ("EPERM", "ETIMEDOUT")
        assert client("connects", near, 5432) == ""
    status = house.router.json("get", "ecpol/database-network-policy")["status"]
    (applied,) = status["appliedTo"]
    assert (applied["podName"], applied["namespace"]) == ("db", "default")
    assert applied["cgroupId"] == (house.cgroup / "db").stat().st_ino
    metrics = status["metrics"]
    assert metrics["bytesIn"] > 0
    assert metrics["bytesOut"] > 0
    assert metrics["blocked"] >= 4
    assert metrics["connections"] == 2, "the server has not closed its ends"
    page = house.router.ctl("describe", "ecpol/database-network-policy").stdout
    assert "default/db" in page
    wide = house.router.ctl("get", "ecpol", "-o", "wide").stdout
    assert "database-network-policy" in wide


def test_a_second_pass_changes_nothing(house: House) -> None:
    with guide(house, False):
        house.router.ctl("reconcile", "--wait")
        before = {p: p.stat().st_ino for p in house.router.bpffs.rglob("*") if p.is_file()}
        for _ in range(3):
            house.router.ctl("reconcile", "--wait")
        after = {p: p.stat().st_ino for p in house.router.bpffs.rglob("*") if p.is_file()}
        assert before == after


def test_network_policy_on_a_workload_both_ways(house: House) -> None:
    place = house.workload("box", "{app: web}", *BOX)
    web, host = house.inside(place, house.box), house.outside()
    assert web("serve", "0.0.0.0", 80)
    assert web("serve", "0.0.0.0", 81)
    assert host("serve", "0.0.0.0", 443)
    assert host("serve", "0.0.0.0", 444)
    selector = "  selector: {podSelector: {matchLabels: {app: web}}}\n"
    rules = "  ingress: [{ports: [{port: 80}]}]\n  egress: [{ports: [{port: 443}]}]\n"
    house.router.write("web.yaml", network_policy("web", selector + rules))
    house.router.start()
    house.ready("web", "enpol")
    assert host("connects", BOX[0], 80) == ""
    assert host("connects", BOX[0], 81) == "ETIMEDOUT"
    assert web("connects", HOST[0], 443) == ""
    assert web("connects", HOST[0], 444) == "ETIMEDOUT"
    assert host("holds", BOX[0], 80) == ""
    house.router.kill()
    assert host("lives")
    assert host("connects", BOX[0], 81) == "ETIMEDOUT"
    house.router.start()
    assert host("lives")
    house.router.write("web.yaml", network_policy("web", selector + rules.replace("80", "82")))
    house.ready("web", "enpol")
    assert not host("lives")


def test_peers_by_label_follow_workloads(house: House) -> None:
    """As they come, change their address, and go."""
    place = house.workload("db", DATABASE)
    database, box = house.inside(place), house.inside(house.cgroup, house.box)
    assert database("serve", "0.0.0.0", 5432)
    selector = "  selector: {podSelector: {matchLabels: {app: database}}}\n"
    peer = "  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]\n"
    house.router.write("db.yaml", network_policy("db", selector + peer))
    house.router.start()
    house.ready("db", "enpol")
    assert box("connects", ROUTER[0], 5432) == "ETIMEDOUT"
    house.workload("web", "{app: web}", BOX[0], path="web")
    until(lambda: box("connects", ROUTER[0], 5432) == "", 5)
    house.workload("web", "{app: web}", "10.9.0.99", path="web")
    until(lambda: box("connects", ROUTER[0], 5432) == "ETIMEDOUT", 5)
    house.workload("web", "{app: web}", BOX[0], path="web")
    until(lambda: box("connects", ROUTER[0], 5432) == "", 5)
    (house.cgroup / "web").rmdir()
    until(lambda: box("connects", ROUTER[0], 5432) == "ETIMEDOUT", 5)


def test_without_a_match_it_is_ready_and_selects_nothing(house: House) -> None:
    house.router.write("x.yaml", container_policy("x", "resourceLimits: {}"))
    house.router.start()
    house.ready("x")
    selected = house.router.condition("ecpol", "x", "Selected")
    assert (selected["status"], selected["reason"]) == ("False", "NoMatchingWorkloads")
    house.workload("db", DATABASE)
    until(lambda: house.router.condition("ecpol", "x", "Selected")["status"] == "True", 5)
    house.ready("x")


def test_edits_count_at_once_on_a_living_workload(house: House) -> None:
    place = house.workload("db", DATABASE)
    database, host = house.inside(place), house.outside()
    assert host("serve", "0.0.0.0", 80)
    house.router.write("x.yaml", container_policy("x", "resourceLimits: {}"))
    house.router.start()
    house.ready("x")
    assert database("opens", "/dev/zero") == ""
    devices = "deviceControl: {enableDeviceControl: true, allowedDevices: [%s]}"
    only_null = devices % "{deviceType: char, major: 1, minor: 3}"
    house.router.write("x.yaml", container_policy("x", only_null))
    house.ready("x")
    assert database("opens", "/dev/null") == ""
    assert database("opens", "/dev/zero") == "EPERM"
    house.router.write("x.yaml", container_policy("x", devices % "{deviceType: char, major: 1}"))
    house.ready("x")
    assert database("opens", "/dev/zero") == ""
    assert database("holds", HOST[0], 80) == ""
    most = "resourceLimits: {connectionLimits: {maxConnections: %d}}"
    house.router.write("x.yaml", container_policy("x", most % 1))
    house.ready("x")
    assert database("connects", HOST[0], 80) == "EPERM"
    assert database("lives")
    assert house.metrics("x")["connections"] == 1
    house.router.write("x.yaml", container_policy("x", most % 2))
    house.ready("x")
    assert database("connects", HOST[0], 80) == ""
    rate = "resourceLimits: {connectionLimits: {maxConnectionRate: 1}}"
    house.router.write("x.yaml", container_policy("x", rate))
    house.ready("x")
    assert [database("connects", HOST[0], 80) for _ in range(2)] == ["", "EPERM"]
    assert house.metrics("x")["blocked"] >= 3


def test_a_flow_outlives_edits_that_allow_it(house: House) -> None:
    """Also kill -9 between them; the edit that revokes it stops it, and no other."""
    place = house.workload("db", DATABASE)
    database, host = house.inside(place), house.outside()
    assert database("serve", "0.0.0.0", 5432)
    rules = (
        "networkControls: {enableIngressControl: true, defaultIngressAction: deny,"
        " ingressRules: [{ports: [{port: %d, endPort: %d}]}]}"
    )
    house.router.write("x.yaml", container_policy("x", rules % (5432, 5432)))
    house.router.start()
    house.ready("x")
    assert host("holds", ROUTER[0], 5432) == ""
    for last in range(5433, 5439):
        house.router.write("x.yaml", container_policy("x", rules % (5432, last)))
        house.ready("x")
        assert host("lives")
        if last == 5435:
            house.router.kill()
            assert host("lives")
            house.router.start()
    house.router.write("x.yaml", container_policy("x", rules % (5433, 5433)))
    house.ready("x")
    assert not host("lives")


def test_a_label_takes_nothing_out_of_its_slice(house: House) -> None:
    """What is denied to the slice stays denied to a workload that another policy selects."""
    house.workload("slice", "{app: slice}")
    inner = house.workload("db", DATABASE, path="slice/db")
    database, host = house.inside(inner), house.outside()
    assert host("serve", "0.0.0.0", 80)
    deny = "networkControls: {enableEgressControl: true, defaultEgressAction: deny}"
    house.router.write("slice.yaml", container_policy("slice", deny, "{app: slice}"))
    house.router.write("db.yaml", container_policy("db", "resourceLimits: {}"))
    house.router.start()
    house.ready("slice")
    house.ready("db")
    assert database("connects", HOST[0], 80) in ("EPERM", "ETIMEDOUT")
    remarks = house.router.json("get", "ecpol/slice")["status"]["remarks"]
    assert "packet sockets" in remarks[0]
