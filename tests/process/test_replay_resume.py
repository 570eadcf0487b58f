#!/usr/bin/env python3
"""jumun-replay killed with -9 in the middle and gone on with: the same comes of it as of a run that
nobody killed.

  test_replay_resume.py JUMUND JUMUN_REPLAY JUMUN_BENCH
"""
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

JUMUND, REPLAY, BENCH = sys.argv[1:4]
TRIES = 40
FAILURES = []


def check(condition, what):
    if not condition:
        FAILURES.append(what)
        print('FAILED:', what)


def replay(*arguments, expect=0):
    done = subprocess.run([REPLAY, *map(str, arguments)], capture_output=True, text=True,
                          check=False)
    check(done.returncode == expect, f'{arguments}: exit {done.returncode}, not {expect}: '
                                     f'{done.stdout[-400:]} {done.stderr[-400:]}')
    return done


def killed_when(seen, *arguments):
    """Starts the tool and kills it as soon as `seen` is true. Whether it was still running."""
    process = subprocess.Popen([REPLAY, *map(str, arguments)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    while process.poll() is None and not seen():
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


class Node:
    def __init__(self, data):
        self.process = subprocess.Popen(
            [JUMUND, '--data', str(data), '--listen', 'tcp://127.0.0.1:0', '--shards', '2'],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline().split()
        assert line[:2] == ['jumund', 'ready:'], line
        self.endpoint = line[2]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)
        self.process.stdout.close()


def orders_of(data):
    """What every order came to, without its key: how many times each."""
    lines = replay('state', data, '--all', '--json', '-q').stdout.splitlines()
    fields = ('state', 'version', 'total', 'captured', 'refunded')
    return Counter(tuple(json.loads(line).get(f) for f in fields) for line in lines)


def reached(place):
    try:
        return min(s['index'] for s in json.loads(place.read_text())['shards'])
    except (OSError, ValueError):
        return -1


def test_play(data, work):
    place = work / 'place.json'
    for _ in range(TRIES):
        node = Node(work / 'played')
        play = ('play', data, '--into', node.endpoint, '--continue', place, '-q')
        # Once before anything is acknowledged, once behind it.
        killed = killed_when(place.exists, *play, '--speed', '1x')
        first = reached(place)
        killed &= killed_when(lambda: reached(place) > first + 5, *play)
        middle = reached(place)
        replay(*play, '--speed', '3x', expect=3)  # the place has its speed
        replay(*play)
        end = reached(place)
        report = json.loads(replay(*play, '--json').stdout)
        node.stop()
        if killed and 0 <= first < middle < end:
            break
        shutil.rmtree(work / 'played')
        place.unlink()
    else:
        check(False, 'play was never killed in the middle')
        return
    check(report['sent'] == 0, f'nothing is left: {report}')
    came, was = orders_of(work / 'played'), orders_of(data)
    check(came == was, 'a play that was killed twice: each order once, and what it came to; '
          f'{report}, missing: {list((was - came).items())[:5]}, '
          f'too many: {list((came - was).items())[:5]}')
    shutil.rmtree(work / 'played')


def hashes(data):
    return [(s['shard'], s['index'], s['hash'])
            for s in json.loads(replay('hash', data, '--json').stdout)['shards']]


def test_build(command, source, work, *to):
    """Killed before a shard is finished, and again behind one: what comes of it is the same."""
    whole, target = work / 'whole', work / 'target'
    report = json.loads(replay(command, source, whole, *to, '--json').stdout)
    for _ in range(TRIES):
        make = (command, source, target, '--continue', '--threads', '1', '-q', *to)
        first = killed_when((target / 'building.json').exists, *make)
        built = lambda: any(target.glob('built-*.json'))
        early = first and not built()
        killed = first and killed_when(built, *make) and not (target / 'node.json').exists()
        if early and killed and built() and len(list(target.glob('built-*.json'))) == 1:
            break
        shutil.rmtree(target)
    else:
        check(False, f'{command} was never killed in the middle')
        return
    refused = replay(command, source, target, *to, expect=3)
    check('--continue' in refused.stderr, f'a half-made directory is refused: {refused.stderr}')
    replay(command, source, target, '--continue', '--to', '0:1,1:1', expect=3)  # another moment
    made = next(target.glob('built-*.json'))
    shard = target / f'shard-{made.stem[6:]}'
    before = (shard / 'vote' / 'data.mdb').stat().st_mtime_ns
    again = json.loads(replay(command, source, target, '--continue', '--json', *to).stdout)
    check((shard / 'vote' / 'data.mdb').stat().st_mtime_ns == before, 'a finished shard stays')
    check(again['shards'] == report['shards'], f'{command}: {again} after kills, {report} without')
    check(hashes(target) == hashes(whole), f'{command}: the state is the same')
    check(json.loads(replay('verify', target, '--json').stdout)['sound'], f'{command}: sound')
    check(sorted(p.name for p in target.iterdir()) == sorted(p.name for p in whole.iterdir()),
          f'{command}: nothing is left but the directory')
    replay(command, source, target, '--continue', *to, expect=3)  # it is whole: nobody's to touch
    node = Node(target)
    node.stop()
    shutil.rmtree(target)
    shutil.rmtree(whole)


def main():
    work = Path(tempfile.mkdtemp(prefix='jumun-replay-resume-'))
    try:
        data = work / 'data'
        node = Node(data)
        subprocess.run([BENCH, '-e', node.endpoint, '-s', '3', '--warmup', '0', '--live', '300',
                        '--batch', '8', '--in-flight', '2', '-q'], check=True,
                       stdout=subprocess.DEVNULL)
        node.stop()
        test_build('rebuild', data, work)
        replay('backup', data, work / 'backup', '-q')
        middle = {s: i // 2 for s, i, _ in hashes(data)}
        test_build('restore', work / 'backup', work, '--to',
                   ','.join(f'{s}:{i}' for s, i in middle.items()))
        test_play(data, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print('failures:', len(FAILURES))
    return 1 if FAILURES else 0


if __name__ == '__main__':
    sys.exit(main())
