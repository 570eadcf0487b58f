#!/usr/bin/env python3
"""A cluster of three nodes grows from two shards to four while it takes orders.

  test_cluster_growth.py JUMUND JUMUN JUMUN_BENCH JUMUN_REPLAY FAST_CLOCK CASE

where CASE is one of

grow    no command fails; new orders go to all four shards, stores move to theirs, and in the end
        all nodes agree and each store's count is that of its open orders.
kill    the same, and the node that leads most is killed (-9) when stores begin to move, and started
        again.
lost    grown from two to four, two of the three nodes are lost for good. The third one is recovered
        and has all orders and stores of both epochs; with two empty nodes it is a cluster once
        more, which grows to six shards, and all is still there.
rebuilt as lost, but jumun-replay makes the directory: of the third one's logs, and once more of a
        backup of that. It goes on alone, and in a cluster that grows.
long    as kill, by the machine's clock, with growth announced 80 s ahead and more load.

Other than in `long`, the nodes' time of day runs ten times as fast (fast_clock.c): what is
announced 150 s ahead begins after 15.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

from cluster_of_nodes import JUMUN, JUMUND, PATIENCE, check, cluster, form

BENCH, REPLAY, FAST_CLOCK, CASE = sys.argv[3:7]
FACTOR = 1 if CASE == 'long' else 10
AHEAD_S = 80 if CASE == 'long' else 150
RATE, BENCH_STORES, QUIET_STORES = (2000 if CASE == 'long' else 300), 64, 40
OPEN_STORES, DAY_MS = 4, 86400000   # of the case `lost`
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


def has_moved(c, shards=4):
    """Whether the document spreads stores over all, and each leader says that it is done."""
    s = c.status()
    return s['stores_shards'] == shards and all(
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


def state_of(c, place, shard, what):
    out = replay('state', c.data(place), '--shard', str(shard), what, '--json', '--quiet')
    return [json.loads(x) for x in out.splitlines()]


def verify(c, shards=4, of=0, others=(1, 2)):
    """By the logs alone: all nodes agree, and each store counts what it has."""
    for place in others:
        replay('verify', c.data(of), '--against', c.data(place), '--quiet')
    orders, stores, by_shard, homes = [], [], {}, {}
    for shard in range(shards):
        o = state_of(c, of, shard, '--all')
        s = state_of(c, of, shard, '--stores')
        by_shard[shard], homes[shard] = len(o), len(s)
        orders += o
        stores += s
    check(all(by_shard.values()) or c.keys, 'orders are on all shards: %s' % by_shard)
    check({o['key'] for o in orders} >= set(c.keys), 'all orders are in the logs')
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


def back_up(c):
    """Of each node's directory, as a follower of some shards and leader of others: what a backup
    has fits together, whatever the others have committed meanwhile."""
    for place in range(3):
        backup = os.path.join(c.folder, 'backup-%d' % place)
        replay('backup', c.data(place), backup, '--quiet')
        replay('verify', backup, '--quiet')


def restore(c):
    for place in range(3):
        made = os.path.join(c.folder, 'restored-%d' % place)
        replay('restore', os.path.join(c.folder, 'backup-%d' % place), made, '--quiet')
        replay('verify', made, '--quiet')
        replay('verify', made, '--against', c.data(place), '--log-only', '--quiet')


def grow(c):
    for place in range(3):
        check('waiting' in c.start(place), 'a node waits')
    form(c, range(3), '--shards', '2')
    for i in range(QUIET_STORES):           # stores that nothing happens to but growth
        c.jumun('store', 'pause', 'quiet-%d' % i)
    bench, announced = load(c, 30 if FACTOR > 1 else 150), time.monotonic()
    c.jumun('cluster', 'grow', '--shards', '4', '--in', '%ds' % AHEAD_S)
    check(len(shards_of(c)) == 4, 'the new shards run before the epoch begins')
    spread = c.status()['stores_shards']
    check(spread == 2 or time.monotonic() - announced > AHEAD_S / FACTOR, 'stores stay until then')
    c.await_that(lambda: in_flight(c), 'stores are on their way')
    if CASE == 'grow':
        back_up(c)
    else:
        place = kill_the_busiest(c)
        time.sleep(2)
        check('ready' in c.start(place), 'the killed one serves again')
    c.await_that(lambda: has_moved(c), 'all stores have moved')
    if CASE == 'grow':
        back_up(c)
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
    if CASE == 'grow':
        restore(c)


def place_orders(c):
    """They stay open: ten times as fast, the deadlines of most orders would be over soon."""
    path = os.path.join(c.folder, 'orders.jsonl')
    with open(path, 'w') as f:
        for i in range(6 * OPEN_STORES):
            f.write(json.dumps({
                'store': 'store-%d' % (i % OPEN_STORES), 'currency': 'KRW',
                'lines': [{'sku': 'a', 'quantity': 1, 'unit_price': 100}],
                'payment_timeout_ms': DAY_MS}) + '\n')
    keys = c.jumun('--quiet', 'place', '--jsonl', path).split()
    check(len(keys) == 6 * OPEN_STORES, 'all are placed: %s' % keys)
    c.keys += keys


def grow_and_wait(c, shards):
    c.jumun('cluster', 'grow', '--shards', str(shards), '--in', '%ds' % AHEAD_S)
    c.await_that(lambda: has_moved(c, shards), 'all stores have moved to %d shards' % shards)


def all_is_there(c):
    for key in c.keys[::4]:                 # the logs are asked for all of them, at the end
        check(json.loads(c.jumun('--json', 'get', key))['state'] == 'placed', 'order ' + key)
    for i in range(0, QUIET_STORES, 8):
        store = json.loads(c.jumun('--json', 'store', 'get', 'quiet-%d' % i))
        check(store['paused'], 'store %d is still paused' % i)
        c.jumun('place', '--store', 'quiet-%d' % i, '--currency', 'KRW', '--line', 'a:1:100',
                expect=1)
    for i in range(OPEN_STORES):
        store = json.loads(c.jumun('--json', 'store', 'get', 'store-%d' % i))
        check(store['open_orders'] == len(c.keys) // OPEN_STORES,
              'store %d counts its orders: %s' % (i, store))


def form_again(c):
    """By the machine's clock: nng waits by the time of day, so what is asked of a node just when it
    begins to serve, and is never answered, would time out after minutes only."""
    fast, c.env = c.env, dict(os.environ)
    form(c, range(3))
    c.env = fast


def recover(c, place, *options):
    run = subprocess.run([JUMUN, 'cluster', 'recover', '--program', JUMUND, '--data',
                          c.data(place), *options], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, env=c.env, timeout=PATIENCE,
                         check=False)
    check(run.returncode == 0, 'recover: %s%s' % (run.stdout, run.stderr))
    return run.stdout


def rebuild(c, place):
    """From the logs alone: the document's generation must go over what they know of the old one."""
    lost = c.data(place) + '.lost'
    os.rename(c.data(place), lost)
    with open(os.path.join(lost, 'node.json'), encoding='utf-8') as f:
        node = str(json.load(f)['node_id'])
    replay('rebuild', lost, c.data(place), '--node-id', node, '--quiet')
    with open(os.path.join(c.data(place), 'node.json'), encoding='utf-8') as f:
        told = json.load(f)
    check(told['generation'] == 1 and [e[1] for e in told['epochs']] == [2, 4], told)
    replay('verify', c.data(place), '--quiet')
    # Once more, of what the first one made and a backup of it: each goes over the one before.
    again = c.data(place) + '.again'
    replay('backup', c.data(place), c.data(place) + '.backup', '--quiet')
    replay('restore', c.data(place) + '.backup', again, '--quiet')
    with open(os.path.join(again, 'node.json'), encoding='utf-8') as f:
        check(json.load(f)['generation'] == 2, 'a restored one is a generation later')
    shutil.rmtree(c.data(place))
    os.rename(again, c.data(place))


def lose(c):
    for place in range(3):
        check('waiting' in c.start(place), 'a node waits')
    form(c, range(3), '--shards', '2')
    for i in range(QUIET_STORES):
        c.jumun('store', 'pause', 'quiet-%d' % i)
    place_orders(c)
    grow_and_wait(c, 4)
    place_orders(c)
    all_is_there(c)
    c.await_that(lambda: all(x['lag'] == 0 for x in c.status()['shards']), 'all have everything')
    for place in range(3):
        c.end(place, signal.SIGKILL)
    for place in range(2):
        shutil.rmtree(c.data(place))
    if CASE == 'rebuilt':
        rebuild(c, 2)
    else:
        told = recover(c, 2)
        check('shard 3: log up to' in told and 'Nothing was changed' in told, told)
        told = recover(c, 2, '--force')
        check('without --cluster-wait, until it is ready' in told, told)
    check('ready' in c.start(2, alone=True), 'it goes on alone')
    all_is_there(c)
    place_orders(c)
    check(c.end(2) == 0, 'it stops in order')
    for place in range(3):
        check('waiting' in c.start(place), 'all wait for a cluster')
    form_again(c)
    s = c.status()
    check([e['shards'] for e in s['epochs']] == [2, 4] and s['stores_shards'] == 4,
          'the epochs are those from before: %s' % s)
    all_is_there(c)
    grow_and_wait(c, 6)
    place_orders(c)
    all_is_there(c)
    for place in range(3):
        check(c.end(place) == 0, 'a node stops in order')


def main():
    env = {} if FACTOR == 1 else {'LD_PRELOAD': FAST_CLOCK,
                                  'JUMUN_TEST_CLOCK': '%d:%d' % (time.time(), FACTOR)}
    with cluster('growth', env, '%ds' % (20 * FACTOR)) as c:
        if CASE in ('lost', 'rebuilt'):
            lose(c)
            verify(c, shards=6, of=2, others=())
        else:
            grow(c)
            verify(c)


main()
