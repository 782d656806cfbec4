"""`fos1ctl explain` against what really happens to packets, and that it leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import lab
from tests.applied import HEAD, program
from tests.netns.conftest import LAN4, LAN6, WAN4, WAN6, Site
from tests.netns.forked import forked
from tests.netns.talk import connects, echo, in_force, network_policy
from tests.running import router, until

pytestmark = pytest.mark.netns

BLOCK = f'{{stateful: true, blacklist: {{enabled: true, ips: ["{WAN4}.66"]}}}}'
POLICY = network_policy(
    "wan",
    "  selector: {interfaces: [wan0]}\n"
    "  ingress:\n"
    "    - description: knocks\n"
    "      action: log\n"
    f"    - from: [{{ipBlock: {{cidr: {WAN4}.0/24, except: [{WAN4}.9/32]}}}}]\n"
    "      ports: [{port: 8080, endPort: 8090}]\n"
    "    - description: no web\n"
    "      ports: [{port: 80}]\n"
    "      action: deny\n"
    f"    - from: [{{ipBlock: {{cidr: {WAN6}:/64}}}}]\n"
    "      ports: [{protocol: ICMPv6, icmpType: 128}]\n"
    "  egress:\n"
    "    - ports: [{protocol: UDP, port: 53}]\n",
)


@pytest.fixture
def ruled(site: Site) -> Site:
    """A site with an XDP filter and a policy on wan0."""
    site.router.write("edge.yaml", program("edge", "wan0", BLOCK))
    site.router.write("wan.yaml", POLICY)
    site.router.start()
    in_force(site.router, "wan")
    until(lambda: site.router.ready("ebpf", "edge"), 10)
    return site


def explained(site: Site, words: str) -> Any:
    """Explain a packet."""
    return site.router.json("explain", *words.split())


def tcp(source: str, port: int) -> str:
    """A TCP connection from the wan to the lan."""
    return f"--in wan0 --proto tcp --src {source}:40000 --dst {LAN4}.2:{port}"


def test_the_answer_is_what_happens(ruled: Site) -> None:
    with echo(ruled.lan, f"{LAN4}.2", 80, 8080, 9000):
        for source in (f"{WAN4}.2", f"{WAN4}.66"):
            for port in (80, 8080, 9000):
                said = explained(ruled, tcp(source, port))
                assert (said["verdict"] == "pass") == connects(
                    ruled.wan, source, f"{LAN4}.2", port
                ), (source, port, said)


def test_the_rule_that_decides_is_named(ruled: Site) -> None:
    allowed = explained(ruled, tcp(f"{WAN4}.2", 8085))
    assert [step["hook"] for step in allowed["steps"]] == ["xdp", "tc-ingress"]
    assert allowed["steps"][0]["program"] == "EBPFProgram/default/edge"
    log, allow = allowed["steps"][1]["rules"]
    assert (log["action"], log["description"], log["origin"]) == ("log", "knocks", "wan.yaml:8:7")
    assert (allow["action"], allow["index"], allow["origin"]) == ("allow", 1, "wan.yaml:10:7")
    denied = explained(ruled, tcp(f"{WAN4}.2", 80))["steps"][1]
    assert (denied["verdict"], denied["reason"]) == ("drop", "drop-policy")
    assert denied["rules"][-1]["description"] == "no web"
    assert denied["deniedByDefaultOf"] == []
    default = explained(ruled, tcp(f"{WAN4}.9", 8080))["steps"][1]
    assert default["deniedByDefaultOf"] == [
        {"resource": "EBPFNetworkPolicy/default/wan", "origin": "wan.yaml:1:1"}
    ]
    listed = explained(ruled, tcp(f"{WAN4}.66", 8080))["steps"]
    assert [(s["hook"], s["verdict"], s["reason"]) for s in listed] == [
        ("xdp", "drop", "drop-blacklist")
    ]


def test_answers_vital_packets_and_other_protocols(ruled: Site) -> None:
    answer = f"--in wan0 --proto udp --src {WAN4}.2:53 --dst {LAN4}.2:40000"
    assert explained(ruled, answer)["verdict"] == "drop"
    assert explained(ruled, f"{answer} --established")["verdict"] == "pass"
    other = f"--in wan0 --proto udp --src {WAN4}.2:54 --dst {LAN4}.2:40000 --established"
    said = explained(ruled, other)
    assert said["verdict"] == "drop" and "would not pass" in said["remarks"][0]
    ssh = explained(ruled, f"--in wan0 --proto tcp --src {WAN4}.9:40000 --dst {WAN4}.1:22")
    assert (ssh["verdict"], ssh["steps"][1]["reason"]) == ("pass", "pass-vital")
    echo6 = f"--in wan0 --proto icmpv6 --src {WAN6}:2 --dst {LAN6}:2"
    assert explained(ruled, echo6)["verdict"] == "pass"
    assert explained(ruled, f"{echo6} --icmp-type 1")["verdict"] == "drop"
    forwarded = f"--in lan0 --out wan0 --proto udp --src {LAN4}.2:40000 --dst {WAN4}.2:53"
    assert explained(ruled, forwarded)["verdict"] == "pass"
    page = ruled.router.ctl("explain", *forwarded.split()).stdout
    assert "allow by egress[0] of EBPFNetworkPolicy/default/wan, wan.yaml:" in page


def test_it_leaves_no_trace(ruled: Site) -> None:
    for _ in range(3):
        assert explained(ruled, tcp(f"{WAN4}.2", 8080))["verdict"] == "pass"
    rules = ruled.router.json("get", "enpol/wan")["status"]["metrics"]["byRule"]
    assert rules[1]["packets"] == 0
    assert ":8080" not in ruled.router.log()
    with echo(ruled.lan, f"{LAN4}.2", 8080):
        assert connects(ruled.wan, f"{WAN4}.2", f"{LAN4}.2", 8080)
    rules = ruled.router.json("get", "enpol/wan")["status"]["metrics"]["byRule"]
    assert rules[1]["packets"] > 0


def test_what_is_not_there_is_said(ruled: Site) -> None:
    words = f"--in nope --proto tcp --src {WAN4}.2:1 --dst {LAN4}.2:2"
    said = ruled.router.ctl("explain", *words.split(), check=None)
    assert said.returncode == 1 and "there is no interface nope" in said.stderr
    free = explained(ruled, f"--in lan0 --proto tcp --src {LAN4}.2:1 --dst {WAN4}.2:2")
    assert free["verdict"] == "pass" and "no program" in free["remarks"][0]


DATABASE = (
    f"{HEAD}kind: EBPFContainerPolicy\nmetadata: {{name: db}}\nspec:\n"
    "  selector: {podSelector: {matchLabels: {app: database}}}\n"
    "  networkControls:\n"
    "    enableIngressControl: true\n"
    "    defaultIngressAction: deny\n"
    "    ingressRules:\n"
    "      - {description: clients, ipBlock: {cidr: 10.0.0.0/8}, ports: [{port: 5432}]}\n"
)


def test_workloads(bpffs: Path, tmp_path: Path, cgroup: Path) -> None:
    (cgroup / "db").mkdir()
    with (
        lab.namespaces("rt") as (middle,),
        router(middle, tmp_path, bpffs, launch=forked, cgroup=cgroup) as made,
    ):
        (made.workloads / "db.yaml").write_text(
            "workloads: [{name: db, labels: {app: database}, cgroups: [db],"
            " addresses: [10.9.0.2]}]\n"
        )
        made.write("db.yaml", DATABASE)
        made.start()
        until(lambda: made.ready("ecpol", "db"), 10)
        words = "explain --workload db --proto tcp --src {}:40000 --dst 10.9.0.2:{}".format
        (allowed,) = made.json(*words("10.1.2.3", 5432).split())["steps"]
        assert (allowed["hook"], allowed["verdict"]) == ("cgroup-ingress", "pass")
        assert [rule["description"] for rule in allowed["rules"]] == ["clients"]
        (denied,) = made.json(*words("192.0.2.1", 5432).split())["steps"]
        assert (denied["verdict"], denied["reason"]) == ("drop", "drop-container-policy")
        assert denied["deniedByDefaultOf"][0]["resource"] == "EBPFContainerPolicy/default/db"
        out = "explain --workload db --proto udp --src 10.9.0.2:40000 --dst 192.0.2.1:53"
        (sent,) = made.json(*out.split())["steps"]
        assert (sent["hook"], sent["verdict"]) == ("cgroup-egress", "pass")
