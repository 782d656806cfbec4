"""EBPFMap -> Map, Entries, PinAlias."""

from __future__ import annotations

from fos1d.kinds.lowered import Lowered
from fos1d.kinds.map import EBPFMap
from fos1d.model.objects import WITHOUT_ENTRIES, Entries, Map, MapType, PinAlias
from fos1d.model.pins import map_family

PERF_EVENT_BYTES = 4


def map_object(resource: EBPFMap) -> Map:
    """Return the map that a resource asks for."""
    spec = resource.spec
    fixed = PERF_EVENT_BYTES if spec.type == "perf_event_array" else 0
    return Map(
        map_family(resource.id),
        MapType[spec.type.upper()],
        spec.key_size or fixed,
        spec.value_size or fixed,
        spec.effective_max_entries(),
        spec.kernel_flags,
        resource.metadata.name,
    )


def lower_map(resource: EBPFMap, lowered: Lowered) -> None:
    """Add the objects of an EBPFMap."""
    wanted = map_object(resource)
    lowered.add(resource.id, wanted)
    if wanted.type not in WITHOUT_ENTRIES and (resource.spec.init_data or resource.spec.exclusive):
        lowered.add(resource.id, _entries(resource, wanted))
    if resource.spec.pin_path is not None:
        lowered.add(resource.id, PinAlias(str(resource.spec.pin_path), wanted.path))


def _entries(resource: EBPFMap, wanted: Map) -> Entries:
    records = sorted((record.key, record.value) for record in resource.spec.records)
    packed = b"".join(key + value for key, value in records)
    return Entries(
        wanted.path, wanted.key_bytes, wanted.value_bytes, packed, resource.spec.exclusive
    )
