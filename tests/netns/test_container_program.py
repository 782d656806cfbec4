"""A user's own program on workloads, by a real daemon, on real packets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import lab
from tests.applied import HEAD
from tests.netns import test_container_policy
from tests.netns.resident import Resident
from tests.netns.test_container_policy import BOTH, DATABASE, HOST, ROUTER, House, container_policy
from tests.own_cgroup import own_object
from tests.running import until

pytestmark = pytest.mark.netns

house = test_container_policy.house
NAMED = container_policy("x", "ebpfProgram: own")
LOST = ("EPERM", "ETIMEDOUT")


def own(function: str = "both", more: str = "") -> str:
    return (
        f"{HEAD}kind: EBPFProgram\nmetadata: {{name: own}}\nspec: {{type: cgroup, "
        f"source: {{object: own.o, program: {function}}}{more}}}\n"
    )


def started(house: House, *manifests: str) -> None:
    house.router.write("own.o", own_object())
    for number, text in enumerate(manifests):
        house.router.write(f"{number}.yaml", text)
    house.router.start()


def talkers(house: House, place: Path) -> tuple[Resident, Resident]:
    """A workload in the router's own namespace and a host outside, both serving ports 7 and 8."""
    workload, host = house.inside(place), house.outside()
    for port in (7, 8):
        for one in (workload, host):
            assert one("serve", "::", port)
    return workload, host


def dropped(workload: Resident, host: Resident, version: int) -> list[int]:
    """Return the ports that are dropped, both what the workload receives and what it sends."""
    found = []
    for port in (7, 8):
        inward, outward = host("asks", ROUTER[version], port), workload("asks", HOST[version], port)
        assert (inward == "") == (outward == ""), (inward, outward)
        assert {inward, outward} <= {"", *LOST}
        found += [port] if inward else []
    return found


def counts(house: House) -> list[int]:
    """Return what the program saw: received by IPv4 and IPv6, and sent."""
    (pin,) = house.router.bpffs.rglob("~seen-*")
    rows = json.loads(lab.command("bpftool", "-j", "map", "dump", "pinned", str(pin)))
    return [row["formatted"]["value"] for row in rows]


def attached(house: House) -> list[tuple[str, str]]:
    found = house.router.json("get", "ebpf/own")["status"]["attachedTo"]
    assert all(int(place["programId"]) for place in found)
    return [(place["cgroup"], place["hook"]) for place in found]


def links(house: House) -> dict[Path, int]:
    return {p: p.stat().st_ino for p in (house.router.bpffs / "cgroup").rglob("*:1*")}


@BOTH
def test_it_counts_and_drops_both_ways(house: House, version: int) -> None:
    workload, host = talkers(house, house.workload("db", DATABASE))
    started(house, own(), NAMED)
    house.ready("x")
    house.ready("own", "ebpf")
    before = counts(house)
    assert dropped(workload, host, version) == [7]
    grown = [now - then for then, now in zip(before, counts(house), strict=True)]
    assert grown[version] >= 3
    assert grown[2 + version] >= 3
    kept = links(house)
    assert len(kept) == 2
    assert attached(house) == [("/db", "cgroup-egress"), ("/db", "cgroup-ingress")]
    page = house.router.ctl("describe", "ebpf/own").stdout
    assert "on the workloads of EBPFContainerPolicy/default/x: db" in page
    assert "/db" in house.router.ctl("get", "ebpf").stdout
    ends = ("192.0.2.1:9 192.0.2.2:7", "[2001:db8::1]:9 [2001:db8::2]:7")[version].split()
    words = ("--workload", "db", "--proto", "udp", "--src", ends[0], "--dst", ends[1])
    said = house.router.ctl("explain", *words).stdout
    assert "EBPFProgram/default/own runs on the workload, too" in said
    house.router.kill()
    assert dropped(workload, host, version) == [7]
    house.router.start()
    house.ready("x")
    house.router.write("own.o", own_object(8))
    house.ready("own", "ebpf")
    assert dropped(workload, host, version) == [8]
    assert links(house) == kept, "swapped in place"
    assert counts(house)[version] > before[version], "its map outlives it"
    later, _ = talkers_of_another(house)
    until(lambda: later("asks", HOST[version], 8) in LOST, 5)
    assert later("asks", HOST[version], 7) == ""
    house.router.write("1.yaml", container_policy("x", "resourceLimits: {}"))
    house.router.write("0.yaml", "# nothing\n")
    house.ready("x")
    assert dropped(workload, host, version) == []
    assert not links(house)
    assert not list(house.router.bpffs.rglob("~seen-*"))


def talkers_of_another(house: House) -> tuple[Resident, Path]:
    place = house.workload("db2", DATABASE)
    return house.inside(place), place


def test_both_must_let_a_packet_pass(house: House) -> None:
    workload, host = talkers(house, house.workload("db", DATABASE))
    rules = (
        "networkControls: {enableIngressControl: true, ingressRules: [{action: deny, ports: %s}]}"
    )
    only_8 = rules % "[{protocol: UDP, port: 8}]"
    started(house, own("receives"), container_policy("x", f"ebpfProgram: own, {only_8}"))
    house.ready("x")
    assert [host("asks", ROUTER[0], port) for port in (7, 8)] == ["ETIMEDOUT", "ETIMEDOUT"]
    assert workload("asks", HOST[0], 7) == "", "it judges only what is received"


def test_what_cannot_run_leaves_the_last_good_one(house: House) -> None:
    workload, host = talkers(house, house.workload("db", DATABASE))
    started(house, own(), NAMED)
    house.ready("x")
    kept = links(house)
    house.router.write("0.yaml", own("refused"))
    house.router.ctl("reconcile", "--wait", check=None)
    for kind, name in (("ebpf", "own"), ("ecpol", "x")):
        ready = house.router.condition(kind, name)
        assert ready["reason"] == "VerifierRefused", ready
        assert "own.o: the verifier refused it" in ready["message"]
    assert dropped(workload, host, 0) == [7]
    assert links(house) == kept
    house.router.write("0.yaml", own("elsewhere"))
    house.router.ctl("reconcile", "--wait", check=None)
    accepted = house.router.condition("ebpf", "own", "Accepted")
    assert (
        '0.yaml:4:55 spec.source.program "elsewhere" stands in section "xdp"' in accepted["message"]
    )
    assert dropped(workload, host, 0) == [7]
    house.router.write("0.yaml", own())
    house.ready("own", "ebpf")
    assert dropped(workload, host, 0) == [7]


def test_without_a_policy_it_runs_on_its_cgroup(house: House) -> None:
    workload, host = talkers(house, house.workload("db", DATABASE))
    started(house, own(more=", cgroup: /late"))
    reason = house.router.condition("ebpf", "own")["reason"]
    assert reason == "Waiting"
    assert dropped(workload, host, 0) == []
    (house.cgroup / "late").mkdir()
    until(lambda: house.router.ready("ebpf", "own"), 20)
    assert {place for place, _ in attached(house)} == {"/late"}
    assert dropped(workload, host, 0) == []
    house.router.write("0.yaml", own(more=", cgroup: /"))
    house.ready("own", "ebpf")
    assert dropped(workload, host, 0) == [7]
    house.router.write("1.yaml", container_policy("x", "ebpfProgram: own", "{app: nobody}"))
    house.ready("x")
    assert dropped(workload, host, 0) == []
    selected = house.router.condition("ebpf", "own", "Selected")
    assert (selected["status"], selected["reason"]) == ("False", "NoMatchingWorkloads")


@pytest.mark.parametrize("function", ["connects", "opens"])
def test_other_hooks(house: House, function: str) -> None:
    database, host = house.inside(house.workload("db", DATABASE)), house.outside()
    assert host("serve", "0.0.0.0", 7)
    started(house, own(function), NAMED)
    house.ready("x")
    refused: dict[str, Callable[[], str]] = {
        "connects": lambda: database("connects", HOST[0], 7),
        "opens": lambda: database("opens", "/dev/full"),
    }
    assert {name: ask() for name, ask in refused.items()} == {
        name: "EPERM" if name == function else "" for name in refused
    }
