"""EBPFNetworkPolicy on real packets: interfaces, forwarded traffic, the router itself."""

from __future__ import annotations

import pytest

from tests.applied import HEAD
from tests.netns.conftest import LAN6, WAN4, WAN6, Site
from tests.netns.talk import settled
from tests.running import until

pytestmark = pytest.mark.netns


def policy(name: str, spec: str) -> str:
    """Return the manifest of a filtering policy; `spec` is YAML, indented by two."""
    head = f"{HEAD}kind: EBPFNetworkPolicy\nmetadata: {{name: {name}}}\nspec:\n"
    return f"{head}  policyType: filtering\n{spec}"


def test_what_no_rule_allows_is_denied_and_answers_pass(site: Site) -> None:
    site.router.write(
        "wan.yaml",
        policy(
            "wan",
            "  selector: {interfaces: [wan0]}\n"
            "  ingress:\n"
            "    - from:\n"
            f"      - ipBlock: {{cidr: {WAN4}.2/32}}\n"
            f"      - ipBlock: {{cidr: {WAN6}:2/128}}\n"
            "      ports: [{protocol: ICMP}, {protocol: ICMPv6}]\n",
        ),
    )
    settled(site.wan, site.router, site.lan)
    site.router.start()
    until(lambda: site.router.ready("enpol", "wan"), 10)
    assert site.ping(f"{WAN4}.2")
    assert site.ping(f"{WAN6}:2", f"{LAN6}:2")
    assert not site.ping(f"{WAN4}.66")
    assert not site.ping(f"{WAN6}:66", f"{LAN6}:2")


def test_describe_shows_each_rule_with_what_it_matched(site: Site) -> None:
    site.router.write(
        "wan.yaml",
        policy(
            "wan",
            "  ingress:\n"
            f"    - from: [{{ipBlock: {{cidr: {WAN4}.66/32}}}}]\n"
            "      description: the attacker\n"
            "      action: deny\n"
            "    - action: allow\n",
        ),
    )
    site.router.start()
    until(lambda: site.router.ready("enpol", "wan"), 10)
    assert not site.ping(f"{WAN4}.66")
    assert site.ping(f"{WAN4}.2")
    rules = site.router.json("get", "enpol/wan")["status"]["metrics"]["byRule"]
    assert [rule["action"] for rule in rules] == ["deny", "allow"]
    assert rules[0]["packets"] == 1
    assert rules[0]["origin"].startswith("wan.yaml:7:")
    assert rules[1]["packets"] > 0
    page = site.router.ctl("describe", "enpol/wan").stdout
    assert "the attacker" in page
