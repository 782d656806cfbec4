"""Names of cgroups in pins, and where the cgroup2 file system is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fos1d.kernel.cgroup import Cgroupfs, find_mount
from fos1d.model.pins import cgroup_link_path, parse_cgroup_link_path

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
CGROUPS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), max_size=3).map(
    lambda names: "/".join(names) or "."
)


@given(CGROUPS, CGROUPS)
def test_every_cgroup_has_a_pin_of_its_own_that_bpffs_accepts(first: str, second: str) -> None:
    pin = cgroup_link_path(first, "connect4", 1)
    assert parse_cgroup_link_path(pin) == (first, "connect4", 1)
    assert "." not in pin
    assert (pin == cgroup_link_path(second, "connect4", 1)) == (first == second)


def test_a_childs_pins_are_not_its_parents() -> None:
    assert cgroup_link_path("a.slice", "device", 0) == "cgroup/a:slice/~device:0"
    assert cgroup_link_path("a.slice/~device:0", "device", 0) == (
        "cgroup/a:slice/%7Edevice%3A0/~device:0"
    )


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("36 25 0:30 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw", "unified"),
        (r"36 25 0:30 / /sys/fs/cgroup/a\040b rw - cgroup2 none rw", "a b"),
        ("36 25 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory", None),
    ],
)
def test_the_mount_is_found(line: str, place: str | None) -> None:
    other = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
    assert find_mount(other + line) == (Path("/sys/fs/cgroup") / place if place else None)


def test_no_cgroup_has_an_id_where_none_is() -> None:
    assert Cgroupfs(Path("/nowhere")).id_of("a") is None
