"""A person's word that much may be removed."""

from __future__ import annotations

import pytest

from tests.applied import program
from tests.netns.conftest import Site
from tests.running import until

pytestmark = pytest.mark.netns


def waits(site: Site) -> bool:
    return "a revision waits" in site.router.ctl("status", check=None).stdout


def test_a_confirmation_counts_once(site: Site) -> None:
    """The same files at another time are the same revision of a directory, but not its removal."""
    site.router.start()
    for _ in range(2):
        site.router.write("edge.yaml", program("edge", "wan0", "{}"))
        until(lambda: site.router.ready("ebpf", "edge"), 10)
        (site.router.policy / "edge.yaml").unlink()
        until(lambda: waits(site), 10)
        assert site.router.xdp("wan0")
        site.router.ctl("confirm")
        until(lambda: not site.router.xdp("wan0"), 10)
    site.router.ctl("confirm", check=5)
