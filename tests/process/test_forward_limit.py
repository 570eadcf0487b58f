#!/usr/bin/env python3
"""Messages as long as the limit allows, to a node that does not lead: what fits behind the head
that nodes write is carried on, what does not is led to the leader, and their connection stands.

  test_forward_limit.py JUMUND JUMUN
"""
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from cluster_of_nodes import check, cluster, form  # noqa: E402
from pack import unpackb  # noqa: E402

MESSAGE_BYTES_MAX = 4 << 20
COMMANDS = 14
LINE_NAME_BYTES = 128
DONE, NOT_LEADER = 0, 4


def key():
    return struct.pack('>Q', time.time_ns() // 1_000_000)[2:] + os.urandom(10)


def line(name_bytes):
    return (b'\x94\xd9\x40' + b'k' * 64 + b'\x01\x01\xda' + struct.pack('>H', name_bytes) +
            b'n' * name_bytes)


def place(size):
    """A place of so many bytes, or None where no length of its last line's name gives it."""
    head = b'\x95\x01\xc4\x10' + key() + b'\xc4\x10' + os.urandom(16) + b'\xc0'

    def whole(lines, last):
        count = struct.pack('>H', lines)
        return (head + b'\x98\x03\x01\xa3KRW\xa1s\xdc' + count +
                line(LINE_NAME_BYTES) * (lines - 1) + line(last) + b'\x00\x00\xcd' + count)

    about = (size - len(whole(1, 1))) // (LINE_NAME_BYTES + 72)
    for lines in (about + 1, about, about - 1):
        last = size - len(whole(lines, 0))
        if 1 <= last <= LINE_NAME_BYTES:
            return whole(lines, last)
    return None


def message(size):
    """The shortest head in front of as many bytes of commands."""
    part = (size - 4) // COMMANDS
    while place(part) is None or place(size - 4 - (COMMANDS - 1) * part) is None:
        part -= 1
    sizes = [part] * (COMMANDS - 1) + [size - 4 - (COMMANDS - 1) * part]
    whole = b'\x93\x01\xc0' + bytes([0x90 + COMMANDS]) + b''.join(map(place, sizes))
    check(len(whole) == size, 'the message has its size')
    return whole


def ask(url, request):
    with socket.create_connection(('127.0.0.1', int(url.rsplit(':', 1)[1])), timeout=60) as s:
        s.sendall(bytes.fromhex('0053500000300000'))
        file = s.makefile('rb')
        file.read(8)
        s.sendall(struct.pack('>QI', 4 + len(request), 1 << 31) + request)
        _, code, results = unpackb(file.read(struct.unpack('>Q', file.read(8))[0])[4:])
    check(code == 0, 'the message is not refused: %r' % code)
    return results


def look(c, leader):
    """What is not as it shall be while this node leads; None = nothing."""
    follower = (leader + 1) % 3
    host, _, port = c.url(leader).rpartition(':')
    there = '%s:%d' % (host, int(port) + 1)     # of its shard
    for below, code in ((100, DONE), (30, DONE), (10, NOT_LEADER), (5, NOT_LEADER), (100, DONE)):
        results = ask(c.url(follower), message(MESSAGE_BYTES_MAX - below))
        if [r[0] for r in results] != [code] * COMMANDS:
            return '%d bytes below the limit: %r' % (below, [r[0] for r in results])
        if code != DONE and any(r[7] != there for r in results):
            return 'the leader is not named'
    results = ask(c.url(leader), message(MESSAGE_BYTES_MAX - 5))
    return None if [r[0] for r in results] == [DONE] * COMMANDS else 'the leader does not take it'


with cluster('forward-limit') as c:
    for node in range(3):
        c.start(node)
    form(c, range(3), '--shards', '1')
    c.place_orders(1)
    told = 'nobody leads'
    for _ in range(10):                 # on a busy machine another one may come to lead
        row = c.status()['shards'][0]
        told = look(c, row['leader'] - 1) if row['leader'] else told
        now = c.status()['shards'][0]
        if told is None or (now['leader'], now['term']) == (row['leader'], row['term']):
            break
    check(told is None, told)
print('what is too long to be carried on is led to the leader')
