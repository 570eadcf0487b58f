#!/usr/bin/env python3
"""Measures query replicas beside a node on this machine and prints a Markdown table.

  replica_measure.py --build build-release [--seconds N] [--directory DIR] [--orders N]
                     [--apart [--rounds N]]

The replica's lag from commit to visibility, and from decision to visibility, so with the node's way
to its own disk, at a tenth of the node's load and at its full load, the node's answers beside it;
the node's commands a second without and with two replicas; rebuild of all views from the log;
batched and single gets at rest; restart. The load generator, node and replicas share the machine;
figures mean little without the bare parts of the same hour (tests/perf/measure.py).

--apart measures another thing only: what two replicas cost a node that need not share processors
with them. Node and load generator stay on processor 0, both replicas on processor 1; rounds
without them, with two programs of no relation on processor 1, and with them, in turn.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


# Walks through memory, as replicas do: what is left of the node's own is the machine's doing.
BUSY = '''
memory = bytearray(64 << 20)
while True:
    memory[:32 << 20] = memory[32 << 20:]
'''


def on(processor):
    return [] if processor is None else ['taskset', '-c', str(processor)]


class Runner:
    def __init__(self, build, work):
        self.build, self.work, self.running, self.answers = build, work, [], ''

    def path(self, name):
        return os.path.join(self.build, name)

    def start(self, name, arguments, processor=None):
        log = open(os.path.join(self.work, os.path.basename(name) + '.log'), 'ab')
        process = subprocess.Popen(on(processor) + [self.path(name)] + arguments,
                                   stdout=subprocess.PIPE, stderr=log, text=True)
        line = process.stdout.readline()
        found = re.search(r'ready: (\S+)', line)
        if not found:
            sys.exit(f'{name} did not start; see {self.work}')
        self.running.append(process)
        return process, found.group(1)

    def stop(self, process):
        process.terminate()
        process.wait(60)
        self.running.remove(process)

    def run(self, name, arguments, processor=None):
        done = subprocess.run(on(processor) + [self.path(name)] + arguments, capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            sys.exit(f'{name} {" ".join(arguments)}: {done.stderr[-500:]}')
        return done.stdout

    def replica(self, name, node, processor=None):
        began = time.monotonic()
        process, url = self.start('engine/replica/jumun-replica', [
            '--data', os.path.join(self.work, name), '--nodes', node, '--listen',
            'tcp://127.0.0.1:0', '--notify-listen', 'none'], processor)
        return process, url, time.monotonic() - began

    def status(self, url):
        return json.loads(self.run('tests/perf/replica_bench', [url, 'status']))

    def gets(self, url, arguments):
        return json.loads(self.run('tests/perf/replica_bench', [url] + arguments))

    def load(self, node, seconds, extra, processor=None):
        out = self.run('clients/bench/jumun-bench', [
            '--endpoint', node, '--seconds', str(seconds), '--json', '--quiet'] + extra, processor)
        found = json.loads(out.strip().splitlines()[-1])
        self.answers = f'p50 {found["p50_us"] / 1e3:.1f} ms, p99 {found["p99_us"] / 1e3:.1f} ms'
        return float(found['commands_per_second'])

    @staticmethod
    def cpu_ns(pid):
        """CPU time of a process by the names of its threads."""
        names = {}
        for task in os.listdir(f'/proc/{pid}/task'):
            with open(f'/proc/{pid}/task/{task}/comm', encoding='utf-8') as comm, \
                    open(f'/proc/{pid}/task/{task}/schedstat', encoding='utf-8') as stat:
                name = comm.read().strip()
                names[name] = names.get(name, 0) + int(stat.read().split()[0])
        return names


def percentiles(lag):
    return (f'p50 {lag["p50"] / 1e3:.1f} ms, p99 {lag["p99"] / 1e3:.1f} ms, '
            f'p99.9 {lag["p999"] / 1e3:.1f} ms')


def apart(r, o):
    """What two replicas on a processor of their own cost the node."""
    _, node = r.start('engine/node/jumund', [
        '--data', os.path.join(r.work, 'node'), '--listen', 'tcp://127.0.0.1:0', '--no-pin',
        '--shards', '1'], 0)
    r.load(node, 2, [], 0)
    rates = {'without': [], 'without, two busy loops on the other processor': [],
             'with two replicas': []}
    for _ in range(o.rounds):
        rates['without'].append(r.load(node, o.seconds, [], 0))
        loops = [subprocess.Popen(on(1) + [sys.executable, '-c', BUSY]) for _ in range(2)]
        rates['without, two busy loops on the other processor'].append(
            r.load(node, o.seconds, [], 0))
        for loop in loops:
            loop.kill()
            loop.wait()
        two = [r.replica(f'two-{i}', node, 1) for i in range(2)]
        rates['with two replicas'].append(r.load(node, o.seconds, [], 0))
        for process, _, _ in two:
            r.stop(process)
    for what, measured in rates.items():
        told = ', '.join(f'{rate:,.0f}' for rate in measured)
        print(f'| node and load on one processor, {what} | '
              f'{statistics.median(measured):,.0f} commands/s ({told}) |')
    for what, measured in list(rates.items())[:-1]:
        ratios = [a / b for a, b in zip(rates['with two replicas'], measured)]
        print(f'| with / {what} | {statistics.median(ratios):.2f} '
              f'({", ".join(f"{ratio:.2f}" for ratio in ratios)}) |')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--build', default='build-release')
    parser.add_argument('--seconds', type=int, default=10)
    parser.add_argument('--orders', type=int, default=1000000)
    parser.add_argument('--directory', default='/var/tmp')
    parser.add_argument('--rounds', type=int, default=3, help='of --apart')
    parser.add_argument('--apart', action='store_true',
                        help='two replicas on a processor of their own, and only that')
    o = parser.parse_args()
    work = tempfile.mkdtemp(prefix='jumun-replica-measure-', dir=o.directory)
    r = Runner(os.path.abspath(o.build), work)
    rows = []

    def row(what, figure):
        rows.append((what, figure))
        print(f'| {what} | {figure} |', flush=True)
    try:
        if o.apart:
            apart(r, o)
            return
        node_process, node = r.start('engine/node/jumund', [
            '--data', os.path.join(work, 'node'), '--listen', 'tcp://127.0.0.1:0'])
        alone = r.load(node, o.seconds, [])
        row('commands/s of the node, no replica', f'{alone:,.0f}')
        for name, extra in (('a tenth of its load', ['--mode', 'open', '--rate',
                                                     str(int(alone / 10))]),
                            ('its full load', [])):
            replica, url, _ = r.replica(f'lag-{len(rows)}', node)
            time.sleep(5) # what it caught up with is on its disk then
            before, cpu = r.status(url)['applier']['events'], r.cpu_ns(replica.pid)
            rate = r.load(node, o.seconds, extra)
            time.sleep(1)
            status = r.status(url)
            events = status['applier']['events'] - before
            row(f'lag at {name} ({rate:,.0f} commands/s), from commit to visibility',
                percentiles(status['commit_lag_us']))
            row('the same from decision to visibility', percentiles(status['lag_us']))
            row('the node\'s answers to its clients meanwhile', r.answers)
            used = sorted(((ns - cpu.get(thread, 0)) / max(events, 1), thread)
                          for thread, ns in r.cpu_ns(replica.pid).items())
            parts = ', '.join(f'{thread} {ns:,.0f}' for ns, thread in reversed(used[-3:]))
            row('CPU of the replica, ns an event', f'{sum(ns for ns, _ in used):,.0f} ({parts})')
            r.stop(replica)
        two = [r.replica(f'two-{i}', node) for i in range(2)]
        row('commands/s of the node with two replicas',
            f'{r.load(node, o.seconds, []):,.0f}')
        for process, _, _ in two:
            r.stop(process)
        r.load(node, 1, ['--prefill', str(o.orders)])
        replica, url, took = r.replica('rebuilt', node)
        applier = r.status(url)['applier']
        row('rebuild of all views from the log',
            f'{applier["events"] / took:,.0f} events/s ({applier["events"]:,} in {took:.1f} s)')
        for name, arguments in (
                ('batched gets, 3 fields, 512 a message, 8 in flight',
                 ['batched', str(o.seconds), '512', '8', 'state,version,total']),
                ('batched gets, whole orders', ['batched', str(o.seconds), '512', '8']),
                ('single gets, 3 fields, 64 in flight',
                 ['single', str(o.seconds), '64', 'state,version,total'])):
            g = r.gets(url, arguments)
            row(name, f'{g["gets_per_second"]:,}/s, p99 {g["p99_us"] / 1e3:.2f} ms')
        orders = r.status(url)['views']['orders']
        r.stop(replica)
        _, _, took = r.replica('rebuilt', node)
        row(f'restart with {orders:,} orders, to the first answer that is up to date',
            f'{took:.2f} s')
        r.stop(r.running[-1])
        r.stop(node_process)
    finally:
        for process in r.running:
            process.kill()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == '__main__':
    main()
