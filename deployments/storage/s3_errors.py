"""What went wrong in a bucket, as one sentence. It names no secrets: messages of botocore and servers may hold some."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as botocore_errors

from deployments.storage.base import MissingObjectError, StorageError, StorageFullError

_MISSING = {"NoSuchKey", "404", "NotFound"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioStorageQuotaExceeded", "InsufficientStorage", "507"}
_BUSY = "the server is overloaded or down; try again later"
_DENIED = "access is denied to these credentials"
_REGION = "the bucket is in another region"
_EXPIRED = "the session token has expired or is not valid"
_CLOCK = "the clock of this machine differs too much from the server's"
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; a HEAD request has only the HTTP status.
_CODES = {
    "NoSuchBucket": "the bucket does not exist",
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "ExpiredToken": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "503": _BUSY,
    "InternalError": _BUSY,
    "500": _BUSY,
    "RequestTimeout": "the connection was too slow",
}
_FAILURES: dict[type[Exception], str] = {
    botocore_errors.NoCredentialsError: "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or any other source that boto3 knows",
    botocore_errors.PartialCredentialsError: "half of the credentials is missing",
    botocore_errors.CredentialRetrievalError: "the credentials could not be fetched",
    botocore_errors.ProfileNotFound: "there is no such profile as AWS_PROFILE names",
    botocore_errors.ParamValidationError: "the bucket's name is not valid",
    botocore_errors.SSLError: "the server's certificate is not accepted",
    botocore_errors.ConnectTimeoutError: "the server cannot be reached in time",
    botocore_errors.ReadTimeoutError: "the server does not answer in time",
    botocore_errors.EndpointConnectionError: "the server cannot be reached",
    botocore_errors.ConnectionError: "the server cannot be reached",
    botocore_errors.HTTPClientError: "the connection broke off",
    botocore_errors.IncompleteReadError: "the connection broke off",
    ValueError: "the server's address is not valid",
}


@contextmanager
def explained(action: str, missing: str | None = None) -> Iterator[None]:
    """Turn what botocore raises into errors of the storage.

    Args:
        action: What is being done: "read 2031/...".
        missing: The key to tell where the server says that there is no such object; None where none is asked for.

    Raises:
        MissingObjectError: There is no such object.
        StorageFullError: There is no room.
        StorageError: Anything else.
    """
    try:
        yield
    except botocore_errors.ClientError as error:
        code = code_of(error)
        if missing is not None and code in _MISSING:
            raise MissingObjectError(f"There is no image file {missing}.") from None
        if code in _FULL:
            raise StorageFullError(f"Could not {action}: the bucket is full.") from None
        raise StorageError(f"Could not {action}: {_CODES.get(code, f'the server answers {code}')}.") from None
    except (botocore_errors.BotoCoreError, ValueError) as error:
        reason = next((text for kind, text in _FAILURES.items() if isinstance(error, kind)), type(error).__name__)
        raise StorageError(f"Could not {action}: {reason}.") from None


def code_of(error: Any) -> str:
    """The server's word for what went wrong; the HTTP status where it had none."""
    answer = error.response
    status = str(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    return str(answer.get("Error", {}).get("Code") or status or "with an error")
