#!/usr/bin/env python3
"""jumun-replay killed with -9 in the middle and gone on with: the same comes of it as of a run that
nobody killed.

  test_replay_resume.py JUMUND JUMUN JUMUN_REPLAY JUMUN_BENCH
"""
import json
import shutil
import sys

from replay_process import Node, check, killed_when, replay, replay_json, replay_lines, verdict

TRIES = 40


def orders_of(data):
    """What every order came to, by the part of its key that a play keeps, with all that happened
    to it: nothing was held because it overtook its order, nothing came twice."""
    kinds = {}
    for event in replay_lines('export', data, '--fields', 'subject,action', '-q'):
        kinds.setdefault(event['subject'][-16:], []).append(event['action'])
    fields = ('state', 'version', 'total', 'captured', 'refunded')
    return {o['key'][-16:]: (*(o[f] for f in fields), *kinds[o['key'][-16:]])
            for o in replay_lines('state', data, '--all', '--json', '-q')}


def reached(place):
    try:
        return min(s['index'] for s in json.loads(place.read_text())['shards'])
    except (OSError, ValueError):
        return -1


def play_killed_twice(play, place):
    """Once before anything is acknowledged, once behind it. What was wrong with the moments."""
    killed, told = killed_when(place.exists, *play, '--speed', '1x')
    first = reached(place)
    if not killed:
        return f'the first run: {told}'
    killed, told = killed_when(lambda: reached(place) > first + 5, *play)
    if not killed or first < 0:
        return f'the second run, behind record {first}: {told}'
    return None


def compare(came, was, what):
    check(came.keys() == was.keys(), f'{what}: {len(was.keys() - came.keys())} orders are missing, '
          f'{len(came.keys() - was.keys())} too many: {sorted(was.keys() ^ came.keys())[:5]}')
    differ = [k for k in sorted(came.keys() & was.keys()) if came[k] != was[k]]
    check(not differ, f'{what}: {len(differ)} orders came to something else, such as ' +
          '; '.join(f'{k}: {came[k]}, not {was[k]}' for k in differ[:3]))


def test_play(data, work):
    place = work / 'place.json'
    moments = []
    for _ in range(TRIES):
        node = Node(work / 'played')
        play = ('play', data, '--into', node.endpoint, '--continue', place, '-q')
        wrong = play_killed_twice(play, place)
        if not wrong:
            break
        moments.append(wrong)
        node.stop()
        shutil.rmtree(work / 'played')
        place.unlink(missing_ok=True)
    else:
        check(False, f'play was never killed in the middle: {moments}')
        return
    middle = reached(place)
    replay(*play, '--speed', '3x', expect=3)  # the place has its speed
    done = replay_json(*play)
    check(done['held'] == 0 and done['refused'] == 0, f'all went in as it had: {done}')
    check(reached(place) > middle, f'it went on from record {middle}: {place.read_text()}')
    again = replay_json(*play)
    check(again['sent'] == 0, f'nothing is left: {again}')
    node.stop()
    compare(orders_of(work / 'played'), orders_of(data), 'a play that was killed twice')
    shutil.rmtree(work / 'played')


def hashes(data):
    return [(s['shard'], s['index'], s['hash']) for s in replay_json('hash', data)['shards']]


def built(target):
    return [p.stem[6:] for p in target.glob('built-*.json')]


def build_killed_twice(make, target):
    """Before a shard is finished, and behind one. What was wrong with the moments."""
    killed, told = killed_when((target / 'building.json').exists, *make)
    if not killed or built(target):
        return f'the first run: {told}, finished: {built(target)}'
    killed, told = killed_when(lambda: built(target), *make)
    if not killed or len(built(target)) != 1 or (target / 'node.json').exists():
        return f'the second run: {told}, finished: {built(target)}'
    return None


def finished_is_something_else(command, source, target, *to):
    """What is finished is only taken for what was asked for when it is that."""
    def refused(what, *words, at=target):
        done = replay(command, source, at, '--continue', *words, expect=3)
        check(what in done.stderr and 'finished already' not in done.stdout,
              f'{command}: not "{what}": {done.stderr}')
    refused('this would end with record', '--to', '0:9,1:9')
    refused(f'{target} is of node 1, not of node 7', '--node-id', '7', *to)
    if command == 'rebuild':
        refused('is what it would be made of', at=source)
    Node(target).stop()
    refused('a node has gone on from it', *to)


def test_build(command, source, work, *to):
    """Killed before a shard is finished, and again behind one: what comes of it is the same."""
    whole, target = work / 'whole', work / 'target'
    report = replay_json(command, source, whole, *to)
    moments = []
    for _ in range(TRIES):
        wrong = build_killed_twice((command, source, target, '--continue', '--threads', '1', '-q',
                                    *to), target)
        if not wrong:
            break
        moments.append(wrong)
        shutil.rmtree(target, ignore_errors=True)
    else:
        check(False, f'{command} was never killed in the middle: {moments}')
        return
    refused = replay(command, source, target, *to, expect=3)
    check('--continue' in refused.stderr, f'a half-made directory is refused: {refused.stderr}')
    replay(command, source, target, '--continue', '--to', '0:1,1:1', expect=3)  # another moment
    vote = target / f'shard-{built(target)[0]}' / 'vote' / 'data.mdb'
    before = vote.stat().st_mtime_ns
    again = replay_json(command, source, target, '--continue', *to)
    check(vote.stat().st_mtime_ns == before, 'a finished shard stays')
    check(again['shards'] == report['shards'], f'{command}: {again} after kills, {report} without')
    check(hashes(target) == hashes(whole), f'{command}: the state is the same')
    faults = replay_json('verify', target)['faults']
    check(not faults, f'{command}: sound: {faults[:3]}')
    check(sorted(p.name for p in target.iterdir()) == sorted(p.name for p in whole.iterdir()),
          f'{command}: nothing is left but the directory: {sorted(target.iterdir())}')
    told = replay(command, source, target, '--continue', *to).stdout  # it is whole
    check('is finished already' in told, f'{command}: {told}')
    finished_is_something_else(command, source, target, *to)
    shutil.rmtree(target)
    shutil.rmtree(whole)


def test_export(data, work, form):
    """Killed while it writes, behind a run that came to its end, and gone on with: the file is the
    one of two runs that nobody killed."""
    middle = ','.join(f'{s}:{i // 2}' for s, i, _ in hashes(data))
    whole, out, place = work / 'whole', work / 'out', work / 'place.json'
    for path, kept in ((whole, work / 'other.json'), (out, place)):
        replay('export', data, '-q', '-f', form, '-o', path, '--continue', kept, '--to', middle)
    replay('export', data, '-q', '-f', form, '-o', whole, '--continue', work / 'other.json')
    onward = ('export', data, '-q', '-f', form, '--continue', place, '-o')
    begun = out.stat().st_size
    check(json.loads(place.read_text())['bytes'] == begun, f'{form}: the place knows its end')
    killed, told = killed_when(lambda: out.stat().st_size > begun, *onward, out)
    check(killed, f'{form}: it was never killed while it wrote: {told}')
    with open(out, 'ab') as file:
        file.write(whole.read_bytes()[out.stat().st_size:][:3])  # torn, wherever it was
    refused = replay(*onward, work / 'elsewhere', expect=3)
    check('did not come to its end' in refused.stderr, f'another output: {refused.stderr}')
    replay(*onward, out)
    check(out.read_bytes() == whole.read_bytes(), f'{form}: as of runs that nobody killed')
    again = out.stat().st_size
    replay(*onward, out)
    check(out.stat().st_size == again, f'{form}: nothing is left')
    with open(out, 'r+b') as file:
        file.truncate(again - 1)
    refused = replay(*onward, out, expect=3)
    check('fewer than the ' in refused.stderr, f'a shorter output: {refused.stderr}')
    refused = replay(*onward, whole, expect=3)
    check('did not come with it' in refused.stderr, f'somebody\'s output: {refused.stderr}')
    replay(*onward, work / 'new')  # what comes from now on
    check((work / 'new').stat().st_size == 0, f'{form}: nothing has come')
    for path in (whole, out, place, work / 'other.json', work / 'new', work / 'elsewhere'):
        path.unlink(missing_ok=True)


def tests(work):
    data = work / 'data'
    node = Node(data, '--shards', '2')
    load = node.bench(3, '--batch', '8')
    check(load.wait() == 0, 'the load went through')
    node.stop()
    for form in ('jsonl', 'csv', 'msgpack'):
        test_export(data, work, form)
    test_build('rebuild', data, work)
    replay('backup', data, work / 'backup', '-q')
    middle = {s: i // 2 for s, i, _ in hashes(data)}
    test_build('restore', work / 'backup', work, '--to',
               ','.join(f'{s}:{i}' for s, i in middle.items()))
    test_play(data, work)


if __name__ == '__main__':
    sys.exit(verdict('replay-resume', tests))
