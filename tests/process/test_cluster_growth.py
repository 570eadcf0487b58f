#!/usr/bin/env python3
"""A cluster of three nodes grows from two shards to four while it takes orders.

  test_cluster_growth.py JUMUND JUMUN JUMUN_BENCH JUMUN_REPLAY FAST_CLOCK grow|kill|long

grow    no command fails; new orders go to all four shards, stores move to theirs, and in the end
        all nodes agree and each store's count is that of its open orders.
kill    the same, and the node that leads most is killed (-9) when stores begin to move, and started
        again.
long    as kill, by the machine's clock, with growth announced 80 s ahead and more load.

Other than in `long`, the nodes' time of day runs ten times as fast (fast_clock.c): what is
announced 150 s ahead begins after 15.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

from cluster_of_nodes import PATIENCE, Cluster, check, form, print_logs

BENCH, REPLAY, FAST_CLOCK, CASE = sys.argv[3:7]
FACTOR = 1 if CASE == 'long' else 10
AHEAD_S = 80 if CASE == 'long' else 150
RATE, BENCH_STORES, QUIET_STORES = (2000 if CASE == 'long' else 300), 64, 40
ENDED = {'completed', 'rejected', 'cancelled', 'expired'}


def load(c, seconds):
    """Open loop over the life of orders; it ends with 0 if no command failed."""
    return subprocess.Popen(
        [BENCH, '--endpoint', ','.join(map(c.url, range(3))), '--mode', 'open', '--rate', str(RATE),
         '--seconds', str(seconds), '--warmup', '0', '--live', '400', '--stores',
         str(BENCH_STORES), '--timeout-ms', '60000', '--json', '--quiet'],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=c.env)


def shards_of(c):
    return [s for s in c.status()['shards'] if not s['meta']]


def has_moved(c):
    """Whether the document spreads stores over all four, and each leader says that it is done."""
    s = c.status()
    return s['stores_shards'] == 4 and all(
        x['leader'] and not x['stores_moving'] for x in s['shards'] if not x['meta'])


def in_flight(c):
    """Whether stores are on their way just now, or were until a moment ago."""
    s = c.status()
    return s['stores_shards'] == 4 and any(
        x.get('stores_moving') or x.get('stores_moved') for x in s['shards'])


def kill_the_busiest(c):
    leads = Counter(s['leader'] for s in c.status()['shards'])
    place = leads.most_common(1)[0][0] - 1
    c.end(place, signal.SIGKILL)
    return place


def replay(*words):
    run = subprocess.run([REPLAY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, timeout=PATIENCE, check=False)
    check(run.returncode == 0, 'jumun-replay %s: %s%s' % (' '.join(words), run.stdout[-2000:],
                                                         run.stderr[-2000:]))
    return run.stdout


def state_of(c, shard, what):
    out = replay('state', c.data(0), '--shard', str(shard), what, '--json', '--quiet')
    return [json.loads(x) for x in out.splitlines()]


def verify(c):
    """By the logs alone: all nodes agree, and each store counts what it has."""
    for place in (1, 2):
        replay('verify', c.data(0), '--against', c.data(place), '--quiet')
    orders, stores, by_shard, homes = [], [], {}, {}
    for shard in range(4):
        o = state_of(c, shard, '--all')
        s = state_of(c, shard, '--stores')
        by_shard[shard], homes[shard] = len(o), len(s)
        orders += o
        stores += s
    check(all(by_shard.values()), 'orders are on all shards: %s' % by_shard)
    check(all(homes.values()), 'stores live on all shards: %s' % homes)
    still_open = Counter(o['store'] for o in orders if o['state'] not in ENDED)
    check(len({s['id'] for s in stores}) == len(stores), 'no store lives at two places')
    ever = Counter(o['store'] for o in orders)
    for s in stores:
        check((s['open_orders'], s['placed_orders']) == (still_open[s['id']], ever[s['id']]),
              'store %s counts %d of %d orders open, not %d of %d' % (
                  s['id'], s['open_orders'], s['placed_orders'], still_open[s['id']],
                  ever[s['id']]))
    print('orders by shard %s; stores by shard %s' % (by_shard, homes))


def grow(c):
    for place in range(3):
        check('waiting' in c.start(place), 'a node waits')
    form(c, range(3), '--shards', '2')
    for i in range(QUIET_STORES):           # stores that nothing happens to but growth
        c.jumun('store', 'pause', 'quiet-%d' % i)
    bench = load(c, 30 if FACTOR > 1 else 150)
    c.jumun('cluster', 'grow', '--shards', '4', '--in', '%ds' % AHEAD_S)
    check(len(shards_of(c)) == 4, 'the new shards run before the epoch begins')
    check(c.status()['stores_shards'] == 2, 'stores stay until then')
    c.await_that(lambda: in_flight(c), 'stores are on their way')
    if CASE != 'grow':
        place = kill_the_busiest(c)
        time.sleep(2)
        check('ready' in c.start(place), 'the killed one serves again')
    c.await_that(lambda: has_moved(c), 'all stores have moved')
    out, errors = bench.communicate(timeout=3 * PATIENCE)
    check(bench.returncode == 0, 'no command failed: %s%s' % (out, errors))
    told = json.loads(out)
    check(told['failed'] == 0 and told['wrong'] == 0 and told['refused'] == 0, out)
    for i in range(0, QUIET_STORES, 4):
        store = json.loads(c.jumun('--json', 'store', 'get', 'quiet-%d' % i))
        check(store['paused'] and store['open_orders'] == 0, 'store %d is still paused' % i)
        c.jumun('place', '--store', 'quiet-%d' % i, '--currency', 'KRW', '--line', 'a:1:100',
                expect=1)
    print('load: %s' % out.strip())
    for place in range(3):
        check(c.end(place) == 0, 'a node stops in order')


def main():
    env = {} if FACTOR == 1 else {'LD_PRELOAD': FAST_CLOCK,
                                  'JUMUN_TEST_CLOCK': '%d:%d' % (time.time(), FACTOR)}
    with tempfile.TemporaryDirectory(prefix='jumun-growth-') as folder:
        c = Cluster(folder, env)
        good = False
        try:
            grow(c)
            verify(c)
            good = True
        finally:
            c.end_all()
            if not good:
                print_logs(folder)


main()
