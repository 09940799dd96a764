"""The C library's allocator, told to keep what torch frees."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Let freed memory stay with this process, so that a training step on the CPU does not fault it in page by page.

    glibc hands large blocks back to the system when they are freed; every activation of every step is then mapped and
    zeroed anew. Differs from the default in nothing but speed, and in that memory use stays at its peak. Does nothing
    where the C library is not glibc; says whether it did something.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
