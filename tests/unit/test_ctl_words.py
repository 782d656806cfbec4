"""The words of the command line, and that they are the words of the kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from fos1d.cli.client import DEFAULT_RUNTIME, collection, find_socket
from fos1d.cli.exits import Exit, Stop
from fos1d.cli.terminal import aligned, count, fields
from fos1d.cli.words import KINDS, kind_of, one_target, seconds_of, targets_of
from fos1d.kinds import KINDS as REAL_KINDS
from fos1d.report.short import short
from fos1d.report.times import age, age_since, rfc3339, unix_s


def test_the_kinds_are_those_that_there_are() -> None:
    known = [(kind.name, kind.plural, kind.short, kind.singular) for kind in KINDS]
    assert known == [(kind.name, kind.plural, kind.short, kind.singular) for kind in REAL_KINDS]


@pytest.mark.parametrize("word", ["EBPFMap", "ebpfmap", "ebpfmaps", "EBPFMAPS", "EbpfMap"])
def test_a_kind_in_any_case(word: str) -> None:
    assert kind_of(word).name == "EBPFMap"
    assert kind_of("ebpf").name == "EBPFProgram"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("ebpf", [("EBPFProgram", ())]),
        ("ebpf a b", [("EBPFProgram", ("a", "b"))]),
        ("ebpf/a enat/b", [("EBPFProgram", ("a",)), ("EBPFNATPolicy", ("b",))]),
        ("enpol,etcl", [("EBPFNetworkPolicy", ()), ("EBPFTrafficControl", ())]),
        ("all", [(kind.name, ()) for kind in KINDS]),
        ("ALL", [(kind.name, ()) for kind in KINDS]),
    ],
)
def test_targets(words: str, found: list[tuple[str, tuple[str, ...]]]) -> None:
    assert [(target.kind.name, target.names) for target in targets_of(words.split())] == found


@pytest.mark.parametrize("words", ["", "ebpf/a/b", "/a", "ebpf/ ", "all a", "ebpf/a b"])
def test_targets_that_are_none(words: str) -> None:
    with pytest.raises(Stop) as caught:
        targets_of(words.split())
    assert caught.value.code is Exit.USAGE


@pytest.mark.parametrize("words", [[], ["ebpf"], ["ebpf", "a", "b"], ["all"], ["ebpf,etcl"]])
def test_one_target_is_one(words: list[str]) -> None:
    with pytest.raises(Stop, match="name one resource: KIND/NAME"):
        one_target(words)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("500ms", 0.5), ("2d", 172800), ("0.5h", 1800), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "60", "s", "1 h", "-1s", "1h30", "1w", "1e3s"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(Stop, match="must be a time with a unit"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (12000, "3h20m"),
        (28800, "8h"),
        (172799, "47h"),
        (172800, "2d"),
        (273600, "3d4h"),
        (691200, "8d"),
        (63072000, "2y"),
        (71712000, "2y100d"),
    ],
)
def test_ages_are_rounded_as_kubectl_does(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_times() -> None:
    assert rfc3339(0.0) is None
    assert rfc3339(float("inf")) is None
    assert rfc3339(1_767_225_600.9) == "2026-01-01T00:00:00Z"
    assert unix_s("2026-01-01T00:00:00Z") == 1_767_225_600
    assert age_since("2026-01-01T00:00:00Z", 1_767_225_607) == "7s"
    assert age_since(None, 0) == "-"


def test_short_revisions() -> None:
    assert short("1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d") == "1a2b3c4d5e6f"
    assert short("directory@5f3ab0c9d8e7f6") == "directory@5f3ab0c9d8e7"
    assert short("") == ""


def test_where_the_socket_is(tmp_path: Path) -> None:
    config = tmp_path / "fos1d.toml"
    config.write_text('[paths]\nruntime = "/run/lab"\n')
    environment = {"FOS1_SOCKET": "/s", "FOS1_CONFIG": str(config)}
    assert find_socket("/named", environment) == Path("/named")
    assert find_socket(None, environment) == Path("/s")
    assert find_socket(None, {"FOS1_CONFIG": str(config)}) == Path("/run/lab/api.sock")
    for odd in ("", "paths = 1", "[paths]\nruntime = 1", "[", "\xff"):
        config.write_text(odd, encoding="latin-1")
        found = find_socket(None, {"FOS1_CONFIG": str(config)})
        assert found == Path(DEFAULT_RUNTIME) / "api.sock"


def test_paths_are_quoted() -> None:
    path = collection("ebpfmaps", "a/b", "c d?")
    assert path == "/apis/networking.fos1.io/v1alpha1/namespaces/a%2Fb/ebpfmaps/c%20d%3F"
    assert collection("ebpfmaps", None) == "/apis/networking.fos1.io/v1alpha1/ebpfmaps"


def test_tables_are_aligned() -> None:
    assert aligned([("a", "bb"), ("ccc", "")], ("X", "Y")) == ["X     Y", "a     bb", "ccc"]
    assert aligned([], ("X",)) == []
    assert fields([("A", 1), ("Long", "x")]) == ["A:     1", "Long:  x"]
    assert (count(1, "file"), count(2, "file")) == ("1 file", "2 files")
