"""The YAML loader: what it reads, what it refuses and where, and that nothing makes it crash."""

from __future__ import annotations

import textwrap

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from fos1d.manifest import Hex, did_you_mean, load_documents, suggest
from fos1d.manifest.loader import Document, field_path
from fos1d.manifest.scalars import plain
from fos1d.manifest.syntax import MOST_BYTES, MOST_LEVELS, may_need_events


def one(text: str) -> Document:
    documents, findings = load_documents("a.yaml", textwrap.dedent(text).encode())
    assert [str(finding) for finding in findings] == []
    return documents[0]


def said(text: str | bytes) -> list[str]:
    data = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
    return [str(finding) for finding in load_documents("a.yaml", data)[1]]


def test_plain_data() -> None:
    document = one("""\
        # a comment
        text: plain text
        quoted: "022"
        single: 'yes'
        number: -5
        hex: 0x0A
        flags: [true, false]
        nothing:
        empty: {}
        block: |
          two
          lines
        address: 10.0.0.1
        network: 0x0a0a0a00/24
        time: "12:30:45"
        """)
    assert document.data == {
        "text": "plain text",
        "quoted": "022",
        "single": "yes",
        "number": -5,
        "hex": 10,
        "flags": [True, False],
        "nothing": None,
        "empty": {},
        "block": "two\nlines\n",
        "address": "10.0.0.1",
        "network": "0x0a0a0a00/24",
        "time": "12:30:45",
    }
    number = document.data["hex"]
    assert isinstance(number, Hex)
    assert number.text == "0x0A"


def test_json_is_yaml() -> None:
    assert one('{"a": {"b": [1, "x", null]}}').data == {"a": {"b": [1, "x", None]}}


def test_several_documents_and_empty_ones() -> None:
    documents, findings = load_documents("a.yaml", b"a: 1\n---\n---\n# nothing\n---\nb: 2\n...\n")
    assert not findings
    assert [(d.data, d.index, d.origin.line) for d in documents] == [
        ({"a": 1}, 0, 1),
        ({"b": 2}, 3, 6),
    ]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# only a comment\n", b"---\n---\n", b"\r\n"])
def test_nothing_at_all_is_fine(data: bytes) -> None:
    assert load_documents("a.yaml", data) == ([], [])


def test_positions() -> None:
    document = one("""\
        spec:
          type: xdp
          list:
            - a: 1
            - b: 2
          flow: {x: [1, 2]}
        """)
    where = {
        loc: str(document.where(loc))
        for loc in [
            ("spec", "type"),
            ("spec", "list", 1, "b"),
            ("spec", "list", 1),
            ("spec", "list"),
            ("spec", "flow", "x", 1),
            ("spec", "flow", "x"),
            ("spec", "missing", "deep"),
            ("spec", "list", 7),
            (),
        ]
    }
    assert where == {
        ("spec", "type"): "a.yaml:2:9",
        ("spec", "list", 1, "b"): "a.yaml:5:10",
        ("spec", "list", 1): "a.yaml:5:7",
        ("spec", "list"): "a.yaml:3:3",
        ("spec", "flow", "x", 1): "a.yaml:6:17",
        ("spec", "flow", "x"): "a.yaml:6:13",
        ("spec", "missing", "deep"): "a.yaml:1:1",
        ("spec", "list", 7): "a.yaml:3:3",
        (): "a.yaml:1:1",
    }
    assert str(document.where(("spec", "type"), key=True)) == "a.yaml:2:3"


def test_columns_count_characters() -> None:
    assert said("ä: ü\né: 022\n")[0].startswith("a.yaml:2:4 é".replace(" é", ' ["é"]'))


SURPRISES = """
yes Yes YES no No NO on On ON off Off OFF y Y n N True TRUE False FALSE Null NULL ~ 022 0o22 08
1_000 0b11 0X1F +5 -07 12:30:45 1:20 2024-05-01 2001-12-14t21:59:43.10-05:00 1.5 1e3 .5 12e4567
.inf -.INF .nan = <<
"""
TEXTS = """
a-b eth0 10.0.0.1 10.0.0.0/8 0x0a/24 2001:db8::1 5060-5080 1Gbit 15kb -a- 0x 0xzz nope yesno 1.2.3
v1.0 http://x trueish 1d aa:bb:cc:dd:ee:ff a:b networking.fos1.io/v1alpha1 eth* <x .. /
"""


@pytest.mark.parametrize("word", SURPRISES.split())
def test_surprises_are_refused(word: str) -> None:
    with pytest.raises(ValueError) as caught:
        plain(word)
    assert f'"{word}"' in str(caught.value)
    findings = said(f"key: {word}\n")
    assert len(findings) == 1
    assert findings[0].startswith("a.yaml:1:6 key ")
    assert one(f'key: "{word}"\n').data == {"key": word}


@pytest.mark.parametrize("word", TEXTS.split())
def test_text_stays_text(word: str) -> None:
    assert plain(word) == word


def test_numbers_have_limits() -> None:
    assert plain("18446744073709551615") == 2**64 - 1
    assert plain("0x" + "f" * 1024) == 16**1024 - 1
    for text in ("1" * 21, "0x" + "f" * 1025, "0" * 5000, "1_" * 5000 + "1"):
        with pytest.raises(ValueError):
            plain(text)


def test_all_flaws_of_a_document_are_found() -> None:
    text = """\
        a: 022
        b: {c: yes, c: no}
        a: 3
        5: x
        [1]: y
        <<: {}
        ?
        : z
        """
    assert [finding.split(";")[0] for finding in said(text)] == [
        'a.yaml:1:4 a unquoted "022" is octal (18) to some readers of YAML, decimal to others',
        'a.yaml:2:8 b.c unquoted "yes" is a truth value to some readers of YAML and text to others',
        "a.yaml:2:13 b.c duplicate key",
        "a.yaml:3:1 a duplicate key",
        'a.yaml:4:1 ["5"] a key is text',
        "a.yaml:5:1 a key is text, not a list",
        'a.yaml:6:1 ["<<"] merge keys are not read',
        'a.yaml:7:2 [""] the key before the colon is missing',
    ]


def test_flaws_are_limited() -> None:
    assert len(said("".join(f"k{i}: yes\n" for i in range(500)))) == 100


def test_documents_before_a_syntax_error_are_kept() -> None:
    documents, findings = load_documents("a.yaml", b"a: 1\n---\nb: [\n---\nc: 3\n")
    assert [document.data for document in documents] == [{"a": 1}]
    assert [str(finding) for finding in findings] == ["a.yaml:4:1 a value is missing here"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xef\xbb\xbfa: 1\n", "a.yaml:1:1 the file begins with a byte order mark"),
        ("a: 1\n".encode("utf-16"), "a.yaml:1:1 the file is UTF-16"),
        (b"a: 1\nb: \xff\n", "a.yaml:2:4 byte 0xff is not UTF-8"),
        (b"a: \xed\xa0\x80\n", "a.yaml:1:4 byte 0xed is not UTF-8"),
        (b"a: 1\nb: x\0y\n", "a.yaml:2:5 control character U+0000"),
        (b"a:\n\t- b\n", "a.yaml:2:1 a tab cannot stand here"),
        (b'a: "\\u0007"\n', "a.yaml:1:4 a control character U+0007 in text"),
        (b'a: "\\ud800"\n', "a.yaml:1:7 this escape names no character"),
        (b"a: &x 1\n", "a.yaml:1:4 anchor &x"),
        (b"a: *x\n", "a.yaml:1:4 alias *x"),
        (b"a: !t 1\n", 'a.yaml:1:4 tag "!t"'),
        (b"a: ! 1\n", 'a.yaml:1:4 tag "!"'),
        (b"%TAG ! x\n---\na: 1\n", "a.yaml:1:"),
        (b"%YAML 1.1\n---\na: 1\n", "a.yaml:1:1 directives"),
        (b"- 1\n", "a.yaml:1:1 a manifest is a mapping"),
        (b"text\n", "a.yaml:1:1 a manifest is a mapping"),
        (b"null\n", "a.yaml:1:1 a manifest is a mapping"),
        (b"a" * (MOST_BYTES + 1), f"a.yaml:1:1 the file has {MOST_BYTES + 1} bytes"),
    ],
)
def test_refusals(data: bytes, message: str) -> None:
    assert said(data)[0].startswith(message)


@pytest.mark.parametrize("sign", ["a: &x 1", "- *x", "{a: !t 1}", "[&x 1]", "a: !!str b", "%X"])
def test_refused_features_are_seen(sign: str) -> None:
    assert may_need_events(sign.encode())


@pytest.mark.parametrize("text", ["interface: 'eth*'", "a: b&c", "a: b!", "# & * !", "a: 5%"])
def test_signs_within_text_are_fine(text: str) -> None:
    assert said(f"k: 1\n{text}\n") == []


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 500_000,
        b"{a: " * 200_000,
        b"- " * 400_000,
        b"? " * 400_000,
        b"a:\n" + b"".join(b" " * i + b"a:\n" for i in range(1, 1400)),
        b"- [" * 200_000,
        b"'" * 100_000,
        b"a: b: " * 100_000,
    ],
)
def test_nesting_is_limited(data: bytes) -> None:
    assert said(data)


def test_the_last_allowed_level() -> None:
    for levels in (MOST_LEVELS, MOST_LEVELS + 1):
        inner = "[" * (levels - 1) + "]" * (levels - 1)
        assert bool(said(f"a: {inner}\n")) is (levels > MOST_LEVELS)


MANIFEST = b"apiVersion: v1\nkind: K\nspec:\n  a: [1, {b: c}]\n  d: |\n    text\n"
PIECES = [
    b"[",
    b"{",
    b"]",
    b"}",
    b": ",
    b"- ",
    b"? ",
    b"\n",
    b"\t",
    b"&a ",
    b"*a",
    b"!t ",
    b"---\n",
]


@given(st.binary(max_size=300))
@example(b"\xed\xa0\x80")
@example(b"? !<")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    load_documents("a.yaml", data)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    load_documents("a.yaml", text.encode("utf-8", "surrogatepass"))


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=5)), st.integers(0, len(MANIFEST)))
def test_any_damage_is_read_or_refused(pieces: list[bytes], place: int) -> None:
    data = MANIFEST[:place] + b"".join(pieces) + MANIFEST[place:]
    documents, findings = load_documents("a.yaml", data)
    for document in documents:
        document.where(("spec", "a", 1, "b"))
    for finding in findings:
        assert finding.origin.line >= 1
        assert str(finding)


@given(st.lists(st.sampled_from(PIECES) | st.text("ab\n :,[]{}&*!%-", max_size=8).map(str.encode)))
def test_no_refused_feature_passes_unseen(pieces: list[bytes]) -> None:
    data = b"a: 1\n" + b"".join(pieces)
    if may_need_events(data):
        return
    try:
        for event in yaml.parse(data, Loader=yaml.CSafeLoader):
            assert getattr(event, "anchor", None) is None
            assert getattr(event, "tag", None) is None
    except yaml.YAMLError:
        pass


def test_suggestions() -> None:
    assert suggest("interfac", ["interface", "priority"]) == "interface"
    assert suggest("TCP", ["tcp", "udp"]) == "tcp"
    assert suggest("zzz", ["interface"]) is None
    assert suggest("", ["a"]) is None
    assert suggest("x" * 1000, ["x" * 999]) is None
    assert did_you_mean("xpd", ["xdp"]) == '; did you mean "xdp"?'
    assert did_you_mean("zzz", ["xdp"]) == ""
    many = [f"name-{i}" for i in range(20_000)]
    assert suggest("nmae-777", many) is not None


def test_field_paths() -> None:
    assert field_path(("spec", "filters", 0, "classID")) == "spec.filters[0].classID"
    assert field_path(("metadata", "labels", "a/b")) == 'metadata.labels["a/b"]'
    assert field_path(()) == ""
