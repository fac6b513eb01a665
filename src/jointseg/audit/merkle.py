"""The Merkle tree hash of RFC 6962, section 2.1, over the manifests of a run."""

from hashlib import sha256

LEAF, NODE = b"\x00", b"\x01"


def root(leaves: dict[str, str]) -> str:
    """Return the root hash, as hexadecimal digits, of files given as sha256 (hexadecimal) by path.

    Leaves are sorted by path. A leaf consists of the path, a zero byte and the sha256 as 64 hexadecimal digits.
    """
    return tree_hash([f"{path}\0{digest}".encode() for path, digest in sorted(leaves.items())]).hex()


def tree_hash(contents: list[bytes]) -> bytes:
    """Return the Merkle tree hash of a list of leaves, 32 bytes.

    RFC 6962 splits a list at the largest power of two below its length. Hashing neighbours in pairs, and promoting an
    odd last node unchanged, gives the same tree.
    """
    level = [sha256(LEAF + content).digest() for content in contents]
    if not level:
        return sha256().digest()
    while len(level) > 1:
        pairs = [sha256(NODE + left + right).digest() for left, right in zip(level[::2], level[1::2])]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]
