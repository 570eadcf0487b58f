"""Nodes and replicas for tests in Python, and questions to them (docs/replicas.md)."""
import contextlib
import json
import os
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
from pack import packb, unpack  # noqa: E402

NODES = 3               # of a World
WAIT_SECONDS = 60       # for one answer
PATIENCE = 120          # for what takes several


def check(good, what):
    if not good:
        sys.exit('FAILED: ' + what)


def await_that(holds, what):
    until = time.monotonic() + PATIENCE
    while not holds():
        check(time.monotonic() < until, what)
        time.sleep(0.05)


def exactly(s, n):
    data = b''
    while len(data) < n:
        part = s.recv(n - len(data))
        if not part:
            raise ConnectionError('closed')
        data += part
    return data


def message(s):
    """The next one, as SP frames it."""
    return exactly(s, struct.unpack('>Q', exactly(s, 8))[0])


HELLO = bytes.fromhex('0053500000300000')     # of who asks, in SP's words (docs/protocol.md)
REQUEST_ID = struct.pack('>I', 0x80000001)


def exchange(endpoint, body):
    """One question on a connection of its own -> the bytes of the reply, without the header."""
    host, port = endpoint.split('//')[1].rsplit(':', 1)
    with socket.create_connection((host, int(port)), timeout=WAIT_SECONDS) as s:
        s.sendall(HELLO)
        exactly(s, len(HELLO))
        s.sendall(struct.pack('>Q', len(REQUEST_ID + body)) + REQUEST_ID + body)
        return message(s)[len(REQUEST_ID):]


def ask(endpoint, question):
    return unpack(exchange(endpoint, packb(question)), 0)[0]


class Program:
    started = []        # none outlives the test, however it ends

    def __init__(self, arguments, log):
        self.arguments, self.log, self.process = arguments, log, None

    def begin(self):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(self.arguments, stdout=subprocess.PIPE, stderr=log)
        self.started.append(self.process)

    def await_ready(self):
        """Waits for its ready line; returns its endpoint."""
        line = self.process.stdout.readline().decode()
        if ' ready: ' not in line:
            sys.exit(f'FAILED: {self.arguments[0]} did not start; see {self.log}\n'
                     + open(self.log, encoding='utf-8').read()[-2000:])
        return line.split()[2]

    def start(self):
        self.begin()
        return self.await_ready()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(PATIENCE)
        self.process.stdout.close()
        if code != 0:
            sys.exit(f'FAILED: {self.arguments[0]} ended with {code}')


@contextlib.contextmanager
def folder(name):
    """A folder for a test; neither it nor a Program outlives the test, however that ends."""
    work = tempfile.mkdtemp(prefix=f'jumun-test-{name}.', dir=os.environ.get('TMPDIR', '/var/tmp'))
    try:
        yield work
    finally:
        for process in Program.started:
            process.kill()
        shutil.rmtree(work, ignore_errors=True)


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


def reached(now, wanted):
    return all(now.get(shard, 0) >= index for shard, index in wanted.items())


def committed(endpoints):
    """What all nodes together have: by shard, the newest committed index."""
    newest = {}
    for endpoint in endpoints:
        status = ask(endpoint, [1, None, [[102, None, None]]])[2][0][5]
        for shard in status['shards']:
            number = shard['shard']
            newest[number] = max(newest.get(number, 0), shard['commit_index'])
    return newest


def compare(nodes, endpoints, url, fresh_url):
    """Both replicas' orders and counters while both reflect the very same, no less than the nodes
    had committed. Deadlines of orders pass on the nodes all the time, so they stand still
    meanwhile, and what is on its way then may come to one replica only: then once more."""
    def caught_up():
        wanted = committed(endpoints)
        return reached(tokens(url), wanted) and reached(tokens(fresh_url), wanted)

    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        await_that(caught_up, 'all is there')
        for node in nodes:
            node.process.send_signal(signal.SIGSTOP)
        now = tokens(url)
        same = tokens(fresh_url) == now
        if same:
            demand = [[shard, index] for shard, index in now.items()]
            one, other = everything(url, demand), everything(fresh_url, demand)
            same = tokens(url) == now and tokens(fresh_url) == now
        for node in nodes:
            node.process.send_signal(signal.SIGCONT)
        if same:
            return one, other
        time.sleep(0.2)
    sys.exit('FAILED: the replicas never rested at one state: the nodes have '
             f'{committed(endpoints)}, they have {tokens(url)} and {tokens(fresh_url)}')


def check_same(both):
    """What compare() returned: the replica is what another became that was made from the logs."""
    (orders, counters), (fresh_orders, fresh_counters) = both
    print(len(orders), 'orders,', len(counters), 'counters')
    check(orders and orders == fresh_orders,
          f'{len(orders)} orders, {len(fresh_orders)} made from the logs, '
          f'{sum(orders.get(k) != v for k, v in fresh_orders.items())} differ')
    check(counters and counters == fresh_counters, 'the counters are those of the logs')


class Lone:
    """A node alone and a replica of it."""

    def __init__(self, work, name, jumund, replica, shards=2):
        self.data = f'{work}/{name}-replica'
        self.node = Program([jumund, '--data', f'{work}/{name}-node', '--listen',
                             'tcp://127.0.0.1:0', '--shards', str(shards), '--no-pin'],
                            f'{work}/{name}-node.log')
        self.endpoint = self.node.start()
        self.replica = Program([replica, '--nodes', self.endpoint, '--data', self.data, '--listen',
                                'tcp://127.0.0.1:0'], f'{work}/{name}-replica.log')
        self.url = self.replica.start()

    def snapshots(self):
        return len(os.listdir(self.data + '/snapshots'))


class World:
    """Three nodes, and programs that know all of them."""

    def __init__(self, work, jumund, jumun_replica, jumun_bench):
        self.work, self.jumun_replica, self.jumun_bench = work, jumun_replica, jumun_bench
        self.nodes, self.endpoints = [], []
        base = ports.pick(NODES * 12)
        topology = {'cluster_id': '00112233445566778899aabbccddeeff', 'shards': 2, 'nodes': [
            {'node': n + 1, 'peers': f'tcp://127.0.0.1:{base + n * 12}',
             'clients': f'tcp://127.0.0.1:{base + n * 12 + 4}'} for n in range(NODES)]}
        with open(f'{work}/cluster.json', 'w', encoding='utf-8') as f:
            json.dump(topology, f)
        for n in range(NODES):
            listen = topology['nodes'][n]['clients']
            self.endpoints.append(listen)
            self.nodes.append(Program(
                [jumund, '--data', f'{work}/node-{n + 1}', '--cluster', f'{work}/cluster.json',
                 '--node-id', str(n + 1), '--listen', listen, '--no-pin', '--peer-listen',
                 topology['nodes'][n]['peers'], '--feed-listen',
                 f'tcp://127.0.0.1:{base + n * 12 + 10}', '--notify-listen', 'none'],
                f'{work}/node-{n + 1}.log'))

    def start_nodes(self):
        """All at once: one alone is not ready."""
        for node in self.nodes:
            node.begin()
        for node in self.nodes:
            node.await_ready()

    def replica(self, name, data, *options):
        return Program([self.jumun_replica, '--data', data, '--nodes', ','.join(self.endpoints),
                        '--listen', 'tcp://127.0.0.1:0', '--notify-listen', 'none', *options],
                       f'{self.work}/{name}.log')

    def load(self, seconds):
        return subprocess.Popen([self.jumun_bench, '--endpoint', ','.join(self.endpoints),
                                 '--mode', 'callers', '--callers', '16', '--seconds', str(seconds),
                                 '--warmup', '0', '--live', '3000', '--timeout-ms', '30000',
                                 '--quiet'], stdout=subprocess.DEVNULL)

    def caught_up(self, url):
        wanted = committed(self.endpoints)
        return reached(tokens(url), wanted)

    def compare(self, url, fresh_url):
        return compare(self.nodes, self.endpoints, url, fresh_url)
