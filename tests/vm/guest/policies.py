"""Policies for a virtual machine: all that rules and limits can ask of the kernel."""

from __future__ import annotations

from tests.applied import HEAD

PYTHON = "/usr/bin/python3"
SLICE, PORT = "shop.slice", 9

# Every kind of rule, for both ways of an interface; only pings of some may come in.
ACCESS = (
    f"{HEAD}kind: EBPFNetworkPolicy\nmetadata: {{name: access}}\nspec:\n"
    "  policyType: filtering\n  selector: {interfaces: [wan0]}\n  ingress:\n"
    "    - {action: log, ports: [{protocol: TCP, port: 23}]}\n"
    "    - {from: [{ipBlock: {cidr: 203.0.113.64/26}}], action: deny}\n"
    "    - {from: [{ipBlock: {cidr: '2001:db8:bad::60/123'}}], action: deny}\n"
    "    - {from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.9/32]}}],"
    " ports: [{protocol: ICMP, icmpType: 8}], rateLimit: {bitsPerSecond: 10Mbit}}\n"
    "    - ports: [{protocol: ICMPv6, icmpType: 128}, {protocol: SCTP, port: 9, endPort: 99}]\n"
    "  egress:\n    - {ports: [{protocol: UDP, port: 53}], action: mark, mark: 46}\n    - {}\n"
)
QOS = (
    f"{HEAD}kind: EBPFNetworkPolicy\nmetadata: {{name: voice}}\nspec:\n"
    "  policyType: qos\n  selector: {interfaces: [wan0]}\n  egress:\n"
    "    - {ports: [{protocol: UDP, port: 5060}], action: mark, mark: 46}\n"
)
ROUTE = (
    f"{HEAD}kind: EBPFNetworkPolicy\nmetadata: {{name: way}}\nspec:\n"
    "  policyType: routing\n  selector: {interfaces: [wan0]}\n"
    "  ingress:\n    - {ports: [{protocol: UDP, port: 5060}]}\n"
    "  route: {nextHop: 203.0.113.2, interface: wan0}\n"
)
# What units of a slice may do, with all that can be limited.
SHOP = (
    f"{HEAD}kind: EBPFContainerPolicy\nmetadata: {{name: shop}}\nspec:\n"
    f"  selector: {{podSelector: {{matchLabels: {{systemd.io/slice: {SLICE}}}}}}}\n"
    "  resourceLimits:\n"
    "    bandwidthLimits: {ingressBitsPerSecond: 100Mbit, egressBitsPerSecond: 100Mbit}\n"
    "    connectionLimits: {maxConnections: 3, maxConnectionRate: 100}\n"
    "  networkControls:\n    enableEgressControl: true\n    enableIngressControl: true\n"
    "    defaultEgressAction: deny\n"
    f"    egressRules: [{{ports: [{{protocol: UDP, port: {PORT}}}]}}]\n"
    "  deviceControl:\n    enableDeviceControl: true\n"
    "    allowedDevices: [{deviceType: char, major: 1, minor: 3}]\n"
)
# What hosts behind the router look like outside: its own addresses, IPv6 hosts as IPv4 too.
LAN = {4: "10.7.0.", 6: "fd07::"}
NAT = "---\n".join(
    f"{HEAD}kind: EBPFNATPolicy\nmetadata: {{name: {name}}}\nspec: {{{spec}, interface: wan0}}\n"
    for name, spec in (
        ("nat", f"type: masquerade, sourceAddresses: [{LAN[4]}0/24, '{LAN[6]}/64']"),
        ("nat64", f"type: nat64, sourceAddresses: ['{LAN[6]}/64']"),
    )
)
# It says to which ports it could send, and which devices it could open.
PROBE = f"""
import socket
said = []
for family, address in ((socket.AF_INET, "203.0.113.2"), (socket.AF_INET6, "2001:db8:bad::2")):
    for port in ({PORT}, {PORT + 1}):
        try:
            socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, port))
            said.append(port)
        except PermissionError:
            pass
for path in ("/dev/null", "/dev/zero"):
    try:
        open(path).close()
        said.append(path)
    except PermissionError:
        pass
print(*said)
"""
ALLOWED = f"{PORT} {PORT} /dev/null"
