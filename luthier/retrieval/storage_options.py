"""How an object store is reached: from the environment, and from a file that LUTHIER_STORAGE names.

The names of the environment are the usual ones (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...); both
LanceDB and obstore read them by themselves. The file says more, by the beginning of an address:

    s3://my-bucket: {endpoint: "http://127.0.0.1:9000", region: eu-central-1, access_key_id: ...}
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luthier.errors import InputError, did_you_mean

#: Names the file.
VARIABLE = "LUTHIER_STORAGE"
#: What the HTTP client is told, and not the store.
CLIENT = frozenset({"allow_http", "connect_timeout", "timeout", "proxy_url"})
_KEYS = {
    "s3": {"endpoint", "region", "access_key_id", "secret_access_key", "session_token"},
    "az": {"endpoint", "account_name", "account_key", "sas_token"},
    "gs": {"service_account"},
}
_ENDPOINT = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class StorageOptions(BaseModel):
    """What is known of one store; what is left out is taken from the environment.

    Attributes:
        endpoint: of a store that speaks S3 and is not Amazon's, or of another cloud.
        region: of the bucket.
        access_key_id, secret_access_key, session_token: for s3.
        anonymous: ask without a key, of a public bucket.
        account_name, account_key, sas_token: for az.
        service_account: for gs, the file with the key.
        seconds: a request may take.
        retries: of a request that failed.
        other: further options of the library, by their names (object_store's).
    """

    model_config = ConfigDict(extra="forbid")

    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    anonymous: bool = False
    account_name: str | None = None
    account_key: str | None = None
    sas_token: str | None = None
    service_account: str | None = None
    seconds: float = Field(default=60, gt=0)
    retries: int = Field(default=3, ge=0)
    other: dict[str, str] = Field(default_factory=dict)

    def must_fit(self, scheme: str, where: str) -> None:
        """Refuse what stores of this kind do not know.

        Raises:
            InputError: with the keys that they know.
        """
        known = _KEYS[scheme] | {"anonymous", "seconds", "retries", "other"}
        for key in self.model_fields_set - known:
            raise InputError(
                f"{where}: {key} is nothing that {scheme}:// knows.",
                fix=f"It knows: {', '.join(sorted(known))}.",
            )

    def plain(self, scheme: str) -> dict[str, str]:
        """By the library's own names."""
        prefix = {"s3": "aws_", "az": "azure_storage_", "gs": "google_"}[scheme]
        given = self.model_dump(include=_KEYS[scheme], exclude_none=True)
        options = {f"{prefix}{key}": str(value) for key, value in given.items()}
        if self.anonymous:
            options[f"{prefix.replace('storage_', '')}skip_signature"] = "true"
        endpoint = self.endpoint or next(
            (os.environ[n] for n in _ENDPOINT if os.environ.get(n)), ""
        )
        if endpoint and "endpoint" in _KEYS[scheme] and (self.endpoint or scheme == "s3"):
            options[f"{prefix}endpoint"] = endpoint
            if endpoint.startswith("http://"):  # somebody wrote it so
                options["allow_http"] = "true"
        options |= {"connect_timeout": "5s", "timeout": f"{self.seconds:g}s"}
        return options | self.other


def options_for(url: str) -> StorageOptions:
    """What the file says of an address: of its longest beginning there.

    Raises:
        InputError: the file is missing, or says what is not known.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return StorageOptions()
    from luthier.yaml_files import read_yaml

    path = Path(name)
    if not path.is_file():
        raise InputError(f"{VARIABLE} names {path}, which does not exist.")
    if path.stat().st_mode & 0o077:
        print(f"luthier: others can read {path}: chmod 600 {path}", file=sys.stderr)
    held = read_yaml(path)
    if not isinstance(held, dict) or not all(isinstance(v, dict) for v in held.values()):
        raise InputError(
            f"{path} is no table of stores.",
            fix='One line for each: "s3://bucket": {endpoint: ..., region: ...}.',
        )
    fits = [one for one in held if isinstance(one, str) and _begins(url, one)]
    chosen: dict[str, Any] = held[max(fits, key=len)] if fits else {}
    where = f"{path}: {max(fits, key=len)}" if fits else str(path)
    try:
        options = StorageOptions.model_validate(chosen)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        fix = did_you_mean(key, StorageOptions.model_fields) if unknown else ""
        raise InputError(f"{where}: {key}: {first['msg']}.", fix=fix) from None
    options.must_fit(url.partition("://")[0], where)
    return options


def _begins(url: str, start: str) -> bool:
    return url == start.rstrip("/") or url.startswith(start.rstrip("/") + "/")
