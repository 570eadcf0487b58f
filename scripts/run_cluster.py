#!/usr/bin/env python3
"""Three nodes and a replica on this machine, a real year of orders, and a leader that dies in the
middle of it; called by ./run --cluster, which builds first.

  ./run --cluster             plays the year, kills a leader, reports, then serves until Ctrl-C
  ./run --cluster --once      ends after the report; exit 0 only if nothing was lost
  --data DIR                  keep the nodes' data in DIR (default: a fresh directory, removed)
  --keep                      do not remove the fresh directory
  --port N                    port of the first node (default 7400; 0 = free ones). The others are
                              20 apart, more with many shards, and the replica 100 behind it
  --shards N                  number of shards (default 3: one leader on each node)
  -- OPTION...                what follows goes to jumun-demo (see jumun-demo --help)

The year is played twice: on one node first, then on three while the leader of shard 0 is killed
with kill -9. What became of each order must be the same.

Exit codes: 0 all well, 1 something failed, 2 usage, 130 stopped by Ctrl-C before the report.
"""
import argparse
import contextlib
import filecmp
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

NODES = 3
PORTS_BELOW, PORTS_A_NODE, REPLICA_BEHIND = 4, 20, 100
PATIENCE_S, AWAY_S = 60, 1


class Failed(Exception):
    pass


def say(text=''):
    print(text, flush=True)


def stop_at_once(*_):
    raise KeyboardInterrupt


@contextlib.contextmanager
def uninterrupted():
    """Ctrl-C comes behind the block: a process that is just being made is known by then."""
    if threading.current_thread() is not threading.main_thread():
        yield                          # signals are the main thread's
        return
    came = []
    before = {s: signal.signal(s, lambda *_: came.append(True))
              for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
    if came:
        raise KeyboardInterrupt


def ports_a_node(shards):
    """How far two nodes are apart: four ports below the clients', one for each shard above."""
    return max(PORTS_A_NODE, PORTS_BELOW + 1 + shards)


def replica_behind(shards):
    """From the first node's port to the replica's, behind all nodes."""
    return max(REPLICA_BEHIND, NODES * ports_a_node(shards))


def first_taken(base, shards):
    """The first of the ports that nodes and replica need, from `base` on, that is in use."""
    firsts = [base + n * ports_a_node(shards) for n in range(NODES)]
    wanted = [p for first in firsts for p in range(first - PORTS_BELOW, first + shards + 1)]
    replica = base + replica_behind(shards)
    for port in wanted + [replica, replica + 1]:    # and its notifications
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(('127.0.0.1', port))
            except OSError:
                return port
    return None


def first_port(wanted, shards):
    if wanted:
        return wanted
    for base in range(20000 + os.getpid() % 50 * 200, 60000, 200):
        if not first_taken(base, shards):
            return base
    raise Failed('no free ports')


class Server:
    """A node or a replica, as a child in a session of its own: Ctrl-C reaches only this script."""

    def __init__(self, program, folder, name, port, options):
        self.name = name
        self.endpoint = f'tcp://127.0.0.1:{port}'
        self.log = os.path.join(folder, name + '.log')
        self.command = [program, '--data', os.path.join(folder, name), '--listen', self.endpoint,
                        *options]
        self.process = None

    def start(self, *options):
        with open(self.log, 'a', encoding='utf-8') as log, uninterrupted():
            self.process = subprocess.Popen(self.command + list(options), stderr=log, text=True,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            start_new_session=True)
        line = self.process.stdout.readline().strip()
        if not line:
            with open(self.log, encoding='utf-8') as log:
                last = log.read().strip().splitlines()[-1:]
            raise Failed(f'{self.name} did not start: {" ".join(last)}; is a port taken? '
                         'Try --port 0')
        return line

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """True when it ended in order, or was not there."""
        if not self.process or self.process.poll() is not None:
            return True
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=PATIENCE_S) == 0
        except subprocess.TimeoutExpired:
            self.kill()
            return False


class Show:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.programs = options.build
        self.nodes, self.replica = [], None
        self.killed = self.failure = None
        self.over = self.stopping = False
        self.disturber = None

    def node(self, name, port, *options):
        return Server(self.programs + '/engine/node/jumund', self.folder, name, port, options)

    def path(self, name):
        return os.path.join(self.folder, name)

    def demo(self, endpoint, states, *options):
        command = [self.programs + '/clients/demo/jumun-demo', '--endpoint', endpoint, '--states',
                   self.path(states), '--no-hints', *options, *self.options.demo]
        quiet = subprocess.DEVNULL if '--quiet' in options else None
        return subprocess.run(command, stdout=quiet, check=False).returncode

    def jumun(self, *words, fine=(0,)):
        endpoints = ','.join(n.endpoint for n in self.nodes)
        run = subprocess.run([self.programs + '/clients/cli/jumun', '--endpoint', endpoints,
                              '--timeout', '20s', *words], capture_output=True, text=True,
                             check=False)
        if run.returncode not in fine:
            raise Failed(f'jumun {" ".join(words)}: {run.stderr.strip()}')
        return run.stdout

    def play_alone(self, port):
        say('one node first: what becomes of each order without any fault')
        alone = self.node('alone', port, '--shards', self.options.shards)
        try:
            alone.start()
            if self.demo(alone.endpoint, 'states-of-one', '--quiet') != 0:
                raise Failed('the year did not go through on one node')
        finally:
            alone.stop()

    def form(self, port):
        for n in range(NODES):
            at = port + n * ports_a_node(int(self.options.shards))
            node = self.node(f'node-{n + 1}', at, '--cluster-wait', '--no-pin')
            self.nodes.append(node)
            node.start()
            say(f'node {n + 1}: {node.endpoint}  pid {node.process.pid}')
        words = [w for n in self.nodes for w in ('--node', n.endpoint)]
        self.jumun('cluster', 'form', *words, '--shards', self.options.shards)
        say(f'formed: {self.options.shards} shards, each on {NODES} nodes')

    def follow(self, port):
        nodes = ','.join(n.endpoint for n in self.nodes)
        self.replica = Server(self.programs + '/engine/replica/jumun-replica', self.folder,
                              'replica', port, ['--nodes', nodes])
        self.replica.start()
        say(f'replica: {self.replica.endpoint}  pid {self.replica.process.pid}')

    def leader_of(self, shard):
        """The place of the node that leads it, by what the nodes say themselves."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for place, node in enumerate(self.nodes):
                run = subprocess.run([self.programs + '/clients/cli/jumun', '--endpoint',
                                      node.endpoint, '--json', 'status'], capture_output=True,
                                     text=True, check=False)
                shards = json.loads(run.stdout)['shards'] if run.returncode == 0 else []
                if any(s['shard'] == shard and s['role'] == 'leader' for s in shards):
                    return place
            time.sleep(0.05)
        raise Failed(f'shard {shard} has no leader')

    def disturb(self):
        """A thread: waits for the middle of the year."""
        try:
            while not os.path.exists(self.path('half')):
                if self.over:
                    return
                time.sleep(0.005)
            self.nodes[self.victim].kill()
            self.killed = self.victim + 1
            time.sleep(AWAY_S)
            if not self.stopping:
                self.nodes[self.victim].start()
        except Failed as e:
            self.failure = str(e)

    def play(self):
        self.victim = self.leader_of(0)
        say(f'node {self.victim + 1} leads shard 0: it will be killed in the middle of the year')
        self.disturber = threading.Thread(target=self.disturb)
        self.disturber.start()
        code = self.demo(','.join(n.endpoint for n in self.nodes), 'states-of-three', '--half',
                         self.path('half'))
        self.over = True
        self.disturber.join()
        if self.failure:
            raise Failed(self.failure)
        if code != 0:
            raise Failed(f'the year did not go through (jumun-demo: exit code {code})')
        if not self.killed:
            raise Failed('the year was over before the leader could be killed')

    def report(self):
        one, three = self.path('states-of-one'), self.path('states-of-three')
        with open(three, encoding='utf-8') as f:
            keys = sum(1 for _ in f)
        if not filecmp.cmp(one, three, shallow=False):
            raise Failed(f'orders differ from the play on one node: diff {one} {three}')
        say('\nThe cluster')
        say(f'  node {self.killed}, which led shard 0, was killed (kill -9) in the middle of the '
            f'year and started again {AWAY_S} s later')
        say('  nothing is lost: every order stands at the version that was acknowledged last')
        say(f'  {keys:,} keys, placed or refused: each as after the play on one node without a '
            'fault')
        say('  the pause is told above (Read back): that of shard 0 is its failover\n')
        say(self.jumun('cluster', 'status', fine=(0, 1)).rstrip())

    def serve(self):
        first = self.nodes[0].endpoint
        say(f'''
The cluster serves until Ctrl-C. In another terminal:

  export PATH={os.path.abspath(self.programs)}/bin:$PATH MANPATH={os.path.abspath('docs/man')}:
  export JUMUN_ENDPOINT={','.join(n.endpoint for n in self.nodes)}
  export JUMUN_REPLICA={self.replica.endpoint}
  jumun cluster status
  jumun cluster drain 1        # its leaders go elsewhere: ready for maintenance
  jumun cluster undrain 1
  jumun --endpoint {first} status
  jumun top
  jumun replica status         # the replica follows all three
  jumun-replay verify {first} --against {self.nodes[1].endpoint}
  kill -9 {self.nodes[1].process.pid}                # node 2; orders go on''')
        while any(n.process.poll() is None for n in self.nodes):
            time.sleep(0.2)
        raise Failed('all nodes have ended')

    def stop(self):
        """Ends whatever runs, also in the middle of the play: nobody starts a node any more."""
        self.over = self.stopping = True
        if self.disturber:
            self.disturber.join()
        if self.replica:
            self.replica.stop()
        threads = [threading.Thread(target=n.stop) for n in self.nodes]
        for t in threads:
            t.start()
        for t in threads:
            t.join()

    def run(self):
        shards = int(self.options.shards)
        port = first_port(self.options.port, shards)
        self.play_alone(port)
        self.form(port)
        self.follow(port + replica_behind(shards))
        self.play()
        self.report()
        if not self.options.once:
            self.serve()


def number(least, most):
    def read(text):
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f'"{text}" is not a number from {least} to {most}')
        return int(text)
    return read


def main():
    parser = argparse.ArgumentParser(add_help=False, usage=argparse.SUPPRESS,
                                     prog='run: --cluster')
    parser.add_argument('--build', default='build-release')
    parser.add_argument('--check', action='store_true')  # only see whether the options make sense
    parser.add_argument('--once', action='store_true')
    parser.add_argument('--keep', action='store_true')
    parser.add_argument('--data')
    parser.add_argument('--port', type=number(0, 65535), default=7400)
    parser.add_argument('--shards', type=number(1, 256), default=NODES)
    parser.add_argument('-h', '--help', action='store_true')
    words, demo = sys.argv[1:], []
    if '--' in words:
        words, demo = words[:words.index('--')], words[words.index('--') + 1:]
    options = parser.parse_args(words)
    most = 65534 - replica_behind(options.shards)
    if options.port and not PORTS_BELOW < options.port <= most:
        parser.error(f'--port: "{options.port}" is not a port from {PORTS_BELOW + 1} to {most}, '
                     'or 0')
    taken = first_taken(options.port, options.shards) if options.port and not options.help else None
    options.demo, options.shards = demo, str(options.shards)
    if options.help:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        say(__doc__.strip())
        return 0
    if options.data is not None and os.path.exists(os.path.join(options.data, 'node-1')):
        parser.error(f'--data: {options.data} holds the nodes of another run; a fresh directory '
                     'is needed')
    if taken:       # before anything is made in a directory that is to be kept
        print(f'run: port {taken}, one of those from --port {options.port} on, is taken: choose '
              'another one, or let --port 0 find some', file=sys.stderr)
        return 1
    if options.check:
        return 0
    folder = options.data
    if folder:
        os.makedirs(folder, exist_ok=True)
    else:
        # Not /tmp: it may lie in memory, where a sync costs nothing.
        folder = tempfile.mkdtemp(prefix='jumun-run.', dir=os.environ.get('TMPDIR', '/var/tmp'))
    signal.signal(signal.SIGTERM, stop_at_once)
    show, code = Show(options, folder), 0
    try:
        show.run()
    except Failed as e:
        print(f'run: {e}', file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        say('\nstopping the nodes ...')
        code = 0 if show.killed else 130
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    show.stop()
    if options.keep or code == 1:
        say(f'kept: {folder}')
    elif not options.data:
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == '__main__':
    sys.exit(main())
