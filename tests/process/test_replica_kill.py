#!/usr/bin/env python3
"""A replica is killed (-9) over and over while a node takes its full load, and so is the node once.
In the end it must hold exactly what a replica holds that was made from the log from scratch: every
order, byte for byte, and every counter. Tokens must never go back while a replica lives.

  test_replica_kill.py JUMUND JUMUN_REPLICA JUMUN_BENCH
"""
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import ports  # noqa: E402

WAIT_SECONDS = 60
AGREE_SECONDS = 120
KILLS = 5


def pack(o):
    if o is None:
        return b'\xc0'
    if isinstance(o, int):
        return bytes([o]) if 0 <= o < 128 else b'\xd3' + struct.pack('>q', o)
    if isinstance(o, str):
        data = o.encode()
        return b'\xdb' + struct.pack('>I', len(data)) + data
    if isinstance(o, bytes):
        return b'\xc6' + struct.pack('>I', len(o)) + o
    return b'\xdd' + struct.pack('>I', len(o)) + b''.join(map(pack, o))


def unpack(b, i=0):
    """-> (value, index behind it)"""
    t = b[i]
    i += 1
    if t < 0x80:
        return t, i
    if t >= 0xe0:
        return t - 256, i
    if t < 0xa0:
        return unpack_items(b, i, t & 15, t < 0x90)
    if t < 0xc0:
        return b[i:i + (t & 31)].decode(), i + (t & 31)
    if t == 0xc0:
        return None, i
    if t in (0xc2, 0xc3):
        return t == 0xc3, i
    if 0xcc <= t <= 0xd3:
        size = 1 << (t & 3)
        return int.from_bytes(b[i:i + size], 'big', signed=t >= 0xd0), i + size
    if t >= 0xdc:
        size = 2 if t in (0xdc, 0xde) else 4
        return unpack_items(b, i + size, int.from_bytes(b[i:i + size], 'big'), t >= 0xde)
    size = 1 << (t - (0xd9 if t >= 0xd9 else 0xc4))
    n = int.from_bytes(b[i:i + size], 'big')
    data = b[i + size:i + size + n]
    return (data.decode() if t >= 0xd9 else data), i + size + n


def unpack_items(b, i, n, is_map):
    items = []
    for _ in range(n * (2 if is_map else 1)):
        item, i = unpack(b, i)
        items.append(item)
    return (dict(zip(items[::2], items[1::2])) if is_map else items), i


def ask(endpoint, message):
    """One question on a connection of its own, in SP's words (docs/protocol.md)."""
    host, port = endpoint.split('//')[1].rsplit(':', 1)
    with socket.create_connection((host, int(port)), timeout=WAIT_SECONDS) as s:
        def read(n):
            data = b''
            while len(data) < n:
                part = s.recv(n - len(data))
                if not part:
                    raise ConnectionError('closed')
                data += part
            return data
        s.sendall(bytes.fromhex('0053500000300000'))
        read(8)
        body = struct.pack('>I', 0x80000001) + pack(message)
        s.sendall(struct.pack('>Q', len(body)) + body)
        reply = read(struct.unpack('>Q', read(8))[0])
        return unpack(reply[4:])[0]


class Program:
    started = []        # none outlives the test, however it ends

    def __init__(self, arguments, log):
        self.arguments, self.log, self.process = arguments, log, None

    def start(self):
        """Starts it and waits for its ready line; returns its endpoint."""
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(self.arguments, stdout=subprocess.PIPE, stderr=log)
        self.started.append(self.process)
        line = self.process.stdout.readline().decode()
        if ' ready: ' not in line:
            sys.exit(f'FAILED: {self.arguments[0]} did not start; see {self.log}\n'
                     + open(self.log, encoding='utf-8').read()[-2000:])
        return line.split()[2]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(2 * WAIT_SECONDS)
        self.process.stdout.close()
        if code != 0:
            sys.exit(f'FAILED: {self.arguments[0]} ended with {code}')


def everything(endpoint, demand):
    """All orders and counters, at one state or a newer one."""
    orders, counters = {}, []
    for state in range(1, 12):
        cursor = None
        while True:
            reply = ask(endpoint, [1, -WAIT_SECONDS * 1000,
                                   [[204, state, None, None, None, 1000, cursor]], demand])
            assert reply[1] == 0 and reply[2][0][0] == 0 and reply[4] == [], reply[:2]
            for row in reply[2][0][5]:
                orders[row['key']] = row
            if len(reply[2][0]) < 7:
                break
            cursor = reply[2][0][6]
    for bucket in (60000, 86400000):
        cursor = None
        while True:
            reply = ask(endpoint, [1, -WAIT_SECONDS * 1000,
                                   [[205, bucket, None, None, None, None, 1000, cursor]], demand])
            assert reply[1] == 0 and reply[2][0][0] == 0 and reply[4] == [], reply[:2]
            counters += reply[2][0][5]
            if len(reply[2][0]) < 7:
                break
            cursor = reply[2][0][6]
    return orders, counters


def tokens(endpoint):
    return {t[0]: t[1] for t in ask(endpoint, [1, 0, [[100]]])[3]}


def committed(endpoint):
    """What the node itself has: the newest durable index of each of its shards."""
    status = ask(endpoint, [1, None, [[102, None, None]]])[2][0][5]
    return {shard['shard']: shard['commit_index'] for shard in status['shards']}


def compare(node, endpoint, url, fresh_url):
    """Both replicas' orders and counters while both reflect the very same, no less than the node
    had committed. Deadlines of orders pass on the node all the time, and what follows from them
    comes to the replicas one after the other: so the node stands still meanwhile. Should they
    move all the same (what was on its way to them), then once more."""
    until = time.monotonic() + AGREE_SECONDS
    wanted = committed(endpoint)
    while time.monotonic() < until:
        time.sleep(0.05)
        node.process.send_signal(signal.SIGSTOP)
        now = tokens(url)
        if all(now.get(shard, 0) >= index for shard, index in wanted.items()):
            demand = [[shard, index] for shard, index in now.items()]
            if tokens(fresh_url) == now:
                one, other = everything(url, demand), everything(fresh_url, demand)
                if tokens(url) == now and tokens(fresh_url) == now:
                    node.process.send_signal(signal.SIGCONT)
                    return one, other
        node.process.send_signal(signal.SIGCONT)
    sys.exit(f'FAILED: the replicas never rested at one state: the node had {wanted}, '
             f'they have {tokens(url)} and {tokens(fresh_url)}')


def main(jumund, jumun_replica, jumun_bench):
    work = tempfile.mkdtemp(prefix='jumun-replica-kill-', dir=os.environ.get('TMPDIR', '/tmp'))
    print('directory:', work)

    def replica(name, node_endpoint):
        return Program([jumun_replica, '--data', f'{work}/{name}', '--nodes', node_endpoint,
                        '--listen', 'tcp://127.0.0.1:0', '--notify-listen', 'none',
                        '--map-size', '4G'], f'{work}/{name}.log')
    port = ports.pick(10)  # the node keeps its ports over the restart
    node = Program([jumund, '--data', f'{work}/node', '--listen', f'tcp://127.0.0.1:{port}',
                    '--shards', '2', '--no-pin', '--feed-listen', f'tcp://127.0.0.1:{port + 8}'],
                   f'{work}/node.log')
    endpoint = node.start()
    victim = replica('victim', endpoint)
    url = victim.start()
    load = subprocess.Popen([jumun_bench, '--endpoint', endpoint, '--mode', 'callers', '--callers',
                             '16', '--seconds', str(KILLS + 3), '--warmup', '0', '--live', '3000',
                             '--timeout-ms', '30000', '--quiet'], stdout=subprocess.DEVNULL)
    for i in range(KILLS):
        seen = tokens(url)
        for _ in range(10):
            time.sleep(random.uniform(0.02, 0.1))
            now = tokens(url)
            if any(now.get(shard, 0) < index for shard, index in seen.items()):
                sys.exit(f'FAILED: tokens went back: {seen} -> {now}')
            seen = now
        victim.kill()
        if i == KILLS // 2:
            node.kill()
            node.start()
        url = victim.start()
        again = tokens(url)
        print('killed at', seen, 'back at', again)
        if any(again.get(shard, 0) < index for shard, index in seen.items()):
            sys.exit('FAILED: what was answered was lost by the kill')
    load.wait(4 * WAIT_SECONDS)
    fresh = replica('fresh', endpoint)
    fresh_url = fresh.start()
    (orders, counters), (fresh_orders, fresh_counters) = compare(node, endpoint, url, fresh_url)
    print(len(orders), 'orders,', len(counters), 'counters')
    if not orders or orders != fresh_orders:
        sys.exit(f'FAILED: {len(orders)} orders, {len(fresh_orders)} made from the log, '
                 f'{sum(orders.get(k) != v for k, v in fresh_orders.items())} differ')
    if not counters or counters != fresh_counters:
        sys.exit('FAILED: the counters differ')
    for program in (victim, fresh, node):
        program.stop()
    shutil.rmtree(work)
    print('the same as from scratch')


if __name__ == '__main__':
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        main(*sys.argv[1:])
    finally:
        for left in Program.started:
            if left.poll() is None:
                left.kill()
