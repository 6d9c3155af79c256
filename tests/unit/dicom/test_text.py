"""Text by Specific Character Set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, encode_string

from leanpacs.dicom.text import NAME_DELIMITERS, UNDECLARED, decode, decode_ascii, encode, encodings

_SINGLE_BYTE = {
    "ISO_IR 100": "Äneas ß ÿ",
    "ISO_IR 101": "Łódź Čapek",
    "ISO_IR 109": "Ħaż-Żebbuġ",
    "ISO_IR 110": "Ģirts Šņ",
    "ISO_IR 126": "Διονυσιος",
    "ISO_IR 127": "قباني",
    "ISO_IR 138": "שרון",
    "ISO_IR 144": "Жуков Фёдор",
    "ISO_IR 148": "Çavuşoğlu",
    "ISO_IR 166": "นามสกุล",
    "ISO_IR 13": "ﾔﾏﾀﾞ^ﾀﾛｳ",
}
_WHOLE = {"ISO_IR 192": "Buc^Jérôme=王^小東", "GB18030": "王^小东 \\x", "GBK": "王^小东"}


@pytest.mark.parametrize(("term", "value"), [*_SINGLE_BYTE.items(), *_WHOLE.items()])
def test_a_single_character_set(term: str, value: str) -> None:
    encoded = value.encode(convert_encodings(term)[0])
    assert decode(encoded, encodings(term.encode())) == value


@pytest.mark.parametrize("term", [term for term in _SINGLE_BYTE if term != "ISO_IR 13"])
def test_code_extension_to_a_single_byte_set(term: str) -> None:
    value = "ascii " + _SINGLE_BYTE[term]
    terms = ["", term.replace("ISO_IR", "ISO 2022 IR")]
    encoded = encode_string(value, convert_encodings(terms))
    assert b"\x1b" in encoded or term == "ISO_IR 100"
    assert decode(encoded, encodings("\\".join(terms).encode())) == value


# PS3.5 H.3.1, H.3.2, I.2, K.2
_EXTENDED = [
    (
        b"\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        b"ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
    ),
    (
        b"\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (
        b"\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
]


@pytest.mark.parametrize(("terms", "encoded", "value"), _EXTENDED)
def test_code_extension_to_multi_byte_sets(terms: bytes, encoded: bytes, value: str) -> None:
    assert decode(encoded, encodings(terms), delimiters=NAME_DELIMITERS) == value


@pytest.mark.parametrize("term", [b"ISO_IR 100", b"ISO IR 100 ", b"iso-ir-100", b"ISO_IR_100", b"ISO 2022 IR 100"])
def test_misspelt_terms(term: bytes) -> None:
    assert encodings(term) == ("latin_1",)


def test_terms_that_cannot_be_combined() -> None:
    assert encodings(b"ISO_IR 192\\ISO 2022 IR 87") == encodings(b"ISO_IR 192")
    assert encodings(b"ISO 2022 IR 100\\GB18030") == ("latin_1",)
    assert encodings(b"\\ISO_IR 192") == encodings(b"ISO_IR 192")


@pytest.mark.parametrize("value", ["Jérôme", "王"])
def test_undeclared_utf_8_and_latin_1(value: str) -> None:
    assert decode(value.encode()) == value
    assert decode("Jérôme".encode("latin_1")) == "Jérôme"
    assert decode_ascii(value.encode()) == value


def test_what_the_set_does_not_define_is_replaced() -> None:
    assert decode(b"Jer\xf4me", encodings(b"ISO_IR 192")) == "Jer\ufffdme"


@given(
    st.lists(
        st.sampled_from([b"ISO_IR 100", b"ISO 2022 IR 87", b"ISO 2022 IR 149", b"ISO 2022 IR 58", b"GB18030", b"?"]),
        max_size=3,
    ),
    st.lists(st.one_of(st.binary(max_size=6), st.sampled_from([b"\x1b", b"\x1b$B", b"\x1b$)C", b"\x1b-A", b"^"]))),
)
def test_any_bytes_decode_to_text_that_can_be_encoded(terms: list[bytes], parts: list[bytes]) -> None:
    value = b"".join(parts)
    for declared in (encodings(b"\\".join(terms)), UNDECLARED):
        decode(value, declared, delimiters=NAME_DELIMITERS).encode("utf-8")
    decode_ascii(value).encode("utf-8")


@pytest.mark.parametrize(("terms", "encoded", "value"), [case for case in _EXTENDED if "\r" not in case[2]])
def test_encoding_with_code_extensions(terms: bytes, encoded: bytes, value: str) -> None:
    assert encode(value, encodings(terms), delimiters=NAME_DELIMITERS) == encoded


@pytest.mark.parametrize(("term", "value"), [*_SINGLE_BYTE.items(), *_WHOLE.items()])
def test_encoding_in_a_single_character_set(term: str, value: str) -> None:
    declared = encodings(term.encode())
    assert decode(encode(value, declared), declared) == value


@pytest.mark.parametrize(
    ("terms", "value"),
    [
        (b"ISO_IR 13", "山田"),  # JIS X 0201 has no kanji, though Shift JIS, which holds it, does
        (b"ISO_IR 144", "山田"),
        (b"\\ISO 2022 IR 87", "Müller"),
        (b"\\ISO 2022 IR 87", "山田^Müller"),
        (b"\\ISO 2022 IR 149", "\U0001f600"),
    ],
)
def test_what_the_sets_do_not_have_is_not_encoded(terms: bytes, value: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        encode(value, encodings(terms), delimiters=NAME_DELIMITERS)
