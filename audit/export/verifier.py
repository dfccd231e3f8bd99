"""Checks a signed decision log from its files alone. One file, Python 3.8 or later, nothing to install.

    python3 -I -S verify.py [FOLDER] [--key KEY] [--policy FILE] [--head FILE]... [--receipt FILE]... [--entry FILE]

FOLDER is an auditor's bundle or the log's published tiles; without it, where this file lies. What is checked:

(1) the checkpoint is signed by the log: give the key you were given with --key, else the one in log.vkey is taken;
(2) each entry is in its bundle and hashes to its hash in the level-0 tile;
(3) each hash of a higher tile is that of the tile below, and the whole leads to the root that the checkpoint signs;
(4) no other file is there, and the files beside the tiles have the digests that SHA256SUMS names;
(5) every head kept elsewhere (--head), in the bundle or in a --receipt is signed and is a root of the same tree: without an
    older head from elsewhere, history that was rewritten by whoever holds the log's key can't be told;
(6) a key that signed a checkpoint was in force at its size, where entries say when a key was introduced or retired, or the
    file given with --key does, as `bedside audit keys list` prints it;
(7) witnesses cosigned as the policy asks, and each time stamp is over a checkpoint of this log;
(8) each --receipt holds under the log's key.

Exit status: 0 all of it holds, 1 something doesn't (the first bad index is named where it is an entry's), 2 usage, 3 the
log was rolled back or forked (both heads are printed).

Formats: RFC 6962 section 2.1, and of C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-tiles, tlog-proof, tlog-policy.
Signatures are Ed25519, checked below after RFC 8032 section 5.1: so nothing has to be installed, or trusted but this file and
Python, at some 2 ms a signature; only public keys are handled, so timing gives nothing away. As in OpenSSL and Go the
equation is the one without cofactor, S must be below the group's order, and R is compared byte for byte. Time stamps
(RFC 3161) are signed in other ways: README.txt says how OpenSSL checks them.

It is longer than a module should be, because it has to be one file. It imports nothing of the software whose log it checks.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

VALID, INVALID, USAGE, ROLLBACK_OR_FORK = 0, 1, 2, 3
MAX_NUMBER, MAX_FILE_BYTES = 2**63 - 1, 1 << 26
EMPTY_ROOT = hashlib.sha256().digest()


class Invalid(Exception):  # noqa: N818 - a verdict, not a failure
    """The first thing that doesn't hold."""

    def __init__(self, part: str, reason: str, index: int | None = None) -> None:
        place = part if index is None else f"first bad index {index}, {part}"
        super().__init__(f"invalid: {place}: {reason}")


class Contradiction(Exception):  # noqa: N818
    """Two heads of the log that can't both be."""

    def __init__(self, what: str, known: bytes, found: bytes) -> None:
        heads = [note.decode("utf-8", "backslashreplace") for note in (known, found)]
        super().__init__(f"the log {what}\nknown head:\n{heads[0]}\nfound head:\n{heads[1]}")


# Ed25519: RFC 8032 section 5.1

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
BASE_Y = 46316835694926478169428394003475163141307993866256225615783033603165251855960


class Point(NamedTuple):
    """Extended homogeneous coordinates: x = X/Z, y = Y/Z, x y = T/Z."""

    x: int
    y: int
    z: int
    t: int


def add_points(one: Point, other: Point) -> Point:
    """The sum, also of a point and itself (section 5.1.4)."""
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return Point(e * f % P, g * h % P, f * g % P, e * h % P)


def decode_point(data: bytes) -> Point | None:
    """The point, or None where it isn't one; as OpenSSL and Go do, y beyond P and -0 are taken (else section 5.1.3)."""
    number = int.from_bytes(data, "little")
    y, sign = number % 2**255 % P, number >> 255
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * v**3 * pow(u * v**7, (P - 5) // 8, P) % P
    if v * x * x % P != u:
        x = x * pow(2, (P - 1) // 4, P) % P
    if v * x * x % P != u:
        return None
    x = (P - x) % P if x & 1 != sign else x
    return Point(x, y, 1, x * y % P)


def is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether [S]B - [k]A is the point that R says (section 5.1.7)."""
    point, scalar = decode_point(public_key), int.from_bytes(signature[32:], "little")
    if len(public_key) != 32 or len(signature) != 64 or point is None or scalar >= L:
        return False
    factor = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % L
    base, minus = Point(BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P), Point(P - point.x, point.y, 1, P - point.t)
    terms = (Point(0, 1, 1, 0), base, minus, add_points(base, minus))
    total = terms[0]
    for bit in range(252, -1, -1):
        total = add_points(total, total)
        which = (scalar >> bit & 1) + 2 * (factor >> bit & 1)
        total = add_points(total, terms[which]) if which else total
    inverse = pow(total.z, P - 2, P)
    x, y = total.x * inverse % P, total.y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


# Signed notes and checkpoints: C2SP signed-note, tlog-checkpoint, tlog-cosignature

ROTATION = b'{"_t":"keyrotate/v1",'
LOG_KEY, WITNESS_KEY = KINDS = 1, 4  # Ed25519, and Ed25519 cosignature/v1 whose signatures begin with the time


class Key(NamedTuple):
    """A verifier key, and the first and last tree size it signs as far as the file of keys says."""

    name: str
    key_id: bytes
    kind: int
    public: bytes
    first: int = 0
    last: int = MAX_NUMBER


class Head(NamedTuple):
    """An opened checkpoint; `signed` has who signed: public key to name and time."""

    origin: str
    size: int
    root: bytes
    signed: dict[bytes, tuple[str, int]]
    note: bytes


def decode_text(data: bytes, part: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid(part, "expected UTF-8") from None


def decode_base64(text: str, part: str) -> bytes:
    """The bytes, of the one spelling they have."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(part, "expected base64") from None
    if base64.b64encode(data).decode() != text:
        raise Invalid(part, "expected canonical base64")
    return data


def decode_number(text: str, part: str) -> int:
    if not re.match(r"(?:0|[1-9][0-9]{0,18})\Z", text, re.ASCII) or int(text) > MAX_NUMBER:
        raise Invalid(part, "expected a decimal number below 2^63")
    return int(text)


def check_name(name: str, part: str) -> str:
    if "+" in name or name.split() != [name]:
        raise Invalid(part, "expected a key name without space or plus")
    return name


def read_key(text: str, part: str) -> Key:
    """The verifier key in name+id+base64(kind || public key), also of a kind that isn't known here."""
    name, key_id, encoded = [*text.split("+", 2), "", ""][:3]
    data = decode_base64(encoded, part)
    if len(data) < 2 or (data[0] in KINDS and len(data) != 33):
        raise Invalid(part, "expected a verifier key")
    found = hashlib.sha256(check_name(name, part).encode() + b"\n" + data).digest()[:4]
    if found.hex() != key_id:
        raise Invalid(part, "the key id isn't the key's")
    return Key(name, found, data[0], data[1:])


def parse_key(text: str, part: str) -> Key:
    key = read_key(text, part)
    if key.kind not in KINDS:
        raise Invalid(part, "expected an Ed25519 verifier key")
    return key


def parse_keys(data: bytes, part: str) -> list[Key]:
    """The keys in a file of keys alone; those of a kind that isn't known here are passed over, as their signatures are."""
    text = decode_text(data, part)
    keys = [read_key(line, part) for line in text.split("\n")[:-1]]
    known = [key for key in keys if key.kind in KINDS]
    if not known or len(set(keys)) != len(keys) or not text.endswith("\n"):
        raise Invalid(part, "expected a verifier key a line, each once")
    return known


def parse_key_list(data: bytes, part: str) -> list[Key]:
    """The keys in a file of the user's: keys alone, or as `bedside audit keys list` prints them, with the sizes they sign."""
    keys = []
    for line in decode_text(data, part).split("\n"):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) not in (1, 3):
            raise Invalid(part, "expected a key a line, or a key and the first and the last tree size it signs")
        first, last = [*words[1:], "0", "-"][:2]
        until = MAX_NUMBER if last == "-" else decode_number(last, part)
        keys.append(read_key(words[0], part)._replace(first=decode_number(first, part), last=until))
    known = [key for key in keys if key.kind in KINDS]
    if not known or len({key.public for key in keys}) != len(keys):
        raise Invalid(part, "expected verifier keys, each once")
    return known


def parse_note(data: bytes, part: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text and the signatures: name, key id, what follows it."""
    whole = decode_text(data, part)
    head, separator, tail = whole.rpartition("\n\n")
    if any(letter < " " and letter != "\n" for letter in whole) or not separator or not tail.endswith("\n"):
        raise Invalid(part, "expected text, empty line, signature lines")
    signatures = []
    for line in tail[:-1].split("\n"):
        dash, name, encoded = [*line.split(" ", 2), "", ""][:3]
        value = decode_base64(encoded, part)
        if dash != "\u2014" or len(value) <= 4:
            raise Invalid(part, "expected a signature line")
        signatures.append((check_name(name, part), value[:4], value[4:]))
    if len(signatures) > 100:
        raise Invalid(part, "expected at most 100 signatures")
    return head + "\n", signatures


def open_checkpoint(data: bytes, log_keys: list[Key], witnesses: list[Key], part: str) -> Head:
    """The checkpoint that the log signed; lines of other keys than these are skipped, a wrong line of one of them fails."""
    text, signatures = parse_note(data, part)
    known = {(key.name, key.key_id): key for key in [*log_keys, *witnesses]}
    signed: dict[bytes, tuple[str, int]] = {}
    for name, key_id, value in signatures:
        key = known.get((name, key_id))
        if key is None:
            continue
        when, message = 0, text.encode()
        if key.kind == WITNESS_KEY:
            when, value = int.from_bytes(value[:8], "big"), value[8:]
            message = b"cosignature/v1\ntime %d\n%s" % (when, message)
        if not is_signed(key.public, value, message):
            raise Invalid(part, f"the signature of {name} doesn't verify")
        signed[key.public] = (name, max(when, signed.get(key.public, (name, 0))[1]))
    if not any(key.public in signed for key in log_keys):
        raise Invalid(part, "no signature of a trusted key")
    origin, *rest = text[:-1].split("\n")
    if not origin or len(rest) < 2 or "" in rest:
        raise Invalid(part, "expected origin, size and root")
    size, root = decode_number(rest[0], part), decode_base64(rest[1], part)
    if len(root) != 32 or (size == 0 and root != EMPTY_ROOT):
        raise Invalid(part, "expected the root hash of a tree")
    return Head(origin, size, root, signed, data)


# Policies: C2SP tlog-policy


class Policy:
    """The log's keys, and which witnesses have to cosign; a group is a name, how many, of which names."""

    def __init__(self) -> None:
        self.logs: list[Key] = []
        self.witnesses: dict[str, Key] = {}
        self.groups: list[tuple[str, int, list[str]]] = []
        self.quorum = ""
        self.grouped: set[str] = set()

    def is_met(self, signed: dict[bytes, tuple[str, int]]) -> bool:
        """Whether those who signed are the quorum."""
        met = {"none"} | {name for name, key in self.witnesses.items() if key.public in signed}
        for name, count, members in self.groups:
            met |= {name} if len(met.intersection(members)) >= count else set()
        return self.quorum in met

    def names(self) -> set[str]:
        return {*self.witnesses, *(name for name, _, _ in self.groups)}

    def add(self, kind: str, words: list[str], part: str) -> bool:
        """Takes one line; False where it is out of form."""
        if kind == "log" and len(words) in (1, 2):
            self.logs += [key for key in [read_key(words[0], part)] if key.kind in KINDS]
        elif kind == "witness" and len(words) in (2, 3) and words[0] not in self.names() | {"none"}:
            self.witnesses[words[0]] = parse_key(words[1], part)
        elif kind == "group" and len(words) > 2 and words[0] not in self.names() | {"none"}:
            return self.add_group(words[0], words[1], words[2:], part)
        elif kind == "quorum" and len(words) == 1 and not self.quorum and words[0] in self.names() | {"none"}:
            self.quorum = words[0]
        else:
            return False
        return True

    def add_group(self, name: str, threshold: str, members: list[str], part: str) -> bool:
        count = {"any": 1, "all": len(members)}.get(threshold) or decode_number(threshold, part)
        self.groups.append((name, count, members))
        new = self.names() - {name} - self.grouped
        self.grouped.update(members)
        return new.issuperset(members) and len(set(members)) == len(members) and 1 <= count <= len(members)


def parse_policy(data: bytes, part: str) -> Policy:
    text, policy = decode_text(data, part), Policy()
    if not text.endswith("\n") or any(letter < " " and letter not in "\t\n" for letter in text):
        raise Invalid(part, "expected lines of text")
    for line in text.split("\n"):
        kind, *words = re.split("[ \t]+", line.strip(" \t"))
        if kind and not kind.startswith("#") and not policy.add(kind, words, part):
            raise Invalid(
                part, f"expected log, witness, group or one quorum, each name new, of names before; got: {line}"
            )
    for keys, wanted in ((policy.logs, LOG_KEY), (list(policy.witnesses.values()), WITNESS_KEY)):
        if any(key.kind != wanted for key in keys) or len({key.public for key in keys}) != len(keys):
            raise Invalid(part, "expected each key once, and of its line's type")
    if not policy.quorum:
        raise Invalid(part, "expected a quorum line")
    return policy


# Files and tiles: RFC 6962 section 2.1, C2SP tlog-tiles

TILE_NAME = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?\Z", re.ASCII
)


class Folder:
    """The files below a folder; a bundle is one with a list of them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.is_bundle = os.path.isfile(self.where("SHA256SUMS"))

    def where(self, name: str) -> str:
        return os.path.join(self.path, *name.split("/"))

    def read(self, name: str, index: int | None = None, limit: int = MAX_FILE_BYTES) -> bytes:
        try:
            with open(self.where(name), "rb", opener=open_at_once) as file:
                if not os.path.isfile(file.fileno()):
                    raise Invalid(name, "expected a plain file", index)
                data = file.read(limit + 1)
        except FileNotFoundError:
            raise Invalid(name, "missing", index) from None
        except OSError as exc:
            raise Invalid(name, f"can't be read, {exc.strerror}", index) from None
        if len(data) > limit:
            raise Invalid(name, f"expected at most {limit} bytes", index)
        return data

    def names(self) -> Iterator[str]:
        for path, folders, files in os.walk(self.path):
            for name in [*files, *(one for one in folders if os.path.islink(os.path.join(path, one)))]:
                whole = os.path.join(path, name)
                relative = os.path.relpath(whole, self.path).replace(os.sep, "/")
                if os.path.islink(whole) or not os.path.isfile(whole):
                    raise Invalid(relative, "expected a plain file")
                yield relative

    def files_of(self, name: str) -> list[str]:
        """The files of one of a bundle's folders."""
        there = self.is_bundle and os.path.isdir(self.where(name))
        return [f"{name}/{one}" for one in sorted(os.listdir(self.where(name)))] if there else []


def open_at_once(path: str, flags: int) -> int:
    """Opens without waiting, as a pipe that nobody writes to would have it; Windows has no such files."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def tile_path(level: int | str, number: int, width: int) -> str:
    digits = str(number).zfill(-(-len(str(number)) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "".join(f"x{group}/" for group in groups[:-1]) + groups[-1]
    return f"tile/{level}/{path}" + (f".p/{width}" if width < 256 else "")


class Walk:
    """Builds the tree over the level-0 tiles again, from the first to the last, and compares all else with it."""

    def __init__(self, folder: Folder, size: int, stops: set[int], held: range) -> None:
        self.folder, self.size, self.stops, self.held = folder, size, stops, held
        self.peaks: list[bytes] = []
        self.count = self.entries = 0
        self.rotations: list[tuple[int, bytes]] = []
        self.pending: dict[int, list[bytes]] = {level: [] for level in range(1, 8)}
        self.roots = {0: EMPTY_ROOT}

    def run(self) -> bytes:
        """The root of all."""
        for number in range(-(-self.size // 256)):
            data = self.read_hashes(0, number, min(256, self.size - number * 256))
            hashes = [data[at : at + 32] for at in range(0, len(data), 32)]
            if number in self.held:
                self.check_entries(number, hashes)
            for leaf in hashes:
                self.grow(leaf)
        for level, rest in self.pending.items():
            if rest:
                self.check_tile(level)
        return self.root()

    def read_hashes(self, level: int, number: int, width: int) -> bytes:
        name, first = tile_path(level, number, width), number * 256 << 8 * level
        data = self.folder.read(name, first, width * 32)
        if len(data) != width * 32:
            raise Invalid(
                name, f"expected {width} hashes, got {len(data)} bytes", first + (len(data) // 32 << 8 * level)
            )
        self.check_older(level, number, width, lambda older: data[: 32 * older])
        return data

    def check_entries(self, number: int, hashes: list[bytes]) -> None:
        name, first = tile_path("entries", number, len(hashes)), number * 256
        data, ends = self.folder.read(name, first, 65537 * len(hashes)), [0]
        for index, expected in enumerate(hashes, first):
            start = ends[-1] + 2
            end = start + int.from_bytes(data[start - 2 : start], "big")
            if start > len(data) or end > len(data):
                raise Invalid("entry", f"{name} ends early", index)
            if hashlib.sha256(b"\x00" + data[start:end]).digest() != expected:
                raise Invalid("entry", "the bytes don't hash to the published leaf hash", index)
            if data.startswith(ROTATION, start, end):
                self.rotations.append((index, data[start:end]))
            ends.append(end)
        if ends[-1] != len(data):
            raise Invalid(name, f"expected {ends[-1]} bytes, got {len(data)}", first + len(hashes) - 1)
        self.check_older("entries", number, len(hashes), lambda older: data[: ends[older]])
        self.entries += len(hashes)

    def check_older(self, level: int | str, number: int, width: int, beginning: Callable[[int], bytes]) -> None:
        """Compares the partial tiles of smaller sizes, which are the beginnings of this one."""
        for older in range(1, width if os.path.isdir(self.folder.where(tile_path(level, number, 256) + ".p")) else 1):
            path = tile_path(level, number, older)
            if os.path.lexists(self.folder.where(path)) and self.folder.read(path) != beginning(older):
                raise Invalid(path, "not the beginning of the larger tile")

    def grow(self, leaf: bytes) -> None:
        node, level, remaining = leaf, 0, self.count
        while remaining & 1:
            node, level, remaining = node_hash(self.peaks.pop(), node), level + 1, remaining >> 1
            if level % 8 == 0:
                self.pending[level // 8].append(node)
        self.peaks.append(node)
        self.count += 1
        if self.count in self.stops:
            self.roots[self.count] = self.root()
        for higher in range(1, level // 8 + 1):
            if len(self.pending[higher]) == 256:
                self.check_tile(higher)

    def check_tile(self, level: int) -> None:
        expected, self.pending[level] = self.pending[level], []
        number = ((self.count >> 8 * level) - len(expected)) // 256
        data = self.read_hashes(level, number, len(expected))
        for offset, value in enumerate(expected):
            if data[32 * offset : 32 * offset + 32] != value:
                first = (number * 256 + offset) << 8 * level
                raise Invalid(tile_path(level, number, len(expected)), "not the hashes of the tiles below", first)

    def root(self) -> bytes:
        folded = self.peaks[-1] if self.peaks else EMPTY_ROOT
        for left in reversed(self.peaks[:-1]):
            folded = node_hash(left, folded)
        return folded


def check_names(folder: Folder, size: int, held: range) -> None:
    """Each file is one of the tree's, or one that the list names, with its digest."""
    sums = dict.fromkeys(["checkpoint", "log.vkey"], "")
    if folder.is_bundle:
        text = decode_text(folder.read("SHA256SUMS"), "SHA256SUMS")
        sums = {line[66:]: line[:64] for line in text.split("\n")[:-1]}
        if "".join(f"{digest}  {name}\n" for name, digest in sums.items()) != text or "" in sums.values():
            raise Invalid("SHA256SUMS", "expected lines of digest and name, each name once")
    for name in folder.names():
        if name.startswith("tile/"):
            check_tile_name(name, size, held)
        elif name in sums:
            digest = sums.pop(name)
            if digest and hashlib.sha256(folder.read(name)).hexdigest() != digest:
                raise Invalid(name, "not the file that SHA256SUMS names")
        elif name != "SHA256SUMS" or not folder.is_bundle:
            raise Invalid(name, "not a file of this log")
    if folder.is_bundle and sums:
        raise Invalid(min(sums), "missing")


def check_tile_name(name: str, size: int, held: range) -> None:
    match = TILE_NAME.match(name)
    if match is None:
        raise Invalid(name, "not a file of this log")
    level, number, width = match[1], int(re.sub("[x/]", "", match[2])), int(match[3] or 256)
    have = size if level == "entries" else size >> 8 * int(level)
    if width > 256 or tile_path(level, number, width) != name or number * 256 + width > have:
        raise Invalid(name, f"not a tile of a tree of {size} entries")
    if level == "entries" and number not in held:
        raise Invalid(name, "outside of the entries that this bundle holds")


def held_bundles(folder: Folder, size: int) -> range:
    """Which bundles of 256 entries are there: all, or those that a bundle's file `range` says."""
    if not folder.is_bundle or not os.path.lexists(folder.where("range")):
        return range(-(-size // 256))
    words = decode_text(folder.read("range"), "range").split("\n")
    numbers = [decode_number(word, "range") for word in words[:-1]]
    if words[-1] or len(numbers) != 2 or not numbers[0] <= numbers[1] < size:
        raise Invalid("range", f"expected the first and the last index, of a tree of {size}")
    return range(numbers[0] // 256, numbers[1] // 256 + 1)


# Receipts: C2SP tlog-proof


def check_receipt(data: bytes, log_keys: list[Key], entry: bytes | None, part: str) -> tuple[int, Head]:
    """The index that the receipt proves, and the checkpoint it proves it under."""
    top, separator, note = data.partition(b"\n\n")
    header, *lines = decode_text(top, part).split("\n")
    if header != "c2sp.org/tlog-proof@v1" or not separator:
        raise Invalid(part, "expected a c2sp.org/tlog-proof@v1")
    extra = decode_base64(lines.pop(0)[6:], part) if lines and lines[0].startswith("extra ") else None
    if not lines or not lines[0].startswith("index "):
        raise Invalid(part, "expected an index line")
    index, path = decode_number(lines[0][6:], part), [decode_base64(line, part) for line in lines[1:]]
    head = open_checkpoint(note, log_keys, [], part)
    check_in_force(head, log_keys, [], part)
    known = [hashlib.sha256(b"\x00" + entry).digest()] if entry is not None else []
    if extra is not None:  # the leaf hash, or the entry itself
        known.append(extra if len(extra) == 32 else hashlib.sha256(b"\x00" + extra).digest())
    if not known or known[0] != known[-1]:
        raise Invalid(
            part, "give the entry that it is about with --entry" if not known else "it is about another entry"
        )
    if inclusion_root(known[0], index, head.size, path, part) != head.root:
        raise Invalid(part, "it doesn't lead to the root of its checkpoint")
    return index, head


def inclusion_root(leaf: bytes, index: int, size: int, path: list[bytes], part: str) -> bytes:
    """The root that the path leads to (RFC 9162 section 2.1.3.2)."""
    position, last, folded = index, size - 1, leaf
    if any(len(value) != 32 for value in (leaf, *path)):
        raise Invalid(part, "expected hashes of 32 bytes")
    for sibling in path:
        if last <= 0:
            raise Invalid(part, "the path is too long")
        if position & 1 or position == last:
            folded = node_hash(sibling, folded)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            folded = node_hash(folded, sibling)
        position, last = position >> 1, last >> 1
    if not index < size or last != 0:
        raise Invalid(part, "the path is too short, or the tree has no such entry")
    return folded


# All of it, in order


def choose_keys(folder: Folder, given: str | None, policy: Policy | None) -> tuple[list[Key], str]:
    """The log's keys, and where they are from."""
    if given is not None:
        if "+" in given and not os.path.lexists(given):
            return [parse_key(given, "--key")], "--key"
        return parse_key_list(read_file(given), given), given
    if policy is not None and policy.logs:
        return policy.logs, "--policy"
    return parse_keys(folder.read("log.vkey"), "log.vkey"), "log.vkey here: compare it with one from elsewhere"


def key_change(index: int, entry: bytes) -> tuple[str, bytes]:
    """What a keyrotate/v1 entry says of which public key: introduce, retire, or else nothing about a kind known here."""
    try:
        said = json.loads(entry)
        signing = said["purpose"] == "signing" and said["vkey"] is not None
        key = read_key(said["vkey"], "entry") if signing else None
        return (said["action"], key.public) if key is not None and key.kind == LOG_KEY else ("", b"")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Invalid("entry", "not a key rotation", index) from None


def check_in_force(head: Head, keys: list[Key], rotations: list[tuple[int, bytes]], part: str) -> None:
    """A key introduced at index i signs trees of i+1 entries and more, one retired there none of them."""
    first: dict[bytes, int] = {}
    last: dict[bytes, int] = {}
    for index, entry in rotations:
        action, public = key_change(index, entry)
        if action == "introduce":
            first.setdefault(public, index + 1)
        elif action == "retire":
            last.setdefault(public, index)
    for key in keys:
        begin, end = max(key.first, first.get(key.public, 0)), min(key.last, last.get(key.public, MAX_NUMBER))
        if key.public in head.signed and begin <= head.size <= end:
            return
    raise Invalid(part, f"signed only by keys that the log says aren't in force at size {head.size}")


def check_folder(folder: Folder, keys: list[Key], policy: Policy, heads: Iterable[tuple[str, bytes]]) -> list[str]:
    """What to print of a log that holds."""
    witnesses = list(policy.witnesses.values())
    newest = open_checkpoint(folder.read("checkpoint"), keys, witnesses, "checkpoint")  # (1)
    if os.path.lexists(folder.where("log.vkey")) or folder.is_bundle:
        parse_keys(folder.read("log.vkey"), "log.vkey")
    stamped = [name for name in folder.files_of("timestamps") if name.endswith(".checkpoint")]
    own = [(name, folder.read(name)) for name in [*folder.files_of("heads"), *stamped]]
    named = [*heads, *own]
    opened = [open_checkpoint(note, keys, witnesses, part) for part, note in named]
    walk = Walk(folder, newest.size, {head.size for head in opened}, held_bundles(folder, newest.size))
    root = walk.run()  # (2) (3)
    if root != newest.root:
        first = max([head.size for head in opened if walk.roots.get(head.size) == head.root], default=0)
        raise Invalid("entry", f"entries {first} to {newest.size - 1} don't lead to the root of the checkpoint", first)
    check_names(folder, newest.size, walk.held)  # (4)
    for (part, _), head in zip(named, opened):  # (5)  # noqa: B905 - `strict` came with Python 3.10
        if head.origin != newest.origin:
            raise Invalid(part, f"of another log, {head.origin}")
        if head.size > newest.size:
            raise Contradiction("was rolled back", head.note, newest.note)
        if walk.roots[head.size] != head.root:
            raise Contradiction("forked", head.note, newest.note)
        check_in_force(head, keys, walk.rotations, part)
    check_in_force(newest, keys, walk.rotations, "checkpoint")  # (6)
    lines = check_outside(folder, policy, [newest, *opened])  # (7)
    first = walk.held.start * 256 if walk.entries else 0
    lines.insert(0, f"valid: {walk.entries} entries from {first} on, the hashes of {newest.size}, {len(opened)} heads")
    lines += [f"origin {newest.origin}", f"size {newest.size}", f"root {base64.b64encode(newest.root).decode()}"]
    return [*lines, "head:", decode_text(newest.note, "checkpoint")]


def check_outside(folder: Folder, policy: Policy, heads: list[Head]) -> list[str]:
    """What to print of witnesses and time stamps."""
    met = [head for head in heads if policy.is_met(head.signed)]
    if not met:
        raise Invalid("policy", f"no checkpoint has the cosignatures that the quorum {policy.quorum} asks for")
    lines = []
    for key in policy.witnesses.values():
        for head in sorted(heads, key=lambda head: -head.size):
            if key.public in head.signed:
                when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(head.signed[key.public][1], 2**40)))
                lines.append(f"witness {key.name}: size {head.size} at {when}")
                break
    if policy.quorum != "none":
        lines.append(f"quorum {policy.quorum}: met at size {max(head.size for head in met)} of {heads[0].size}")
    for name in folder.files_of("timestamps"):
        if not name.endswith(".checkpoint"):
            note = folder.read("/".join([*name.split("/")[:-1], name.split("/")[-1].split(".")[0] + ".checkpoint"]))
            if hashlib.sha256(note).digest() not in folder.read(name):
                raise Invalid(name, "not over the checkpoint beside it")
            lines.append(f"time stamp {name}: over its checkpoint; openssl ts tells whose and when")
    return lines


def read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_FILE_BYTES)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Checks a signed decision log from its files alone.")
    parser.add_argument("folder", nargs="?", help="bundle or published tiles (default: where this file lies)")
    parser.add_argument("--key", help="the log's verifier key, or a file of them, also as `keys list` prints it")
    parser.add_argument("--policy", help="a policy file of your own (default: the bundle's)")
    parser.add_argument("--head", action="append", default=[], help="a checkpoint kept elsewhere")
    parser.add_argument(
        "--receipt", action="append", default=[], help="a .tlog-proof; alone, only receipts are checked"
    )
    parser.add_argument("--entry", help="the entry that a receipt is about, where it doesn't carry it")
    options = parser.parse_args(arguments)
    folder = Folder(options.folder or os.path.dirname(os.path.abspath(__file__)))
    try:
        given = parse_policy(read_file(options.policy), options.policy) if options.policy else None
        keys, origin = choose_keys(folder, options.key, given)
        print("\n".join(f"key {key.name}+{key.key_id.hex()} from {origin}" for key in keys))
        entry = read_file(options.entry) if options.entry else None
        lines, heads = [], [(path, read_file(path)) for path in options.head]
        for path in options.receipt:  # (8)
            index, head = check_receipt(read_file(path), keys, entry, path)
            lines.append(f"valid: {path} proves entry {index} of {head.size} in {head.origin}\n")
            heads.append((path, head.note))  # the tree below has to be the one it was given for
        if options.folder or not options.receipt:
            text = folder.read("policy") if folder.is_bundle else b"quorum none\n"
            lines.append("\n".join(check_folder(folder, keys, given or parse_policy(text, "policy"), heads)))
        print("".join(lines), end="")
    except Invalid as exc:
        print(exc, file=sys.stderr)
        return INVALID
    except Contradiction as exc:
        print(exc, file=sys.stderr)
        return ROLLBACK_OR_FORK
    except OSError as exc:
        print(f"{exc.filename}: {exc.strerror}", file=sys.stderr)
        return USAGE
    return VALID


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
