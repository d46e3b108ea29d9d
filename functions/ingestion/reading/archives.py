"""ZIP containers, looked through before anything else opens them: what they say of themselves, and what they unpack to."""

import io
import itertools
import struct
import zlib
from dataclasses import dataclass
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from functions.ingestion.reading.limits import MEBIBYTE, Limits, Refusal

RATIO_FREE_BYTES = 10 * MEBIBYTE
"""What unpacks to no more harms nobody, however well it is packed."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, length of the name, length of the extra field (APPNOTE.TXT, section 4.3.7)."""
ENCRYPTED = 0x1
CHUNK = 64 * 1024
UNPACKABLE = "The document is damaged: a file inside cannot be unpacked."


@dataclass(frozen=True)
class Archive:
    """A ZIP file within the limits."""

    names: frozenset[str]
    file: ZipFile

    def read(self, name: str, most: int = MEBIBYTE) -> bytes:
        """Return the start of a member, empty where there is none of that name."""
        if name not in self.names:
            return b""
        with self.file.open(name) as member:
            return member.read(most)


def open_archive(original: bytes, limits: Limits) -> Archive:
    """Return the container, each member of which has been unpacked once and forgotten.

    Raises Refusal `damaged_document`, `encrypted_document`, `archive_bomb`.
    """
    try:
        file = ZipFile(io.BytesIO(original))
    except (BadZipFile, ValueError, NotImplementedError, EOFError, struct.error) as error:
        raise Refusal("damaged_document", "The document is cut off or damaged: it is no whole ZIP file.") from error
    members = file.infolist()
    if len(members) > limits.members:
        raise Refusal("archive_bomb", f"The document contains more than {limits.members} files.")
    if any(member.flag_bits & ENCRYPTED for member in members):
        raise Refusal("encrypted_document", "The document is protected by a password: save it without.")
    most = min(limits.expanded_bytes, max(RATIO_FREE_BYTES, limits.expansion_ratio * len(original)))
    if sum(member.file_size for member in members) > most:
        raise _bomb(most)
    _check_places(members)
    unpacked = 0
    for member in members:
        size = _unpacked_size(original, member, most - unpacked)
        unpacked += size
        if unpacked > most:
            raise _bomb(most)
        if size > member.file_size:
            raise Refusal("archive_bomb", "The document contains a file that unpacks to more than it says.")
        if size < member.file_size:
            raise Refusal("damaged_document", UNPACKABLE)
    return Archive(frozenset(file.namelist()), file)


def _bomb(most: int) -> Refusal:
    return Refusal("archive_bomb", f"The document unpacks to more than {most // MEBIBYTE} MiB.")


def _check_places(members: list[ZipInfo]) -> None:
    """Raise Refusal where two members share bytes, as in a bomb whose members overlap."""
    places = sorted(members, key=lambda member: member.header_offset)
    for member, following in itertools.pairwise(places):
        if member.header_offset + LOCAL_HEADER.size + member.compress_size > following.header_offset:
            raise Refusal("archive_bomb", "The document contains files that overlap.")


def _unpacked_size(original: bytes, member: ZipInfo, most: int) -> int:
    """Return how long a member truly is, having read no further than just above `most`."""
    header = original[member.header_offset : member.header_offset + LOCAL_HEADER.size]
    if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise Refusal("damaged_document", "The document is damaged: a file inside does not stand where it should.")
    _, name, extra = LOCAL_HEADER.unpack(header)
    start = member.header_offset + LOCAL_HEADER.size + name + extra
    packed = memoryview(original)[start : start + member.compress_size]
    if member.compress_type == ZIP_STORED:
        return len(packed)
    if member.compress_type != ZIP_DEFLATED:
        raise Refusal("damaged_document", "The document is packed in a way that office documents are not.")
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        for at in range(0, len(packed), CHUNK):
            rest = bytes(packed[at : at + CHUNK])
            while rest and not inflate.eof:
                size += len(inflate.decompress(rest, MEBIBYTE))
                rest = inflate.unconsumed_tail
                if size > most:
                    return size
        size += len(inflate.flush())
    except zlib.error as error:
        raise Refusal("damaged_document", UNPACKABLE) from error
    if not inflate.eof:
        raise Refusal("damaged_document", UNPACKABLE)
    return size
