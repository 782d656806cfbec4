"""fos1ctl: options, exit codes, what goes to which stream; the texts are in test_ctl_golden.py."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fos1d.cli import client, ctl
from tests.ctl_router import Router, running_router
from tests.fake_desk import BROKEN, healthy


@pytest.fixture
def live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Router]:
    with running_router(tmp_path, capsys, monkeypatch) as found:
        yield found


# Words and options


@pytest.mark.parametrize(
    "words",
    [
        ("get", "ebpfmap/blacklist-map", "-o", "name"),
        ("get", "ebpfmap", "blacklist-map", "-o", "name"),
        ("get", "EBPFMaps", "blacklist-map", "-o=name"),
        ("get", "-o", "name", "ebpfmap", "-n", "default", "blacklist-map"),
        ("get", "ebpfmap", "-o", "name", "blacklist-map"),
        ("-o", "name", "get", "ebpfmap", "blacklist-map"),
        ("get", "ebpfmap.networking.fos1.io/blacklist-map", "--output", "name"),
        ("get", "-n", "default", "ebpfmaps", "-oname"),
    ],
)
def test_options_stand_anywhere(live: Router, words: tuple[str, ...]) -> None:
    said = live.run(*words)
    assert (said.code, said.out) == (0, "ebpfmap.networking.fos1.io/blacklist-map\n")


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_socket_may_be_named(live: Router, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.delenv("FOS1_SOCKET")
    named = ("--socket", str(live.socket))
    words = (*named, "status") if place == "before" else ("status", *named)
    assert live.run(*words).code == 1


def test_the_settings_say_where_the_socket_is(
    live: Router, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FOS1_SOCKET")
    config = tmp_path / "fos1d.toml"
    config.write_text(f'[paths]\nruntime = "{tmp_path}"\n')
    monkeypatch.setenv("FOS1_CONFIG", str(config))
    monkeypatch.setattr(client, "DEFAULT_RUNTIME", str(tmp_path / "elsewhere"))
    assert live.run("history").code == 0
    config.write_text("[paths\n")
    assert live.run("history").code == 4


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("get",),
        ("get", "nonsense"),
        ("get", "ebpf", "-o", "xml"),
        ("get", "ebpf", "--nonsense"),
        ("get", "ebpf/a", "-A"),
        ("get", "ebpf/a", "-l", "a=b"),
        ("get", "ebpf/"),
        ("get", "ebpf/a", "b"),
        ("get", "ebpf,ebpfmap", "a"),
        ("get", "all", "-w"),
        ("get", "ebpf", "-l", "((("),
        ("status", "nonsense"),
        ("status", "-o", "wide"),
        ("wait", "ebpf/a"),
        ("wait", "--for=condition=Ready", "ebpf"),
        ("wait", "--for=nonsense", "ebpf/a"),
        ("wait", "--for=delete", "ebpf/a", "--timeout", "60"),
        ("suspend", "--for", "soon"),
        ("suspend", "--for", "0s"),
        ("events", "ebpf"),
        ("diff", "-f", "/nonexistent"),
        ("rollback",),
        ("explain", "--in", "eth0"),
        ("explain", "--in", "eth0", "--proto", "tcp", "--src", "192.0.2.1", "--dst", "192.0.2.2"),
        ("schema", "nonsense"),
        ("completion", "tcsh"),
    ],
)
def test_usage_errors(live: Router, words: tuple[str, ...]) -> None:
    said = live.run(*words)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert said.err.startswith("fos1ctl")


def test_help_costs_nothing_and_names_every_command(live: Router) -> None:
    said = live.run("--help")
    assert said.code == 0
    for names in ctl.COMMANDS.values():
        for name, meaning in names.items():
            assert (name in said.out.split()) is bool(meaning)
    assert live.run("--version").out == "fos1ctl 0.1.0\n"


@pytest.mark.parametrize("module", ctl.COMMANDS)
def test_a_module_registers_what_is_said_of_it(module: str) -> None:
    registered = ctl.make_parser(list(ctl.COMMANDS[module]))
    commands = next(a for a in registered._actions if a.dest == "command")
    help_of = {choice.dest: choice.help for choice in getattr(commands, "_choices_actions", [])}
    for name, meaning in ctl.COMMANDS[module].items():
        assert name in (commands.choices or {})
        assert help_of.get(name, "") == meaning


def test_get_imports_little() -> None:
    heavy = "{'pydantic', 'numpy', 'yaml', 'pyroute2', 'git', 'http.client', 'asyncio'}"
    code = (
        "import sys; from fos1d.cli.ctl import run;"
        "run(['--socket', '/nonexistent', 'get', 'ebpf']);"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


# The daemon cannot be reached, or refuses


@pytest.mark.parametrize(
    "words",
    [("get", "ebpf"), ("status",), ("reconcile",), ("history",), ("describe", "ebpf/a")],
)
def test_nobody_there(live: Router, tmp_path: Path, words: tuple[str, ...]) -> None:
    said = live.run("--socket", str(tmp_path / "none.sock"), *words)
    assert (said.code, said.out) == (4, "")
    assert said.err == (
        f"fos1ctl: fos1d cannot be reached at {tmp_path}/none.sock (No such file or directory);"
        " is it running? systemctl status fos1d\n"
    )


def test_a_socket_that_may_not_be_opened(live: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: str) -> None:
        raise PermissionError

    class Guarded(socket.socket):
        connect = refuse  # type: ignore[assignment]

    monkeypatch.setattr("fos1d.cli.client.socket.socket", Guarded)
    said = live.run("get", "ebpf")
    assert said.code == 5
    assert said.err.endswith("api.sock: become root, or a member of group fos1\n")


@pytest.mark.parametrize(
    "words", [("reconcile",), ("suspend",), ("resume",), ("confirm",), ("diff",)]
)
def test_not_permitted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    with running_router(tmp_path, capsys, monkeypatch, lambda peer: False) as router:
        said = router.run(*words)
        assert (said.code, said.out) == (5, "")
        assert "this is for root and members of group fos1" in said.err
        assert router.run("get", "ebpf").code == 0


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
def test_what_answers_is_no_daemon(tmp_path: Path, live: Router, answer: bytes) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "odd.sock"))
    listener.listen()

    def serve() -> None:
        client, _ = listener.accept()
        client.recv(1000)
        client.sendall(answer)
        client.close()

    threading.Thread(target=serve, daemon=True).start()
    said = live.run("--socket", str(tmp_path / "odd.sock"), "status")
    assert said.code == 4
    assert said.err.count("\n") == 1
    listener.close()


def test_a_closed_pipe_is_no_error(live: Router) -> None:
    command = [sys.executable, "-m", "fos1d.cli.ctl", "completion", "bash"]
    done = subprocess.run(
        f"{' '.join(command)} | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


# Output


@pytest.mark.parametrize(
    "words",
    [
        ("get", "all"),
        ("get", "ebpfmap/blacklist-map"),
        ("get", "ebpfmap", "-n", "nowhere"),
        ("describe", "ebpf/edge-filter"),
        ("status",),
        ("diff",),
        ("reconcile",),
        ("reconcile", "--wait"),
        ("suspend",),
        ("resume",),
        ("wait", "--for=condition=ready", "ebpf/edge-filter"),
        ("wait", "--for=condition=Ready", "ebpf/wan-filter", "--timeout", "50ms"),
        ("events",),
        ("history",),
        ("schema", "ebpfmap"),
    ],
)
def test_json_is_all_that_stdout_holds(live: Router, words: tuple[str, ...]) -> None:
    wanted = () if words[0] == "schema" else ("-o", "json")
    assert json.loads(live.run(*words, *wanted).out)


def test_yaml(live: Router) -> None:
    found = yaml.safe_load(live.run("get", "ebpfmap", "-o", "yaml").out)
    assert found["kind"] == "List"
    assert found["items"][0]["status"]["entryCount"] == 5
    alone = yaml.safe_load(live.run("get", "ebpfmap/blacklist-map", "-o", "yaml").out)
    assert alone == found["items"][0]


def test_a_plain_list_asks_the_kernel_for_whole_objects_only(live: Router) -> None:
    live.run("get", "ebpf")
    live.run("get", "ebpf", "-o", "name")
    assert live.desk.asked == []
    live.run("get", "ebpf", "-o", "wide")
    assert len(live.desk.asked) == 2


def test_colours_are_for_terminals(live: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in live.run("status").out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mNot all is well:\x1b[0m" in live.run("status").out
    assert "\x1b[32mTrue\x1b[0m    Active" in live.run("get", "ebpf").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in live.run("status").out


def test_nothing_steers_the_terminal(live: Router) -> None:
    live.desk.publish(replace(live.desk.now, error="\x1b[2Jgone\nand a line"))
    shown = live.run("status").out
    assert "\x1b" not in shown
    assert "Pass error:  \ufffd[2Jgone and a line\n" in shown


def test_status_says_whether_all_is_well(live: Router) -> None:
    assert live.run("status").code == 1
    live.desk.publish(healthy())
    assert live.run("status").code == 0
    live.desk.publish(replace(healthy(), suspended_until_s=float("inf")))
    said = live.run("status")
    assert said.code == 0
    assert "All is well, but nothing would be set right: fos1ctl resume" in said.out
    live.desk.publish(replace(healthy(), error="bpffs is gone"))
    said = live.run("status")
    assert said.code == 1
    assert "the last pass failed: fos1ctl logs" in said.out


def test_status_does_not_flood(live: Router) -> None:
    live.desk.publish(replace(live.desk.now, findings=(BROKEN,) * 50))
    assert "  … and 30 more: fos1ctl status -o json\n" in live.run("status").out
