"""A cluster of real nodes for tests in Python. JUMUND and JUMUN are a script's first arguments."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import ports  # noqa: E402

JUMUND, JUMUN = sys.argv[1:3]
PATIENCE = 60
PORTS_A_NODE = 45           # clients + shards; other nodes from 30 on, which take two


def check(good, what):
    if not good:
        raise SystemExit('FAILED: ' + what)


class Cluster:
    def __init__(self, folder, env=None, timeout='20s'):
        """`env`: variables of all programs, beside the test's own. `timeout`: of one call, by
        their clock."""
        self.folder, self.nodes, self.keys, self.timeout = folder, {}, [], timeout
        self.env = {**os.environ, **(env or {})}
        self.base = ports.pick(5 * PORTS_A_NODE)

    def url(self, place):
        return 'tcp://127.0.0.1:%d' % (self.base + place * PORTS_A_NODE)

    def peers(self, place):
        return 'tcp://127.0.0.1:%d' % (self.base + place * PORTS_A_NODE + 30)

    def data(self, place):
        return os.path.join(self.folder, 'node-%d' % place)

    def start(self, place, *options, alone=False, wait=True, program=JUMUND):
        """Starts a node and returns its first line: that it waits, or that it serves."""
        waits = [] if alone else ['--cluster-wait', '--peer-listen', self.peers(place)]
        log = open(self.data(place) + '.log', 'a')
        node = subprocess.Popen([program, '--data', self.data(place), '--listen', self.url(place),
                                 '--feed-listen', 'none', '--notify-listen', 'none', '--no-pin',
                                 *waits, *options], stdout=subprocess.PIPE, stderr=log, text=True,
                                env=self.env)
        self.nodes[place] = node
        return node.stdout.readline() if wait else ''

    def end(self, place, how=signal.SIGTERM):
        node = self.nodes.pop(place)
        node.send_signal(how)
        node.wait(timeout=PATIENCE)
        return node.returncode

    def end_all(self):
        for node in self.nodes.values():
            node.kill()
            node.wait()

    def jumun(self, *words, at=None, expect=0):
        places = at if isinstance(at, tuple) else [at] if at is not None else sorted(self.nodes)
        run = subprocess.run([JUMUN, '--endpoint', ','.join(map(self.url, places)), '--timeout',
                              self.timeout, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, timeout=PATIENCE * 3, check=False, env=self.env)
        if run.returncode not in (expect if isinstance(expect, tuple) else (expect,)):
            raise SystemExit('FAILED: jumun %s: %d, not %s\n%s%s' % (
                ' '.join(words), run.returncode, expect, run.stdout, run.stderr))
        return run.stdout + run.stderr

    def status(self):
        """Also while a node of it is away, or a group has no leader."""
        return json.loads(self.jumun('--json', 'cluster', 'status', expect=(0, 1)))

    def rows(self, place, shards):
        """What a node's status says of the first shards; nothing while it does not answer."""
        run = subprocess.run([JUMUN, '--endpoint', self.url(place), '--timeout', '5s', '--json',
                              'status'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             text=True, timeout=PATIENCE, check=False, env=self.env)
        if run.returncode != 0:
            return []
        return sorted((r for r in json.loads(run.stdout)['shards'] if r['shard'] < shards),
                      key=lambda r: r['shard'])

    def place_orders(self, count, store='store-1'):
        for _ in range(count):
            key = self.jumun('--quiet', 'place', '--store', store, '--currency', 'KRW', '--line',
                             'a:1:100').strip()
            self.keys.append(key)

    def all_orders_are_there(self):
        for key in self.keys:
            order = json.loads(self.jumun('--json', 'get', key))
            check(order['state'] == 'placed', 'order %s is there' % key)

    def try_jumun(self, *words):
        return subprocess.run([JUMUN, '--endpoint', ','.join(map(self.url, sorted(self.nodes))),
                               '--timeout', self.timeout, *words], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=PATIENCE, check=False,
                              env=self.env).returncode

    def await_that(self, holds, what):
        for _ in range(10 * PATIENCE):
            if holds():
                return
            time.sleep(0.1)
        raise SystemExit('FAILED: ' + what)

    def replicas_of(self, shard):
        """How many of the nodes that run have a replica of it that runs."""
        count = 0
        for place in sorted(self.nodes):
            node = json.loads(self.jumun('--json', 'status', at=place))
            count += any(row['shard'] == shard for row in node['shards'])
        return count

    def numbers(self):
        return [n['node'] for n in self.status()['nodes'] if n['state'] != 'removed']


def form(c, places, *options, expect=0):
    words = [w for p in places for w in ('--node', c.url(p))]
    return c.jumun('cluster', 'form', *words, *options, expect=expect)


@contextlib.contextmanager
def cluster(name, env=None, timeout='20s'):
    """A Cluster in a folder of its own, which goes with it. What its nodes said is told when the
    test fails."""
    with tempfile.TemporaryDirectory(prefix=f'jumun-{name}-', ignore_cleanup_errors=True) as folder:
        c = Cluster(folder, env, timeout)
        good = False
        try:
            yield c
            good = True
        finally:
            c.end_all()
            if not good:
                print_logs(folder)


def print_logs(folder):
    for name in sorted(os.listdir(folder)):
        if name.endswith('.log'):
            print('==', name)
            print(open(os.path.join(folder, name)).read()[-3000:])
