"""Where the kernel refuses: what exactly is missing, and what can be shown without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from fos1d.errors import Fos1Error
from fos1d.inquiry import plan_view
from fos1d.kernel.loader import object_digests
from fos1d.kernel.simulated import SimulatedKernel
from fos1d.model.facts import Facts, Features, Interface
from fos1d.model.snapshot import Blob, Snapshot
from fos1d.reconcile import Memory, Options
from tests.demo.stage import EXAMPLE, say, scene
from tests.running import ROOT

TOOLS = ("ip", "ping", "git", "nsenter")


def what_is_missing() -> list[str]:
    """Return what keeps the demo from real packets here, one line each with what to do."""
    if os.geteuid() != 0:
        return ["root: run `sudo make demo`"]
    missing = [f"{tool}: install it" for tool in TOOLS if shutil.which(tool) is None]
    return missing or [line for line in (_namespaces(), _programs()) if line]


def _namespaces() -> str:
    done = subprocess.run(
        ["unshare", "--net", "true"], capture_output=True, text=True, timeout=20, check=False
    )
    if done.returncode == 0:
        return ""
    return f"network namespaces ({done.stderr.strip()}): they take CAP_SYS_ADMIN"


def _programs() -> str:
    from fos1d.kernel import bpf
    from fos1d.kernel.bpffs import open_root
    from fos1d.model.objects import Map, MapType

    try:
        with tempfile.TemporaryDirectory() as _:
            open_root(Path("/sys/fs/bpf"))
            bpf.create_map(Map("state/demo", MapType.ARRAY, 4, 4, 1)).close()
    except Fos1Error as error:
        return str(error)
    return ""


def show(missing: list[str]) -> int:
    """Say what is missing, and show validate and diff against an empty simulated kernel."""
    scene("This machine does not let the demo send real packets. Missing:")
    for line in missing:
        say(f"- {line}")
    scene("fos1ctl validate -f examples/edge-router")
    command = [".venv/bin/fos1ctl", "validate", "-f", str(EXAMPLE)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    say(done.stdout + done.stderr)
    scene("What a pass would do, planned against a SIMULATED kernel that holds nothing")
    for line in simulated_plan():
        say(line)
    return 1


def simulated_plan() -> list[str]:
    """Plan the example on a kernel that exists only in memory."""
    paths = [path for path in sorted(EXAMPLE.rglob("*")) if path.is_file()]
    blobs = {str(path.relative_to(EXAMPLE)): _blob(path) for path in paths}
    wan = Interface("wan0", 2)
    facts = Facts({"wan0": wan}, Features(tcx=True), object_digests())
    kernel = SimulatedKernel(machine=facts)
    view = plan_view(Snapshot("example", blobs), Memory(), kernel, Options())
    return [f"+ {action.text}" for action in view.actions]


def _blob(path: Path) -> Blob:
    name = str(path.relative_to(EXAMPLE))
    return Blob(name, name, path.stat().st_size, path.read_bytes)
