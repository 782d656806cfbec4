"""Fixtures of the tests of NAT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fos1d.kernel.port import RealKernel
from tests.kernel.nat_places import V4, V6, Place


@pytest.fixture
def kernel(bpffs: Path) -> Iterator[RealKernel]:
    """The kernel, on a folder of its own."""
    made = RealKernel(bpffs)
    yield made
    made.close()


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def at(request: pytest.FixtureRequest) -> Place:
    """Each family."""
    place: Place = request.param
    return place
