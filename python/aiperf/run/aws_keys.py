"""Credentials of AWS for signed requests: found by botocore, and renewed while the load goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from aiperf.config.engine_settings import CredentialSettings, SignSettings
from aiperf.config.model import Config
from aiperf.errors import ConfigError

__all__ = ["AwsKeys", "aws_keys"]

_LOOK_S = 30.0
"""Between two questions whether the credentials are about to expire: botocore renews them 15 minutes before."""


class AwsKeys:
    """The credentials now. A thread of its own asks botocore, which may have to ask a role, a profile or a process."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._current = _frozen(source)
        self._shown = self._current
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="aws-credentials", daemon=True)

    @property
    def current(self) -> CredentialSettings:
        return self._current

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def news(self) -> CredentialSettings | None:
        """The credentials, if they are other ones than at the last call."""
        if self._current == self._shown:
            return None
        self._shown = self._current
        return self._shown

    def look(self) -> None:
        """Ask now. Nothing changes if there is no answer: the old ones may do until the next look, and the server says so if not."""
        with suppress(Exception):  # a source of keys raises whatever it likes; see above
            self._current = _frozen(self._source)

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            self.look()


def _frozen(source: Any) -> CredentialSettings:
    found = source.get_frozen_credentials()
    return CredentialSettings(access_key=found.access_key, secret_key=found.secret_key, session_token=found.token)


@contextmanager
def aws_keys(config: Config) -> Iterator[tuple[SignSettings, AwsKeys] | None]:
    """How requests are signed; None: they are not. ConfigError without botocore or credentials."""
    aws = config.aws
    if aws.auth_type is None:
        yield None
        return
    try:
        from botocore.session import Session
    except ImportError as error:
        raise ConfigError("signed requests need botocore", "`pip install 'aiperf[aws]'`") from error
    try:
        session = Session(profile=aws.profile)
        source = session.get_credentials()
    except Exception as error:  # botocore has a class for each of a dozen reasons
        raise ConfigError(f"cannot read the AWS credentials: {error}", "`--aws-profile` names a profile") from error
    if source is None:
        raise ConfigError(
            "no AWS credentials found", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use `--aws-profile`"
        )
    try:
        keys = AwsKeys(source)
    except Exception as error:
        raise ConfigError(f"cannot get the AWS credentials: {error}", "log in again, or check the role") from error
    keys.start()
    try:
        yield (
            SignSettings(region=aws.region or "", service=aws.service or "", credentials=keys.current),
            keys,
        )
    finally:
        keys.stop()
