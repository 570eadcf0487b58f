#!/usr/bin/env python3
"""A cluster as its operator sees it: real nodes, and jumun cluster.

  test_cluster_operation.py JUMUND JUMUN empty|orders|moving|lost

empty   three nodes are formed on empty directories; one joins, one leaves, one is killed, loses its
        disk and is replaced, one is drained; the cluster grows. No order is lost.
orders  a node alone that has orders becomes one of three; two of them are lost for good, and the
        third one goes on alone.
moving  all nodes die in the midst of a move to a node that is gone; of the group's three voters
        two come back, and one of them is the one that shall leave.
lost    nodes that have lost their disks wait at their old addresses: only replace takes them in.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from cluster_of_nodes import JUMUN, JUMUND, check, cluster, form
from replica_process import ask

SHARD_MAP = 101

META = 65535                            # the number of the meta group's shard


def forgets_what_it_acknowledged(c, place, directory):
    """Nothing but the vote is left, or not even what was in it: it would be an empty follower."""
    shutil.copytree(os.path.join(directory + '-away', 'vote'), os.path.join(directory, 'vote'))
    check(c.start(place) == '', 'a replica that has lost its log and its state does not start')
    check(c.end(place) == 3, 'and says so')
    told = open(c.data(place) + '.log').read()
    check('no log is left' in told and 'jumun cluster replace' in told, 'with what to do: ' + told)
    for name in os.listdir(os.path.join(directory, 'vote')):
        os.remove(os.path.join(directory, 'vote', name))
    check(c.start(place) == '', 'nor does one whose vote is gone too')
    check(c.end(place) == 3, 'and says so')
    shutil.rmtree(directory)


def maps_tell_their_cluster(c):
    """By it clients tell the replicas of another one, also once the document has changed."""
    maps = [ask(c.url(place), [1, None, [[SHARD_MAP]]])[2][0][5] for place in sorted(c.nodes)]
    wanted = c.status()['cluster_id']
    check(all(m.get('cluster_id') == wanted for m in maps), f'maps of {wanted}: {maps}')


def drained_beside_a_dead_one(c):
    """Node 2 is dead, 3 and 4 live."""
    c.jumun('cluster', 'drain', '4')
    check(all(x['leader'] == 3 for x in c.status()['shards']), 'node 4 leads nothing')
    told = c.jumun('cluster', 'drain', '3', expect=1)
    check('nobody could take over from node 3' in told, 'the last one is not drained: ' + told)
    told = c.jumun('cluster', 'drain', '3', '--force')
    check('node 3 leads on' in told, 'but it is when forced, and nobody is waited for: ' + told)
    c.jumun('cluster', 'undrain', '3')
    c.jumun('cluster', 'undrain', '4')
    check(any(x['leader'] == 4 for x in c.status()['shards']), 'its leads come back')
    lags = [x['lag'] for x in c.status()['shards'] if x['leader'] == 4]
    check(None in lags, f'a new leader does not know how far the dead node is: {lags}')


def meta_figures(c):
    """What the nodes' statuses say that their meta groups were asked, and have refused."""
    told = []

    def all_tell():
        told[:] = [c.rows(place, META + 1) for place in sorted(c.nodes)]
        return all(told)

    c.await_that(all_tell, 'each node tells its status')
    rows = [of[-1] for of in told]
    check(all(r['shard'] == META for r in rows), 'each node has a replica of it')
    return [(r['commands'], r['refused']) for r in rows]


def meta_figures_stay(c):
    """For a time in which each node asks several times."""
    before = meta_figures(c)
    time.sleep(1.5)
    return meta_figures(c) == before


def empty(c):
    for place in range(3):
        check('waiting' in c.start(place), 'a node waits')
    check('refused' in c.jumun('cluster', 'status', at=0, expect=1), 'there is no cluster yet')
    check('waits for a cluster' in c.jumun('status', at=0), 'its status says so')
    check('waits for a cluster' in c.jumun('top', '--count', '1', '--interval', '50ms', at=0),
          'and again and again')
    for words in (('place', '--store', 's', '--currency', 'KRW', '--line', 'a:1:100'),
                  ('get', '01JD0000000000000000000000')):
        told = c.jumun('--timeout', '2s', *words, at=0, expect=1)
        check('cluster_not_formed' in told, 'and so does whatever it is asked: ' + told)
    told = c.jumun('cluster', 'form', '--node', c.peers(0), expect=3)
    check('port for other nodes (--peer-listen)' in told, 'it is not for clients: ' + told)
    c.jumun('cluster', 'form', '--node', c.url(0), '--node', c.url(1), expect=2)
    other_name = c.url(0).replace('127.0.0.1', 'localhost')
    for again, why in ((c.url(0), 'is named twice'), (other_name, 'are the same node')):
        check(why in c.jumun('cluster', 'form', '--node', c.url(0), '--node', again, '--node',
                             c.url(1), expect=1), 'a node is named twice')
    with socket.socket() as other:          # what shard 3 of the third node needs
        other.bind(('127.0.0.1', int(c.url(2).rsplit(':', 1)[1]) + 4))
        other.listen()
        check('for clients of shard 3' in form(c, range(3), '--shards', '4', expect=1),
              'a port that is in use is told')
    c.await_that(lambda: c.rows(0, 4) and c.rows(1, 4), 'those that were taken in begin to serve')
    form(c, range(3), '--shards', '4')
    s = c.status()
    check(len(s['shards']) == 5 and s['replicas'] == 3, 'all shards are there')
    check({x['leader'] for x in s['shards']} == {1, 2, 3}, 'leaders are spread')
    c.place_orders(12)
    # Once more: everything is done already.
    form(c, range(3), '--shards', '4')
    check(any(meta_figures_stay(c) for _ in range(10)), 'what nodes ask is not counted')

    check('waiting' in c.start(3), 'a fourth one waits')
    c.jumun('cluster', 'add', c.url(3))
    check(c.numbers() == [1, 2, 3, 4], 'node 4 is in')
    maps_tell_their_cluster(c)
    check('is node 4 of this cluster already' in c.jumun('cluster', 'add', c.url(3), expect=1),
          'and it is not taken in twice')
    loads = [sum(n in x['nodes'] for x in c.status()['shards']) for n in (1, 2, 3, 4)]
    check(max(loads) - min(loads) <= 1, 'replicas are spread evenly')
    c.all_orders_are_there()
    c.jumun('cluster', 'remove', '1')
    check('which was removed' in c.jumun('cluster', 'add', c.url(0), expect=1),
          'it is not told to be a member')
    check(c.end(0) == 0, 'the removed node stops in order')
    c.jumun('cluster', 'remove', '1', expect=1)
    c.place_orders(6)

    c.end(1, signal.SIGKILL)
    c.place_orders(4)                       # two of three go on
    with socket.create_server(('127.0.0.1', int(c.url(2).split(':')[2]) + 5)):
        told = c.jumun('cluster', 'grow', '--shards', '5', '--in', '10m', expect=1)
    check('refused: node 3 has to listen for shard 4 on ' in told, 'a port is in use: ' + told)
    check(len(c.status()['shards']) == 5, 'and nothing was changed')
    told = c.jumun('cluster', 'grow', '--shards', '5', '--in', '10m')
    check('node 2 does not answer, and is not waited for' in told, 'nor does growth wait for it')
    told = c.jumun('cluster', 'cancel-grow')
    check('no order belongs to the shards from 4 to 4' in told, 'what runs on is told: ' + told)
    drained_beside_a_dead_one(c)
    shutil.rmtree(c.data(1))
    check('waiting' in c.start(1), 'it comes back without its disk')
    c.jumun('cluster', 'replace', '2', c.url(1))
    check(c.numbers() == [3, 4, 5], 'node 5 has its place')
    c.all_orders_are_there()

    c.jumun('cluster', 'drain', '3')
    check(all(x['leader'] != 3 for x in c.status()['shards']), 'node 3 leads nothing')
    c.end(2)
    c.place_orders(2)
    check('that is not drained' in c.jumun('cluster', 'grow', '--shards', '6', '--in', '10m',
                                           expect=1), 'a drained node gets no new replica')
    check('ready' in c.start(2), 'it serves again')
    c.jumun('cluster', 'undrain', '3')
    check(any(x['leader'] == 3 for x in c.status()['shards']), 'its leads come back')

    c.jumun('store', 'pause', 'store-9')
    c.jumun('cluster', 'grow', '--shards', '6', '--in', '10s', expect=1)
    c.jumun('cluster', 'grow', '--shards', '6', '--in', '10m')
    s = c.status()
    check(len(s['shards']) == 7 and len(s['epochs']) == 2, 'two shards are added')
    c.jumun('cluster', 'retire', '4', expect=1)
    c.jumun('cluster', 'cancel-grow')
    c.jumun('cluster', 'retire', '0', expect=1)     # it has orders
    c.await_that(lambda: c.try_jumun('cluster', 'retire', '5', '--no-wait') == 0,
                 'shard 5 is empty')
    check(c.status()['shards'][5]['state'] == 'retired', 'an empty shard that nobody needs stops')
    c.await_that(lambda: c.replicas_of(5) == 0, 'its replicas are closed')
    check(c.replicas_of(4) == 3, 'those of an active one run on')
    c.jumun('cluster', 'grow', '--shards', '6', '--in', '10m')
    check(c.replicas_of(5) == 3, 'needed again, it goes on')
    c.jumun('cluster', 'cancel-grow')
    check(len(c.status()['epochs']) == 1, 'and not used')
    c.place_orders(4)
    c.all_orders_are_there()
    gone = os.path.join(c.data(1), sorted(x for x in os.listdir(c.data(1)) if 'shard-' in x)[0])
    c.end(1)
    os.rename(gone, gone + '-away')
    check(c.start(1) == '', 'a replica without its directory does not start anew')
    check(c.end(1) == 3, 'and says so')
    os.mkdir(gone)
    check(c.start(1) == '', 'nor does one whose directory is empty')
    check(c.end(1) == 3, 'and says so')
    os.rmdir(gone)
    forgets_what_it_acknowledged(c, 1, gone)
    os.rename(gone + '-away', gone)
    check('ready' in c.start(1), 'with it the node serves')
    c.all_orders_are_there()


def place_in_vain(c):
    """What is said of an order that nobody can take, within two seconds or once there is more."""
    run = subprocess.run([JUMUN, '--endpoint', c.url(0), '--timeout', '2s', 'place', '--store',
                          'store-1', '--currency', 'KRW', '--line', 'a:1:100'],
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    check(run.returncode != 0, 'alone it takes nothing')
    return run.stderr


def recover(c, place, *options, expect=0):
    run = subprocess.run([JUMUN, 'cluster', 'recover', '--program', JUMUND, '--data', c.data(place),
                          *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         check=False)
    check(run.returncode == expect, f'recover {options}: {run.returncode}: {run.stderr}')
    check(run.stderr.startswith('jumun: ') if expect else run.stderr == '', run.stderr)
    return run.stdout


def orders(c):
    check('ready' in c.start(0, '--shards', '2', alone=True), 'a node alone serves')
    c.place_orders(20)
    c.jumun('store', 'pause', 'store-7')
    check(c.end(0) == 0, 'it stops in order')
    for place in range(3):
        check('waiting' in c.start(place), 'all three wait')
    form(c, (1, 0, 2))
    c.all_orders_are_there()
    check(json.loads(c.jumun('--json', 'store', 'get', 'store-7'))['paused'], 'the pause is there')
    c.place_orders(10)
    c.end(0, signal.SIGKILL)
    c.place_orders(3)
    # Its log begins with record 1, as that of a node alone.
    for shard in (0, 1):
        shutil.rmtree(os.path.join(c.data(0), f'shard-{shard}', 'state'))
    c.end(1, signal.SIGKILL)
    c.end(2, signal.SIGKILL)
    c.start(0, wait=False)                  # it rebuilds its state from its log
    c.await_that(lambda: len(c.rows(0, 2)) == 2, 'it answers')
    c.await_that(lambda: 'no node is known to lead the shard now' in place_in_vain(c),
                 'alone it takes nothing, and does not tell of another one')
    # As a crash leaves it in the midst of its adoption.
    for place in (1, 2):
        document = os.path.join(c.data(place), 'cluster.msgpack')
        os.rename(document, document + '.adopted')
        check('ready' in c.start(place, alone=place == 2), 'the others come back')
    c.place_orders(3)
    c.jumun('cluster', 'balance', expect=1)  # nothing to do
    # All have everything before two are lost.
    c.await_that(lambda: all(x['lag'] == 0 for x in c.status()['shards']), 'none is behind')
    c.end(0, signal.SIGKILL)
    c.end(1, signal.SIGKILL)
    c.end(2, signal.SIGKILL)
    # The one that is left cannot serve, says why, and loses nothing by trying.
    c.start(2, wait=False)
    c.await_that(lambda: 'it hears 0 of 2 other nodes' in open(c.data(2) + '.log').read(),
                 'a node says what it lacks')
    refused = json.loads(recover(c, 2, '--json', expect=1))
    check(not refused['done'] and 'in use' in refused['error'], f'a node that runs: {refused}')
    check(recover(c, 2, expect=1) == '', 'which is no text, either')
    check(c.end(2) == 0, 'and stops in order')
    told = recover(c, 2)
    check('shard 1: log up to' in told and 'Nothing was changed' in told, 'what it has is told')
    found = json.loads(recover(c, 2, '--json'))
    check(found['node'] == 3 and not found['done'], 'as JSON, too')
    check(all(s['here'] and s['index'] > 0 and s['term'] > 0 for s in found['shards']) and
          [s['shard'] for s in found['shards']] == [0, 1], f'each shard: {found}')
    check(found['meta']['here'] and found['meta']['index'] > 0 and 'meta: log up to' in told,
          f'and the meta group: {found}')
    check(json.loads(recover(c, 2, '--json', '--force'))['done'], 'it is done')
    refused = json.loads(recover(c, 2, '--json', expect=1))
    check('was recovered already' in refused['error'], f'it belongs to none any more: {refused}')
    # Before that it founds nothing: a refusal, and no word of what was not begun.
    for place in (0, 1):
        shutil.rmtree(c.data(place))
    for place in range(3):
        check('waiting' in c.start(place), 'all three wait')
    told = form(c, (0, 1, 2), expect=1)
    check('goes on behind its stored state' in told and 'copying' not in told, told)
    for place in range(3):
        check(c.end(place) == 0, 'a waiting node stops in order')
    check('ready' in c.start(2, alone=True), 'it goes on alone')
    c.all_orders_are_there()
    c.place_orders(3)
    # And becomes one of three once more.
    check(c.end(2) == 0, 'it stops in order')
    for place in (0, 1):
        shutil.rmtree(c.data(place))
    for place in range(3):
        if place != 2:
            check('waiting' in c.start(place), 'empty nodes wait')
    check('waiting' in c.start(2), 'it waits for a cluster again')
    form(c, (0, 1, 2))
    c.all_orders_are_there()


def moving(c):
    for place in range(4):
        check('waiting' in c.start(place), 'a node waits')
    form(c, range(3), '--shards', '1')
    c.jumun('cluster', 'add', c.url(3))
    c.place_orders(3)
    shard = c.status()['shards'][0]
    to = next(n for n in (1, 2, 3, 4) if n not in shard['nodes'])
    leaves = next(n for n in shard['nodes'] if n != shard['leader'])
    c.end(to - 1, signal.SIGKILL)
    c.jumun('cluster', 'move', '0', str(leaves), str(to), '--no-wait')
    time.sleep(1)                           # all have heard of it
    for place in list(c.nodes):
        c.end(place, signal.SIGKILL)
    for node in (leaves, shard['leader']):
        c.start(node - 1, wait=False)
    c.place_orders(3)
    c.all_orders_are_there()


def wiped(c, place):
    if place in c.nodes:
        c.end(place, signal.SIGKILL)
    shutil.rmtree(c.data(place))
    check('waiting' in c.start(place), 'it comes back without its disk')


def lost(c):
    """Whoever has had a vote and has lost its disk does not come back under its number, however it
    is asked for: a node that lags would lead with its vote, and orders be gone."""
    for place in range(3):
        check('waiting' in c.start(place), 'a node waits')
    words = [w for place in range(3) for w in ('--node', c.url(place))]
    form(c, range(3), '--shards', '1')
    c.place_orders(2)
    # The document is still the first one, which a founder that waits may lack.
    wiped(c, 2)
    way_out = f'jumun cluster replace 3 {c.url(2)}'
    told = c.jumun('cluster', 'form', *words, expect=1)
    check(way_out in told, 'nothing is formed once more: ' + told)
    c.end(1, signal.SIGKILL)
    c.jumun('cluster', 'replace', '3', c.url(2), '--timeout', '2s', expect=3)  # nobody decides
    c.start(1)
    c.await_that(lambda: c.try_jumun('cluster', 'replace', '3', c.url(2)) == 0, 'two decide')
    check(c.numbers() == [1, 2, 4], 'node 4 has its place')
    c.all_orders_are_there()

    # One is away while others acknowledge, and has less than they when one of them loses its disk.
    c.end(1, signal.SIGKILL)
    c.place_orders(20)
    wiped(c, 2)
    c.start(1, wait=False)
    way_out = f'jumun cluster replace 4 {c.url(2)}'
    for what in (('add',), ('join',), ('replace', '7'), ('replace', '3'), ('replace', '2')):
        told = c.jumun('cluster', *what, c.url(2), at=0, expect=1)
        check(way_out in told and 'is the address of node 4, which is active' in told,
              f'{what}: {told}')
        check('waits for a cluster' in c.jumun('status', at=2), f'{what}: it was not taken in')
    told = c.jumun('cluster', 'form', *words, expect=1)
    check(way_out in told, 'it was no founder, either: ' + told)
    check(c.numbers() == [1, 2, 4], 'nothing was changed')
    c.jumun('cluster', 'replace', '4', c.url(2), at=0)
    check(c.numbers() == [1, 2, 5], 'under a number of its own it is one of them')
    c.end(0, signal.SIGKILL)
    c.all_orders_are_there()
    c.place_orders(1)
    check('ready' in c.start(0), 'it is back')

    # What was broken off goes on, for the node has been none yet; emptied meanwhile, it is another.
    check('waiting' in c.start(3), 'a fourth one waits')
    with socket.socket() as other:          # what shard 0 of it needs
        other.bind(('127.0.0.1', int(c.url(3).rsplit(':', 1)[1]) + 1))
        other.listen()
        for _ in range(2):
            check('for clients of shard 0' in c.jumun('cluster', 'add', c.url(3), at=0, expect=1),
                  'a port that is in use is told')
        c.await_that(lambda: c.numbers() == [1, 2, 5, 6], 'it has a number')
    c.jumun('cluster', 'add', c.url(3), at=0)
    check(c.numbers() == [1, 2, 5, 6] and 'node 6' in c.jumun('status', at=3), 'and is that node')


def main():
    with cluster('operation') as c:
        {'empty': empty, 'orders': orders, 'moving': moving, 'lost': lost}[sys.argv[3]](c)


main()
