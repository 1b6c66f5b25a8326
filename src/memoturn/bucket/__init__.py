"""Object storage: bytes under keys, with compare-and-swap, and read-back of writes whose answer was lost."""

from memoturn.bucket.bucket import (
    NO_VERSION,
    Bucket,
    Landed,
    LandedCheck,
    ObjectInfo,
    ObjectNotFound,
    StaleVersionError,
    Version,
)
from memoturn.bucket.open import directory_of, open_bucket
from memoturn.bucket.probe import Verdict, probe
from memoturn.bucket.settings import BucketSettings

__all__ = [
    "NO_VERSION",
    "Bucket",
    "BucketSettings",
    "Landed",
    "LandedCheck",
    "ObjectInfo",
    "ObjectNotFound",
    "StaleVersionError",
    "Verdict",
    "Version",
    "directory_of",
    "open_bucket",
    "probe",
]
