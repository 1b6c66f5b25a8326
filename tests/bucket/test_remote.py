"""Remote stores over connections that lose answers, and with settings that cannot work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from memoturn.base.clock import SystemClock
from memoturn.base.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    UnavailableError,
    UnconfiguredError,
    UndecidedWriteError,
)
from memoturn.base.ids import Ids
from memoturn.bucket import Bucket, BucketSettings, StaleVersionError, open_bucket
from tests.bucket.proxy import Fault, Proxy, proxied
from tests.bucket.services import SERVICES, Service, free_port

CLOCK, IDS = SystemClock(), Ids()
QUICK = BucketSettings(retry_s=5, decide_s=5, first_pause_s=0.01, longest_pause_s=0.05)
IMPATIENT = BucketSettings(retry_s=0.2, decide_s=0.2, first_pause_s=0.01, longest_pause_s=0.05)
S3_KEYS = {"access_key_id": "a", "secret_access_key": "wrong", "region": "us-east-1"}


class Lossy(NamedTuple):
    bucket: Bucket
    proxy: Proxy


@pytest.fixture(params=SERVICES)
def lossy(request: pytest.FixtureRequest, service: Callable[[str], Service]) -> Iterator[Lossy]:
    store = service(request.param)
    origin = f"http://{urlsplit(store.endpoint).netloc}"
    with proxied(origin) as (url, proxy):
        options = {name: value.replace(origin, url) for name, value in store.options.items()}
        bucket = open_bucket(
            f"{store.url}/{IDS.token()}", clock=CLOCK, ids=IDS, options=options, settings=QUICK
        )
        yield Lossy(bucket, proxy)
        bucket.close()


@pytest.mark.parametrize("fault", Fault)
def test_a_create_whose_answer_is_spoiled_lands_once(lossy: Lossy, fault: Fault) -> None:
    lossy.proxy.faults["PUT"] = [fault]
    version = lossy.bucket.create("a", b"mine")
    assert lossy.bucket.get("a") == (b"mine", version)
    assert lossy.proxy.requests.count("PUT") == (1 if fault.passes_on else 2)


@pytest.mark.parametrize("fault", Fault)
def test_a_replace_whose_answer_is_spoiled_lands_once(lossy: Lossy, fault: Fault) -> None:
    first = lossy.bucket.create("a", b"first")
    lossy.proxy.faults["PUT"] = [fault]
    lossy.proxy.requests.clear()
    version = lossy.bucket.replace("a", b"mine", first)
    assert lossy.bucket.get("a") == (b"mine", version)
    assert lossy.proxy.requests.count("PUT") == (1 if fault.passes_on else 2)


@pytest.mark.parametrize("fault", Fault)
def test_a_spoiled_answer_does_not_hide_a_real_refusal(lossy: Lossy, fault: Fault) -> None:
    first = lossy.bucket.create("a", b"first")
    second = lossy.bucket.replace("a", b"second", first)
    lossy.proxy.faults["PUT"] = [fault, fault]
    with pytest.raises(StaleVersionError):
        lossy.bucket.replace("a", b"mine", first)
    with pytest.raises(AlreadyExistsError):
        lossy.bucket.create("a", b"mine too")
    assert lossy.bucket.get("a") == (b"second", second)


def test_everything_else_is_tried_again(lossy: Lossy) -> None:
    lossy.proxy.faults["PUT"] = [Fault.FAILED_BEFORE, Fault.FAILED_AFTER]
    lossy.bucket.put("a/b", b"immutable")
    reads: list[Callable[[], bytes]] = [
        lambda: lossy.bucket.get("a/b")[0],
        lambda: lossy.bucket.get_range("a/b", 0, 9),
        lambda: lossy.bucket.get_tail("a/b", 9)[0],
        lambda: lossy.bucket.get_ranges("a/b", [(0, 9)])[0],
    ]
    for read in reads:
        lossy.proxy.faults["GET"] = [Fault.FAILED_BEFORE, Fault.ANSWER_LOST]
        assert read() == b"immutable"
    lossy.proxy.faults["GET"] = [Fault.FAILED_BEFORE]
    assert [info.key for info in lossy.bucket.list("a")] == ["a/b"]
    lossy.proxy.faults["DELETE"] = lossy.proxy.faults["POST"] = [Fault.FAILED_AFTER]
    lossy.bucket.delete("a/b")
    assert list(lossy.bucket.list("")) == []


def test_a_store_that_fails_for_good_is_unavailable_and_a_write_to_it_undecided(
    service: Callable[[str], Service],
) -> None:
    store = service("moto")
    with proxied(store.endpoint) as (url, proxy):
        proxy.faults = {"PUT": [Fault.FAILED_BEFORE] * 999, "GET": [Fault.FAILED_BEFORE] * 999}
        options = {**store.options, "endpoint": url}
        bucket = open_bucket(store.url, clock=CLOCK, ids=IDS, options=options, settings=IMPATIENT)
        with pytest.raises(UnavailableError, match=f"{store.url} did not answer as it should"):
            bucket.get("a")
        with pytest.raises(UndecidedWriteError, match="may yet take effect"):
            bucket.create("a", b"mine")


def test_an_endpoint_that_is_not_there_is_named_with_what_to_set() -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    bucket = open_bucket(
        "s3://nowhere/x", clock=CLOCK, ids=IDS, options={**S3_KEYS, "endpoint": endpoint}, settings=IMPATIENT
    )
    for ask in (lambda: bucket.get("a"), lambda: bucket.put("a", b""), lambda: list(bucket.list(""))):
        with pytest.raises(
            UnavailableError, match=f"s3://nowhere/x did not answer.*AWS_ENDPOINT_URL.*{endpoint}"
        ):
            ask()


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    nobody = f"http://127.0.0.1:{free_port()}"
    bucket = open_bucket(
        "s3://somewhere", clock=CLOCK, ids=IDS, options={"metadata_endpoint": nobody, "endpoint": nobody},
        settings=IMPATIENT,
    )  # fmt: skip
    with pytest.raises(UnconfiguredError, match=r"s3://somewhere: no credentials.*AWS_ACCESS_KEY_ID"):
        bucket.get("a")


def test_refused_credentials_are_named_and_not_shown(service: Callable[[str], Service]) -> None:
    store = service("versitygw")
    options = {**store.options, "secret_access_key": "a-wrong-secret"}
    bucket = open_bucket(store.url, clock=CLOCK, ids=IDS, options=options, settings=IMPATIENT)
    with pytest.raises(UnconfiguredError, match=r"refused the credentials.*AWS_ACCESS_KEY_ID") as raised:
        bucket.get("a")
    assert "a-wrong-secret" not in str(raised.value)


def test_an_endpoint_elsewhere_needs_tls_unless_it_is_said_not_to() -> None:
    # An address reserved for documentation; nothing is sent to it.
    options = {**S3_KEYS, "endpoint": "http://192.0.2.1"}
    bucket = open_bucket("s3://x", clock=CLOCK, ids=IDS, options=options, settings=IMPATIENT)
    with pytest.raises(UnconfiguredError, match="use https, or pass the option allow_http=true"):
        bucket.get("a")


def test_an_endpoint_from_the_variables_of_the_provider_is_used(
    monkeypatch: pytest.MonkeyPatch, service: Callable[[str], Service]
) -> None:
    store = service("moto")
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
    bucket = open_bucket(f"{store.url}/{IDS.token()}", clock=CLOCK, ids=IDS)
    bucket.put("a", b"one")
    assert bucket.get("a")[0] == b"one"


def test_options_may_be_spelled_like_the_variables(service: Callable[[str], Service]) -> None:
    store = service("moto")
    options = {
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
    }
    bucket = open_bucket(f"{store.url}/{IDS.token()}", clock=CLOCK, ids=IDS, options=options)
    bucket.put("a", b"one")
    assert bucket.get("a")[0] == b"one"


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_an_unknown_option_is_named(scheme: str) -> None:
    options = {"account_name": "x"} if scheme == "az" else {}
    with pytest.raises(InvalidRequestError, match="nonsense"):
        open_bucket(f"{scheme}://x", clock=CLOCK, ids=IDS, options={**options, "nonsense": "1"})
