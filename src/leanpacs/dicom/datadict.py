"""The data dictionary (PS3.6), as pydicom has it.

pydicom is imported at the first question: it is large, and processes that only take in and give back never ask.
"""

from __future__ import annotations


def is_known(tag: int) -> bool:
    """Whether a tag is in the data dictionary."""
    from pydicom.datadict import dictionary_has_tag

    return dictionary_has_tag(tag)


def keyword_of(tag: int) -> str:
    """Keyword of a tag; '' when it has none."""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag)


def tag_of(keyword: str) -> int | None:
    """Tag of a keyword; None when there is no such keyword."""
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(keyword)


def vr_of(tag: int, creator: str = "") -> str:
    """VR of a tag, of a private one by its creator; 'UN' when it is in no dictionary."""
    from pydicom.datadict import dictionary_VR, private_dictionary_VR
    from pydicom.tag import BaseTag

    try:
        return private_dictionary_VR(BaseTag(tag), creator) if tag >> 16 & 1 else dictionary_VR(tag)
    except KeyError:
        return "UN"


def name_of_uid(uid: str) -> str:
    """Name of a UID in PS3.6 annex A; '' when it is not there."""
    from pydicom.uid import UID

    name: str = UID(uid, validation_mode=0).name
    return "" if name == uid else name
