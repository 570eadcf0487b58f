#!/usr/bin/env python3
"""Peers that leave in the middle of a greeting: they connect, end their side and reset; or, with
encryption, leave after their second flight of the handshake. They come to every port that a node, a
replica and a waiting node listen at, and all of these must go on as if nobody had come. Others
speak another protocol, and are counted as they came and went. With
"deaf" one more asks and does not read: its replies are given up, and counted.

  test_rude_peers.py JUMUND JUMUN JUMUN_REPLICA JUMUN_REPLAY [deaf]
"""
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import certificates  # noqa: E402
import ports  # noqa: E402

PATIENCE = 120
RESETS, HANDSHAKES = 60, 12
STATUS, ASKED = 102, 6000


def check(good, what):
    if not good:
        raise SystemExit('FAILED: ' + what)


def listening(pid):
    """The TCP ports that a process listens at."""
    inodes = set()
    for fd in os.listdir(f'/proc/{pid}/fd'):
        try:
            inodes.add(os.readlink(f'/proc/{pid}/fd/{fd}'))
        except OSError:
            pass
    found = set()
    for table in ('tcp', 'tcp6'):
        with open(f'/proc/{pid}/net/{table}', encoding='utf-8') as lines:
            for line in list(lines)[1:]:
                words = line.split()
                if words[3] == '0A' and f'socket:[{words[9]}]' in inodes:
                    found.add(int(words[1].split(':')[1], 16))
    return sorted(found)


def reset(port):
    """Ends its side, and then there is nobody any more."""
    with socket.create_connection(('127.0.0.1', port), timeout=PATIENCE) as s:
        s.shutdown(socket.SHUT_WR)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


def leave_handshake(port, context):
    """Sends its second flight, which the other side has to answer, and leaves."""
    come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(come, go, server_hostname='localhost')
    flights = 0
    with socket.create_connection(('127.0.0.1', port), timeout=PATIENCE) as s:
        while flights < 2:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            flight = go.read()
            if flight:
                flights += 1
                s.sendall(flight)
            if flights == 2:
                break
            data = s.recv(65536)
            if not data:
                return
            come.write(data)
        s.shutdown(socket.SHUT_RDWR)


def ask_and_not_read(port):
    """Asks for more than what a connection holds. Returns the connection."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(PATIENCE)
    s.connect(('127.0.0.1', port))
    s.sendall(b'\0SP\0\0\x30\0\0')
    check(len(s.recv(8)) == 8, 'a greeting')
    body = b'\x93\x01\xc0\x91\x95' + bytes([STATUS]) + b'\xc0\xc0\xc0\x90'
    for number in range(ASKED):
        message = struct.pack('>I', 0x80000000 | number) + body
        try:
            s.sendall(struct.pack('>Q', len(message)) + message)
        except ConnectionError:     # given up already
            break
    return s


def count_strangers(w, node, port):
    """They want to be told of news (SP's SUB), where questions are answered."""
    for _ in range(RESETS):
        with socket.create_connection(('127.0.0.1', port), timeout=PATIENCE) as s:
            s.sendall(b'\0SP\0\0\x21\0\0')
            while s.recv(64):
                pass
    until = time.monotonic() + PATIENCE
    while not RESETS < (count := json.loads(w.cli('--endpoint', node, '--json', 'status'))[
            'connections'])['closed'] == count['opened'] - count['open']:
        check(time.monotonic() < until, f'strangers are counted: {count}')
        time.sleep(0.1)
    check(0 < count['open'] < RESETS, f'those that are there are counted: {count}')


class World:
    def __init__(self, jumun, folder, tls):
        self.jumun, self.folder, self.tls, self.running = jumun, folder, tls, []

    def start(self, word, *arguments):
        with open(f'{self.folder}/log', 'a', encoding='utf-8') as log:
            process = subprocess.Popen([*arguments, *self.tls], stdout=subprocess.PIPE, stderr=log,
                                       text=True)
        self.running.append(process)
        told = process.stdout.readline()
        check(word in told, f'{arguments[0]} starts: {told}')
        return process

    def run(self, *arguments):
        done = subprocess.run([*arguments, *self.tls], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=2 * PATIENCE,
                              check=False)
        check(done.returncode == 0, f'{" ".join(arguments)}: {done.returncode}\n{done.stdout}')
        return done.stdout

    def cli(self, *words):
        return self.run(self.jumun, '--timeout', f'{PATIENCE}s', *words)

    def attack(self, found, context):
        for port in found:
            for _ in range(RESETS):
                reset(port)
            for _ in range(HANDSHAKES if context else 0):
                leave_handshake(port, context)

    def end(self):
        for process in self.running:
            process.kill()
            process.wait()


def node_and_replica(w, scheme, context, jumund, jumun_replica, jumun_replay, deaf):
    base = ports.pick(45)
    node, replica, late = (f'{scheme}://localhost:{base + n}' for n in (5, 20, 25))
    data = f'{w.folder}/data'
    serving = w.start('ready', jumund, '--data', data, '--listen', node, '--shards', '1',
                      '--no-pin')
    following = w.start('ready', jumun_replica, '--data', f'{w.folder}/replica', '--nodes', node,
                        '--listen', replica)
    found = listening(serving.pid)
    check(len(found) >= 3, f'general, shard, feed: {found}')
    w.attack(found + listening(following.pid), context)

    key = w.cli('--endpoint', node, '--quiet', 'place', '--store', 'store-1', '--currency', 'KRW',
                '--line', 'a:1:100').strip()
    order = json.loads(w.cli('--endpoint', node, '--json', 'get', key))
    check(order['state'] == 'placed', 'the node serves')
    w.start('ready', jumun_replica, '--data', f'{w.folder}/late', '--nodes', node, '--listen', late)
    for url in (replica, late):
        until = time.monotonic() + PATIENCE
        while key not in w.cli('--json', 'orders', '--store', 'store-1', '--replica', url):
            check(time.monotonic() < until, f'{url} has the order')
            time.sleep(0.1)
    w.run(jumun_replay, '--quiet', 'verify', node)
    if context is None:
        count_strangers(w, node, base + 5)
    if context is None and deaf:
        deaf_client(w, node, base + 5)

    waiting_url = f'{scheme}://localhost:{base + 35}'
    w.start('waiting', jumund, '--data', f'{w.folder}/waiting', '--listen', waiting_url,
                      '--no-pin', '--cluster-wait')
    w.attack([base + 35], context)     # those of its peers it only holds
    w.cli('--endpoint', waiting_url, 'ping')


def deaf_client(w, node, port):
    deaf = ask_and_not_read(port)
    until = time.monotonic() + PATIENCE
    while not json.loads(w.cli('--endpoint', node, '--json', 'status'))['messages'][
            'replies_dropped']:
        check(time.monotonic() < until, 'replies that nobody reads are given up, and counted')
        time.sleep(0.2)
    deaf.close()


def main(jumund, jumun, jumun_replica, jumun_replay, deaf=None):
    for scheme in ('tcp', 'tls+tcp'):
        folder = tempfile.mkdtemp(prefix='jumun-rude-', dir=os.environ.get('TMPDIR', '/tmp'))
        tls, context = [], None
        w, good = None, False
        try:
            if scheme == 'tls+tcp':
                if not certificates.make(folder, 'ours'):
                    print('no openssl: without encryption only')
                    return
                tls = certificates.options(folder, 'ours')
                context = ssl.create_default_context(cafile=f'{folder}/ours-ca.pem')
                context.load_cert_chain(f'{folder}/ours.pem', f'{folder}/ours.key')
            w = World(jumun, folder, tls)
            node_and_replica(w, scheme, context, jumund, jumun_replica, jumun_replay, deaf)
            good = True
        finally:
            if w:
                w.end()
            if not good and os.path.exists(f'{folder}/log'):
                print(open(f'{folder}/log', encoding='utf-8').read()[-4000:])
            shutil.rmtree(folder)


if __name__ == '__main__':
    if len(sys.argv) not in (5, 6) or sys.argv[5:] not in ([], ['deaf']):
        sys.exit(__doc__)
    main(*sys.argv[1:])
