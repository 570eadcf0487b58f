#!/usr/bin/env python3
"""A client that asks and does not read, at a node and at a replica. However much it asks, others go
on being answered while it is there; its replies are given up, and counted, and while it asks it is
not cut off. Some that die while they ask: every connection is given back, and a stop ends.

  test_deaf_clients.py JUMUND JUMUN JUMUN_REPLICA
"""
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import ports  # noqa: E402

PATIENCE = 150
ASKED, CALLS, DYING = 6000, 20, 40
STATUS_OF_NODE = b'\x93\x01\xc0\x91\x95\x66\xc0\xc0\xc0\x90'
STATUS_OF_REPLICA = b'\x93\x01\xc0\x91\x91\x66'


def check(good, what):
    if not good:
        raise SystemExit('FAILED: ' + what)


def receive(s, count):
    data = b''
    while len(data) < count:
        more = s.recv(count - len(data))
        check(more, 'the connection stands')
        data += more
    return data


class Deaf(threading.Thread):
    """Asks for much more than what a connection holds, and then goes on asking."""

    def __init__(self, port, body):
        super().__init__(daemon=True)
        self.body, self.number, self.asked, self.fault = body, 0, 0, None
        self.silent = threading.Event()
        self.s = socket.socket()
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.s.settimeout(PATIENCE)
        self.s.connect(('127.0.0.1', port))
        self.s.sendall(b'\0SP\0\0\x30\0\0')
        receive(self.s, 8)

    def ask(self):
        message = struct.pack('>I', 0x80000000 | self.number) + self.body
        self.s.sendall(struct.pack('>Q', len(message)) + message)
        self.number += 1

    def run(self):
        try:
            while not self.silent.is_set():
                self.ask()
                self.asked += 1
                if self.asked > ASKED:
                    time.sleep(0.02)
        except OSError as e:
            self.fault = e

    def end(self):
        self.silent.set()
        self.join()
        check(self.fault is None, f'it is not cut off while it asks: {self.fault}')
        self.s.close()


class World:
    def __init__(self, jumun, folder):
        self.jumun, self.folder, self.running = jumun, folder, []

    def start(self, *arguments):
        with open(f'{self.folder}/log', 'a', encoding='utf-8') as log:
            process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
        self.running.append(process)
        told = process.stdout.readline()
        check('ready' in told, f'{arguments[0]} starts: {told}')
        return process

    def cli(self, *words):
        done = subprocess.run([self.jumun, '--timeout', '60s', *words], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False)
        check(done.returncode == 0, f'{" ".join(words)}: {done.returncode}\n{done.stdout}')
        return done.stdout

    def end(self):
        for process in self.running:
            process.kill()
            process.wait()


def die_asking(port, body):
    """Each resets its connection with most of its questions unread, or being answered."""
    for _ in range(DYING):
        deaf = Deaf(port, body)
        for _ in range(ASKED // 4):
            deaf.ask()
        deaf.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        deaf.s.close()


def descriptors_come_back(process, port, body):
    before = len(os.listdir(f'/proc/{process.pid}/fd'))
    die_asking(port, body)
    until = time.monotonic() + PATIENCE
    while len(os.listdir(f'/proc/{process.pid}/fd')) > before + DYING // 4:
        check(time.monotonic() < until, f'{process.args[0]} gives descriptors back')
        time.sleep(0.1)


def others_are_answered(what, deaf, call, dropped):
    """`call` is somebody else's; `dropped` tells how many replies were given up so far."""
    deaf.start()
    until = time.monotonic() + PATIENCE
    calls = 0
    while calls < CALLS or dropped() < ASKED / 4 or deaf.asked <= ASKED:
        check(deaf.fault is None, f'{what}: it is not cut off while it asks: {deaf.fault}')
        check(time.monotonic() < until,
              f'{what}: {calls} calls, {dropped()} given up, {deaf.asked} asked')
        call()
        calls += 1
    deaf.end()
    print(f'{what}: {calls} calls beside {deaf.asked} of the deaf one, {dropped()} given up')


def run(w, jumund, jumun_replica):
    base = ports.pick(30)
    node, replica = f'tcp://127.0.0.1:{base + 2}', f'tcp://127.0.0.1:{base + 20}'
    serving = w.start(jumund, '--data', f'{w.folder}/data', '--listen', node, '--shards', '1',
                      '--no-pin')
    following = w.start(jumun_replica, '--data', f'{w.folder}/replica', '--nodes', node, '--listen',
                        replica)
    key = w.cli('--endpoint', node, '--quiet', 'place', '--store', 'store-1', '--currency', 'KRW',
                '--line', 'a:1:100').strip()
    until = time.monotonic() + PATIENCE
    while key not in w.cli('--json', 'orders', '--store', 'store-1', '--replica', replica):
        check(time.monotonic() < until, 'the replica has the order')
        time.sleep(0.1)

    def given_up_by_node():
        return json.loads(w.cli('--endpoint', node, '--json', 'status'))['messages'][
            'replies_dropped']

    def given_up_by_replica():
        told = json.loads(w.cli('--json', 'replica', 'status', '--replica', replica))
        return (told[0]['status'] if isinstance(told, list) else told)['queries'][
            'replies_dropped']

    def ask_node():
        check(key in w.cli('--endpoint', node, '--json', 'get', key), 'the node has the order')

    def ask_replica():
        check(key in w.cli('--json', 'orders', '--store', 'store-1', '--replica', replica),
              'the replica has the order')

    others_are_answered('node', Deaf(base + 2, STATUS_OF_NODE), ask_node, given_up_by_node)
    others_are_answered('replica', Deaf(base + 20, STATUS_OF_REPLICA), ask_replica,
                        given_up_by_replica)
    descriptors_come_back(following, base + 20, STATUS_OF_REPLICA)
    descriptors_come_back(serving, base + 2, STATUS_OF_NODE)
    ask_replica()
    ask_node()
    for process in (following, serving):
        process.terminate()
        check(process.wait(PATIENCE) == 0, f'{process.args[0]} ends')


def main(jumund, jumun, jumun_replica):
    folder = tempfile.mkdtemp(prefix='jumun-deaf-', dir=os.environ.get('TMPDIR', '/tmp'))
    w, good = World(jumun, folder), False
    try:
        run(w, jumund, jumun_replica)
        good = True
    finally:
        w.end()
        if not good and os.path.exists(f'{folder}/log'):
            print(open(f'{folder}/log', encoding='utf-8').read()[-4000:])
        shutil.rmtree(folder)


if __name__ == '__main__':
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
