"""An S3 server of the tests' own: moto's, as a process, over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from uuid import uuid4

import boto3
import httpx
from botocore.config import Config
from tenacity import retry, stop_after_delay, wait_fixed

from tests.support.ports import free_port

REGION = "us-east-1"
_EVERYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})


class S3Server:
    """A server on a free port of the loopback interface; what it keeps is in memory.

    It takes any credentials, and looks at them only within :meth:`guarded`.
    """

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

    def start(self) -> None:
        """Start it; it answers when this returns."""
        port = self.url.rpartition(":")[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait_for(self.url)
        iam = self._client("iam")
        iam.create_user(UserName="service")
        iam.put_user_policy(UserName="service", PolicyName="everything", PolicyDocument=_EVERYTHING)
        key = iam.create_access_key(UserName="service")["AccessKey"]
        self.environment = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    @property
    def s3(self) -> Any:
        """A client of it, to look behind the storage's back."""
        return self._client("s3")

    def create_bucket(self, region: str = REGION) -> str:
        """Make a bucket and return its name."""
        name = f"images-{uuid4().hex}"
        place = {} if region == REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self.s3.create_bucket(Bucket=name, **place)
        return name

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """For this long, only what is signed with the right credentials is answered."""
        self._look_at_credentials_after("0")
        yield
        self._look_at_credentials_after("inf")

    def _look_at_credentials_after(self, requests: str) -> None:
        httpx.post(f"{self.url}/moto-api/reset-auth", content=requests).raise_for_status()

    def _client(self, service: str) -> Any:
        return s3_client(self.url, self.environment, service)


class OtherServer:
    """A server that runs already, such as MinIO: at CYBERIMAGE_TEST_S3_URL, with the usual credentials of boto3."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

    def create_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"images-{uuid4().hex}"
        s3_client(self.url, self.environment).create_bucket(Bucket=name)
        return name


def s3_client(url: str, environment: dict[str, str], service: str = "s3") -> Any:
    """A boto3 client with credentials of its own."""
    return _session().client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}),
    )


@cache
def _session() -> boto3.session.Session:
    """It reads what it knows of a service once: a new one with each client reads it each time."""
    return boto3.session.Session()


@retry(stop=stop_after_delay(60), wait=wait_fixed(0.1), reraise=True)
def _wait_for(url: str) -> None:
    httpx.get(f"{url}/moto-api/").raise_for_status()
