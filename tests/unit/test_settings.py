"""The settings file: defaults, types, and what is said of mistakes."""

from __future__ import annotations

import re
import socket
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from fos1d import settings
from fos1d.errors import SettingsError, SourceError
from fos1d.model.failsafe import Direction, FailsafePort, Transport
from fos1d.settings import (
    NeighbourProbe,
    Settings,
    SourceProbe,
    TcpProbe,
    line_of,
    load,
    parse,
    parse_duration,
    parse_failsafe_port,
    parse_probe,
)
from fos1d.source.directory import DirectorySource
from fos1d.source.git import GitSource
from fos1d.source.open import open_source

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def refusal(text: str) -> str:
    with pytest.raises(SettingsError) as error:
        parse(text, "fos1d.toml")
    return str(error.value)


# Reading the file


def test_everything_has_a_default() -> None:
    assert parse("", "x") == Settings()
    assert Settings().node.name == socket.gethostname()
    assert Settings().reconcile.failsafe_ports == (FailsafePort(Direction.IN, Transport.TCP, 22),)


def test_the_example_of_the_reference_holds_the_defaults() -> None:
    example = REFERENCE.read_text().split("```toml\n")[1].split("```")[0]
    found = parse(example, "example")
    assert found.model_copy(update={"node": Settings().node}) == Settings()


def test_every_key() -> None:
    found = parse(
        """
        [node]
        name = "edge-1"
        labels = { site = "fra", role = "edge" }
        [source]
        type = "git"
        path = "/srv/policy.git"
        branch = "site/fra"
        subpath = "edge"
        interval = "2m"
        [paths]
        bpffs = "/sys/fs/bpf/lab"
        cgroup = "/sys/fs/cgroup/unified"
        [reconcile]
        resync = "500ms"
        confirm_timeout = "0s"
        failsafe_ports = ["in:tcp:22", "out:udp:53"]
        prune_limit_percent = 100
        [kernel]
        tc_attach = "clsact"
        max_flows = 1024
        """,
        "x",
    )
    assert found.node.labels == {"site": "fra", "role": "edge"}
    assert found.source.interval == timedelta(minutes=2)
    assert found.paths.cgroup == Path("/sys/fs/cgroup/unified")
    assert found.reconcile.failsafe_ports[1] == FailsafePort(Direction.OUT, Transport.UDP, 53)
    assert (found.kernel.tc_attach, found.kernel.max_flows) == ("clsact", 1024)


def test_the_default_file_may_be_absent_a_named_one_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fos1d.toml"
    monkeypatch.setattr(settings, "DEFAULT_PATH", path)
    assert load() == Settings()
    with pytest.raises(SettingsError, match="no such file"):
        load(path)
    path.write_text('[node]\nname = "x"\n')
    assert load().node.name == load(path).node.name == "x"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "x")


# What is wrong, and where


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[source]\npth = "/x"', '2: source.pth: unknown key; did you mean "path"?'),
        ("\n[sorce]\n", '2: sorce: unknown key; did you mean "source"?'),
        ("zzz = 1", "1: zzz: unknown key (known: kernel, metrics,"),
        ('[source]\ntype = "dir"', "2: source.type: must be 'directory' or 'git'; it is \"dir\""),
        ('[source]\npath = "x"', "2: source.path: must be an absolute path"),
        ("[source]\nbranch = 1", "2: source.branch: must be text, in quotes; it is 1"),
        ('[source]\nbranch = ""', "2: source.branch: must not be empty"),
        ('[source]\ninterval = "60"', "2: source.interval: must be a number with a unit (ms, s, m"),
        ("[source]\ninterval = 60", "2: source.interval: must be a number with a unit (ms, s, m"),
        ('[reconcile]\nresync = "0s"', "2: reconcile.resync: must be 100ms or longer"),
        ('[reconcile]\nresync = "-1s"', "2: reconcile.resync: must be a number with a unit"),
        ('[paths]\ncgroup = "cgroup"', '2: paths.cgroup: must be "auto" or the absolute path'),
        ("[node]\nlabels = { a = 1 }", "2: node.labels.a: must be text, in quotes; it is 1"),
        ('[node]\nlabels = "x"', "2: node.labels: must be a table"),
        ('node = "x"', "1: node: must be a table"),
        (
            '[reconcile]\nfailsafe_ports = ["in:tcp:22",\n "in:sctp:22"]',
            '2: reconcile.failsafe_ports.1: must be in|out:tcp|udp:port, such as "in:tcp:22"',
        ),
        ("[reconcile]\nfailsafe_ports = 22", "2: reconcile.failsafe_ports: must be a list"),
        (
            f"[reconcile]\nfailsafe_ports = {['in:tcp:22'] * 17}",
            "2: reconcile.failsafe_ports: has 17 ports; at most 16 fit",
        ),
        (
            '[reconcile]\nprobes = ["ping"]',
            '2: reconcile.probes.0: must be "source", "neighbour:default"',
        ),
        (
            "[reconcile]\nprune_limit_percent = 101",
            "2: reconcile.prune_limit_percent: must be less than or equal to 100; it is 101",
        ),
        (
            '[reconcile]\nprune_limit_percent = "50"',
            "2: reconcile.prune_limit_percent: must be a whole number, without quotes",
        ),
        ('[metrics]\nlisten = "9477"', '2: metrics.listen: must be "address:port", "unix:/path"'),
        ("[kernel]\nmax_flows = 0", "2: kernel.max_flows: must be greater than or equal to 1"),
        ('[kernel]\ntc_attach = "x"', "2: kernel.tc_attach: must be 'auto', 'tcx' or 'clsact'"),
        ("[source\n", "1:8: Expected ']'"),
        ("[source]\na = 1\na = 2\n", "3:6: Cannot overwrite a value"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    assert refusal(text).startswith(f"fos1d.toml:{message}")


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    said = refusal('[source]\npth = 1\ntype = "x"\n\n[kernel]\nmax_flows = -1\n[node]\nnam = "x"')
    places = [line.split(": ")[0:2] for line in said.splitlines()]
    assert places == [
        ["fos1d.toml:2", "source.pth"],
        ["fos1d.toml:3", "source.type"],
        ["fos1d.toml:6", "kernel.max_flows"],
        ["fos1d.toml:8", "node.nam"],
    ]


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("source", 'url = "https://example.org/policy.git"'),
        ("source", 'url = ["ssh://a/x", "ssh://b/x"]'),
        ("source", 'verify = "ssh"'),
        ("reconcile", 'confirm_timeout = "60s"'),
        ("reconcile", 'probes = ["source"]'),
        ("metrics", 'listen = "127.0.0.1:9477"'),
    ],
)
def test_what_is_not_there_yet_is_refused_and_not_ignored(section: str, line: str) -> None:
    key = line.split(" ")[0]
    said = refusal(f"[{section}]\n{line}")
    assert said == f"fos1d.toml:2: {section}.{key}: is not supported by this version: remove it"


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("a = 1\nb = 2", "b", 2),
        ("# [x]\n[x]\n\ny=1", "x.y", 4),
        ("[x]\ny=1\n[z]\ny=1", "z.y", 4),
        ("x.y = 1", "x.y", 1),
        ('\n["x"]\n"y" = 1', "x.y", 3),
        ("[x]\nlabels = { a = 1 }", "x.labels.a", 2),
        ("[x]", "z", 1),
    ],
)
def test_the_line_of_a_key(text: str, key: str, line: int) -> None:
    assert line_of(text, key) == line


@given(st.text(max_size=200))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    try:
        parse(text, "x")
    except SettingsError as error:
        assert str(error).startswith("x:")


# Values


def test_durations() -> None:
    assert parse_duration("60s") == timedelta(seconds=60)
    assert parse_duration("2h") == timedelta(hours=2)
    assert parse_duration("500ms") == timedelta(milliseconds=500)
    assert parse_duration("1.5m") == timedelta(seconds=90)
    assert parse_duration("0s") == timedelta(0)
    for wrong in ("", "60", "s", "1d", "-1s", " 1s", "1 s", "1e3s", 60, None):
        with pytest.raises(ValueError, match="number with a unit"):
            parse_duration(wrong)


def test_probes() -> None:
    assert parse_probe("source") == SourceProbe()
    assert parse_probe("neighbour:default") == NeighbourProbe(None)
    assert parse_probe("neighbour:fe80::1") == NeighbourProbe(IPv6Address("fe80::1"))
    assert parse_probe("tcp:198.51.100.1:22") == TcpProbe(IPv4Address("198.51.100.1"), 22)
    assert parse_probe("tcp:[2001:db8::1]:22") == TcpProbe(IPv6Address("2001:db8::1"), 22)
    for wrong in ("", "tcp:x:22", "tcp:1.2.3.4:0", "tcp:1.2.3.4:65536", "neighbour:", "udp:x"):
        with pytest.raises(ValueError, match="must be"):
            parse_probe(wrong)


def test_failsafe_ports() -> None:
    assert parse_failsafe_port("out:udp:65535").port == 65535
    for wrong in ("tcp:22", "in:tcp:0", "in:tcp:65536", "in:tcp:ssh", "in:icmp:1", "in:tcp:٢", 22):
        with pytest.raises(ValueError, match="must be in"):
            parse_failsafe_port(wrong)


# The source that they name


def test_the_source_of_the_settings() -> None:
    source = open_source(parse('[source]\npath = "/x"\nsubpath = "a/b"', "x"))
    assert isinstance(source, DirectorySource)
    assert (source.root, source.place) == (Path("/x"), Path("/x/a/b"))
    source = open_source(parse('[source]\ntype = "git"\npath = "/x"\nbranch = "b"', "x"))
    assert isinstance(source, GitSource)
    assert (source.path, source.branch) == (Path("/x"), "b")
    with pytest.raises(SourceError, match="cannot be the name of a branch"):
        open_source(parse('[source]\ntype = "git"\nbranch = "a..b"', "x"))


# The reference


def keys_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Return the dotted keys of all values in a model."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= keys_of(kind, f"{prefix}{name}.")
        else:
            found.add(f"{prefix}{name}")
    return found


def test_the_reference_explains_every_key_and_no_other() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", REFERENCE.read_text(), re.M)
    assert sorted(rows) == sorted(keys_of(Settings))
    assert len(rows) == len(set(rows))


def test_the_reference_names_what_is_not_supported_yet() -> None:
    text = REFERENCE.read_text()
    section = text[text.index("## Not supported yet") :]
    assert set(re.findall(r"^- `([\w.]+)`", section, re.M)) == set(settings._NOT_YET)
