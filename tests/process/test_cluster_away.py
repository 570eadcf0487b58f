#!/usr/bin/env python3
"""A node is away while the others take orders, and comes back while they take more, as many as they
can.

  test_cluster_away.py JUMUND JUMUN JUMUN_BENCH JUMUN_REPLAY log|state

log    it is sent what it lacks from the log, although the others were started anew meanwhile.
state  it lacks more than the others would send of their logs: it begins with their stored states,
       of which there are newer ones before they have arrived.
"""
import json
import signal
import subprocess
import sys

from cluster_of_nodes import PATIENCE, check, cluster, form

BENCH, REPLAY, CASE = sys.argv[3:6]
SHARDS, AWAY = 2, 2
KEPT_BYTES = 1 << 20        # --catch-up-log
# Stored orders lag behind what is written by a second or two, and are on their way for longer.
OPTIONS = {'log': (), 'state': ('--catch-up-log', '1M', '--catch-up-rate', '2M')}[CASE] + (
    '--checkpoint-age-ms', '200')
LIVE = {'log': '20000', 'state': '4000'}[CASE]


def load(c, seconds, wait=True):
    bench = subprocess.Popen(
        [BENCH, '--endpoint', ','.join(c.url(p) for p in sorted(c.nodes)), '--seconds',
         str(seconds), '--warmup', '0', '--live', LIVE, '--mode', 'open', '--rate', '4000',
         '--batch', '64', '--timeout-ms', '60000', '--json', '--quiet'], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=c.env)
    return ended(bench) if wait else bench


def ended(bench):
    out, err = bench.communicate()
    check(bench.returncode == 0, 'the load goes through: %s%s' % (out, err))
    told = json.loads(out)
    check(told['wrong'] == 0 and told['failed'] == 0, 'and each answer is right: ' + out)


def rows(c, place):
    return c.rows(place, SHARDS)


def keeps_up(c):
    """Whether the node that was away is about where the others are; they were asked first."""
    others, own = rows(c, 0), rows(c, AWAY)
    return len(own) == len(others) == SHARDS and all(
        a['applied_index'] + 64 >= b['applied_index'] > 0 for a, b in zip(own, others))


def load_while_it_is_away(c):
    """More than the others would send it of their logs, in the case that is about that: half as
    much again as what they keep for it, which is 1 MiB or what their stored orders weigh."""
    left = {r['shard']: r['last_index'] for r in rows(c, 0)}
    load(c, 6)
    for _ in range(PATIENCE if CASE == 'state' else 0):
        seen = rows(c, 0)
        if len(seen) == len(left) == SHARDS and all(
                r['log_bytes'] * (r['last_index'] - left[r['shard']]) >
                1.5 * max(KEPT_BYTES, r['state_bytes']) * r['last_index'] for r in seen):
            return
        load(c, 2)
    check(CASE == 'log', 'their logs grow: %s' % rows(c, 0))


def states_that_came(c):
    return open(c.data(AWAY) + '.log').read().count('a state of entry')


def same_everywhere(c):
    """It stops first: the others' logs reach from its end back to the first record, and its own
    perhaps only to the state that it was sent."""
    for place in (AWAY, 0, 1):
        check(c.end(place) == 0, 'node %d stops in order' % (place + 1))
    run = subprocess.run([REPLAY, 'verify', c.data(AWAY), '--against', c.data(0), '--against',
                          c.data(1)],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    check(run.returncode == 0, 'all have the same: ' + run.stdout)


def test(c):
    for place in range(3):
        c.start(place, *OPTIONS)
    form(c, range(3), '--shards', str(SHARDS))
    load(c, 2)
    c.end(AWAY, signal.SIGKILL)
    load_while_it_is_away(c)
    if CASE == 'log':
        for place in (0, 1):
            check(c.end(place) == 0, 'it stops in order')
            c.start(place, *OPTIONS, wait=place == 1)
    running = load(c, 20, wait=False)
    c.start(AWAY, *OPTIONS)
    c.await_that(lambda: keeps_up(c), 'it is where the others are')
    came = states_that_came(c)
    check(came == 0 if CASE == 'log' else came > 0, '%d states came' % came)
    ended(running)
    c.await_that(lambda: keeps_up(c), 'it stays with them')
    same_everywhere(c)


def main():
    with cluster('away', timeout='60s') as c:
        test(c)
    print('1 passed, 0 failed')


if __name__ == '__main__':
    main()
