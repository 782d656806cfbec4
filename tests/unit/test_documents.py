"""Specs as the API shows them: as they are written, so that they can be read in again."""

from __future__ import annotations

from fos1d.report.documents import Documents
from tests.manifests import declared, manifest

ENTRIES = "{key: 0x0a, value: 7}, {key: 10.0.0.1, value: '0x01'}, {key: 5, value: 0x0000001}"
SPEC = f"{{type: hash, maxEntries: 8, keySize: 4, valueSize: 4, flags: 0x1, initData: [{ENTRIES}]}}"


def test_hex_entries_keep_their_meaning_alone_and_among_others() -> None:
    """0x0a is the bytes 00 00 00 0a, and 10 is a number in the machine's order."""
    alone = declared(manifest("EBPFMap", SPEC, "a"))
    two = declared(manifest("EBPFMap", SPEC, "a"), manifest("EBPFMap", SPEC, "b"))
    documents = Documents()
    for declaration in (*alone, *two, *two):
        spec = documents.spec_of(declaration)
        assert spec["initData"] == [
            {"key": "0x0a", "value": 7},
            {"key": "10.0.0.1", "value": "0x01"},
            {"key": 5, "value": "0x0000001"},
        ]
        assert spec["flags"] == 1
