#!/usr/bin/env python3
"""Three nodes on this machine, measured with jumun-bench; figures for docs/performance.md.

  cluster_measure.py --build build-release [--seconds N] [--only throughput,catch-up] [--away S]

throughput   128 commands a message against all three nodes
sustained    --windows of --window seconds, one after the other; for each of them the processor's
             time and the page faults of a command by the kind of the nodes' threads
catch-up     windows of --window seconds, one after the other in one run: --settle seconds first,
             because a follower stores its first orders after 30 s and a cluster's first seconds
             are cheaper than all others; --windows of them with all three nodes, S seconds with one
             node killed, windows while it catches up, and as many again when it has. The last line
             compares the medians with that of the first windows, by rate and by the processor's
             time of a command, and tells how long the catch-up took

Prints one line of JSON for each measurement, with the processor's time that nodes and client took
for a command: that says more than the rate where other work loads the machine. Exit codes: 0
measured, 1 something failed, 2 usage.
"""
import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import ports  # noqa: E402

NODES, PORTS_A_NODE, PEERS_BEHIND = 3, 50, 40
LAG_OF_A_FOLLOWER = 100   # entries under way at any time


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

    def cpu_seconds(self):
        """Of the nodes that live, and of all that was run and has ended."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = ended.ru_utime + ended.ru_stime
        for node in self.nodes:
            if node is None or node.poll() is not None:
                continue
            for task in os.listdir(f'/proc/{node.pid}/task'):
                try:
                    with open(f'/proc/{node.pid}/task/{task}/schedstat', encoding='ascii') as f:
                        seconds += int(f.read().split()[0]) / 1e9
                except FileNotFoundError:
                    pass  # it ended meanwhile
        return seconds

    def bench(self, what, *options):
        before = self.cpu_seconds()
        run = subprocess.run([f'{self.build}/clients/bench/jumun-bench', '-e',
                              ','.join(self.endpoints), '--json', *options], text=True,
                             stdout=subprocess.PIPE, check=False)
        if run.returncode != 0:
            sys.exit(f'{what}: jumun-bench ended with {run.returncode}')
        result = json.loads(run.stdout)
        result['what'], result['load_average'] = what, os.getloadavg()[0]
        result['cpu_us_per_command'] = round(
            (self.cpu_seconds() - before) * 1e6 / max(result['commands'], 1), 3)
        print(json.dumps(result), flush=True)
        return result

    def lag(self, n):
        """Entries that node n has not applied yet, all shards; None while it does not answer."""
        last, own = {}, {}
        for place, endpoint in enumerate(self.endpoints):
            told = subprocess.run([f'{self.build}/clients/cli/jumun', '-e', endpoint, '--json',
                                   'status'], text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, check=False)
            if told.returncode != 0:
                return None
            for shard in json.loads(told.stdout)['shards']:
                number, index = shard['shard'], shard['applied_index']
                if place == n:
                    own[number] = index
                last[number] = max(last.get(number, 0), index)
        return sum(last[k] - own.get(k, 0) for k in last)

    def end(self):
        for node in self.nodes:
            if node and node.poll() is None:
                node.send_signal(signal.SIGKILL)
                node.wait()


def by_thread(nodes):
    """Nanoseconds of processor and page faults so far, by kind of thread of the nodes that live."""
    sums = {}
    for node in nodes:
        for task in os.listdir(f'/proc/{node.pid}/task'):
            try:
                with open(f'/proc/{node.pid}/task/{task}/schedstat', encoding='ascii') as f:
                    ns = int(f.read().split()[0])
                with open(f'/proc/{node.pid}/task/{task}/stat', encoding='ascii') as f:
                    name, rest = f.read().split('(', 1)[1].rsplit(')', 1)
            except FileNotFoundError:
                continue  # it ended meanwhile
            kind = name.split(':')[0].rstrip('-0123456789')
            before = sums.get(kind, (0, 0))
            sums[kind] = (before[0] + ns, before[1] + int(rest.split()[7]))
    return sums


def window(cluster, what, *options):
    """One measurement, and what it cost whom."""
    groups = {'all but the third': cluster.nodes[:2], 'the third': cluster.nodes[2:]}
    before = {name: by_thread(nodes) for name, nodes in groups.items()}
    result = cluster.bench(what, *options)
    commands = max(result['commands'], 1)
    for name, nodes in groups.items():
        after = by_thread(nodes)
        spent = {kind: [now - was for now, was in zip(after[kind], before[name].get(kind, (0, 0)))]
                 for kind in after}
        print(json.dumps({'of': name,
                          'ns_per_command': {k: round(v[0] / commands) for k, v in spent.items()},
                          'faults_per_1000': {k: round(1000 * v[1] / commands, 1)
                                              for k, v in spent.items()}}), flush=True)
    return result


def sustained(cluster, o):
    for number in range(o.windows):
        window(cluster, f'window {number + 1}', '--in-flight', o.in_flight, '--seconds',
               str(o.window), '--warmup', '0', '--quiet')


def catch_up(cluster, o):
    what = ['--in-flight', o.in_flight, '--seconds', str(o.window), '--warmup', '0.5', '--quiet']
    cluster.bench('all three, settling', '--in-flight', o.in_flight, '--seconds', str(o.settle),
                  '--quiet')
    before = [window(cluster, 'all three', *what) for _ in range(o.windows)]
    cluster.nodes[2].kill()
    cluster.nodes[2].wait()
    begun = time.monotonic()
    load = ('--mode', 'open', '--rate', str(o.away_rate)) if o.away_rate else \
        ('--in-flight', o.in_flight)
    cluster.bench('one is away', *load, '--seconds', str(o.away), '--quiet')
    away = time.monotonic() - begun
    cluster.start(2)
    begun, during, lag = time.monotonic(), [], None
    while (lag is None or lag > LAG_OF_A_FOLLOWER) and len(during) < o.windows_max:
        during.append(window(cluster, 'it catches up', *what))
        lag = cluster.lag(2)
    took = time.monotonic() - begun
    after = [window(cluster, 'it has caught up', *what) for _ in range(o.windows)]

    def median(windows, what='commands_per_second'):
        return statistics.median(w[what] for w in windows)

    base, base_cpu = median(before), median(before, 'cpu_us_per_command')
    print(json.dumps({
        'what': 'catch-up', 'away_seconds': round(away), 'caught_up': lag is not None and
        lag <= LAG_OF_A_FOLLOWER, 'took_seconds': round(took), 'before': base,
        'during': median(during), 'after': median(after),
        'during_of_before': round(median(during) / base, 3),
        'worst_window_of_before': round(min(w['commands_per_second'] for w in during) / base, 3),
        'after_of_before': round(median(after) / base, 3),
        'windows_of_before': [round(w['commands_per_second'] / base, 2) for w in during + after],
        'windows_by_cpu': [round(base_cpu / w['cpu_us_per_command'], 2) for w in during + after],
        'cpu_us_per_command': [median(w, 'cpu_us_per_command') for w in (before, during, after)]}),
        flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--build', required=True)
    parser.add_argument('--seconds', default='10')
    parser.add_argument('--away', type=float, default=30)
    parser.add_argument('--only', default='throughput,catch-up')
    parser.add_argument('--away-rate', type=int, default=0,
                        help='commands a second meanwhile, open loop; 0 = as many as it takes')
    parser.add_argument('--shards', type=int, default=3)
    parser.add_argument('--in-flight', default='16', help='of the catch-up, and sustained')
    parser.add_argument('--settle', type=float, default=40)
    parser.add_argument('--window', type=float, default=3)
    parser.add_argument('--windows', type=int, default=5)
    parser.add_argument('--windows-max', type=int, default=200)
    o = parser.parse_args()
    folder = tempfile.mkdtemp(prefix='jumun-measure.', dir=os.environ.get('TMPDIR', '/var/tmp'))
    cluster = Cluster(o.build, folder)
    seconds = ['--seconds', o.seconds]
    try:
        cluster.form(o.shards)
        if 'throughput' in o.only:
            for in_flight in ('8', '16', '32', '64'):
                cluster.bench(f'three nodes, {in_flight} messages in flight', '--in-flight',
                              in_flight, *seconds)
        if 'sustained' in o.only:
            sustained(cluster, o)
        if 'catch-up' in o.only:
            catch_up(cluster, o)
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    main()
