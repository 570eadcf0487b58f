#!/usr/bin/env python3
"""Every command of jumun-replay keeps to --memory over a log that is many times larger.

Each runs with a limit on the memory that is its own (RLIMIT_DATA: what it may ask the kernel for,
used or not), so that more than that is a failure, whenever it happens and however busy the machine
is. What is made this way is what it would be with all memory there is: the same hashes, sound, and
a node starts from it.

  test_replay_memory.py JUMUND JUMUN JUMUN_REPLAY JUMUN_BENCH DAMAGE RULES
"""
import re
import resource
import shutil
import subprocess
import sys

from replay_process import BENCH, JUMUND, PATIENCE_S, REPLAY, Node, check, replay_json, verdict

(DAMAGE, RULES) = sys.argv[5:7]
ORDERS = 75000              # more than 30 MiB of them
MEMORY_MIB = 4              # for the orders of a fold
# With what is not orders: threads, buffers; and where a directory is made, too, batches for two
# environments of each shard, and the pages of their transactions.
READ_MIB, MAKE_MIB = 44, 112
STACK_MIB = 1               # of a thread


def bounded(*arguments, expect=0, memory=MEMORY_MIB, own=READ_MIB):
    """Runs the tool with little memory. Its standard output is thrown away."""
    command = [REPLAY, *map(str, arguments), '--memory', str(memory), '--threads', '2']

    def limit():
        resource.setrlimit(resource.RLIMIT_STACK, (STACK_MIB << 20, STACK_MIB << 20))
        resource.setrlimit(resource.RLIMIT_DATA, (own << 20, own << 20))

    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          check=False, timeout=PATIENCE_S, preexec_fn=limit)
    check(done.returncode == expect, f'{" ".join(command[1:])}: exit {done.returncode}, not '
                                     f'{expect}: {done.stderr[-400:]}')


def make(data):
    """A log of many orders, all of them alive, and some whole lives at its end."""
    node = Node(data, '--shards', '2')
    subprocess.run([BENCH, '-e', node.endpoint, '-s', '1', '--warmup', '0', '-q', '--prefill',
                    str(ORDERS), '--live', '1000'], stdout=subprocess.DEVNULL, check=True,
                   timeout=PATIENCE_S)
    node.stop()


def hashes(source):
    return [s['hash'] for s in replay_json('hash', source)['shards']]


def test_reading(data, wanted):
    """Nothing is asked for as a whole."""
    last = {s['shard']: s['index'] for s in wanted['shards']}
    middle = ','.join(f'{s}:{i // 2}' for s, i in last.items())
    late = ','.join(f'{s}:{i - 20}' for s, i in last.items())
    bounded('verify', data)
    bounded('hash', data)
    bounded('stats', data)
    bounded('export', data, '-q')
    bounded('export', data, '-q', '--from', late)
    bounded('state', data, '--all', '--json', '-q', '--at', middle)
    bounded('state', data, '--all', '-q', '--at', late)
    bounded('diff', data, '-q', '--limit', '1', '--from', middle, expect=1)
    bounded('diff', data, data, '-q')
    bounded('what-if', data, '--rules', RULES, '-q')
    # And without a bound of its own it does not: the limit is one.
    bounded('hash', data, memory=1024, expect=3)


def test_making(data, work, wanted):
    """The same orders, in directories that nodes start from."""
    bounded('rebuild', data, work / 'unbounded', '-q', own=MAKE_MIB, memory=1024, expect=3)
    for command in ('rebuild', 'restore'):
        source, target = data, work / command
        if command == 'restore':
            source = work / 'backup'
            bounded('backup', data, source, '-q', own=MAKE_MIB)
        bounded(command, source, target, '-q', own=MAKE_MIB)
        check(hashes(target) == [s['hash'] for s in wanted['shards']], f'{command}: the same hash')
        node = Node(target)
        node.jumun('place', '--store', 's1', '--currency', 'KRW', '--fulfilment', 'pickup',
                   '--line', 'x:1:5')
        node.stop()
        report = replay_json('verify', target)
        check(report['sound'], f'{command}, and a node goes on: {report["faults"][:3]}')
        shutil.rmtree(target)


def test_faults(data, work):
    """A diff tells of each fault once, in however many passes."""
    copy = work / 'damaged'
    shutil.copytree(data, copy)
    order = next(line for line in subprocess.run(
        [REPLAY, 'export', str(data), '-q', '-f', 'csv', '--shard', '0', '--kind', 'order_placed',
         '--fields', 'index'], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        if line.isdigit())
    for what in (('time', str(int(order) + 5)), ('missing', str(int(order) + 7))):
        subprocess.run([DAMAGE, what[0], str(copy / 'shard-0'), *what[1:]], check=True,
                       stdout=subprocess.DEVNULL)
    counts = []
    for memory in ('1024', '8'):
        for sources in ((copy, data), (data, copy), (copy, '--from', '0:1,1:1')):
            done = subprocess.run([REPLAY, 'diff', *map(str, sources), '--limit', '0', '--memory',
                                   memory], capture_output=True, text=True, check=False,
                                  timeout=PATIENCE_S)
            told = re.findall(r'damaged, shard 0: ([0-9]+) faults? in the log', done.stderr)
            check(done.returncode == 1 and len(told) == 1, f'diff with faults: {done.stderr}')
            counts.append(told)
    check(counts[0] * 6 == [c[0] for c in counts] and int(counts[0][0]) > 1,
          f'each fault is told once: {counts}')
    shutil.rmtree(copy)


def tests(work):
    data = work / 'data'
    make(data)
    wanted = replay_json('hash', data)
    check(sum(s['actors'] for s in wanted['shards']) > ORDERS, 'the orders are there')
    test_reading(data, wanted)
    test_making(data, work, wanted)
    test_faults(data, work)


if __name__ == '__main__':
    sys.exit(verdict('replay-memory', tests))
