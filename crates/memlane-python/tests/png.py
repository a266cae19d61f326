"""PNG files of 8 and 16 bits a channel, written and read without any library."""

import struct
import zlib
from pathlib import Path

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLORS = {1: 0, 2: 4, 3: 2, 4: 6}
"""The kind of colour that PNG has for so many channels."""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write(path: Path, image: np.ndarray) -> Path:
    """An array of (height, width) or (height, width, channels), of u1 or u2."""
    height, width = image.shape[:2]
    channels = image.shape[2] if image.ndim == 3 else 1
    rows = image.astype(image.dtype.newbyteorder(">")).reshape(height, -1).view("u1")
    filtered = np.pad(rows, ((0, 0), (1, 0)))  # each row after the number of its filter: none
    header = struct.pack(">IIBBBBB", width, height, image.dtype.itemsize * 8, COLORS[channels], 0, 0, 0)
    data = zlib.compress(filtered.tobytes(), 1)
    path.write_bytes(SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def read(path: Path) -> np.ndarray:
    raw = path.read_bytes()
    assert raw.startswith(SIGNATURE)
    header, data, at = b"", b"", len(SIGNATURE)
    while at < len(raw):
        (length,) = struct.unpack_from(">I", raw, at)
        kind, content = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]
        header = content if kind == b"IHDR" else header
        data += content if kind == b"IDAT" else b""
        at += 12 + length
    width, height, bits, color, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    assert not interlaced
    channels = next(channels for channels, its in COLORS.items() if its == color)
    pixel = channels * bits // 8
    rows = np.frombuffer(zlib.decompress(data), "u1").reshape(height, 1 + width * pixel)
    image = np.zeros((height, width * pixel), "u1")
    above = np.zeros(width * pixel, "u1")
    for index, row in enumerate(rows):
        above = image[index] = unfiltered(row[0], row[1:], above, pixel)
    samples = image.view(">u2" if bits == 16 else "u1").astype("u2" if bits == 16 else "u1")
    return samples.reshape((height, width) if channels == 1 else (height, width, channels))


def unfiltered(kind: int, row: np.ndarray, above: np.ndarray, pixel: int) -> np.ndarray:
    if kind == 0:
        return row
    if kind == 2:
        return row + above
    out = [0] * pixel + row.tolist()
    up = [0] * pixel + above.tolist()
    for index in range(pixel, len(out)):
        left, upper, corner = out[index - pixel], up[index], up[index - pixel]
        if kind == 1:
            predicted = left
        elif kind == 3:
            predicted = (left + upper) // 2
        else:
            predicted = min((left, upper, corner), key=lambda value: abs(left + upper - corner - value))
        out[index] = (out[index] + predicted) % 256
    return np.array(out[pixel:], "u1")
