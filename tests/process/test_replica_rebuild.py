#!/usr/bin/env python3
"""jumun replica rebuild, which waits, while the replica loses the rebuild or has no room: the end
of the process loses it, and then nothing comes that could be waited for.

Between the command and a real replica stands somebody who answers the rebuild himself, as it was
answered before: for the replica there is none, as behind a restart.

  test_replica_rebuild.py JUMUND JUMUN_REPLICA JUMUN
"""
import os
import re
import socket
import struct
import subprocess
import sys
import threading

from replica_process import (HELLO, PATIENCE, Lone, ask, check, exactly, exchange, folder, message,
                             packb)

STATUS, REBUILD = 102, 208


def number_behind(name, body):
    """Where a small number stands in it, which is the value of that name."""
    at = body.index(name.encode()) + len(name)
    check(body[at] < 0x7f, f'{name} is a small number: {body[at]:#x}')
    return at


class Between:
    """Listens for the command. `full`: so many statuses say that the disk is."""

    def __init__(self, replica):
        self.replica = replica
        self.rebuilt = exchange(replica, packb([1, None, [[REBUILD, 'board']]]))
        self.full = self.asked = 0
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.url = 'tcp://127.0.0.1:%d' % self.listener.getsockname()[1]
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            s, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        try:
            s.sendall(bytes.fromhex('0053500000310000'))
            exactly(s, len(HELLO))
            while True:
                request = message(s)
                ids = 4
                while not request[ids - 4] & 0x80:
                    ids += 4
                reply = request[:ids] + self.answer(request[ids:])
                s.sendall(struct.pack('>Q', len(reply)) + reply)
        except OSError:
            s.close()

    def answer(self, body):
        if b'\xcc\xd0' in body and b'board' in body:
            self.asked += 1
            return self.rebuilt
        reply = exchange(self.replica, body)
        if b'no_room' in reply and self.asked and self.full:
            self.full -= 1
            return as_full(reply)
        return reply


def as_full(status):
    """With no room, and with a rebuild that stands still."""
    status = status.replace(b'no_room\xc2', b'no_room\xc3')
    empty = re.compile(rb'building(\x80|\xde\0\0|\xdf\0\0\0\0)(?=.{1,2}built)', re.DOTALL)
    found = empty.search(status)
    check(found is not None, 'nothing is built')
    one = {1: b'\x81', 3: b'\xde\0\1', 5: b'\xdf\0\0\0\1'}[len(found.group(1))]
    return status[:found.start(1)] + one + b'\xa5board\0' + status[found.end(1):]


def test(work, jumund, replica, jumun):
    cluster = Lone(work, 'one', jumund, replica)
    between = Between(cluster.url)

    def generation():
        return ask(cluster.url, [1, 0, [[STATUS]]])[2][0][5]['generations']['board']

    def rebuild(*words):
        run = subprocess.run([jumun, '--timeout', '60s', 'replica', 'rebuild', 'board', '--replica',
                              between.url, *words], capture_output=True, text=True, check=False,
                             timeout=PATIENCE)
        return run.returncode, run.stdout + run.stderr

    at = number_behind('generation', between.rebuilt)
    replaced = between.rebuilt[at]
    for _ in range(PATIENCE * 10):
        if generation() > replaced:
            break
        threading.Event().wait(0.1)
    code, told = rebuild()
    check(code == 0 and 'is rebuilt of' in told, f'it is done, whoever asked for it: {told}')
    now = between.rebuilt[:at] + bytes([generation()]) + between.rebuilt[at + 1:]
    between.rebuilt = now
    code, told = rebuild()
    check(code == 3 and 'is to be asked for again' in told, f'{code}: a lost one is told: {told}')
    check('no room' not in told, f'there is room: {told}')
    between.full = 5
    code, told = rebuild()
    check(code == 3 and told.count('no room on its disk') == 1 and between.full == 0 and
          'is to be asked for again' in told, f'{code}: a full disk is told once: {told}')
    check(between.asked == 3, 'each was asked for once')


def main(*programs):
    with folder('rebuild') as work:
        test(work, *map(os.path.abspath, programs))
        print('a lost rebuild is not waited for')


if __name__ == '__main__':
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
