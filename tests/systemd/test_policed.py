"""Units under a policed slice, by the installed daemon: no packet of a new one escapes."""

from __future__ import annotations

import json

import pytest

from tests.applied import HEAD
from tests.running import until
from tests.systemd.conftest import POLICY, WAN, Site

pytestmark = pytest.mark.netns

SLICE = "shop.slice"
DENY = (
    f"{HEAD}kind: EBPFContainerPolicy\nmetadata: {{name: shop}}\nspec:\n"
    f"  selector: {{podSelector: {{matchLabels: {{systemd.io/slice: {SLICE}}}}}}}\n"
    "  networkControls: {enableEgressControl: true, defaultEgressAction: deny}\n"
)
# A program whose first act is to send; it says how many of its packets went.
SEND = f"""
import socket
made, sent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0
for _ in range(20):
    try:
        made.sendto(b"x", ("{WAN}.2", 9))
        sent += 1
    except PermissionError:
        pass
print(sent)
"""
PYTHON = "/usr/local/lib/fos1d/bin/python"


def ready(site: Site) -> bool:
    """Whether the policy is Ready and selects something."""
    done = site.machine.run("fos1ctl", "get", "ecpol/shop", "-o", "json", check=False)
    if done.returncode:
        return False
    conditions = json.loads(done.stdout)["status"]["conditions"]
    held = {c["type"] for c in conditions if c["status"] == "True"}
    return {"Ready", "Selected"} <= held


def sent(site: Site, slice_name: str) -> str:
    """Return how many packets a new unit could send from its first moment on."""
    words = ("systemd-run", "-q", "--wait", "--pipe", f"--slice={slice_name}", PYTHON, "-c", SEND)
    return site.machine.run(*words).stdout.strip()


def test_no_packet_of_a_new_unit_escapes(site: Site) -> None:
    site.machine.run("systemd-run", "-q", "--unit=keep", "--slice=shop", "/bin/sleep", "infinity")
    site.machine.write(f"{POLICY}/shop.yaml", DENY)
    site.machine.run("systemctl", "start", "fos1d")
    until(lambda: ready(site), 10)
    assert [sent(site, "shop"), sent(site, "shop-web"), sent(site, "other")] == ["0", "0", "20"]
    site.machine.sh(f"systemctl stop keep; rm {POLICY}/shop.yaml; systemctl stop fos1d")
