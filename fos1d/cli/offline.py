"""`fos1ctl diff` without a daemon: the same look at the kernel, made here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fos1d.cli.collect import collect
from fos1d.equipment import kernel_of, options_of
from fos1d.inquiry import plan_view
from fos1d.reconcile import Memory
from fos1d.report.desk import PlanView
from fos1d.settings import Settings
from fos1d.source.lastgood import LastGood
from fos1d.source.open import open_source, read_once


def plan_offline(paths: Sequence[Path] | None, settings: Settings) -> PlanView:
    """Plan the files at the given paths, or the source as it is; nothing is changed.

    Raises SourceError and KernelError as a pass does.
    """
    snapshot = read_once(open_source(settings)) if paths is None else collect(list(paths)).snapshot
    memory = Memory(in_force=LastGood(settings.paths.state).load())
    kernel = kernel_of(settings)
    try:
        return plan_view(snapshot, memory, kernel, options_of(settings))
    finally:
        kernel.close()
