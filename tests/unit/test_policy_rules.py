"""Policies as manifests -> ordered rules, with identities, flags and sources."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, ip_network
from textwrap import dedent

from fos1d.abi import PlaceFlag, PolicyAction, PolicyChain
from fos1d.compile.policy_model import Limit, Network, Peers, Route, Rule, Service
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.network_policy import EBPFNetworkPolicy
from fos1d.kinds.network_policy import Route as RouteSpec
from fos1d.kinds.policy_rules import PolicyRules, Selected, policy_rules
from fos1d.kinds.rules import Peer
from tests.manifests import declared, manifest

IN, OUT = PolicyChain.CHAIN_IN, PolicyChain.CHAIN_OUT
RECEIVE, SEND = PolicyChain.CHAIN_RECEIVE, PolicyChain.CHAIN_SEND
POLICED, STATEFUL = PlaceFlag.PLACE_POLICED, PlaceFlag.PLACE_STATEFUL
DENYING = PlaceFlag.PLACE_DEFAULT_DENY


def selected(kind: str, spec: str, name: str, places: tuple[int, ...]) -> Selected:
    (declaration,) = declared(manifest(kind, spec, name))
    resource = declaration.resource
    assert isinstance(resource, EBPFNetworkPolicy | EBPFContainerPolicy)
    return Selected(resource, frozenset(places or (0,)), declaration.where)


def network(spec: str, name: str = "p", *places: int) -> Selected:
    return selected("EBPFNetworkPolicy", spec, name, places)


def container(spec: str, name: str = "c", *places: int) -> Selected:
    chosen = f"selector: {{podSelector: {{}}}}\n{dedent(spec)}"
    return selected("EBPFContainerPolicy", chosen, name, places)


def nowhere(_peer: Peer, _namespace: str, _grants: bool) -> Iterable[Network]:
    return ()


def straight(route: RouteSpec) -> Route:
    return Route(table=route.table or 0)


def lowered(*policies: Selected, places: int = 1) -> PolicyRules:
    return policy_rules(policies, places, nowhere, straight)


def the_rule(found: PolicyRules, chain: PolicyChain) -> Rule:
    (rule,) = found.chains[chain]
    return rule


def test_rules_stand_in_the_order_of_their_policies() -> None:
    rule = "policyType: filtering\npriority: {}\ningress: [{{}}, {{action: deny}}]"
    found = lowered(
        network(rule.format(20), "a"), network(rule.format(10), "b"), network(rule.format(10), "c")
    )
    sources = [found.sources[rule.counter] for rule in found.chains[IN]]
    assert [(s.policy.name, s.index) for s in sources] == [
        ("b", 0),
        ("b", 1),
        ("c", 0),
        ("c", 1),
        ("a", 0),
        ("a", 1),
    ]


def test_a_whole_rule() -> None:
    rule = the_rule(
        lowered(
            network(
                """
                policyType: filtering
                stateful: false
                egress:
                  - to: [{ipBlock: {cidr: 10.0.0.0/30, except: [10.0.0.0/32]}}]
                    ports:
                      - {port: 80, endPort: 90}
                      - {protocol: UDP}
                      - {protocol: ICMP, icmpType: 8}
                    rateLimit: {bitsPerSecond: 1Mbit, burstSize: 2kb}
                """
            )
        ),
        OUT,
    )
    assert rule.peers == Peers(v4=((0x0A000001, 0x0A000003),))
    assert rule.services == (Service(6, 80, 90), Service(17), Service(1, 0x800, 0x8FF))
    assert (rule.action, rule.stateful) == (PolicyAction.ACT_ALLOW, False)
    assert rule.limit == Limit(10**6, 2048)


def test_allow_means_what_the_type_of_policy_says() -> None:
    qos = lowered(network("policyType: qos\ningress: [{rateLimit: {bitsPerSecond: 1Gbit}}]"))
    routing = lowered(network("policyType: routing\nroute: {table: 7}\ningress: [{}]"))
    assert the_rule(qos, IN).action is PolicyAction.ACT_LIMIT
    assert the_rule(qos, IN).limit == Limit(10**9, 2_500_000)
    assert the_rule(routing, IN).action is PolicyAction.ACT_ROUTE
    assert the_rule(routing, IN).route == Route(table=7)
    assert qos.flags == routing.flags == ((0, 0, 0, 0),)


def test_only_filtering_polices_and_only_where_it_names_a_direction() -> None:
    found = lowered(
        network("policyType: filtering\ningress: []", "a", 0),
        network("policyType: filtering\nstateful: false\negress: [{}]", "b", 1),
        places=3,
    )
    assert found.flags == (
        (POLICED | STATEFUL, STATEFUL, 0, 0),
        (0, POLICED, 0, 0),
        (0, 0, 0, 0),
    )


def test_the_first_container_policy_that_sets_a_default_decides() -> None:
    def control(default: str) -> str:
        return f"networkControls: {{enableEgressControl: true, {default}}}"

    found = lowered(
        container(control("egressRules: []"), "a"),
        container(control("defaultEgressAction: deny"), "b"),
        container(control("defaultEgressAction: allow"), "c"),
    )
    assert found.flags == ((STATEFUL, STATEFUL, STATEFUL, POLICED | DENYING | STATEFUL),)


def test_rules_of_a_control_that_is_off_are_left_out() -> None:
    found = lowered(container("networkControls: {enableIngressControl: false, ingressRules: [{}]}"))
    assert found.chains == ((), (), (), ())
    assert found.flags == ((0, 0, 0, 0),)


def test_a_container_rule() -> None:
    found = lowered(
        container(
            """
            networkControls:
              enableIngressControl: true
              ingressRules:
                - {description: office, ipBlock: {cidr: "2001:db8::/127"}, action: deny}
            """
        )
    )
    rule = the_rule(found, RECEIVE)
    base = int(ip_network("2001:db8::/127").network_address)
    assert rule.peers == Peers(v6=((base, base + 1),))
    source = found.sources[rule.counter]
    assert source.loc == ("spec", "networkControls", "ingressRules", 0)
    assert (source.description, str(source.origin)) == ("office", "a.yaml:11:9")


def test_a_rule_keeps_its_counter_wherever_it_stands() -> None:
    text = "policyType: filtering\ningress: [{0}]"
    web, deny = "{ports: [{port: 80}]}", "{action: deny}"
    alone = lowered(network(text.format(web)))
    beside = lowered(network(text.format(f"{deny}, {web}, {web}")))
    assert the_rule(alone, IN).counter == beside.chains[IN][1].counter
    assert len({rule.counter for rule in beside.chains[IN]}) == 3
    renamed = lowered(network(text.format(web), "other"))
    assert the_rule(renamed, IN).counter != the_rule(alone, IN).counter
    described = text.format("{ports: [{port: 80}], description: web}")
    assert the_rule(lowered(network(described)), IN).counter == the_rule(alone, IN).counter


def test_peers_are_asked_for_with_what_the_rule_does() -> None:
    asked: list[tuple[str, bool]] = []

    def addresses(_peer: Peer, namespace: str, grants: bool) -> Iterable[Network]:
        asked.append((namespace, grants))
        return [IPv4Network("10.0.0.1/32")]

    peer = "from: [{podSelector: {}}]"
    spec = f"policyType: filtering\ningress: [{{{peer}}}, {{{peer}, action: deny}}]"
    found = policy_rules([network(spec)], 1, addresses, straight)
    assert asked == [("default", True), ("default", False)]
    assert found.chains[IN][0].peers == Peers(v4=((0x0A000001, 0x0A000001),))


def test_a_peer_without_workloads_matches_nothing() -> None:
    spec = "policyType: filtering\ningress: [{from: [{podSelector: {}}]}]"
    assert the_rule(lowered(network(spec)), IN).peers == Peers()
