#!/usr/bin/env python3
"""jumun cluster status: what it says of the nodes that answer, or do not, at the addresses of the
members.

  test_cluster_status.py JUMUND JUMUN FAST_CLOCK
"""
import concurrent.futures
import json
import re
import shutil
import signal
import sys
import time

from cluster_of_nodes import check, cluster, form

AHEAD = '([5-9]|[1-9][0-9]) min'       # the clock gains, and the machine may be slow


def status(c, at, faults=None):
    """The status by the node at `at`, as JSON, after the same as text, with so many faults; None:
    any. On a busy machine a group may elect just now, and then there is one more for a moment."""
    seen = []

    def looks():
        del seen[:]
        for words in (('cluster', 'status'), ('--json', 'cluster', 'status')):
            seen.append(c.jumun(*words, at=at, expect=(0, 1)))
        told = json.loads(seen[1])['faults']
        return faults in (None, len(told)) and all(fault in seen[0] for fault in told)

    try:
        c.await_that(looks, '%s faults, and the text has them too' % faults)
    except SystemExit as failed:
        raise SystemExit('%s:\n%s\n%s' % (failed, *seen)) from None
    return json.loads(seen[1]), seen[0]


def second(told):
    return next(n for n in told['nodes'] if n['node'] == 2)


def lose(c, place):
    c.end(place, signal.SIGKILL)
    shutil.rmtree(c.data(place))


def is_told(c, there, *parts):
    """Of node 2, by the other two."""
    for at in (0, 2):
        told, text = status(c, at)
        check(second(told)['there'] == there, '%s: %s' % (there, second(told)))
        check(second(told)['state'] == 'active', 'what the document says stays')
        for part in parts:
            check(part in text, '"%s": %s' % (part, text))
    return told


def strangers(c):
    """An empty node, one of another cluster and one alone at the address of node 2."""
    lose(c, 1)
    told = is_told(c, 'silent', 'does not answer at ' + c.url(1))
    shard = next(s for s in told['shards'] if s['preferred'] != 2)
    # It reminds where nothing new happens for 15 s; on a busy machine the group may elect.
    for patience in ('18s', '40s', '80s'):
        said = c.jumun('cluster', 'transfer', 'meta' if shard['meta'] else '0', '2', '--wait',
                       patience, at=0, expect=3)
        if 'until node 2 answers, still after' in said:
            break
    check('until node 2 answers, still after' in said, 'it says what it waits for: ' + said)
    check('gets the lead once it answers' in said and 'calls it off' in said, 'and how it is: ' +
          said)
    other = next(s for s in told['shards'] if s is not shard)
    c.jumun('cluster', 'transfer', 'meta' if other['meta'] else '0',
            '1' if other['preferred'] != 1 else '3', '--wait', '2m', at=0)
    check('waiting' in c.start(1), 'an empty node waits')
    is_told(c, 'waits', 'an empty node waits at ' + c.url(1), 'jumun cluster replace 2')
    for place in (3, 4):
        c.start(place)
    form(c, (1, 3, 4), '--shards', '1')
    other = json.loads(c.jumun('--json', 'cluster', 'status', at=3))['cluster_id']
    told = is_told(c, 'stranger', 'of another cluster, ' + other)
    check(second(told)['there_cluster_id'] == other != told['cluster_id'], 'whose it is is told')
    check(second(told)['answers'], 'somebody answers there')
    for place in (3, 4):
        lose(c, place)
    lose(c, 1)
    check('ready' in c.start(1, '--shards', '1', alone=True), 'a node alone serves there')
    is_told(c, 'stranger', 'a stranger answers at ' + c.url(1), 'a node alone')
    lose(c, 1)


def in_vain(c, *calls):
    """What each of the calls, (words, places), says in the end. None does anything, each waits
    until its time is over: so all at once."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(c.jumun, '--timeout', '5s', *words, at=at, expect=3)
                   for words, at in calls]
        return [call.result() for call in running]


def no_majority(c):
    """Only node 3 is left of the three, and an empty one waits in the place of node 2."""
    place = ('place', '--store', 's', '--currency', 'KRW', '--line', 'a:1:100')
    get = ('get', '01JD0000000000000000000000')
    *others, told = in_vain(c, (place, 2), (place, (0, 1, 2)), (get, 2), (get, (0, 1, 2)),
                            (get, (0, 1)))
    for other in others:
        check('form one, or join' not in other, 'there is a cluster: ' + other)
    check('a node waits there' in told and 'form one' not in told, 'the other may know: ' + told)
    c.await_that(lambda: 'no node is known to lead the shard now' in c.jumun(
        '--timeout', '5s', *place, at=2, expect=3), 'what it lacks is told')
    changes = ('replace', '2', c.url(1)), ('add', c.url(1)), ('transfer', '0', '3')
    for told in in_vain(c, *((('cluster', *words), at) for words in changes
                             for at in (2, (1, 2, 0)))):
        check('has no leader that answers: 1 of its 3 nodes answer, and it takes 2' in told,
              'what the meta group lacks: ' + told)


def log_of(c, place):
    with open(c.data(place) + '.log', encoding='utf-8') as log:
        return log.read()


def clock_ahead(c):
    """Node 3 starts with a clock that is 300 s ahead, and gains; it is told; then with a right
    one."""
    right = c.env
    c.end(2)
    c.env = {**right, 'LD_PRELOAD': sys.argv[3],
             'JUMUN_TEST_CLOCK': '%d:2' % (time.time() - 300)}
    c.start(2)
    c.env = right
    c.await_that(lambda: c.status()['faults'] and 'clock' in c.status()['faults'][0],
                 'a clock that is ahead is a fault')
    told, text = status(c, 0, 1)
    c.jumun('cluster', 'status', at=0, expect=1)
    check(re.search(f'node 3: its clock is {AHEAD} .*ahead of that of node', text), text)
    c.await_that(lambda: 'the clock of node 3 is ' in log_of(c, 0), 'the others warn of it')
    for at, node, how in ((0, 3, 'ahead of'), (2, 1, 'behind')):
        text = c.jumun('status', at=at)
        check(re.search(f'that of node {node} is {AHEAD}', text) and how + " this node's" in text,
              text)
    c.end(2)
    c.start(2)
    c.await_that(lambda: not c.status()['faults'], 'it is right again')


def any_port(c):
    """A node on any free port says which, before it is taken in and once it serves there."""
    waits = c.start(3, '--listen', 'tcp://127.0.0.1:0').split()
    check(waits[:2] == ['jumund', 'waiting:'] and not waits[2].endswith(':0'),
          'a node that waits says at which port: %s' % waits)
    there = waits[2]
    check('waits for a cluster' in c.jumun('--endpoint', there, 'status'), 'it answers there')
    c.jumun('cluster', 'join', there, at=0)
    serves = c.nodes[3].stdout.readline()
    check('ready: %s ' % there in serves, 'it serves where it waited: %s' % serves)
    c.jumun('cluster', 'remove', '4', at=0)
    lose(c, 3)


def of_a_file(c):
    """A cluster that a file describes has no document: what its nodes say is shown, at once, and
    what would change it is refused at once."""
    path = c.data(0) + '.json'
    with open(path, 'w') as file:
        json.dump({'cluster_id': '0123456789abcdef' * 2, 'shards': 2, 'nodes': [
            {'node': place + 1, 'peers': c.peers(place), 'clients': c.url(place)}
            for place in range(3)]}, file)
    for place in range(3):
        c.start(place, '--cluster', path, '--node-id', str(place + 1), alone=True, wait=False)
    for place in range(3):
        check('ready' in c.nodes[place].stdout.readline(), 'node %d serves' % (place + 1))
    c.await_that(lambda: all(s['lag'] == 0 and s['leader'] for s in c.status()['shards']),
                 'all groups are led')
    told, text = status(c, 1, 0)
    check(told['of_file'] and 'as the file of its nodes says' in text, text)
    check([n['clients'] for n in told['nodes']] == [c.url(p) for p in range(3)], told['nodes'])
    check([sorted(s['nodes']) for s in told['shards']] == [[1, 2, 3]] * 2, told['shards'])
    for words in (('drain', '2'), ('balance',), ('form', '--node', c.url(0), '--node', c.url(1),
                                                 '--node', c.url(2))):
        begun = time.monotonic()
        said = c.jumun('cluster', *words, expect=1)
        check('as the file of its nodes says' in said, said)
        check(time.monotonic() - begun < 10, 'and at once, not after the timeout of 20 s')
    c.end(2, signal.SIGKILL)
    told, text = status(c, 0, 1)
    check(told['nodes'][2]['there'] == 'silent', 'a node that is away is told')


def main():
    with cluster('status-of-a-file') as c:
        of_a_file(c)
    with cluster('status') as c:
        for place in range(3):
            c.start(place)
        form(c, range(3), '--shards', '1')
        told, text = status(c, 0, 0)
        any_port(c)
        said = c.jumun('--timeout', '500ms', '--endpoint', c.peers(0), 'status', expect=3)
        check('a port for the other nodes of a cluster (--peer-listen' in said, said)
        check(all(n['there'] == 'member' for n in told['nodes']), 'all are who they shall be')
        clock_ahead(c)
        c.end(1)
        check('ready' in c.start(1), 'a member serves at once, whatever --cluster-wait says')
        strangers(c)
        c.end(0, signal.SIGKILL)
        told, text = status(c, 2, 4)
        check('shard 0: 1 of its 3 replicas answers: that is no majority' in text, text)
        check('shard meta: 1 of its 3 replicas answers' in text, text)
        c.jumun('cluster', 'status', at=2, expect=1)
        check('waiting' in c.start(1), 'an empty node waits')
        no_majority(c)
    print('1 passed, 0 failed')


if __name__ == '__main__':
    main()
