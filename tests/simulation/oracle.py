"""What really happened, told from the writes that the store carried out, and what was promised about it.

The oracle sees each write at the moment it takes effect. It rebuilds every position of every branch from the raw
commits, with code that shares nothing with the engine's views, and holds every acknowledgement against that.
The oracle forgets nothing: a write either extends what was there, or it is maintenance, which may take away only what
nobody can name any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import apsw
import msgspec

from memoturn.manifest import keys
from memoturn.manifest.model import CatalogEntry, Manifest
from memoturn.manifest.segment_name import SegmentName
from memoturn.segments.checksum import CHECKSUM_FLAG, page_checksum
from memoturn.segments.ltx import decode_ltx
from memoturn.segments.pack import PackIndex, parse_pack_tail

from .scheduler import Violation

_manifest = msgspec.json.Decoder(Manifest).decode
_entry = msgspec.json.Decoder(CatalogEntry).decode
READ_TOKENS = "SELECT token FROM t ORDER BY id"


class Image(NamedTuple):
    """The content of one position."""

    pages: dict[int, bytes]
    count: int
    checksum: int
    tokens: tuple[str, ...]


EMPTY_IMAGE = Image({}, 0, CHECKSUM_FLAG, ())


class Line:
    """One incarnation of a branch: its newest manifest, and the content of every txid of its own."""

    def __init__(self, key: str, manifest: Manifest) -> None:
        self.key = key
        self.manifest = manifest
        self.images: dict[int, Image] = {}
        self.token_at: dict[int, str] = {}
        self.contents: set[tuple[str, ...]] = {()}
        self.stretches: dict[int, tuple[str, int]] = {}
        """By the txid at which each began: what it continues, and where. Also those that the manifest has dropped."""
        self.former: Manifest | None = None
        self.ends: list[int] = []
        """When, by the store's clock, a boundary rose or the branch was deleted."""

    def add(self, txid: int, image: Image) -> None:
        self.images[txid] = image
        self.contents.add(image.tokens)


class Written(NamedTuple):
    """One version of a record, by whom, and when."""

    number: int
    record: Any
    label: Any


@dataclass
class Standard:
    """A commit that was acknowledged as being on a machine's disk."""

    token: str
    ref: str
    epoch: int
    txid: int
    machine: str
    disk: int
    node_id: str


@dataclass
class Pin:
    """A position whose content was promised to stay: by a checkpoint, a fork or a rewind."""

    what: str
    incarnation: str
    txid: int
    image: Image = field(repr=False)


class Oracle:
    """All that was written and all that was promised."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, Any]] = {}
        self.lines: dict[str, Line] = {}
        self.versions: dict[str, list[Written]] = {}
        self.number = 0
        self.attempted: dict[str, str] = {}
        """Every token that was ever sent to a database, and the machine it was sent from."""
        self.committed: dict[str, tuple[str, int]] = {}
        self.standard: list[Standard] = []
        self.pins: list[Pin] = []
        self.writers: dict[tuple[str, int], str] = {}
        """Which process has written a branch under an epoch."""
        self.named: dict[str, set[str]] = {}
        """The objects that each manifest in the store names, by the manifest's key."""
        self.removed = 0
        """How many segments were deleted."""
        self.let_go: dict[str, int] = {}
        """When each object was last needed, by the store's clock; what nobody has ever named, when it was put."""
        self.now_ms: Callable[[], int] = lambda: 0
        self.grace_ms = 0
        self.acknowledged = 0

    # Writes, as they take effect.

    def written(self, key: str, body: bytes, before: bytes | None, label: Any) -> None:
        """The object at `key` now holds `body`; it held `before`."""
        self.number += 1
        if "/branches/" in key:
            manifest = _manifest(body)
            old = None if before is None else _manifest(before)
            self._name_objects(key, manifest)
            if "~" in key:
                line = self.lines[manifest.incarnation]
                require(manifest.incarnation in key, f"{key} holds {manifest.incarnation}")
                line.former = manifest
                line.ends.append(self.now_ms())
            else:
                self._manifest_written(key, manifest, old, label)
            self.versions.setdefault(key, []).append(Written(self.number, manifest, label))
        elif key.startswith(keys.CATALOG):
            entry = _entry(body)
            if before is not None:
                was = _entry(before)
                replaced = was.db_uuid != entry.db_uuid
                require(not replaced or was.deleted_at is not None, f"{key}: a living database was replaced")
            self.versions.setdefault(key, []).append(Written(self.number, entry, label))
        else:
            self.let_go[key] = self.now_ms()
            same = before is None or before == body
            require(same, f"{key}: an immutable object was overwritten with other content")

    def deleted(self, key: str, body: bytes, label: Any) -> None:
        """The object at `key`, which held `body`, is gone."""
        self.number += 1
        if key.startswith("db/") and self._is_collected(key.split("/")[1]):
            self.named.pop(key, None)
        elif "/branches/" in key:
            manifest = _manifest(body)
            require(manifest.deleted_at is not None, f"{key}: a manifest was deleted whose branch lives")
            require(not manifest.segments, f"{key}: a manifest was deleted that still names segments")
            del self.named[key]
            self.versions[key].append(Written(self.number, manifest, label))
        elif key.startswith(keys.CATALOG):
            raise Violation(f"{key}: a catalog entry was deleted")
        else:
            holders = [
                holder
                for holder, named in self.named.items()
                if key in named and not self._is_late_copy(_manifest(self.objects[holder][0]), holder)
            ]
            require(not holders, f"{key} was deleted, and {holders} name it")
            if keys.place_of(key).kind == "segment":
                age = self.now_ms() - self.let_go[key]
                require(age >= self.grace_ms, f"{key} was deleted {age} ms after it was last needed")
            self.removed += keys.place_of(key).kind == "segment"

    def is_dead(self, manifest_key: str) -> bool:
        """Whether a branch is gone with its database, or with its manifest."""
        if manifest_key not in self.objects:
            return True
        entries = [
            versions[-1].record
            for key, versions in self.versions.items()
            if key.startswith(keys.CATALOG) and versions[-1].record.db_uuid == manifest_key.split("/")[1]
        ]
        return not any(entry.deleted_at is None for entry in entries)

    def is_half_made(self, manifest: Manifest) -> bool:
        """Whether a fork was written by a process that died before it had looked again, and so told nobody of it.

        What it stands on may have been removed meanwhile. Nothing can have been written on it then.
        """
        parent = manifest.parent
        told = any(pin.incarnation == manifest.incarnation for pin in self.pins)
        return parent is not None and not told and manifest.head_txid == parent.fork_txid

    def may_be_linked(self, key: str) -> bool:
        """Whether it is a pack that the owner of a branch may still add to its head."""
        place = keys.place_of(key)
        line = self.lines.get(place.incarnation)
        if line is None or place.kind != "segment" or line.manifest.deleted_at is not None:
            return False
        name = SegmentName.parse(place.name)
        m = line.manifest
        return name.level == 0 and name.epoch >= m.epoch and name.min_txid == m.head_txid + 1

    def _is_collected(self, db_uuid: str) -> bool:
        """Whether a database is dead for good: its catalog entry says so, or names another one by now."""
        entries = [
            versions
            for key, versions in self.versions.items()
            if key.startswith(keys.CATALOG) and any(v.record.db_uuid == db_uuid for v in versions)
        ]
        return all(v[-1].record.db_uuid != db_uuid or v[-1].record.collected for v in entries)

    def _name_objects(self, key: str, manifest: Manifest) -> None:
        """A manifest that is published never names an object that is not there."""
        db_uuid = key.split("/")[1]
        named = {
            keys.segment_key(db_uuid, manifest.incarnation, each)
            for name in map(SegmentName.parse, manifest.segments)
            for each in name.objects
        }
        for new in named - self.named.get(key, set()):
            there = new in self.objects or self._is_late_copy(manifest, key)
            require(there, f"{key} seq {manifest.seq} names {new}, which is not there")
        for old in self.named.get(key, set()) - named:
            self.let_go[old] = self._needed_until(old, manifest)
        self.named[key] = named

    def _needed_until(self, key: str, manifest: Manifest) -> int:
        """Until when an object can have been needed that this manifest is the first not to name.

        Until now, if it was replaced; else a boundary has passed it before.
        """
        place = keys.place_of(key)
        gone = SegmentName.parse(place.name.replace(".idx", ".ltx"))
        ends = self.lines[place.incarnation].ends
        lives = manifest.deleted_at is None and gone.max_txid > manifest.exact_txid
        return ends[0] if ends and not lives else self.now_ms()

    def _is_late_copy(self, manifest: Manifest, key: str) -> bool:
        """Whether a former manifest is a copy that nobody needs.

        The one that it was copied from is being removed since, or is in force again under the branch's name.
        """
        line = self.lines.get(manifest.incarnation)
        if line is None or "~" not in key or manifest.removal is not None:
            return False
        versions = self.versions.get(line.key)
        in_force = line.key in self.objects and versions is not None
        there = versions[-1].record if in_force and versions is not None else None
        return line.manifest.removal is not None or (
            there is not None and there.incarnation == manifest.incarnation
        )

    def _manifest_written(self, key: str, new: Manifest, old: Manifest | None, label: Any) -> None:
        if old is None or old.incarnation != new.incarnation:
            require(new.incarnation not in self.lines, f"{new.incarnation} was created twice")
            if old is not None:
                self._check_replaced(key, old)
            line = self.lines[new.incarnation] = Line(key, new)
            first = new.timeline[0]
            line.stretches[first.from_txid] = first.base, first.base_txid
            line.add(first.base_txid, self._content(line, first.base, first.base_txid))
            require(new.head_txid == first.base_txid, f"{key}: a new branch begins at what it continues")
            return
        line = self.lines[new.incarnation]
        what = f"{key} seq {new.seq}"
        require(
            new.head_txid >= old.head_txid, f"{what}: the head fell from {old.head_txid} to {new.head_txid}"
        )
        require(new.epoch >= old.epoch, f"{what}: the epoch fell from {old.epoch} to {new.epoch}")
        require(new.exact_txid >= old.exact_txid, f"{what}: the exact window reaches further back")
        require(new.floor_txid >= old.floor_txid, f"{what}: the floor fell")
        stayed = _common(old.timeline, new.timeline)
        added = new.timeline[stayed:]
        require(all(s.from_txid > old.head_txid for s in added), f"{what}: the past was changed")
        require(new.parent == old.parent, f"{what}: the parent changed")
        lost = old.checkpoints.keys() - new.checkpoints.keys()
        require(not lost, f"{what}: checkpoints were lost: {lost}")
        require(new.owner == old.owner or new.epoch > old.epoch, f"{what}: a new owner under an old epoch")
        gone = [name for name in old.segments if name not in new.segments]
        for name in new.segments:
            if name in old.segments:
                continue
            segment = SegmentName.parse(name)
            if segment.is_base:
                self._check_base(line, name)
            elif segment.min_txid > old.head_txid:
                if new.epoch == old.epoch:
                    epochs = f"{what}: {name} was linked under epoch {new.epoch}"
                    require(segment.epoch == new.epoch, epochs)
                self._link(line, new, name)
            else:
                self._check_merged(line, name, gone)
        for stretch in added:
            begins = max(line.images) + 1
            require(
                stretch.from_txid == begins, f"{what}: txid {stretch.from_txid} is used, {begins} is next"
            )
            line.stretches[stretch.from_txid] = stretch.base, stretch.base_txid
            line.add(stretch.from_txid, self._content(line, stretch.base, stretch.base_txid))
            if label is not None:
                label.stretches += 1
        require(max(line.images) == new.head_txid, f"{what}: the head is not the last txid")
        line.manifest = new
        if (new.exact_txid, new.floor_txid, new.deleted_at) != (
            old.exact_txid,
            old.floor_txid,
            old.deleted_at,
        ):
            if old.deleted_at is not None and new.deleted_at is None:
                line.ends.clear()
            line.ends.append(self.now_ms())
        if gone and new.deleted_at is None:
            for position in self.nameable(line):
                lost = self._lost(line, position)
                require(
                    lost is None, f"{what}: {position} can be named, and {lost} is in no segment any more"
                )

    def nameable(self, line: Line) -> list[int]:
        """The positions of a branch's own that can be restored as its manifest says."""
        m = line.manifest
        first = min(line.stretches)
        bases = {name.max_txid for name in map(SegmentName.parse, m.segments) if name.is_base}
        return [
            txid
            for txid in line.images
            if txid == m.head_txid
            or txid in m.checkpoints.values()
            or (txid >= first and (txid >= m.exact_txid or (txid >= m.floor_txid and txid in bases)))
        ]

    def _lost(self, line: Line, txid: int) -> int | None:
        """The txid that the content at `txid` stands on and that nothing holds; None if the branch has all of it."""
        names = [SegmentName.parse(name) for name in line.manifest.segments]
        bases = {name.max_txid for name in names if name.is_base}
        while txid not in bases:
            if txid in line.token_at:
                if not any(not n.is_base and n.min_txid <= txid <= n.max_txid for n in names):
                    return txid
                if txid in line.stretches and line.stretches[txid][0] != "self":
                    return None
                txid -= 1
            elif txid in line.stretches and line.stretches[txid][0] == "self":
                txid = line.stretches[txid][1]
            else:
                return None
        return None

    def _check_base(self, line: Line, name: str) -> None:
        """A base holds exactly the database at its txid."""
        segment = SegmentName.parse(name)
        key = keys.segment_key(line.key.split("/")[1], line.manifest.incarnation, name)
        image = self.image(line.manifest.incarnation, segment.max_txid)
        ltx = decode_ltx(self.objects[key][0])
        require(ltx.header.max_txid == segment.max_txid, f"{key} is of txid {ltx.header.max_txid}")
        require(ltx.post_checksum == image.checksum, f"{key} has another checksum than its txid")
        require(dict(ltx.pages) == image.pages, f"{key} holds other pages")

    def _check_merged(self, line: Line, name: str, gone: list[str]) -> None:
        """A pack that takes the place of others has all of their commits, byte by byte."""
        db_uuid = line.key.split("/")[1]
        segment = SegmentName.parse(name)
        within = [
            other
            for other in map(SegmentName.parse, gone)
            if not other.is_base and segment.min_txid <= other.min_txid <= other.max_txid <= segment.max_txid
        ]
        before: list[bytes] = []
        for other in sorted(within, key=lambda n: n.min_txid):
            before += self._commits(keys.segment_key(db_uuid, line.manifest.incarnation, str(other)))
        key = keys.segment_key(db_uuid, line.manifest.incarnation, name)
        require(bool(within) and self._commits(key) == before, f"{key} is not what it took the place of")

    def _commits(self, key: str) -> list[bytes]:
        body = self.objects[key][0]
        index = parse_pack_tail(body, len(body))
        assert isinstance(index, PackIndex)
        return [body[t.offset : t.offset + t.length] for t in index.transactions()]

    def _check_replaced(self, key: str, old: Manifest) -> None:
        """Whoever descends from a replaced branch must find all of its history under its former key."""
        gone = old.deleted_at is not None or old.ttl_at is not None
        require(gone, f"{key}: a living branch was replaced")
        if old.removal is not None:
            return  # Its history is being removed: what its descendants need is checked where they are.
        former = self.lines[old.incarnation].former
        complete = (
            former is not None and former.segments == old.segments and former.head_txid == old.head_txid
        )
        require(complete, f"{key}: {old.incarnation} was replaced before its history was kept")

    def _link(self, line: Line, manifest: Manifest, name: str) -> None:
        """Add the commits of a pack that the manifest now names."""
        db_uuid = line.key.split("/")[1]
        key = keys.segment_key(db_uuid, manifest.incarnation, name)
        require(key in self.objects, f"{line.key} seq {manifest.seq} names {key}, which is not there")
        body = self.objects[key][0]
        index = parse_pack_tail(body, len(body))
        assert isinstance(index, PackIndex)
        at = 0
        for transaction in index.transactions():
            ltx = decode_ltx(body[at : at + transaction.length])
            at += transaction.length
            txid = transaction.txid
            last = max(line.images)
            require(txid == last + 1, f"{key}: commit {txid} was linked behind {last}")
            before = line.images[last]
            pages = {**before.pages, **dict(ltx.pages)}
            count = ltx.header.commit
            pages = {number: page for number, page in pages.items() if number <= count}
            checksum = CHECKSUM_FLAG
            for number, page in pages.items():
                checksum = CHECKSUM_FLAG | (checksum ^ page_checksum(number, page))  # type: ignore[arg-type,assignment]
            built_on = ltx.header.pre_checksum if before.count else 0
            require(
                built_on == (before.checksum if before.count else 0),
                f"{key}: {txid} was made on another state",
            )
            require(
                checksum == ltx.post_checksum, f"{key}: the pages of {txid} do not add up to its checksum"
            )
            image = Image(pages, count, checksum, tokens_of(pages, count))
            added = image.tokens[len(before.tokens) :]
            appended = image.tokens[: len(before.tokens)] == before.tokens and len(added) == 1
            require(appended, f"{key}: txid {txid} turned {before.tokens} into {image.tokens}")
            token = added[0]
            require(token in self.attempted, f"{key}: {token} at {txid} was never written")
            there = self.committed.get(token)
            require(there is None, f"{key}: {token} was committed at {there} and again at {txid}")
            self.committed[token] = (manifest.incarnation, txid)
            line.token_at[txid] = token
            line.add(txid, image)

    def _content(self, line: Line, base: str, txid: int) -> Image:
        if base == "empty":
            return EMPTY_IMAGE
        if base == "self":
            return self.image(line.manifest.incarnation, txid)
        parent = line.manifest.parent
        assert parent is not None
        return self.image(parent.incarnation, txid)

    def image(self, incarnation: str, txid: int) -> Image:
        """The content of a position, which must be in the store."""
        line = self.lines[incarnation]
        while txid not in line.images and line.manifest.parent is not None and txid < min(line.images):
            line = self.lines[line.manifest.parent.incarnation]
        require(txid in line.images, f"txid {txid} of {incarnation} is not in the store")
        return line.images[txid]

    # Acknowledgements, as they are given.

    def logged(self, ref: str, epoch: int, node_id: str) -> None:
        """A process has made a commit durable on its machine."""
        writer = self.writers.setdefault((ref, epoch), node_id)
        require(writer == node_id, f"{writer} and {node_id} both wrote {ref} under epoch {epoch}")

    def durable(self, token: str, txid: int) -> None:
        """A client was told that its commit is in the store."""
        self.acknowledged += 1
        there = self.committed.get(token)
        require(there is not None, f"{token} at {txid} was acknowledged as durable and is not in the store")
        assert there is not None
        require(there[1] == txid, f"{token} was acknowledged at {txid} and is at {there[1]}")

    def pinned(self, what: str, incarnation: str, txid: int) -> None:
        """A client was told that a position has a name, a child, or a new head that shows it."""
        self.acknowledged += 1
        self.pins.append(Pin(what, incarnation, txid, self.image(incarnation, txid)))

    def since(self, key: str, number: int) -> list[Written]:
        """The record at `key` as it was when the oracle had counted `number` writes, and all versions after."""
        versions = self.versions.get(key, [])
        before = [version for version in versions if version.number <= number][-1:]
        return before + [version for version in versions if version.number > number]

    def promised(self, what: str, key: str, number: int, holds: Callable[[Any], bool]) -> Any:
        """Require that some version of a record since `number` shows what a client was told."""
        for version in self.since(key, number):
            if holds(version.record):
                return version.record
        raise Violation(f"{what} was acknowledged, and {key} never showed it")

    def read(
        self, what: str, key: str, machine: str, txid: int, tokens: tuple[str, ...], exact: bool
    ) -> None:
        """A client was shown `tokens` at `txid` of the branch at `key`.

        That is what the store has there, or, unless `exact`, what it has somewhere with commits of the client's own
        machine on top that have not shipped.
        """
        lines = [line for line in self.lines.values() if line.key == key]
        for line in lines:
            if any(
                txid in each.images and each.images[txid].tokens == tokens for each in self._ancestry(line)
            ):
                return
        if not exact:
            for line in lines:
                for end in range(len(tokens), -1, -1):
                    if tokens[:end] in line.contents:
                        return
                    if self.attempted.get(tokens[end - 1]) != machine:
                        break
        raise Violation(f"{what} showed {tokens} at txid {txid}, which never was its content")

    def _ancestry(self, line: Line) -> list[Line]:
        found = [line]
        while (parent := found[-1].manifest.parent) is not None:
            found.append(self.lines[parent.incarnation])
        return found


def _common(old: tuple[Any, ...], new: tuple[Any, ...]) -> int:
    """How many of `new`, from its beginning, are of `old` and in its order."""
    left = iter(old)
    count = 0
    for each in new:
        if not any(each == other for other in left):
            break
        count += 1
    return count


def tokens_of(pages: dict[int, bytes], count: int) -> tuple[str, ...]:
    """The rows of a database given as pages."""
    if not count:
        return ()
    connection = apsw.Connection(":memory:")
    connection.deserialize("main", b"".join(pages[number] for number in range(1, count + 1)))
    try:
        return tuple(row[0] for row in connection.execute(READ_TOKENS))
    finally:
        connection.close(True)


def require(holds: bool, rule: str) -> None:
    """Raise `Violation` unless it holds."""
    if not holds:
        raise Violation(rule)
