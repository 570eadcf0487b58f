#!/usr/bin/env python3
"""jumun import --since while nodes of a cluster are killed (-9): its log is read at another node,
also of such that --endpoint does not name, and every order comes.

  test_import_cluster.py JUMUND JUMUN_REPLICA JUMUN JUMUN_BENCH
"""
import os
import random
import subprocess
import sys
import time

from replica_process import NODES, World, await_that, check, folder

ROUNDS = 9
ORDERS = 3000


def import_all(jumun, endpoints, url):
    return subprocess.Popen([jumun, '--timeout', '60s', '--endpoint', ','.join(endpoints), 'import',
                             '--since', '0:0,1:0', '--replica', url, '--fields', 'key'],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def whole(run, what):
    out, error = run.communicate(timeout=240)
    check(run.returncode == 0, f'{what}: status {run.returncode}: {error}')
    keys = out.splitlines()
    check(len(keys) == len(set(keys)) == ORDERS,
          f'{what}: {len(keys)} orders, {len(set(keys))} different ones, not {ORDERS}')


def main(*programs):
    jumund, jumun_replica, jumun, jumun_bench = map(os.path.abspath, programs)
    with folder('import') as work:
        world = World(work, jumund, jumun_replica, jumun_bench)
        world.start_nodes()
        url = world.replica('replica', f'{work}/replica').start()
        with open(f'{work}/orders.csv', 'w', encoding='utf-8') as f:
            f.write('store,currency,lines\n' + 's1,KRW,a:1:100\n' * ORDERS)
        subprocess.run([jumun, '-q', '--timeout', '60s', '--endpoint', ','.join(world.endpoints),
                        'place', '--csv', f'{work}/orders.csv'], check=True, timeout=240,
                       stdout=subprocess.DEVNULL)
        await_that(lambda: world.caught_up(url), 'the replica has all')
        began = time.monotonic()
        whole(import_all(jumun, world.endpoints[:1], url), 'all nodes are there')
        took = time.monotonic() - began
        for n in range(ROUNDS):
            victim = n % NODES
            order = world.endpoints[victim:] + world.endpoints[:victim]
            run = import_all(jumun, order, url)
            time.sleep(random.random() * took)      # anywhere on its way
            world.nodes[victim].kill()
            whole(run, f'node {victim + 1} is killed meanwhile')
            whole(import_all(jumun, order, url), f'node {victim + 1} is gone')
            world.nodes[victim].start()
        print(f'{ROUNDS} nodes were killed, and every order came')


if __name__ == '__main__':
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
