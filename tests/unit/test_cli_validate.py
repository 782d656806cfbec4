"""`fos1ctl validate` and `fos1ctl schema`: what they print, and where, and how they end."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pytest

from fos1d.cli import schema, validate
from fos1d.cli.collect import Unusable, collect
from fos1d.cli.progress import ProgressBar
from fos1d.kinds import KINDS
from tests.manifests import manifest

XDP = "type: xdp\ninterface: eth0\n"
GOOD = manifest("EBPFProgram", XDP, "good")
BAD = manifest("EBPFProgram", "type: xpd\ninterface: eth0\n", "bad")
LISTED = manifest(
    "EBPFProgram", XDP + "settings: {blacklist: {enabled: true, files: [lists/a, ./b]}}"
)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder and stand in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str = "") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def ctl(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="fos1ctl")
    subparsers = parser.add_subparsers(required=True)
    validate.register(subparsers)
    schema.register(subparsers)
    args = parser.parse_args(words)
    code: int = args.func(args)
    return code


def test_valid(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("policy/a.yaml", GOOD)
    assert ctl("validate", "-f", "policy") == 0
    assert capsys.readouterr() == ("", "1 file, 1 resource: valid\n")


def test_invalid(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("policy/b.yaml", BAD)
    write("policy/a.yml", "apiVersion: [\n")
    assert ctl("validate", "-f", "policy/b.yaml", "policy/a.yml") == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "policy/a.yml:2:1 a value is missing here",
        'policy/b.yaml:6:9 spec.type "xpd" is not allowed; did you mean "xdp"? allowed: xdp,'
        " tc-ingress, tc-egress, sockops, cgroup",
    ]
    assert err == "2 files, 1 resource: 2 errors\n"


def test_json(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("b.yaml", GOOD + "---\n" + BAD)
    assert ctl("validate", "-f", "b.yaml", "-o", "json") == 3
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)
    (finding,) = told.pop("findings")
    assert told == {"valid": False, "files": 1, "resources": 2}
    message = finding.pop("message")
    assert message.startswith('"xpd" is not allowed; did you mean "xdp"?')
    assert finding == {
        "file": "b.yaml",
        "line": 14,
        "column": 9,
        "path": "spec.type",
        "severity": "error",
        "resource": "EBPFProgram/default/bad",
    }


def test_several_paths_and_options(tree: Path) -> None:
    write("a/a.yaml", GOOD)
    write("b/b.yaml", GOOD.replace("good", "other"))
    write("c.yaml", GOOD.replace("good", "third"))
    assert ctl("validate", "-f", "a", "b", "-f", "c.yaml") == 0
    assert ctl("validate", "-f", "a", "-f", "a") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-f", "missing"], "fos1ctl: missing: no such file or folder\n"),
        (["-f", "a.txt"], "fos1ctl: a.txt: the name of a manifest file ends in .yaml or .yml\n"),
        (["-f", "a.yaml", "--root", "b"], "fos1ctl: a.yaml: not below the root of the source"),
    ],
)
def test_usage(tree: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    write("a.txt", "x")
    write("a.yaml", GOOD)
    Path("b").mkdir()
    assert ctl("validate", *words) == 2
    assert capsys.readouterr().err.startswith(said)


def test_paths_are_required(tree: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        ctl("validate")
    assert ended.value.code == 2


def test_hidden_files_and_links_are_left_alone(tree: Path) -> None:
    write("policy/a.yaml", GOOD)
    write("policy/.git/b.yaml", BAD)
    write("policy/.b.yaml", BAD)
    write("policy/a.yaml~", BAD)
    write("elsewhere/b.yaml", BAD)
    Path("policy/link.yaml").symlink_to(tree / "elsewhere/b.yaml")
    Path("policy/folder").symlink_to(tree / "elsewhere")
    assert [blob.path for blob in collect([Path("policy")]).snapshot.manifests()] == ["a.yaml"]
    assert ctl("validate", "-f", "policy") == 0


def test_references_of_single_files(tree: Path) -> None:
    write("lists/a", "192.0.2.1\n")
    write("policy/b", "192.0.2.2\n")
    write("policy/p.yaml", LISTED)
    assert ctl("validate", "-f", "policy/p.yaml") == 0
    assert ctl("validate", "-f", "policy") == 3
    assert ctl("validate", "-f", "policy", "--root", ".") == 3
    assert ctl("validate", "-f", ".") == 0


def test_the_root_is_the_repository(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("repo/.git/HEAD")
    write("repo/lists/a", "192.0.2.1\n")
    write("repo/policy/b", "192.0.2.2\n")
    write("repo/policy/p.yaml", LISTED)
    monkeypatch.chdir("repo/policy")
    assert ctl("validate", "-f", "p.yaml") == 0


def test_places_in_messages_are_as_given(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("policy/a.yaml", GOOD)
    write("policy/b.yaml", GOOD)
    assert ctl("validate", "-f", str(tree / "policy")) == 3
    assert capsys.readouterr().out == (
        f"{tree}/policy/b.yaml:4:9 metadata.name EBPFProgram/default/good is declared at"
        f" {tree}/policy/a.yaml:1:1 already; rename one\n"
    )


def test_an_unusable_root(tree: Path) -> None:
    with pytest.raises(Unusable):
        collect([write("a.yaml", GOOD)], Path("elsewhere"))


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("fos1d.cli.progress.PERIOD_S", 0.0)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        bar = ProgressBar("manifests", stream)
        bar(5, 10)
        bar.clear()
    assert terminal.getvalue() == f"\r[{'#' * 15}{'.' * 15}] 5/10 manifests\x1b[K\r\x1b[K"
    assert pipe.getvalue() == ""
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    ProgressBar("manifests", plain)(5, 10)
    assert plain.getvalue() == ""


@pytest.mark.parametrize("output", [(), ("-o", "json")])
def test_schema_of_one_kind(capsys: pytest.CaptureFixture[str], output: tuple[str, ...]) -> None:
    assert ctl("schema", "enat", *output) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert told["title"] == "EBPFNATPolicy"
    assert told["properties"]["kind"]["const"] == "EBPFNATPolicy"
    spec = told["$defs"]["NatPolicySpec"]
    assert spec["additionalProperties"] is False
    assert sorted(spec["required"]) == ["interface", "type"]
    assert spec["properties"]["type"]["enum"][0] == "snat"
    assert all("description" in field or "$ref" in field for field in spec["properties"].values())
    assert told["$defs"]["Timeouts"]["properties"]["udp"]["default"] == "300s"


def test_schema_of_all_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl("schema") == 0
    told = json.loads(capsys.readouterr().out)
    names = [choice["$ref"].rsplit("/", 1)[1] for choice in told["oneOf"]]
    assert names == [kind.name for kind in KINDS]
    assert '"default": null' not in json.dumps(told)


def test_schema_of_no_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl("schema", "ebpfmpa") == 2
    assert capsys.readouterr() == (
        "",
        'fos1ctl: there is no kind "ebpfmpa"; did you mean "ebpfmap"?\n',
    )
