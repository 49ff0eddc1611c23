"""A certificate authority for the day."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(authority, certificate, key) of 127.0.0.1 and localhost, for servers and clients."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the program openssl")
    folder = tmp_path_factory.mktemp("tls")
    make = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    authority, authority_key, cert, key = (folder / name for name in ("ca.pem", "ca.key", "cert.pem", "cert.key"))
    for arguments in (
        ["-subj", "/CN=tests", "-keyout", authority_key, "-out", authority],
        [
            "-subj",
            "/CN=localhost",
            "-keyout",
            key,
            "-out",
            cert,
            "-CA",
            authority,
            "-CAkey",
            authority_key,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "subjectAltName=IP:127.0.0.1,DNS:localhost",
        ],
    ):
        subprocess.run([*make, *map(str, arguments)], check=True, capture_output=True)
    return authority, cert, key
