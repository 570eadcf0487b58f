"""Ports for the programs that a test starts; tests/lib/ports.h is the same for C.

The system gives ports of its own choice to connections that go out, so one that a test let go for
the time of a restart could be taken by any client. These lie below those. A test keeps what it has
picked from all others, whatever runs beside it, until its process ends: each block of ports has a
socket with a name (the kernel's, not the file system's), and who holds it holds the ports.
"""
import os
import socket

FIRST, BLOCK, BLOCKS = 20000, 50, 220     # up to 30999; the same in tests/lib/ports.c
_held = []


def _take_block(block):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        s.bind('\0jumun-test-ports-%d' % block)
        return s
    except OSError:
        s.close()
        return None


def _is_free(port):
    for host in ('127.0.0.1', '0.0.0.0'):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((host, port))
            except OSError:
                return False
    return True


def pick(count):
    """The first of `count` ports in a row that nobody uses now and no other test will."""
    needed = -(-count // BLOCK)
    start = os.getpid() * 7 % BLOCKS
    for i in range(BLOCKS):
        first = (start + i) % BLOCKS
        port = FIRST + first * BLOCK
        if first + needed > BLOCKS:
            continue
        taken = []
        for block in range(first, first + needed):
            s = _take_block(block)
            if s is None:
                break
            taken.append(s)
        if len(taken) == needed and all(map(_is_free, range(port, port + count))):
            _held.extend(taken)
            return port
        for s in taken:
            s.close()
    raise SystemExit('FAILED: no %d free ports in a row' % count)
