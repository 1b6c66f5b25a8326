"""What every bucket promises, whatever stands behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from memoturn.base.errors import AlreadyExistsError, InvalidRequestError, MemoturnError
from memoturn.bucket import NO_VERSION, Bucket, ObjectNotFound, StaleVersionError, Version

MEBIBYTE = 1 << 20


def keys(bucket: Bucket, prefix: str, after: str | None = None) -> list[str]:
    return [info.key for info in bucket.list(prefix, after)]


def race(contenders: int, contend: Callable[[int], object]) -> list[int]:
    """The numbers of the contenders that did not meet an error of ours, all having started together."""
    start, won = threading.Barrier(contenders), []

    def run(number: int) -> None:
        start.wait()
        try:
            contend(number)
        except MemoturnError:
            return
        won.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


class TestWholeObjects:
    def test_what_was_created_is_read_back_with_its_version(self, bucket: Bucket) -> None:
        version = bucket.create("catalog/a.json", b"one")
        assert bucket.get("catalog/a.json") == (b"one", version)

    def test_create_refuses_a_key_that_exists_and_leaves_it_alone(self, bucket: Bucket) -> None:
        version = bucket.create("catalog/a.json", b"one")
        with pytest.raises(AlreadyExistsError):
            bucket.create("catalog/a.json", b"two")
        assert bucket.get("catalog/a.json") == (b"one", version)

    def test_replace_follows_the_version_that_was_read(self, bucket: Bucket) -> None:
        first = bucket.create("a", b"one")
        second = bucket.replace("a", b"two", first)
        assert second != first
        assert bucket.get("a") == (b"two", second)
        third = bucket.replace("a", b"three", bucket.get("a")[1])
        assert bucket.get("a") == (b"three", third)

    def test_replace_refuses_a_stale_version_and_leaves_the_object_alone(self, bucket: Bucket) -> None:
        first = bucket.create("a", b"one")
        second = bucket.replace("a", b"two", first)
        with pytest.raises(StaleVersionError):
            bucket.replace("a", b"three", first)
        assert bucket.get("a") == (b"two", second)

    def test_replace_of_a_deleted_object_says_so(self, bucket: Bucket) -> None:
        version = bucket.create("a", b"one")
        bucket.delete("a")
        with pytest.raises(ObjectNotFound):
            bucket.replace("a", b"two", version)
        with pytest.raises(ObjectNotFound):
            bucket.get("a")

    def test_the_version_of_nothing_is_never_current(self, bucket: Bucket) -> None:
        version = bucket.create("a", b"one")
        with pytest.raises(StaleVersionError):
            bucket.replace("a", b"two", NO_VERSION)
        assert bucket.get("a") == (b"one", version)

    def test_an_empty_body_is_a_body(self, bucket: Bucket) -> None:
        version = bucket.create("a", b"")
        assert bucket.get("a") == (b"", version)
        bucket.replace("a", b"one", version)

    def test_a_missing_object_is_not_found(self, bucket: Bucket) -> None:
        for read in (
            lambda: bucket.get("nothing/here"),
            lambda: bucket.get_range("nothing/here", 0, 1),
            lambda: bucket.get_ranges("nothing/here", [(0, 1)]),
            lambda: bucket.get_tail("nothing/here", 1),
        ):
            with pytest.raises(ObjectNotFound):
                read()

    def test_deleting_twice_is_fine(self, bucket: Bucket) -> None:
        bucket.put("x/y/z", b"one")
        bucket.delete("x/y/z")
        bucket.delete("x/y/z")
        assert keys(bucket, "") == []

    def test_a_directory_is_not_an_object(self, bucket: Bucket) -> None:
        bucket.put("x/y/z", b"one")
        with pytest.raises(ObjectNotFound):
            bucket.get("x/y")

    @pytest.mark.parametrize(
        "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", ".memoturn/x", "a\0b"]
    )
    def test_a_key_that_no_store_could_hold_is_refused(self, bucket: Bucket, key: str) -> None:
        with pytest.raises(InvalidRequestError):
            bucket.put(key, b"one")
        with pytest.raises(InvalidRequestError):
            bucket.create(key, b"one")


class TestRanges:
    def test_a_range_is_short_only_where_the_object_ends(self, bucket: Bucket) -> None:
        bucket.put("x", bytes(range(100)))
        assert bucket.get_range("x", 0, 10) == bytes(range(10))
        assert bucket.get_range("x", 90, 10) == bytes(range(90, 100))
        assert bucket.get_range("x", 95, 10) == bytes(range(95, 100))
        assert bucket.get_range("x", 100, 10) == b""
        assert bucket.get_range("x", 1000, 10) == b""
        assert bucket.get_range("x", 10, 0) == b""

    def test_a_tail_comes_with_the_size(self, bucket: Bucket) -> None:
        bucket.put("x", bytes(range(100)))
        assert bucket.get_tail("x", 10) == (bytes(range(90, 100)), 100)
        assert bucket.get_tail("x", 100) == (bytes(range(100)), 100)
        assert bucket.get_tail("x", 1000) == (bytes(range(100)), 100)
        assert bucket.get_tail("x", 0) == (b"", 100)

    def test_several_tails_come_in_their_order(self, bucket: Bucket) -> None:
        wanted = []
        for number in range(20):
            bucket.put(f"x/{number}", bytes([number]) * (number + 1))
            wanted.append((f"x/{number}", 5))
        expected = [(bytes([n]) * min(n + 1, 5), n + 1) for n in range(20)]
        assert bucket.get_tails(wanted) == expected
        assert bucket.get_tails(wanted[::-1]) == expected[::-1]
        assert bucket.get_tails(wanted[:1]) == expected[:1]
        assert bucket.get_tails([]) == []
        with pytest.raises(ObjectNotFound):
            bucket.get_tails([*wanted, ("nothing/here", 5)])

    def test_the_tail_of_an_empty_object_is_empty(self, bucket: Bucket) -> None:
        bucket.put("x", b"")
        assert bucket.get_tail("x", 10) == (b"", 0)
        assert bucket.get_range("x", 0, 10) == b""

    def test_several_ranges_come_in_their_order(self, bucket: Bucket) -> None:
        bucket.put("x", bytes(range(100)))
        ranges = [(50, 10), (0, 5), (98, 10), (52, 3), (7, 0), (200, 4)]
        assert bucket.get_ranges("x", ranges) == [bucket.get_range("x", *each) for each in ranges]
        assert bucket.get_ranges("x", []) == []

    @pytest.mark.parametrize(("start", "length"), [(-1, 10), (0, -1)])
    def test_a_negative_range_is_refused(self, bucket: Bucket, start: int, length: int) -> None:
        bucket.put("x", b"0123456789")
        with pytest.raises(InvalidRequestError):
            bucket.get_range("x", start, length)
        with pytest.raises(InvalidRequestError):
            bucket.get_ranges("x", [(0, 1), (start, length)])

    def test_a_deleted_object_has_no_ranges(self, bucket: Bucket) -> None:
        bucket.put("x", b"0123456789")
        assert bucket.get_range("x", 0, 4) == b"0123"
        bucket.delete("x")
        with pytest.raises(ObjectNotFound):
            bucket.get_range("x", 0, 4)


class TestDelete:
    def test_many_go_at_once_whether_they_are_there_or_not(self, bucket: Bucket) -> None:
        wanted = [f"d/{number:04}" for number in range(1_005)]
        for key in [*wanted[::100], "d/keep"]:
            bucket.put(key, b"x")
        bucket.delete_many(wanted)
        bucket.delete_many([])
        assert [info.key for info in bucket.list("d/")] == ["d/keep"]

    def test_one_request_does_as_well(self, bucket: Bucket) -> None:
        bucket.put("x", b"x")
        bucket.delete_once("x")
        bucket.delete_once("x")
        assert list(bucket.list("x")) == []


class TestPut:
    def test_writing_an_immutable_object_again_is_harmless(self, bucket: Bucket) -> None:
        bucket.put("x", b"same")
        bucket.put("x", b"same")
        assert bucket.get("x")[0] == b"same"

    @pytest.mark.parametrize("sizes", [[], [0], [3], [3, 0, 4], [MEBIBYTE] * 13, [13 * MEBIBYTE + 1]])
    def test_a_stream_arrives_whole(self, bucket: Bucket, sizes: list[int]) -> None:
        chunks = [bytes([i + 1]) * size for i, size in enumerate(sizes)]
        bucket.put("x", iter(chunks))
        assert bucket.get("x")[0] == b"".join(chunks)

    @pytest.mark.parametrize("good_chunks", [0, 1, 13])
    def test_a_stream_that_breaks_leaves_nothing(self, bucket: Bucket, good_chunks: int) -> None:
        def chunks() -> Iterator[bytes]:
            for _ in range(good_chunks):
                yield b"x" * MEBIBYTE
            raise OSError("the source broke")

        with pytest.raises(OSError, match="the source broke"):
            bucket.put("x", chunks())
        assert keys(bucket, "") == []

    def test_a_large_object_is_read_back(self, bucket: Bucket) -> None:
        body = bytes(range(256)) * (12 * MEBIBYTE // 256)
        bucket.put("x", body)
        assert bucket.get("x")[0] == body
        assert bucket.get_tail("x", 300) == (body[-300:], len(body))


class TestListing:
    def test_keys_come_in_order_across_directories(self, bucket: Bucket) -> None:
        written = ["a", "a-b/c", "a-b/d", "a.json", "a0/x", "a/b", "b/c/d", "b/c-d", "b/c.e/f", "b~c/a", "ab"]
        written.remove("a")
        for key in written:
            bucket.put(key, key.encode())
        assert keys(bucket, "") == sorted(written)

    def test_a_prefix_need_not_end_at_a_slash(self, bucket: Bucket) -> None:
        for key in ["db/one/x", "db/one/y", "db/one2/x", "db/on", "db/two/x", "dc"]:
            bucket.put(key, b"")
        assert keys(bucket, "db/one") == ["db/one/x", "db/one/y", "db/one2/x"]
        assert keys(bucket, "db/one/") == ["db/one/x", "db/one/y"]
        assert keys(bucket, "db/on") == ["db/on", "db/one/x", "db/one/y", "db/one2/x"]
        assert keys(bucket, "d")[-1] == "dc"
        assert keys(bucket, "nothing/") == []
        assert keys(bucket, "db/one/x") == ["db/one/x"]

    def test_a_listing_goes_on_after_a_key(self, bucket: Bucket) -> None:
        written = sorted(f"p/{a}/{b}" for a in "bdf" for b in "xyz")
        for key in written:
            bucket.put(key, b"")
        for after in [*written, "p/a", "p/b", "p/c/", "p/d/yy", "p/f/zz", "q", "a"]:
            assert keys(bucket, "p/", after) == [key for key in written if key > after]
            assert keys(bucket, "p/d", after) == [key for key in written if key > after and key[2] == "d"]

    def test_a_listing_tells_size_and_time(self, bucket: Bucket) -> None:
        bucket.put("x", b"12345")
        version = bucket.create("y", b"123")
        first, second = bucket.list("")
        assert (first.key, first.size, second.key, second.size) == ("x", 5, "y", 3)
        assert first.modified_ms > 1_600_000_000_000
        bucket.replace("y", b"1234567", version)
        assert [info.size for info in bucket.list("y")] == [7]

    def test_more_objects_than_a_page_are_listed(self, bucket: Bucket) -> None:
        written = [f"many/{i:05}" for i in range(1100)]
        for key in written:
            bucket.put(key, b"")
        assert keys(bucket, "many/") == written
        assert keys(bucket, "many/", "many/01050") == written[1051:]

    def test_a_listing_can_be_left_half_way(self, bucket: Bucket) -> None:
        bucket.put("a", b"")
        bucket.put("b", b"")
        assert next(bucket.list("")).key == "a"


class TestRaces:
    CONTENDERS = 32

    def test_a_race_of_creates_has_one_winner(self, bucket: Bucket) -> None:
        for lap in range(3):
            key = f"race/{lap}"

            def contend(number: int, key: str = key) -> None:
                bucket.create(key, b"create %d" % number)

            won = race(self.CONTENDERS, contend)
            assert len(won) == 1
            assert bucket.get(key)[0] == b"create %d" % won[0]

    def test_a_race_of_replaces_has_one_winner(self, bucket: Bucket) -> None:
        version = bucket.create("race", b"start")
        for lap in range(3):

            def contend(number: int, lap: int = lap, version: Version = version) -> None:
                bucket.replace("race", b"lap %d by %d" % (lap, number), version)

            won = race(self.CONTENDERS, contend)
            assert len(won) == 1
            body, version = bucket.get("race")
            assert body == b"lap %d by %d" % (lap, won[0])

    def test_no_increment_is_lost(self, bucket: Bucket) -> None:
        bucket.create("counter", b"0")

        def increment(contender: int) -> None:
            done = 0
            while done < 4:
                body, version = bucket.get("counter")
                count = int(body.split()[0]) + 1
                try:
                    bucket.replace("counter", b"%d by %d" % (count, contender), version)
                    done += 1
                except StaleVersionError:
                    pass

        assert len(race(6, increment)) == 6
        assert bucket.get("counter")[0].startswith(b"24 ")
