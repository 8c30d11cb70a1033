"""CRC-32C (Castagnoli, RFC 3720): the checksum of what the stand-in for S3 is sent. A loop over tables, compiled with cc where there is one, for
Python's own takes ten seconds for what is sent in one test."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = """
#include <stddef.h>
#include <stdint.h>
uint32_t crc32c(const unsigned char *p, size_t n, const uint32_t *table)
{
  uint32_t crc = 0xffffffffu;
  while (n--)
    crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
  return crc ^ 0xffffffffu;
}
"""


def row(value):
    for _ in range(8):
        value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
    return value


TABLE = [row(value) for value in range(256)]


def slowly(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


@functools.cache
def compiled():
    """The C function, or None."""
    compiler = shutil.which("cc")
    if not compiler:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "crc32c.c"), Path(folder, "crc32c.so")
        source.write_text(SOURCE)
        if subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=False).returncode:
            return None
        function = ctypes.CDLL(str(library)).crc32c
    function.restype = ctypes.c_uint32
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32 * 256]
    table = (ctypes.c_uint32 * 256)(*TABLE)
    return lambda data: function(data, len(data), table)


def crc32c(data):
    fast = compiled() if len(data) > 65536 else None
    return fast(bytes(data)) if fast else slowly(data)
