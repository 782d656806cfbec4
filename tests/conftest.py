"""Fixtures for all tests, and the rule that what needs root says so when it is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests import lab
from tests.others import Others, beside

# A noisy machine may take long over any example; that is no mistake of ours.
settings.register_profile(
    "fos1", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("fos1")

# A daemon that runs on this machine is not asked; the programs that tests start inherit that.
os.environ["FOS1_SOCKET"] = os.devnull

NEEDS_ROOT = ("kernel", "netns")
MACHINES = "tests/systemd/"
LEFT_OUT = "left out"
_left_out: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without root, leave out what needs it, and remember how much that was."""
    if lab.is_root():
        return
    rooted = [item for item in items if any(item.get_closest_marker(m) for m in NEEDS_ROOT)]
    _left_out.extend(item.nodeid for item in rooted)
    items[:] = [item for item in items if item not in rooted]
    config.hook.pytest_deselected(items=rooted)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that sums up, where tests are spread over several."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output[LEFT_OUT] = _left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear it; every worker has collected, and left out, the same."""
    _left_out[:] = getattr(node, "workeroutput", {}).get(LEFT_OUT, _left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Spread tests one by one, but those that share machines and what is installed on them."""
    made = LoadScopeScheduling(config, log)
    made._split_scope = lambda node: MACHINES if node.startswith(MACHINES) else node
    return made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out."""
    if _left_out:
        files = sorted({node.split("::")[0] for node in _left_out})
        terminalreporter.section("left out: no root")
        terminalreporter.line(f"{len(_left_out)} tests on the real kernel, in {len(files)} files;")
        terminalreporter.line("run `sudo make test` for all of them")


@pytest.fixture(autouse=True)
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Others]:
    """What runs beside each test."""
    shared = tmp_path_factory.getbasetemp()
    with beside(shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) as made:
        yield made


@pytest.fixture
def namespace() -> Iterator[lab.Namespace]:
    """A network namespace that this thread is in."""
    with lab.namespaces("t") as (made,), made.entered():
        yield made


@pytest.fixture
def bpffs() -> Iterator[Path]:
    """A folder for our pins on the BPF file system; beside it there is room for a user's pins."""
    with lab.bpf_folder() as place:
        yield place / "fos1"


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup for this test alone."""
    with lab.cgroup_folder() as place:
        yield place
