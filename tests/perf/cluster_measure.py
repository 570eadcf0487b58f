#!/usr/bin/env python3
"""Three nodes on this machine, measured with jumun-bench; figures for docs/performance.md.

  cluster_measure.py --build build-release [--seconds N] [--only throughput,catch-up] [--away S]

throughput   128 commands a message against all three nodes
catch-up     the same with one node killed for S seconds, and while it comes back

Prints one line of JSON for each measurement. Exit codes: 0 measured, 1 something failed, 2 usage.
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import ports  # noqa: E402

NODES, PORTS_A_NODE, PEERS_BEHIND = 3, 50, 40


class Cluster:
    def __init__(self, build, folder):
        self.build, self.folder, self.base = build, folder, ports.pick(NODES * PORTS_A_NODE)
        self.nodes = [None] * NODES
        self.endpoints = [f'tcp://127.0.0.1:{self.base + n * PORTS_A_NODE}' for n in range(NODES)]

    def start(self, n):
        peers = f'tcp://127.0.0.1:{self.base + n * PORTS_A_NODE + PEERS_BEHIND}'
        with open(f'{self.folder}/{n}.log', 'a', encoding='utf-8') as log:
            self.nodes[n] = subprocess.Popen(
                [f'{self.build}/engine/node/jumund', '--cluster-wait', '--no-pin', '--data',
                 f'{self.folder}/{n}', '--listen', self.endpoints[n], '--peer-listen', peers,
                 '--feed-listen', 'none', '--notify-listen', 'none'], stdout=subprocess.PIPE,
                stderr=log, text=True)
        self.nodes[n].stdout.readline()

    def form(self, shards):
        for n in range(NODES):
            self.start(n)
        words = [w for e in self.endpoints for w in ('--node', e)]
        subprocess.run([f'{self.build}/clients/cli/jumun', '-e', ','.join(self.endpoints),
                        'cluster', 'form', *words, '--shards', str(shards)], check=True,
                       stdout=subprocess.DEVNULL)

    def bench(self, what, *options):
        run = subprocess.run([f'{self.build}/clients/bench/jumun-bench', '-e',
                              ','.join(self.endpoints), '--json', *options], text=True,
                             stdout=subprocess.PIPE, check=False)
        if run.returncode != 0:
            sys.exit(f'{what}: jumun-bench ended with {run.returncode}')
        result = json.loads(run.stdout)
        result['what'], result['load_average'] = what, os.getloadavg()[0]
        print(json.dumps(result), flush=True)

    def end(self):
        for node in self.nodes:
            if node and node.poll() is None:
                node.send_signal(signal.SIGKILL)
                node.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--build', required=True)
    parser.add_argument('--seconds', default='10')
    parser.add_argument('--away', type=float, default=30)
    parser.add_argument('--only', default='throughput,catch-up')
    parser.add_argument('--shards', type=int, default=3)
    o = parser.parse_args()
    folder = tempfile.mkdtemp(prefix='jumun-measure.', dir=os.environ.get('TMPDIR', '/var/tmp'))
    cluster = Cluster(o.build, folder)
    seconds = ['--seconds', o.seconds]
    try:
        cluster.form(o.shards)
        if 'throughput' in o.only:
            for in_flight in ('8', '16', '32'):
                cluster.bench(f'three nodes, {in_flight} messages in flight', '--in-flight',
                              in_flight, *seconds)
        if 'catch-up' in o.only:
            cluster.nodes[2].kill()
            cluster.nodes[2].wait()
            begun = time.monotonic()
            cluster.bench('one node is away', '--seconds', str(o.away))
            print(f'away for {time.monotonic() - begun:.0f} s', file=sys.stderr)
            cluster.start(2)
            cluster.bench('it comes back', *seconds)
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    main()
