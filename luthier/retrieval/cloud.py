"""An index in an object store: s3://bucket/path, gs://bucket/path, az://container/path.

index.json is replaced by a conditional put (if-match), which succeeds only where it is still the
one that the writer began from; one writer at a time is a `Lease`. Readers need neither.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from luthier.errors import InputError, LuthierError, ModelError, RunError
from luthier.retrieval.lease import Lease, mark_of
from luthier.retrieval.places import LOCK, NAME, TABLES, Stamp, Turn
from luthier.retrieval.storage_options import CLIENT, VARIABLE, options_for

SCHEMES = ("s3", "gs", "az")
#: What to set where credentials are missing or refused.
_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN with short-lived "
    "keys), AWS_REGION, and AWS_ENDPOINT_URL for a store that is not Amazon's",
    "gs": "Set GOOGLE_SERVICE_ACCOUNT to the file of a key",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class Bucket:
    """A prefix of an object store (a `Place`).

    Args:
        url: as people write it.
        scheme: of it.

    Raises:
        InputError: another scheme, or an address that names no prefix.
        ModelError: obstore is not installed.
    """

    def __init__(self, url: str, scheme: str) -> None:
        found = re.fullmatch(r"[^:]+://([A-Za-z0-9._-]+)/+([A-Za-z0-9._=+@/-]*[^/])/*", url)
        if scheme not in SCHEMES:
            known = ", ".join(f"{one}://" for one in SCHEMES)
            raise InputError(
                f"{url}: no index can lie at {scheme}://.", fix=f"Known: {known}, and folders."
            )
        if not found or ".." in found[2].split("/"):
            raise InputError(
                f"{url} is no place for an index.",
                fix=f"Write {scheme}://BUCKET/PATH, with letters, digits and . _ - = + @ alone.",
            )
        self.bucket, self.prefix = found[1], re.sub("/+", "/", found[2])
        self._scheme, self._url = scheme, f"{scheme}://{self.bucket}/{self.prefix}"
        given = options_for(self._url)
        self._retries, self._seconds = given.retries, given.seconds
        self._plain = given.plain(scheme)
        self._store = self._opened()

    def __str__(self) -> str:
        return self._url

    @property
    def tables(self) -> str:
        """See `Place`."""
        return f"{self._url}/{TABLES}"

    @property
    def options(self) -> dict[str, str]:
        """See `Place`."""
        patience = f"{self._seconds:.0f}"
        return {
            **self._plain,
            "client_max_retries": str(self._retries),
            "client_retry_timeout": patience,
        }

    def stamp(self) -> Stamp:
        """See `Place`."""
        held = self._head()
        if not held:
            return ()
        return held["e_tag"], held.get("version"), held["last_modified"].isoformat()

    def read(self, name: str) -> bytes | None:
        """See `Place`."""
        import obstore

        with self.told():
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except FileNotFoundError as error:
                if _no_bucket(str(error)):
                    raise
                return None

    def write(self, name: str, data: bytes) -> None:
        """See `Place`."""
        import obstore

        with self.told():
            obstore.put(self._store, name, data)

    def clear(self, folder: str) -> None:
        """See `Place`."""
        import obstore

        with self.told():
            held = [one["path"] for page in obstore.list(self._store, folder) for one in page]
            if held:
                obstore.delete(self._store, held)

    def names(self) -> set[str]:
        """See `Place`."""
        import obstore

        with self.told():
            held = obstore.list_with_delimiter(self._store)
            paths = [*held["common_prefixes"], *(one["path"] for one in held["objects"])]
        return {name for path in paths if not (name := path.rsplit("/", 1)[-1]).startswith(LOCK)}

    @contextmanager
    def writing(self) -> Iterator[Turn]:
        """See `Place`."""
        with self.told():
            lease = Lease(self._store, LOCK, str(self))
            lease.take()
            try:
                yield _Leased(self, lease, self._head())
            finally:
                lease.give_back()

    @contextmanager
    def told(self) -> Iterator[None]:
        """See `Place`."""
        from obstore.exceptions import BaseError

        try:
            yield
        except LuthierError:
            raise
        except (BaseError, OSError, RuntimeError, ValueError) as error:
            # errors of LanceDB have no type of their own
            if not isinstance(error, BaseError) and not _OF_STORES.search(str(error)):
                raise
            raise self._said(str(error)) from None

    def replaced(self, data: bytes, seen: Mapping[str, Any]) -> bool:
        """Put index.json where it is what was seen of it (metadata; empty for none)."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = mark_of(seen) or "create"
        try:
            obstore.put(self._store, NAME, data, mode=mode)
        except (AlreadyExistsError, PreconditionError):
            return self.read(NAME) == data  # the answer to a first try may have been lost
        return True

    def _head(self) -> dict[str, Any]:
        """Metadata of index.json; empty where there is none."""
        import obstore

        with self.told():
            try:
                return dict(obstore.head(self._store, NAME))
            except FileNotFoundError:
                return {}

    def _opened(self) -> Any:
        try:
            from obstore import store
            from obstore.exceptions import BaseError
        except ImportError:
            raise ModelError(
                f"{self} needs obstore, which is not installed.",
                fix="Install it: pip install 'luthier[rag]'",
            ) from None

        kinds: dict[str, Any] = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}
        client = {key: value for key, value in self._plain.items() if key in CLIENT}
        config = {key: value for key, value in self._plain.items() if key not in CLIENT}
        retry = {
            "max_retries": self._retries,
            "retry_timeout": timedelta(seconds=self._seconds),
        }
        try:
            return kinds[self._scheme](
                self.bucket,
                prefix=self.prefix,
                config=config,
                client_options=client,
                retry_config=retry,
                **self._from_profile(),
            )
        except BaseError as error:
            raise self._said(str(error)) from None

    def _from_profile(self) -> dict[str, Any]:
        """Credentials of ~/.aws, which the library does not read and boto3 does."""
        shared = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
        named = "aws_access_key_id" in self._plain or os.environ.get("AWS_ACCESS_KEY_ID")
        anonymous = "aws_skip_signature" in self._plain
        if self._scheme != "s3" or named or anonymous or not Path(shared).expanduser().is_file():
            return {}
        try:
            from obstore.auth.boto3 import Boto3CredentialProvider
        except ImportError:
            raise ModelError(
                f"Keys of {shared} are read with boto3, which is not installed.",
                fix=f"pip install boto3, or: {_CREDENTIALS['s3']}.",
            ) from None
        return {"credential_provider": Boto3CredentialProvider()}

    def _said(self, error: str) -> LuthierError:
        """What an error of a library comes to."""
        told, file = error.lower(), f", or name them in the file of {VARIABLE}."
        if _no_bucket(error):
            return InputError(
                f"{self._scheme}://{self.bucket} does not exist.",
                fix="Make the bucket first, or mend its name.",
            )
        if re.search(r"169\.254|no credential|metadata\.google|credential error", told):
            return RunError(
                f"There are no credentials for {self}.", fix=_CREDENTIALS[self._scheme] + file
            )
        if re.search(r"\b40[13]\b|accessdenied|permission|unauthenticated|invalidaccesskey", told):
            code = re.search(r"<Code>(\w+)</Code>", error)
            why = f" ({code[1]})" if code else ""
            return RunError(
                f"{self} may not be used with these credentials{why}.",
                fix=_CREDENTIALS[self._scheme] + file,
            )
        # numbers alone are times, too
        moved = r"30[17] (moved|temporary)|redirect|authorizationheadermalformed"
        if re.search(moved, told):
            return RunError(f"{self} is in another region.", fix="Set AWS_REGION to its region.")
        if re.search(r"error sending request|connect|dns|timed? ?out|http error", told):
            return RunError(
                f"{self} cannot be reached.",
                fix="Look at the network and at the address of the store (AWS_ENDPOINT_URL, or "
                f"`endpoint` in the file of {VARIABLE}), and try again.",
            )
        return RunError(f"{self}: {_first_line(error)}", fix="Try again.")


#: Errors of LanceDB that come from a store.
_OF_STORES = re.compile(
    r"lance ?error|lance error|generic \w+ error|object (at location|store)", re.I
)


def _no_bucket(error: str) -> bool:
    return bool(re.search(r"NoSuchBucket|ContainerNotFound|specified bucket does not", error))


def _first_line(error: str) -> str:
    return " ".join(error.splitlines()[:1])[:300]


class _Leased:
    """A writer's turn while it holds the lock."""

    def __init__(self, place: Bucket, lease: Lease, seen: Mapping[str, Any]) -> None:
        self._place, self._lease, self._seen = place, lease, seen

    def still(self) -> None:
        """See `Turn`."""
        self._lease.still()

    def replace(self, data: bytes) -> None:
        """See `Turn`."""
        self._lease.still()
        if not self._place.replaced(data, self._seen):
            raise RunError(
                f"Another process wrote {self._place} meanwhile.",
                fix="Nothing of what this one wrote is seen by anybody. Run it again.",
            )
        self._seen = self._place._head()
