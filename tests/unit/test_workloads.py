"""Who is in which cgroup, and whom one may believe."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest

from fos1d.kernel.workloads.identify import Container, identify
from fos1d.kernel.workloads.memory import recall, remember
from fos1d.kernel.workloads.static import StaticFiles
from fos1d.kernel.workloads.tree import Cgroup
from fos1d.kernel.workloads.units import (
    SEARCH_PATH,
    Unit,
    UnitLabels,
    parse_labels,
    unit_at,
    unit_files,
    unit_labels,
)
from fos1d.kinds.workload_file import WorkloadFile, parse_workload_file
from fos1d.model.workload import NAMESPACE_LABEL, Provider, Workload

ID, OTHER_ID = "0123456789abcdef" * 4, "f" * 64
USER = "user.slice/user-1000.slice/user@1000.service"
POD = f"machine.slice/libpod-{ID}.scope"


def tree(*paths: str, owners: Mapping[str, int] | None = None) -> dict[str, Cgroup]:
    """Return cgroups; of a user's manager and all below it he is the owner."""
    found: dict[str, Cgroup] = {}
    for number, path in enumerate((".", *paths), 1):
        below = path.startswith(f"{USER}/")
        owner = (owners or {}).get(path, 1000 if path == USER or below else 0)
        found[path] = Cgroup(path, number, owner, below)
    return found


def find(
    cgroups: Mapping[str, Cgroup],
    *containers: Container,
    units: Mapping[str, UnitLabels] | None = None,
    file: str = "",
) -> dict[str, Workload]:
    documents, problems = parse_workload_file("w.yaml", file.encode())
    assert not problems
    said = units or {}
    found = identify(cgroups, lambda unit: said.get(unit, UnitLabels()), containers, documents)
    assert [workload.cgroup for workload in found] == sorted(w.cgroup for w in found)
    return {workload.cgroup: workload for workload in found}


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        (".", Unit("-.slice", "-.slice")),
        ("init.scope", Unit("init.scope", "-.slice")),
        ("system.slice", Unit("system.slice", "system.slice")),
        ("system.slice/a.service", Unit("a.service", "system.slice")),
        ("a.slice/a-b.slice/_cpu.service", Unit("cpu.service", "a-b.slice")),
        (USER, Unit("user@1000.service", "user-1000.slice")),
        (f"{USER}/app.slice/x.service", Unit("x.service", "app.slice", True)),
        ("system.slice/a.service/b.service", None),
        (f"{USER}/app.slice/x.service/user@1.service/y.service", None),
        ("docker/abc", None),
        ("a.service/system.slice", None),
    ],
)
def test_a_path_tells_the_unit(path: str, unit: Unit | None) -> None:
    assert unit_at(path) == unit


def test_a_unit_has_its_own_labels_and_two_that_are_known() -> None:
    said = UnitLabels({"app": "db", "systemd.io/unit": "lie"}, "shop")
    found = find(tree("system.slice/db.service"), units={"db.service": said})
    workload = found["system.slice/db.service"]
    labels = {"app": "db", "systemd.io/unit": "db.service", "systemd.io/slice": "system.slice"}
    assert workload.labels == workload.trusted_labels == labels
    assert (workload.name, workload.namespace) == ("db.service", "shop")
    assert workload.namespace_labels == {NAMESPACE_LABEL: "shop"}
    assert workload.provider is Provider.SYSTEMD
    assert found["."].labels["systemd.io/slice"] == "-.slice"


def test_a_users_units_are_known_by_name_and_not_believed() -> None:
    path = f"{USER}/app.slice/db.service"
    said = UnitLabels({"app": "db"}, "shop")
    workload = find(tree(USER, path), units={"db.service": said})[path]
    assert workload.labels == {"systemd.io/unit": "db.service", "systemd.io/slice": "app.slice"}
    assert not workload.trusted and not workload.trusted_labels
    assert workload.namespace == "default"


def container(owner: int = 0, identity: str = ID, **labels: str) -> Container:
    addresses = (ip_address("2001:db8::1"), ip_address("10.88.0.2"))
    return Container(identity, "web", Provider.PODMAN, owner, "", labels, addresses, ("02::1",))


def test_a_container_is_found_by_its_id_and_is_its_unit_too() -> None:
    cgroups = tree(
        "machine.slice", POD, f"{POD}/container", f"machine.slice/libpod-conmon-{ID}.scope"
    )
    found = find(cgroups, container(app="web"))
    assert found[POD].name == "web"
    assert found[POD].labels["app"] == "web"
    assert found[POD].labels["systemd.io/slice"] == "machine.slice"
    assert found[POD].addresses == (ip_address("10.88.0.2"), ip_address("2001:db8::1"))
    assert found[POD].trusted
    assert f"{POD}/container" not in found
    assert "app" not in found[f"machine.slice/libpod-conmon-{ID}.scope"].labels


@pytest.mark.parametrize(
    "path", [f"docker/{ID}", f"system.slice/docker-{ID}.scope", f"libpod_parent/libpod-{ID}"]
)
def test_every_engines_naming_is_known(path: str) -> None:
    assert find(tree(path), container(app="web"))[path].labels["app"] == "web"


def test_a_rootless_engine_speaks_of_its_users_cgroups_only_and_is_not_believed() -> None:
    own = f"{USER}/user.slice/libpod-{ID}.scope"
    cgroups = tree(own, f"machine.slice/libpod-{OTHER_ID}.scope")
    theirs = container(1000, OTHER_ID, app="lie")
    found = find(cgroups, container(1000, app="web"), theirs)
    assert found[own].labels["app"] == "web"
    assert found[own].trusted_labels == {} and found[own].addresses == ()
    assert "app" not in found[f"machine.slice/libpod-{OTHER_ID}.scope"].labels
    assert "app" not in find(cgroups, container(1001, app="web"))[own].labels


def test_nobody_takes_a_root_containers_place() -> None:
    fake = f"{USER}/user.slice/libpod-{ID}.scope"
    inner = f"machine.slice/libpod-{OTHER_ID}.scope/libpod-{ID}.scope"
    cgroups = tree(fake, f"machine.slice/libpod-{OTHER_ID}.scope", inner)
    found = find(cgroups, container(app="web"))
    assert "app" not in found[fake].labels and inner not in found


SHOP = """
namespaces:
  shop: {team: retail}
workloads:
  - name: db
    namespace: shop
    labels: {app: db, tier: back}
    cgroups: [system.slice/db-*.service, /custom]
    addresses: [10.0.0.9]
  - {name: second, labels: {app: other, more: "1"}, cgroups: custom}
""".replace("cgroups: custom", "cgroups: [custom]")


def test_static_files_come_first_and_add_up() -> None:
    cgroups = tree("custom", "custom/x", "system.slice/db-1.service", "system.slice/a/db-1.service")
    units = {"db-1.service": UnitLabels({"app": "unit", "u": "1"}, "elsewhere")}
    found = find(cgroups, units=units, file=SHOP)
    assert found["custom"].labels == {"app": "db", "tier": "back", "more": "1"}
    assert found["custom"].name == "db" and found["custom"].provider is Provider.STATIC
    assert found["custom"].namespace_labels == {"team": "retail", NAMESPACE_LABEL: "shop"}
    labels = found["system.slice/db-1.service"].labels
    assert (labels["app"], labels["u"]) == ("db", "1")
    assert found["system.slice/db-1.service"].namespace == "shop"
    assert found["custom"].addresses == (ip_address("10.0.0.9"),)
    assert "custom/x" not in found and "system.slice/a/db-1.service" not in found


def test_static_labels_of_a_place_that_a_user_could_make_are_not_believed() -> None:
    path = f"{USER}/db"
    text = f"workloads: [{{name: db, labels: {{app: db}}, cgroups: ['{path}']}}]"
    workload = find(tree(path), file=text)[path]
    assert workload.labels == {"app": "db"} and workload.trusted_labels == {}
    assert workload.namespace == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workloads: [{name: a}]", "w.yaml:1:13 workloads[0].cgroups is required"),
        (
            "workloads:\n  - name: A b\n    cgroups: [x]",
            '2:11 workloads[0].name "A b" is no name',
        ),
        ("workloads:\n- {name: a, cgroup: [x]}", "2:13 workloads[0].cgroup unknown field"),
        ("workloads:\n- {name: a, cgroups: [../x]}", "2:23 workloads[0].cgroups[0]"),
        ("workloads:\n- {name: a, cgroups: [x], labels: {a b: c}}", "labels"),
        ("namespaces:\n  Shop: {}", '2:3 namespaces.Shop "Shop" is no name space'),
        ("namespaces:\n  shop: {team: 1}", "2:16 namespaces.shop.team must be text"),
        ("workloads:\n- {name: a, cgroups: [x], addresses: [nope]}", "addresses[0]"),
        ("a: [", "w.yaml:1:5 a value is missing here"),
        ("[1]", "a mapping"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(text: str, said: str) -> None:
    documents, problems = parse_workload_file("w.yaml", text.encode())
    assert documents == []
    assert said in "\n".join(map(str, problems))


def test_a_file_that_goes_bad_leaves_what_it_said(tmp_path: Path) -> None:
    files = StaticFiles(tmp_path / "workloads.d")
    assert files.read() == [] and files.problems == ()
    files.folder.mkdir()
    place = files.folder / "a.yaml"
    place.write_text("workloads: [{name: a, cgroups: [x]}]")
    (files.folder / "b.yml").write_text("workloads: [{name: b, cgroups: [z]}]")
    good = files.read()
    assert [entry.name for file in good for entry in file.workloads] == ["a", "b"]
    place.write_text("workloads: [{name: a, cgroups: [x]}, {}]")
    assert files.read() == good
    assert len(files.problems) == 2 and "a.yaml:1:38" in files.problems[0]
    place.unlink()
    assert files.read() == good[1:] and files.problems == ()


def put(root: Path, place: str, text: str) -> Path:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def labels_below(root: Path, unit: str) -> UnitLabels:
    return unit_labels(unit, tuple(root / place.relative_to("/") for place in SEARCH_PATH))


def test_a_units_fragment_and_drop_ins_add_up_in_systemds_order(tmp_path: Path) -> None:
    section = "[Service]\nLabels=no=no\n[X-Fos1]\n"
    put(tmp_path, "usr/lib/systemd/system/db.service", f"{section}Labels=app=db tier=x\n")
    put(tmp_path, "etc/systemd/system/db.service.d/10-a.conf", f"{section}Labels=tier='y'\n")
    put(tmp_path, "run/systemd/system/db.service.d/10-a.conf", f"{section}Labels=hidden=1\n")
    put(tmp_path, "run/systemd/system/service.d/20.conf", f"{section}Labels=all=1 \\\n# so\n b=2\n")
    put(tmp_path, "etc/systemd/system/db.service.d/30.conf", f"{section}Namespace=shop\n")
    said = labels_below(tmp_path, "db.service")
    assert said.labels == {"app": "db", "tier": "y", "all": "1", "b": "2"}
    assert said.namespace == "shop"
    put(tmp_path, "etc/systemd/system/db.service", f"{section}Labels=app=mine\n")
    assert labels_below(tmp_path, "db.service").labels["app"] == "mine"
    put(tmp_path, "etc/systemd/system/db.service.d/40.conf", f"{section}Labels=\nLabels=z=1\n")
    assert labels_below(tmp_path, "db.service").labels == {"z": "1"}


def test_instances_slices_with_dashes_and_specifiers(tmp_path: Path) -> None:
    text = "[X-Fos1]\nLabels=app=%p instance=%i\n"
    put(tmp_path, "etc/systemd/system/shop-web@.service", text)
    put(tmp_path, "etc/systemd/system/shop-.service.d/a.conf", "[X-Fos1]\nLabels=of=%j\n")
    said = labels_below(tmp_path, "shop-web@7.service")
    assert said.labels == {"app": "shop-web", "instance": "7", "of": "web"}
    names = [
        path.name for path in unit_files("shop-web@7.service", (tmp_path / "etc/systemd/system",))
    ]
    assert names == ["shop-web@.service", "a.conf"]


def test_what_is_wrong_in_a_unit_is_told_with_its_place_and_the_rest_counts(tmp_path: Path) -> None:
    text = '[Unit]\n[X-Fos1]\nLabels=app\nLabel=a=b\nLabels=b=c\nLabels=x=%t\nLabels="q\n'
    place = put(tmp_path, "etc/systemd/system/a.service", text)
    said = labels_below(tmp_path, "a.service")
    assert said.labels == {"b": "c"}
    assert said.problems[0] == f"{place}:3: [X-Fos1] `app` is no label; write key=value"
    assert [problem.split(":")[1] for problem in said.problems] == ["3", "4", "6", "7"]


def test_labels_must_be_labels() -> None:
    with pytest.raises(ValueError, match="label"):
        parse_labels("app=a/b", "x.service")


def test_containers_are_remembered(tmp_path: Path) -> None:
    file = tmp_path / "containers.json"
    assert recall(file) == ()
    remember(file, [container(app="web")])
    assert recall(file) == (container(app="web"),)
    file.write_text("[{}]")
    assert recall(file) == ()


def test_an_empty_file_says_nothing() -> None:
    assert parse_workload_file("w.yaml", b"") == ([], [])
    assert parse_workload_file("w.yaml", b"workloads: []")[0] == [WorkloadFile()]
