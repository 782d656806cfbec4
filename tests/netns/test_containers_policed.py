"""Containers of a real podman under policies of a real daemon, on real packets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fos1d.cli import daemon
from tests import containers, lab
from tests.applied import HEAD
from tests.containers import Podman
from tests.netns.resident import PROGRAM, Resident, resident
from tests.netns.talk import network_policy
from tests.running import ROOT, Router, router, until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(bool(containers.missing()), reason=containers.missing()),
]

ROUTER, HOST = "203.0.113.1", "203.0.113.2"
OPEN, SHUT = 80, 81
SLICE, IMAGE = "boxes", "localhost/box"
# A program whose first act is to send; it says what became of each packet.
SEND = f"""
import json, socket
made, said = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), []
for port in [{SHUT}] * 20 + [{OPEN}] * 2:
    try:
        made.sendto(b"x", ("{HOST}", port))
        said.append(port)
    except PermissionError:
        pass
print(json.dumps(said))
"""


@dataclass(frozen=True)
class Dock:
    """A router with containers, and a host outside."""

    router: Router
    podman: Podman
    host: lab.Namespace
    stack: ExitStack

    def outside(self) -> Resident:
        """Start a program on the host outside."""
        place = self.podman.parent / "outside"
        place.mkdir()
        return self.stack.enter_context(resident(place, self.host))

    def words(self, name: str, *options: str) -> list[str]:
        """Return the words that begin to run a program in a new container."""
        parent = f"--cgroup-parent=/{self.podman.parent.name}/{SLICE}"
        run = ["run", "-i", "--privileged", "--pull=never", f"--name={name}", parent, *options]
        seen = [f"-v={place}:{place}:ro" for place in ("/usr", str(ROOT))]
        return [*self.podman.words(), *run, *seen, f"-w={ROOT}", IMAGE]

    def container(self, name: str, *options: str) -> Resident:
        """Start a program that obeys, in a container."""
        process = self.stack.enter_context(
            subprocess.Popen(
                [*self.words(name, *options), *PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        self.stack.callback(process.kill)
        made = Resident(process)
        assert made("ready")
        return made

    def address(self, name: str) -> str:
        """Return a container's address."""
        return self.podman("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)

    def ready(self, kind: str, name: str) -> None:
        """Wait until a policy is in force as it is written."""
        self.router.ctl("reconcile", "--wait")
        until(lambda: self.router.ready(kind, name), 5, f"{name} is Ready: {self.router.log()}")

    def selects(self, policy: str, name: str) -> bool:
        """Whether a policy (kind/name) selects a container."""
        identity = self.podman("inspect", "-f", "{{.Id}}", name)
        return identity in self.selected(policy)

    def selected(self, policy: str) -> str:
        """Return what a policy (kind/name) says of its selection."""
        kind, _, name = policy.partition("/")
        return str(self.router.condition(kind, name, "Selected").get("message"))


def import_image(podman: Podman) -> None:
    """Make an image of what the host has: its programs are seen from within."""
    root = podman.folder / "root"
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("usr", "tmp", "etc", "proc", "sys", "dev"):
        (root / name).mkdir()
    lab.command("tar", "-C", str(root), "-cf", str(podman.folder / "root.tar"), ".")
    podman("import", str(podman.folder / "root.tar"), IMAGE)


@pytest.fixture
def dock(bpffs: Path, cgroup: Path) -> Iterator[Dock]:
    """The router with its daemon running where podman runs, and nothing else."""
    with (
        TemporaryDirectory(prefix="f1-") as folder,
        lab.namespaces("host", "rt") as (host, middle),
        containers.engine(Path(folder), cgroup, middle) as podman,
        ExitStack() as stack,
    ):
        lab.veth(host, "eth0", middle, "wan0")
        lab.address(host, "eth0", f"{HOST}/24")
        lab.address(middle, "wan0", f"{ROUTER}/24")
        host.ip("route", "add", "default", "via", ROUTER)
        middle.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        import_image(podman)
        seen = Path("/sys/fs/cgroup") / cgroup.name

        def launch(made: Router) -> subprocess.Popen[bytes]:
            words = [sys.executable, "-m", daemon.__name__, "run", "--config", str(made.config)]
            inside = [*podman.inside(), *words]
            with (made.folder / "log").open("ab") as log:
                return subprocess.Popen(inside, stdout=log, stderr=log, cwd=ROOT)

        with router(middle, Path(folder) / "fos1", bpffs, launch=launch, cgroup=seen) as made:
            yield Dock(made, podman, host, stack)


def container_policy(name: str, labels: str, controls: str) -> str:
    """Return a manifest of rules."""
    selector = f"selector: {{podSelector: {{matchLabels: {labels}}}}}"
    head = f"{HEAD}kind: EBPFContainerPolicy\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {{{selector}, networkControls: {{{controls}}}}}\n"


def test_no_packet_of_a_new_container_escapes_its_slice(dock: Dock) -> None:
    """Whatever it has for labels, from the first packet on."""
    (dock.podman.parent / SLICE).mkdir()
    (dock.router.workloads / "boxes.yaml").write_text(
        f"workloads: [{{name: {SLICE}, labels: {{tier: {SLICE}}}, cgroups: [{SLICE}]}}]\n"
    )
    rules = f"egressRules: [{{ports: [{{protocol: UDP, port: {OPEN}}}]}}]"
    deny = f"enableEgressControl: true, defaultEgressAction: deny, {rules}"
    dock.router.write("boxes.yaml", container_policy("boxes", f"{{tier: {SLICE}}}", deny))
    dock.router.start()
    dock.ready("ecpol", "boxes")
    for options in ((), ("--label=app=web", "--network=host")):
        words = [*dock.words(f"new{len(options)}", *options), "/usr/bin/python3", "-c", SEND]
        assert json.loads(lab.command(*words, timeout_s=60)) == [OPEN] * 2


def test_a_container_is_held_to_the_rules_of_its_labels(dock: Dock) -> None:
    rules = f"ingressRules: [{{ports: [{{port: {OPEN}}}]}}]"
    deny = f"enableIngressControl: true, defaultIngressAction: deny, {rules}"
    dock.router.write("web.yaml", container_policy("web", "{app: web}", deny))
    dock.router.start()
    web, other = dock.container("web", "--label=app=web"), dock.container("other")
    until(lambda: dock.selects("ecpol/web", "web"), 5)
    dock.ready("ecpol", "web")
    assert not dock.selects("ecpol/web", "other")
    host = dock.outside()
    for name, made, open_ports in (("web", web, {OPEN}), ("other", other, {OPEN, SHUT})):
        for port in (OPEN, SHUT):
            assert made("serve", "0.0.0.0", port)
            error = "" if port in open_ports else "ETIMEDOUT"
            assert host("connects", dock.address(name), port) == error
    dock.podman("rm", "--force", "--time=0", "web")
    until(lambda: dock.selected("ecpol/web") == "no local workload has such labels now", 5)


def test_peers_by_label_follow_containers(dock: Dock) -> None:
    """As they come, go, and come back at another address, which then is another's."""
    selector = "  selector: {podSelector: {matchLabels: {app: db}}}\n"
    peer = "  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]\n"
    dock.router.write("db.yaml", network_policy("db", selector + peer))
    dock.router.start()
    dock.podman("network", "create", "--subnet=10.77.0.0/24", "--disable-dns", "net")
    database = dock.container("db", "--label=app=db", "--network=net", "--ip=10.77.0.5")
    assert database("serve", "0.0.0.0", OPEN)
    until(lambda: dock.selects("enpol/db", "db"), 5)
    dock.ready("enpol", "db")

    def reaches(made: Resident) -> bool:
        return bool(made("connects", "10.77.0.5", OPEN) == "")

    at = "--ip=10.77.0.%d"
    web = dock.container("web", "--label=app=web", "--network=net", at % 6)
    other = dock.container("other", "--network=net", at % 7)
    until(lambda: reaches(web), 5)
    assert not reaches(other), dock.router.log()
    for name in ("web", "other"):
        dock.podman("rm", "--force", "--time=0", name)
    other = dock.container("other", "--network=net", at % 6)
    web = dock.container("web", "--label=app=web", "--network=net", at % 7)
    until(lambda: reaches(web), 5)
    assert not reaches(other), dock.router.log()
