#!/usr/bin/env python3
"""How jumun-replay and its sisters behave towards people and scripts: codes that mean the same in
every command, one sentence for what cannot be done, valid JSON also then, and silence where nobody
reads any more.

  test_replay_manners.py JUMUND JUMUN JUMUN_REPLAY JUMUN_BENCH JUMUN_DEMO RULES SOURCE
"""
import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from replay_process import (BENCH, JUMUN, PATIENCE_S, REPLAY, Node, check, replay, replay_json,
                            replay_lines, verdict)

DEMO, RULES, ROOT = sys.argv[5:8]
NOBODY = 'tcp://127.0.0.1:1'


def sentence(expect, words, *arguments):
    """The command ends with that code, and one sentence holds the words; with --json it is the
    end of what is printed, too."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:  # some wait for who does not answer
        done, as_json = pool.map(lambda more: replay(*arguments, '-q', *more, expect=expect),
                                 ([], ['--json']))
    lines = done.stderr.splitlines()
    told = [line for line in lines if not line.startswith('Try: ')]
    name = ' '.join(map(str, arguments))
    check(len(told) == 1 and told[0].startswith('jumun-replay: ') and words in told[0],
          f'{name}: one sentence with "{words}": {lines}')
    check(not done.stdout, f'{name}: nothing else: {done.stdout[:200]}')
    try:
        failure = json.loads(as_json.stdout)
    except ValueError:
        check(False, f'{name} --json: {as_json.stdout[:200]}')
        return
    check(failure.get('status') == expect and words in failure.get('error', ''),
          f'{name} --json: {failure}')


def test_not_there(data, key):
    """A record or shard that is not there: the same words and the same code everywhere."""
    play = ('play', data, '--into', NOBODY)
    commands = [('verify', data, '--at'), ('hash', data, '--at'), ('show', data, key, '--at'),
                ('history', data, key, '--at'), ('state', data, key, '--at'),
                ('state', data, '--all', '--at'), ('diff', data, '--from'),
                ('diff', data, '--from', '0:1', '--to'), ('diff', data, data, '--at'),
                ('export', data, '--from'), ('export', data, '--to'),
                ('republish', data, '--from'), ('republish', data, '--to'), ('stats', data, '--to'),
                ('restore', data, 'none', '--to'), ('rebuild', data, 'none', '--to'),
                ('what-if', data, '--rules', RULES, '--to'), (*play, '--from'), (*play, '--to')]
    for command in commands:
        for moment, words in (('0:99999999', 'has no record 99999999: its log ends with'),
                              ('99999999', 'has a record 99999999: the longest log ends with'),
                              ('0:1,7:1', 'has no shard 7')):
            sentence(4, words, *command, moment)
        sentence(4, 'has no shard 9', *command, '0:1', '--shard', '9')
    last = {s['shard']: s['index'] for s in replay_json('hash', data)['shards']}
    sentence(4, 'has no record', 'export', data, '--from', f'0:{last[0] + 1}')
    ahead = ('export', data, '--shard', '0', '--follow', '--until', '1s', '--from')
    check(not replay(*ahead, f'0:{last[0] + 1}', '-q').stdout, 'who follows may wait for the next')
    replay(*ahead, f'0:{last[0] + 2}', '-q', expect=4)


def test_bad_sources(data, work):
    places = {name: work / name for name in ('nowhere', 'empty', 'file', 'torn', 'hollow', 'tail')}
    places['empty'].mkdir()
    places['file'].write_text('hello')
    places['torn'].mkdir()
    (places['torn'] / 'node.json').write_text('{"format":')
    places['hollow'].mkdir()
    shutil.copy(data / 'node.json', places['hollow'])
    cases = [(places['nowhere'], 'No such file'), (places['empty'], 'holds no log'),
             (places['file'], 'is not a directory'), (places['torn'], 'node.json: '),
             (places['hollow'], 'holds no log'), ('/etc', 'holds no log'),
             ('localhost:28400', 'an address begins with tcp://'),
             (NOBODY, 'refused'), ('http://x', 'an address is needed'),
             ('tcp://127.0.0.1', '"tcp://127.0.0.1" has no port: an address is tcp://HOST:PORT')]
    for source, words in cases:
        for command in (('verify',), ('hash',), ('stats',), ('export',), ('state', '--all'),
                        ('what-if', '--rules', RULES), ('play', '--into', NOBODY)):
            sentence(3, words, command[0], source, *command[1:])
        sentence(3, words, 'diff', data, source)
        sentence(3, words, 'verify', data, '--against', source)
        if 'address' not in words and source != NOBODY:
            for command in ('backup', 'restore', 'rebuild'):
                sentence(3, words, command, source, work / 'target')
    check(not (work / 'target').exists(), 'nothing is made of what is none')
    # One shard of two is lost: found, and named.
    shutil.copytree(data, places['tail'])
    shutil.rmtree(places['tail'] / 'shard-1')
    faults = replay_json('verify', places['tail'], expect=1)['faults']
    check([(f['kind'], f['shard']) for f in faults] == [('segment_unreadable', 1)],
          f'a shard that is lost: {faults}')
    sentence(3, 'has no shard 1', 'rebuild', places['tail'], work / 'target')
    for command in (('export',), ('stats',), ('hash',), ('state', '--all'), ('diff', data),
                    ('what-if', '--rules', RULES), ('play', '--into', NOBODY)):
        sentence(3, 'has no log of shard 1', command[0], places['tail'], *command[1:])
    check(replay_lines('state', places['tail'], '--all', '--shard', '0', '--json', '-q'),
          'what is left can be looked at')


def test_lost_backups(data, work, backup):
    """A backup that lacks what it had, and a node that lost what a backup would pass for whole."""
    check(json.loads((backup / 'backup.json').read_text())['holds'] == [0, 1], 'which it has')
    for name, unlisted in (('part', False), ('older', True)):
        part = work / name
        shutil.copytree(backup, part)
        shutil.rmtree(part / 'shard-1')
        if unlisted:  # as older versions wrote it: what the runs brought tells
            told = json.loads((part / 'backup.json').read_text())
            del told['holds']
            (part / 'backup.json').write_text(json.dumps(told))
        faults = replay_json('verify', part, expect=1)['faults']
        check(('segment_unreadable', 1) in [(f['kind'], f['shard']) for f in faults], f'{faults}')
        for command in (('export',), ('stats',), ('hash',), ('state', '--all'), ('diff', data),
                        ('what-if', '--rules', RULES), ('play', '--into', NOBODY)):
            sentence(3, 'has no log of shard 1', command[0], part, *command[1:])
        sentence(3, 'has no log of shard 1', 'diff', data, part)
        sentence(3, 'has no log of shard 1', 'verify', data, '--against', part)
        sentence(3, 'has no shard 1', 'restore', part, work / 'target')
        check(replay_lines('state', part, '--all', '--shard', '0', '--json', '-q'), 'what is left')
    # A cluster's node need not have all shards: its backup is whole without them.
    for path in (part / 'backup.json',):
        told = json.loads(path.read_text())
        told['runs'] = [{'shards': [s for s in run['shards'] if s['shard'] == 0]}
                        for run in told['runs']]
        path.write_text(json.dumps(told))
    replay('stats', part)
    # As far as it can be known: an older version did not look, and this node may have had more.
    notes = {n['kind']: n['what'] for n in replay_json('verify', part)['notes']}
    check(notes.keys() == {'backup_unproved', 'backup_partial'} and
          'has 1 of the 2 shards, and does not tell' in notes['backup_partial'], f'{notes}')
    told['holds'] = [0]
    (part / 'backup.json').write_text(json.dumps(told))
    notes = {n['kind']: n['what'] for n in replay_json('verify', part)['notes']}
    check(notes.keys() == {'backup_partial'} and 'is all that the node' in
          notes['backup_partial'], f'{notes}')
    base = part / 'shard-0' / f'base-{10 ** 6:020}'
    shutil.copytree(data / 'shard-0' / 'state', base)
    notes = {n['kind']: n['what'] for n in replay_json('verify', part)['notes']}
    check('reflects record 1000000' in notes.get('backup_behind', ''), f'{notes}')
    check(replay_json('verify', backup)['notes'] == [], 'of a whole one there is nothing to note')
    unlisted = work / 'unlisted'
    shutil.copytree(backup, unlisted)
    told = json.loads((unlisted / 'backup.json').read_text())
    del told['holds']
    (unlisted / 'backup.json').write_text(json.dumps(told))
    check([n['kind'] for n in replay_json('verify', unlisted)['notes']] == ['backup_unproved'],
          'a doubt')
    check('did not look whether the node had lost' in
          replay('restore', unlisted, work / 'doubted').stderr, 'which restore tells, too')
    check('did not look' not in replay('restore', backup, work / 'sure').stderr, 'only then')
    replay('backup', data, unlisted, '-q')
    check(replay_json('verify', unlisted)['notes'] == [], 'the next run looks')
    before, damaged = times(backup), work / 'damaged'
    for lost, words in (('shard-1', 'has no log of shard 1'),
                        ('shard-1/log-*', 'has no log of shard 1'),
                        ('shard-1/log-*/data.mdb', 'shard 1'),
                        ('shard-?/log-*/data.mdb', 'shard 0')):
        shutil.copytree(data, damaged)
        for path in list(damaged.glob(lost)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        sentence(3, words, 'backup', damaged, work / 'new')
        sentence(3, words, 'backup', damaged, backup)
        for command in ('stats', 'hash', 'export'):
            sentence(3, words, command, damaged)
        check(not list((work / 'new').glob('*')), f'{lost}: nothing is made of it')
        check(times(backup) == before, f'{lost}: the backup that is there stays as it is: '
              f'{set(times(backup).items()) ^ set(before.items())}')
        shutil.rmtree(damaged)
    # An archive that ends before what its runs brought.
    shutil.copytree(backup, damaged)
    told = json.loads((damaged / 'backup.json').read_text())
    told['runs'][0]['shards'][0]['index'] += 7
    (damaged / 'backup.json').write_text(json.dumps(told))
    faults = replay_json('verify', damaged, expect=1)['faults']
    check([(f['kind'], f['shard']) for f in faults] == [('record_missing', 0)], f'{faults}')


def as_nobody(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False, user=65534,
                          group=65534, extra_groups=[], timeout=PATIENCE_S)


def place_for_nobody(work):
    """A new directory in which somebody else may run the tool: neither its own path nor the
    machine has to allow that."""
    for parent in (work, '/tmp', '/var/tmp', '/dev/shm'):
        place = Path(tempfile.mkdtemp(prefix='jumun-rights-', dir=parent))
        os.chmod(work, 0o755)
        os.chmod(place, 0o755)
        shutil.copy(REPLAY, place / 'tool')
        try:
            if as_nobody(place / 'tool', '--version').returncode == 0:
                return place
            why = 'the tool does not start there'
        except OSError as error:
            why = error
        shutil.rmtree(place)
        print(f'rights: not in {parent}: {why}')
    return None


def test_rights(data, work):
    """What may not be read is told, and never left out."""
    free = place_for_nobody(work) if os.geteuid() == 0 else None
    if not free:
        print('rights: skipped, nobody else can be made to run the tool')
        return
    place, tool = free / 'data', free / 'tool'
    shutil.copytree(data, place)
    for directory, _, files in os.walk(place):
        os.chmod(directory, 0o755)
        for name in files:
            os.chmod(os.path.join(directory, name), 0o644)
    segment = next((place / 'shard-0').glob('log-*'))
    journal = place / 'shard-0' / 'journal'
    # A node makes it beside its first writes: it may have ended before.
    journals = ((journal, 0o644),) if journal.exists() else ()
    for closed, mode in ((place, 0o755), (place / 'shard-0', 0o755), (segment, 0o755),
                         (segment / 'data.mdb', 0o644), *journals):
        os.chmod(closed, 0o700 if mode == 0o755 else 0o600)
        for command in (('verify', place), ('export', place), ('state', place, '--all'),
                        ('stats', place)):
            done = as_nobody(tool, *command, '-q')
            check(done.returncode == 3 and 'Permission denied' in done.stderr and not done.stdout,
                  f'{closed.name} {command[0]}: {done.returncode} {done.stdout[:100]} '
                  f'{done.stderr[:200]}')
        os.chmod(closed, mode)
    shutil.rmtree(free)


def test_bad_targets(data, work, backup):
    file, held, nowhere = work / 'file', work / 'held', '/proc/nowhere/x'
    file.write_text('hello')
    held.mkdir()
    (held / 'x').write_text('')
    sentence(3, 'is not empty', 'restore', backup, held)
    sentence(3, 'Not a directory', 'restore', backup, file)
    sentence(3, 'is not empty', 'rebuild', data, data)
    sentence(3, 'is the data directory of a node', 'backup', data, data)
    sentence(3, 'Not a directory', 'backup', data, file)
    for path, words in ((nowhere, 'No such file'), (held, 'Is a directory')):
        sentence(3, words, 'export', data, '-o', path)
    sentence(3, 'No such file', 'export', data, '--continue', nowhere)
    sentence(3, 'expected near', 'export', data, '--continue', file)
    sentence(3, 'No such file', 'stats', data, '--plot', nowhere + '.svg')
    sentence(2, 'neither with .png', 'stats', data, '--plot', work / 'x.gif')
    sentence(3, 'file too short', 'what-if', data, '--rules', file)
    sentence(3, 'No such file', 'what-if', data, '--rules', nowhere)
    sentence(3, 'not what hash --json writes', 'verify', data, '--against', data / 'node.json')
    sentence(3, 'does not answer', 'play', data, '--into', NOBODY)
    done = replay_json('republish', data, '--into', NOBODY, '--patience', '1s', expect=3)
    check(done['events'] == 0 and not done['whole'], f'{done}')
    (work / 'ahead.json').write_text(json.dumps({'shards': [
        {'shard': 0, 'index': 99999999, 'hash': '0' * 31 + '1', 'actors': 1}]}))
    sentence(4, 'has no record 99999999', 'verify', data, '--against', work / 'ahead.json')
    sentence(2, 'is not an option here', 'verify', '--nix', data)
    sentence(2, 'is not a key', 'show', data, 'KEY')
    sentence(2, 'one word too many', 'verify', data, data)
    check(replay('stat', data, expect=2).stderr.startswith('jumun-replay: "stat" is not a command'),
          'no such command')


def test_json(data, work, backup, node, key):
    """Every command prints JSON: one value, or one a line."""
    for command in (('verify', data), ('hash', data), ('show', data, key), ('history', data, key),
                    ('state', data, key), ('stats', data), ('stats', data, '--from', 'now'),
                    ('backup', data, work / 'more'), ('restore', backup, work / 'r'),
                    ('rebuild', data, work / 'b'), ('export', data, '-o', work / 'x'),
                    ('export', data, '-f', 'csv', '-o', work / 'x'),
                    ('republish', data, '-o', work / 'x'),
                    ('play', data, '--speed', 'max', '--into', node.endpoint),
                    ('restore', backup, work / 'r', '--continue')):
        check(isinstance(replay_json(*command), dict), f'{command}: one value')
    for expect, command in ((0, ('state', data, '--all')), (0, ('state', data, '--stores')),
                            (0, ('export', data)), (0, ('republish', data)),
                            (1, ('diff', data, '--from', '0:3,1:3')), (0, ('diff', data, data)),
                            (0, ('what-if', data, '--rules', RULES))):
        check(replay_lines(*command, '--json', '-q', expect=expect), f'{command}: values in lines')
    told = replay_lines('state', data, key, '0' * 25 + '1', key, '--json', expect=4)
    check([t.get('key') for t in told] == [key, key, None] and told[2]['status'] == 4,
          f'what is there, and what is not: {told}')


def closed(program, *arguments):
    """Its status when nobody reads what it prints."""
    gone, pipe = os.pipe()
    os.close(gone)
    done = subprocess.run([program, *map(str, arguments)], stdout=pipe, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, check=False, timeout=PATIENCE_S)
    os.close(pipe)
    told = done.stderr.decode()
    # What SIGPIPE ended is 141 for a shell.
    check(done.returncode in (141, -signal.SIGPIPE), f'{program} {arguments}: {done.returncode}')
    check(not told, f'{program} {arguments} says {told}')


def test_closed_pipes(data, work, node, key):
    place = work / 'place.json'
    for command in (('export', data), ('export', data, '-f', 'csv'), ('verify', data),
                    ('export', node.endpoint), ('export', data, '--follow'),
                    ('export', data, '--continue', place), ('state', data, '--all'),
                    ('state', data, '--all', '--json'), ('history', data, key),
                    ('show', data, key, '--json'), ('diff', data, '--from', '0:3,1:3'),
                    ('stats', data), ('hash', data), ('--help',), ('completion', 'bash')):
        closed(REPLAY, *command)
    check(not place.exists(), 'what nobody has read is not kept as exported')
    closed(JUMUN, '--help')
    closed(JUMUN, '-e', node.endpoint, 'status')
    closed(JUMUN, '-e', node.endpoint, 'top', '-i', '50ms')
    closed(BENCH, '-e', node.endpoint, '-s', '1', '--warmup', '0', '--live', '100', '-q')
    with open('/dev/full', 'w', encoding='utf-8') as full:
        for program, code, arguments in (
                (REPLAY, 3, ('export', data)), (REPLAY, 3, ('state', data, '--all')),
                (REPLAY, 3, ('--help',)),
                (BENCH, 1, ('-e', node.endpoint, '-s', '1', '--warmup', '0', '--live', '100'))):
            done = subprocess.run([program, *map(str, arguments), '-q'], stdout=full, check=False,
                                  stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
            check(done.returncode == code and
                  ('written' in done.stderr or 'No space left' in done.stderr),
                  f'{program} {arguments}: a full disk is told: {done.returncode} {done.stderr}')


def test_other_cluster(data, other, work, node):
    """Told at once, by the clusters' ids: no flood of differences."""
    for command in (('diff', data, other), ('diff', other, data), ('verify', data, '--against'),
                    ('diff', other, node.endpoint), ('verify', other, '--against')):
        if command[-1] == '--against':
            command = (*command, other if command[1] == data else node.endpoint)
        sentence(5, 'is of another cluster', *command)
    hashes = work / 'hashes.json'
    hashes.write_text(replay('hash', other, '--json').stdout)
    last = {s['shard']: s['index'] for s in replay_json('hash', data)['shards']}
    told = json.loads(hashes.read_text())
    check(all(s['index'] <= last[s['shard']] for s in told['shards']), 'the other one is smaller')
    sentence(5, 'is of another cluster', 'verify', data, '--against', hashes)
    # The same log in a directory that has got a new name.
    lost = work / 'lost'
    # A node is at work there, and may be making its journals, under this name, until they are done.
    shutil.copytree(data, lost, ignore=shutil.ignore_patterns('journal.new'))
    (lost / 'node.json').unlink()
    replay('rebuild', lost, work / 'named', '-q')
    names = {json.loads((d / 'node.json').read_text())['cluster_id']
             for d in (data, work / 'named')}
    check(len(names) == 2, 'a rebuilt directory has a name of its own')
    check(replay_json('verify', work / 'named', '--against', data)['sound'], 'but the same log')
    replay('diff', work / 'named', data)


def times(directory):
    """Of all but the tables of readers, in which a look into the directory is noted, too."""
    return {p: p.stat().st_mtime_ns for p in sorted(directory.rglob('*')) if p.name != 'lock.mdb'}


def test_finished(data, backup, work):
    for command, source in (('restore', backup), ('rebuild', data)):
        target = work / f'finished-{command}'
        replay(command, source, target, '-q')
        before = times(target)
        told = replay(command, source, target, '--continue')
        check('is finished already' in told.stdout, f'{command}: {told.stdout}')
        check(replay_json(command, source, target, '--continue') ==
              {'target': str(target), 'finished': True}, f'{command} --json')
        check(times(target) == before, f'{command} --continue touches nothing: '
              f'{set(times(target).items()) ^ set(before.items())}')
        replay(command, source, target, expect=3)


def test_averages(data):
    """Rates are of the part that is looked at."""
    events = replay_lines('export', data, '-q')
    moments = sorted(e['time_ms'] for e in events)
    begin, end = moments[len(moments) // 4] + 1, moments[len(moments) // 2]
    for words, first, last in (((), moments[0], moments[-1]),
                               (('--from', f'@{begin}'), begin, moments[-1]),
                               (('--to', f'@{end}'), None, end),
                               (('--from', f'@{begin}', '--to', f'@{end}'), begin, end),
                               (('--from', f'@{moments[0] - 5000}'), moments[0], moments[-1])):
        stats = replay_json('stats', data, *words)
        first = stats['begin_ms'] if first is None else first
        inside = sum(first <= t <= last for t in moments)
        check(stats['begin_ms'] <= first and stats['events'] == inside, f'{words}: {stats}')
        # What is logged beside events may begin earlier or end later.
        check(stats['end_ms'] >= last and stats['end_ms'] - last < 60000, f'{words}: {stats}')
        if '--from' in words and first == begin:
            check(stats['begin_ms'] == begin, f'{words}: {stats["begin_ms"]}')
        if '--to' in words:
            check(stats['end_ms'] == end, f'{words}: it ends with --to: {stats["end_ms"]}')
        seconds = (stats['end_ms'] - stats['begin_ms']) / 1000
        check(seconds > 0 and abs(stats['events_per_second'] - inside / seconds) < 0.01,
              f'{words}: {stats["events_per_second"]} of {inside} in {seconds}')
        text = replay('stats', data, *words).stdout
        whole = inside * 1000 // (stats['end_ms'] - stats['begin_ms']) # no rounding of fractions
        check(f'{whole:,} events/s on average' in text, f'{words}: {text[:200]}')
    nothing = replay_json('stats', data, '--from', f'@{moments[-1] + 600000}')
    check(nothing['events'] == 0 and nothing['events_per_second'] == 0, f'{nothing}')


def complete(script, function, *words):
    """What bash would offer."""
    return subprocess.run(
        ['bash', '-c', 'source <(printf %s "$1"); f=$2; shift 2; COMP_WORDS=("$@"); '
         'COMP_CWORD=$(($# - 1)); $f; printf "%s\\n" "${COMPREPLY[@]}"', '-', script, function,
         *words], capture_output=True, text=True, check=True).stdout.split()


def test_completion(work):
    script = replay('completion', 'bash').stdout
    offer = lambda *words: complete(script, '_jumun_replay', 'jumun-replay', *words)
    check(offer('wh') == ['what-if'] and 'help' in offer('h'), f'{offer("h")}')
    check(offer('help', 'di') == ['diff'], 'help takes a command')
    check(offer('export', '--fo') == ['--format', '--follow'], f'{offer("export", "--fo")}')
    check(offer('export', 'data', '--format', 'c') == ['csv'], 'words of an option')
    check(offer('export', '-f', '') == ['jsonl', 'csv', 'msgpack'], 'words of its letter')
    check(offer('--shard', '0', 'sta') == ['state', 'stats'], 'values are no commands')
    check(offer('verify', '--color', 'al') == ['always'], 'words of a global option')
    check(str(work) in offer('verify', str(work)[:-1]), 'names of files')
    script = subprocess.run([JUMUN, 'completion', 'bash'], capture_output=True, text=True,
                            check=True).stdout
    offer = lambda *words: complete(script, '_jumun', 'jumun', *words)
    check(offer('cluster', 'dr') == ['drain'], f'{offer("cluster", "dr")}')
    check(offer('help', 'pl') == ['place'] and offer('help', 'store', 're') == ['resume'], 'help')
    check(offer('--timeout', '5s', 'pla') == ['place'], 'values are no commands')
    check(offer('place', '-f', 'par') == ['parcel'], 'words of a letter')
    for words in (('place',), ('store', 'pause'), ('cluster', 'grow')):
        one, other = (subprocess.run([JUMUN, *w], capture_output=True, text=True, check=True).stdout
                      for w in (('help', *words), (*words, '--help')))
        check(one == other and 'Global options' in one, f'help {words}')


def tests(work):
    data, other, backup = work / 'data', work / 'other', work / 'backup'
    node = Node(data, '--shards', '2')
    subprocess.run([DEMO, '-e', node.endpoint, '--limit', '3000', '-q', '--no-hints', '--data',
                    f'{ROOT}/data/online_retail_orders.csv.gz'], check=True,
                   stdout=subprocess.DEVNULL)
    node.stop()
    second = Node(other, '--shards', '2')
    second.jumun('place', '--store', 's1', '--currency', 'KRW', '--line', 'x:1:5')
    second.stop()
    replay('backup', data, backup, '-q')
    key = next(o['key'] for o in replay_lines('state', data, '--all', '--json', '-q')
               if o['state'] == 'delivered')
    test_completion(work)
    test_not_there(data, key)
    test_bad_sources(data, work)
    test_lost_backups(data, work, backup)
    test_rights(data, work)
    test_bad_targets(data, work, backup)
    test_finished(data, backup, work)
    test_averages(data)
    live = Node(data)
    second = Node(other)
    test_other_cluster(data, other, work, live)
    test_json(data, work, backup, second, key)
    test_closed_pipes(data, work, live, key)
    live.stop()
    second.stop()


if __name__ == '__main__':
    sys.exit(verdict('replay-manners', tests))
