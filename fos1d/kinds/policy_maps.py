"""Maps that the policies' programs share, and that live longer than any rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fos1d import abi
from fos1d.kinds.lowered import Context
from fos1d.kinds.program_lower import flow_maps, map_of_shape
from fos1d.model.objects import BuiltIn, Map
from fos1d.model.pins import SHARED_POLICY, state_family

OF_TRANSLATIONS = "nat_"


def lasting_maps(
    codes: Iterable[BuiltIn], context: Context, apart: Collection[str]
) -> dict[str, Map]:
    """Return the maps of some programs by their names, but for those that are kept `apart`."""
    shapes = {name: shape for code in codes for name, shape in abi.MAPS[code.object].items()}
    shared = flow_maps(context) | dict(context.translating.maps)
    return {
        name: shared.get(name) or _own(name, shape)
        for name, shape in shapes.items()
        if name not in apart
    }


def _own(name: str, shape: abi.MapShape) -> Map:
    """Return a map of the policies'. Where nothing is translated, an empty one has to do."""
    most = 1 if name.startswith(OF_TRANSLATIONS) else None
    return map_of_shape(state_family(SHARED_POLICY, name), name, shape, most)
