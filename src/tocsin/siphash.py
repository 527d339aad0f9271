"""The keyed hash of one text, row by row: slow, plain, and ready without a compiler.

Enters: bytes and a key. Leaves: 16 bytes, the same as `hashing` gives for whole columns. Layer: ground floor.

A command that writes one comment into a log hashes one row; loading the compiled hash for it would take a second.
"""

from __future__ import annotations

from typing import Final

_WORD: Final = (1 << 64) - 1


def _rotated(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & _WORD


def _mixed(v: list[int], rounds: int) -> None:
    for _ in range(rounds):
        v[0] = (v[0] + v[1]) & _WORD
        v[2] = (v[2] + v[3]) & _WORD
        v[1] = _rotated(v[1], 13) ^ v[0]
        v[3] = _rotated(v[3], 16) ^ v[2]
        v[0] = _rotated(v[0], 32)
        v[2] = (v[2] + v[1]) & _WORD
        v[0] = (v[0] + v[3]) & _WORD
        v[1] = _rotated(v[1], 17) ^ v[2]
        v[3] = _rotated(v[3], 21) ^ v[0]
        v[2] = _rotated(v[2], 32)


def siphash_128(message: bytes, key: bytes) -> bytes:
    """Return SipHash-2-4 with 128 bits of output, as the paper writes it (Aumasson and Bernstein 2012, section 2).

    >>> siphash_128(b"", bytes(range(16))).hex()
    'a3817f04ba25a8e66df67214c7550293'
    """
    k = [int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")]
    start = b"somepseudorandomlygeneratedbytes"
    v = [int.from_bytes(start[i : i + 8], "big") ^ k[i // 8 % 2] for i in range(0, 32, 8)]
    v[1] ^= 0xEE
    padded = message + bytes(-(len(message) + 1) % 8) + bytes([len(message) & 255])
    for i in range(0, len(padded), 8):
        m = int.from_bytes(padded[i : i + 8], "little")
        v[3] ^= m
        _mixed(v, 2)
        v[0] ^= m
    v[2] ^= 0xEE
    _mixed(v, 4)
    out = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    _mixed(v, 4)
    return out.to_bytes(8, "little") + (v[0] ^ v[1] ^ v[2] ^ v[3]).to_bytes(8, "little")
