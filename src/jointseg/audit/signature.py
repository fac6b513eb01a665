"""Signatures on releases, made and checked by OpenSSH's own tool, `ssh-keygen -Y`."""

import base64
import binascii
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from jointseg.runtime.errors import DataError

NAMESPACE = "jointseg-release"
TOOL = "ssh-keygen"
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_COLUMNS = 70


class ToolMissingError(DataError):
    """There is no ssh-keygen on this machine."""


class BadSignatureError(Exception):
    """A signature does not hold."""


@dataclass(frozen=True)
class AllowedSigners:
    """Whose signatures count: a file of allowed signers (see `man ssh-keygen`) and, where given, who of them."""

    allowed: Path
    identity: str | None = None


@dataclass(frozen=True)
class Signature:
    """A signature that holds: the fingerprint of its key and, where signers were given, whose key it is."""

    key: str
    signer: str | None


def fingerprint(key: Path) -> str:
    """The fingerprint of a key, as SHA256:... Raises DataError when ssh-keygen cannot read it."""
    done = _call("-l", "-f", str(key))
    if found := _fingerprint(done.stdout):
        return found
    raise DataError(f"{key} is not an SSH key that {TOOL} can read ({_said(done)}); make one: {TOOL} -t ed25519")


def sign(content: bytes, key: Path) -> bytes:
    """A signature over a file's content, as the text that belongs beside it. May ask for a passphrase."""
    done = _call("-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key), given=content)
    if done.returncode:
        raise DataError(f"{TOOL} cannot sign with {key}: {_said(done)}")
    return done.stdout


def check(content: bytes, file: Path, signers: AllowedSigners | None) -> Signature:
    """Checks the signature in a file against the content that it is said to sign.

    Without signers it is only checked that the key in the signature has signed. Raises ForgedError, saying why.
    """
    # ssh-keygen reads over white space; here every bit of the file counts.
    if not _is_plain(file.read_bytes()):
        raise BadSignatureError(f"is not as {TOOL} writes a signature")
    common = ["-n", NAMESPACE, "-s", str(file)]
    if signers is None:
        done = _call("-Y", "check-novalidate", *common, given=content)
        signer = None
    else:
        signer = signers.identity or _principal(file, signers.allowed)
        done = _call("-Y", "verify", "-f", str(signers.allowed), "-I", signer, *common, given=content)
    key = _fingerprint(done.stdout)
    if done.returncode or key is None:
        raise BadSignatureError(f"does not hold{f' for {signer}' if signer else ''}: {_said(done)}")
    return Signature(key, signer)


def _principal(file: Path, allowed: Path) -> str:
    done = _call("-Y", "find-principals", "-s", str(file), "-f", str(allowed))
    if done.returncode or not done.stdout.strip():
        raise BadSignatureError(f"is by a key that {allowed} does not allow")
    return done.stdout.decode().split("\n")[0].split(",")[0]


def _is_plain(written: bytes) -> bool:
    """Whether a signature's text is exactly what encoding its bytes again gives."""
    lines = written.split(b"\n")
    try:
        code = base64.b64encode(base64.b64decode(b"".join(lines[1:-2]), validate=True))
    except binascii.Error:
        return False
    wrapped = [code[start : start + _COLUMNS] for start in range(0, len(code), _COLUMNS)]
    return lines == [_BEGIN, *wrapped, _END, b""]


def _fingerprint(said: bytes) -> str | None:
    found = re.search(rb"SHA256:[A-Za-z0-9+/=]+", said)
    return found[0].decode() if found else None


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join((done.stderr or done.stdout).decode(errors="replace").split()) or f"status {done.returncode}"


def _call(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run([TOOL, *arguments], input=given, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise ToolMissingError(
            f"there is no {TOOL} on this machine, which signs and checks signatures; install OpenSSH (8.2 or newer)"
        ) from error
