"""Real containers of a real docker are workloads, with their labels and addresses."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fos1d.kernel.cgroup import Cgroupfs
from fos1d.kernel.workloads.watch import Places, WorkloadWatch
from fos1d.model.workload import Provider, Workload
from tests import docker
from tests.running import until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(bool(docker.missing()), reason=docker.missing()),
]


def named(watch: WorkloadWatch, name: str) -> Workload | None:
    return next((found for found in watch.workloads() if found.name == name), None)


def test_a_container_comes_changes_and_goes(cgroup: Path) -> None:
    # Not tmp_path: the path of a socket may have no more than 108 bytes.
    with (
        TemporaryDirectory(prefix="f1-", ignore_cleanup_errors=True) as folder,
        docker.engine(Path(folder), cgroup) as engine,
    ):
        watch = WorkloadWatch(Places(Cgroupfs(cgroup), Path(folder), root=Path(folder)))
        watch.start()
        identity = engine.start("web", "--label=app=web", "--label=fos1.io/namespace=shop")
        until(lambda: (found := named(watch, "web")) and found.addresses, 5)
        web = named(watch, "web")
        assert web and web.provider is Provider.DOCKER and web.trusted
        assert (web.labels["app"], web.namespace) == ("web", "shop")
        assert web.cgroup_id == (cgroup / identity).stat().st_ino
        given = engine("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
        assert [str(address) for address in web.addresses] == [given]
        engine("network", "create", "--subnet=10.77.0.0/24", "more")
        engine("network", "connect", "more", "web")
        until(lambda: len(named(watch, "web").addresses) == 2, 5)  # type: ignore[union-attr]
        engine("rm", "--force", "web")
        until(lambda: not named(watch, "web"), 5)
        watch.stop()
