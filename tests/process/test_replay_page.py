#!/usr/bin/env python3
"""Every command of docs/replay.md works as it stands there, and its table of exit codes is that of
the program and of its manual.

  test_replay_page.py JUMUND JUMUN JUMUN_REPLAY JUMUN_BENCH JUMUN_DEMO RULES CHANGED SOURCE

What a reader has after ./run is put where the page expects it; only ports, and what would take
long, are exchanged.
"""
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import ports  # noqa: E402
from replay_process import JUMUN, JUMUND, PATIENCE_S, REPLAY, Node, check, verdict  # noqa: E402

DEMO, RULES, CHANGED, ROOT = sys.argv[5:9]
# What the reader does with the sources; here it is done already.
DONE = ('./run ', 'export PATH=', 'ninja -C build-release ')
DIFFERENCES = ('jumun-replay diff demo-data --from', 'libchanged_rules.so')  # exit 1 is meant
# msgpack for the receiver of docs/protocol.md, which may not be installed.
MSGPACK = 'from pack import packb, unpackb\n'


def commands(page):
    """Of ```bash blocks all, of others what stands behind "$ ": each a line, or several with \\."""
    for kind, block in re.findall(r'^```(\w*)\n(.*?)^```', page, re.M | re.S):
        lines = block.splitlines()
        if kind == '':
            lines = [line[2:] for line in lines if line.startswith('$ ')]
        elif kind != 'bash':
            continue
        yield from re.sub(r'\\\n', ' ', '\n'.join(lines)).splitlines()


def prepare(work):
    """What stands in the directory of the sources, and what ./run has left there."""
    programs = work / 'programs'
    programs.mkdir()
    for path in (JUMUND, JUMUN, REPLAY):
        (programs / Path(path).name).symlink_to(Path(path).resolve())
    for path in (RULES, CHANGED):
        place = work / 'build-release' / ('actors' if path == RULES else 'tests/process')
        place.mkdir(parents=True)
        (place / Path(path).name).symlink_to(Path(path).resolve())
    (work / 'docs').symlink_to(Path(ROOT) / 'docs')
    (work / 'msgpack.py').write_text(MSGPACK)
    node = Node(work / 'demo-data', '--shards', '2')
    subprocess.run([DEMO, '-e', node.endpoint, '-q', '--no-hints', '--data',
                    f'{ROOT}/data/online_retail_orders.csv.gz'], check=True,
                   stdout=subprocess.DEVNULL)
    node.stop()
    (work / 'demo-cluster').mkdir()
    for n in (1, 2):
        shutil.copytree(work / 'demo-data', work / 'demo-cluster' / f'node-{n}')
    time.sleep(1.1)  # "a second ago" lies behind the year


def run(command, work, environment, background):
    """In a shell that knows what the commands before it have set."""
    state = work / '.state'
    script = f'{command}\ncode=$?\ndeclare -p ORDER TIME >{state} 2>/dev/null\nexit $code'
    if state.exists():
        script = f'. {state}\n{script}'
    if command.endswith('&'):
        background.append(subprocess.Popen(['bash', '-c', 'exec ' + command[:-1]], cwd=work,
                                           env=environment))
        return
    done = subprocess.run(['bash', '-c', script], cwd=work, env=environment, capture_output=True,
                          text=True, check=False, timeout=PATIENCE_S)
    expected = 1 if any(words in command for words in DIFFERENCES) else 0
    check(done.returncode == expected,
          f'{command}: exit {done.returncode}: {done.stdout[-300:]} {done.stderr[-600:]}')


def test_commands(work, page):
    prepare(work)
    live = Node(work / 'live', '--shards', '2')
    port, count, background = ports.pick(1), 0, []
    environment = {**os.environ, 'PATH': f'{work}/programs:{os.environ["PATH"]}',
                   'PYTHONPATH': f'{work}:{Path(ROOT) / "tests" / "lib"}'}
    for command in commands(page):
        command = re.sub(r' +# .*', '', command)
        if not command or command.startswith(DONE):
            continue
        for there in ('7400', '7420', '7440'):
            command = command.replace(f'tcp://127.0.0.1:{there}', live.endpoint)
        command = command.replace('127.0.0.1:7600', f'127.0.0.1:{port}')
        command = command.replace('Receiver(len)', f'Receiver(len, port={port})')
        command = command.replace('--until 10s', '--until 1s').replace('100x', 'max')
        run(command, work, environment, background)
        count += 1
    check(count > 30, f'only {count} commands were found on the page')
    print(count, 'commands of the page')
    check((work / 'year.svg').read_text(encoding='utf-8').rstrip().endswith('</svg>'), 'a drawing')
    for process in background:
        process.kill()
        process.wait()
    live.stop()


def test_exits(page):
    """The page, the program and its manual tell the same codes."""
    told = subprocess.run([REPLAY, '--color', 'never', 'diff', '--help'], capture_output=True,
                          text=True, check=True).stdout.split('Exit status\n')[1]
    program = dict(re.findall(r'^  (\d+)  (.*)$', told, re.M))
    table = dict(re.findall(r'^\| (\d+) \| (.*) \|$', page.split('## Exit status')[1], re.M))
    manual = Path(ROOT, 'docs/man/man1/jumun-replay.1').read_text(encoding='utf-8')
    manual = manual.split('.SH "EXIT STATUS"')[1].split('.SH')[0]
    in_manual = dict(re.findall(r'^\.B (\d+)\n(.*?)\.', manual, re.M))
    check(len(program) >= 8 and table == program, f'exit codes: {table}, not {program}')
    check(in_manual == program, f'exit codes of the manual: {in_manual}, not {program}')


def test_manual():
    """Every command and option of the program stands in its manual."""
    manual = Path(ROOT, 'docs/man/man1/jumun-replay.1').read_text(encoding='utf-8')
    manual = manual.replace('\\-', '-').replace('\\fR', '').replace('\\fB', '')
    overview = subprocess.run([REPLAY, '--help'], capture_output=True, text=True, check=True).stdout
    listed = overview.split('Commands\n')[1].split('\n\n')[0].splitlines()
    check(len(listed) > 12, f'{listed}')
    for name in (line.split()[0] for line in listed):
        check(f'.SS "{name}' in manual, f'the manual lacks the command {name}')
        text = subprocess.run([REPLAY, name, '--help'], capture_output=True, text=True,
                              check=True).stdout
        again = subprocess.run([REPLAY, 'help', name], capture_output=True, text=True, check=True)
        check(text == again.stdout, f'help {name} is {name} --help')
        for option in re.findall(r'^  (?:-., |    )(--[a-z-]+)', text, re.M):
            check(option in manual, f'the manual lacks {option} of {name}')


def tests(work):
    page = Path(ROOT, 'docs', 'replay.md').read_text(encoding='utf-8')
    test_exits(page)
    test_manual()
    test_commands(work, page)


if __name__ == '__main__':
    sys.exit(verdict('replay-page', tests))
