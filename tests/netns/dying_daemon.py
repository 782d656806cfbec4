"""The daemon, killed by itself after a given number of actions: kill -9 at every place.

dying_daemon.py ACTIONS CONFIG
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from fos1d import daemon
from fos1d.kernel.execute import Executor
from fos1d.plan.actions import Action
from fos1d.settings import load

_left = int(sys.argv[1])
_execute = Executor.execute


def _execute_and_count(self: Executor, action: Action) -> str:
    global _left
    remark = _execute(self, action)
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return remark


Executor.execute = _execute_and_count  # type: ignore[method-assign]
sys.exit(daemon.run(load(Path(sys.argv[2]))))
