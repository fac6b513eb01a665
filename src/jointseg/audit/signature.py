"""Signatures of releases, created and verified with OpenSSH (`ssh-keygen -Y`)."""

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
    """ssh-keygen is not installed."""


class BadSignatureError(Exception):
    """A signature is invalid."""


@dataclass(frozen=True)
class AllowedSigners:
    """Accepted signers: a file of allowed signers (see `man ssh-keygen`) and optionally one name in it."""

    file: Path
    identity: str | None = None


@dataclass(frozen=True)
class Signature:
    """A valid signature: the fingerprint of its key and, if allowed signers were passed, the name of the signer."""

    key: str
    signer: str | None


def fingerprint(key: Path) -> str:
    """Return the fingerprint of a key as SHA256:... Raises DataError if ssh-keygen cannot read the key."""
    done = _call("-l", "-f", str(key))
    if found := _find_fingerprint(done.stdout):
        return found
    raise DataError(f"{TOOL} cannot read the SSH key {key} ({_message(done)}); create a key: {TOOL} -t ed25519")


def sign(content: bytes, key: Path) -> bytes:
    """Return the signature of a content as the text of a .sig file. May prompt for a passphrase."""
    done = _call("-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key), stdin=content)
    if done.returncode:
        raise DataError(f"{TOOL} cannot sign with {key}: {_message(done)}")
    return done.stdout


def check(content: bytes, file: Path, signers: AllowedSigners | None) -> Signature:
    """Verify the signature in a file against a content. Raises BadSignatureError with the reason.

    Without signers, any key is accepted.
    """
    # ssh-keygen ignores white space; here every byte of the file matters.
    if not _is_canonical(file.read_bytes()):
        raise BadSignatureError(f"is not in the format of {TOOL}")
    common = ["-n", NAMESPACE, "-s", str(file)]
    if signers is None:
        done = _call("-Y", "check-novalidate", *common, stdin=content)
        signer = None
    else:
        signer = signers.identity or _principal(file, signers.file)
        done = _call("-Y", "verify", "-f", str(signers.file), "-I", signer, *common, stdin=content)
    key = _find_fingerprint(done.stdout)
    if done.returncode or key is None:
        raise BadSignatureError(f"is not valid{f' for {signer}' if signer else ''}: {_message(done)}")
    return Signature(key, signer)


def _principal(file: Path, allowed: Path) -> str:
    done = _call("-Y", "find-principals", "-s", str(file), "-f", str(allowed))
    if done.returncode or not done.stdout.strip():
        raise BadSignatureError(f"is by a key that is not in {allowed}")
    return done.stdout.decode().split("\n")[0].split(",")[0]


def _is_canonical(text: bytes) -> bool:
    """Whether decoding and encoding a signature file gives the same bytes."""
    lines = text.split(b"\n")
    try:
        code = base64.b64encode(base64.b64decode(b"".join(lines[1:-2]), validate=True))
    except binascii.Error:
        return False
    wrapped = [code[start : start + _COLUMNS] for start in range(0, len(code), _COLUMNS)]
    return lines == [_BEGIN, *wrapped, _END, b""]


def _find_fingerprint(output: bytes) -> str | None:
    found = re.search(rb"SHA256:[A-Za-z0-9+/=]+", output)
    return found[0].decode() if found else None


def _message(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join((done.stderr or done.stdout).decode(errors="replace").split()) or f"status {done.returncode}"


def _call(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run([TOOL, *arguments], input=stdin, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise ToolMissingError(f"{TOOL} is not installed; install OpenSSH (8.2 or newer)") from error
