"""Real containers of a real podman are workloads, with their labels and addresses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fos1d.kernel.cgroup import Cgroupfs
from fos1d.kernel.workloads.engine import Engine
from fos1d.kernel.workloads.watch import Places, WorkloadWatch
from fos1d.model.workload import Provider, Workload
from tests import containers
from tests.containers import Podman
from tests.running import until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(bool(containers.missing()), reason=containers.missing()),
]


@pytest.fixture
def podman(cgroup: Path) -> Iterator[Podman]:
    # Not tmp_path: the path of a socket may have no more than 108 bytes.
    with (
        TemporaryDirectory(prefix="f1-") as folder,
        containers.engine(Path(folder), cgroup) as made,
    ):
        yield made


def places(podman: Podman) -> Places:
    files = podman.folder / "workloads.d"
    return Places(Cgroupfs(podman.parent), files, podman.folder / "memory.json", podman.folder)


@pytest.fixture
def watch(podman: Podman) -> Iterator[WorkloadWatch]:
    made = WorkloadWatch(places(podman))
    made.start()
    yield made
    made.stop()


def named(watch: WorkloadWatch, name: str) -> Workload | None:
    return next((found for found in watch.workloads() if found.name == name), None)


def event_threads() -> int:
    return sum(thread.name == "events" for thread in threading.enumerate())


def test_a_container_comes_changes_and_goes(podman: Podman, watch: WorkloadWatch) -> None:
    identity = podman.start("web", "--label=app=web", "--label=io.kubernetes.pod.namespace=shop")
    until(lambda: named(watch, "web"), 5)
    web = named(watch, "web")
    assert web and web.provider is Provider.PODMAN and web.trusted
    assert web.labels == {"app": "web", "io.kubernetes.pod.namespace": "shop"}
    assert web.namespace == "shop"
    assert web.cgroup_id == podman.cgroup(identity).stat().st_ino
    until(lambda: (found := named(watch, "web")) and found.addresses, 5)
    given = podman("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
    assert [str(address) for address in named(watch, "web").addresses] == [given]  # type: ignore[union-attr]
    podman("network", "create", "--subnet=10.77.0.0/24", "--subnet=fd77::/64", "more")
    podman("network", "connect", "more", "web")
    until(lambda: len(named(watch, "web").addresses) == 3, 5)  # type: ignore[union-attr]
    assert event_threads() == 1
    podman("rm", "--force", "--time=0", "web")
    until(lambda: not named(watch, "web"), 5)
    until(lambda: event_threads() == 0, 5, "with no container left, nobody listens")


def test_a_container_is_known_before_it_can_do_much(podman: Podman, watch: WorkloadWatch) -> None:
    """From the moment when the cgroup is there until its labels are known."""
    took = []
    for number in range(3):
        name = f"c{number}"
        starter = threading.Thread(target=podman.start, args=(name, "--network=none"))
        starter.start()
        until(lambda number=number: len(list(podman.parent.glob("libpod-*"))) > number, 30)  # type: ignore[misc]
        began = time.monotonic()
        until(lambda name=name: named(watch, name), 5)  # type: ignore[misc]
        took.append(time.monotonic() - began)
        starter.join()
    print("known after", took)
    assert min(took) < 0.1


def test_a_restarted_daemon_knows_containers_whose_engine_is_silent(podman: Podman) -> None:
    podman.start("web", "--label=app=web", "--network=none")
    first = WorkloadWatch(places(podman))
    first.start()
    until(lambda: named(first, "web"), 5)
    first.stop()
    podman.socket.rename(podman.socket.with_name("elsewhere"))
    second = WorkloadWatch(places(podman))
    second.start()
    web = named(second, "web")
    second.stop()
    assert web and web.labels == {"app": "web"}


def test_the_engines_list_holds_what_is_asked_of_it(podman: Podman) -> None:
    identity = podman.start("web", "--label=app=web")
    (web,) = Engine(Provider.PODMAN, podman.socket).containers()
    assert (web.id, web.name, web.labels) == (identity, "web", {"app": "web"})
    assert len(web.addresses) == len(web.macs) == 1
