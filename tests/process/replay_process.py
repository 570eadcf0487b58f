"""What the tests of jumun-replay have in common: the tool, nodes, and a verdict that tells why.

A script's first arguments are JUMUND JUMUN JUMUN_REPLAY JUMUN_BENCH.
"""
import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

JUMUND, JUMUN, REPLAY, BENCH = sys.argv[1:5]
PATIENCE_S = 200
FAILURES = []
LOGS = []                   # of the nodes, shown when something failed


def check(condition, what):
    if not condition:
        FAILURES.append(what)
        print('FAILED:', what, flush=True)


def replay(*arguments, expect=0):
    done = subprocess.run([REPLAY, *map(str, arguments)], capture_output=True, text=True,
                          check=False, timeout=PATIENCE_S)
    if expect is not None and done.returncode != expect:
        check(False, f'{" ".join(map(str, arguments))}: exit {done.returncode}, not {expect}: '
                     f'{done.stdout[-400:]} {done.stderr[-400:]}')
    return done


def replay_json(*arguments, expect=0):
    done = replay(*arguments, '--json', expect=expect)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f'{arguments}: no JSON (exit {done.returncode}): {done.stdout[-400:]} '
                         f'{done.stderr[-400:]}') from None


def replay_lines(*arguments, expect=0):
    return [json.loads(line) for line in
            replay(*arguments, expect=expect).stdout.splitlines() if line]


class Node:
    def __init__(self, data, *options, listen='tcp://127.0.0.1:0'):
        self.options = [JUMUND, '--data', str(data), *options]
        self.endpoint = listen
        self.log = Path(str(data) + '.log')
        LOGS.append(self.log)
        self.start()

    def start(self):
        with open(self.log, 'a', encoding='utf-8') as log:
            self.process = subprocess.Popen([*self.options, '--listen', self.endpoint],
                                            stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline().split()
        if line[:2] != ['jumund', 'ready:']:
            raise SystemExit(f'{" ".join(self.options)} is not ready: {line}; '
                             f'exit {self.process.wait(PATIENCE_S)}')
        self.endpoint = line[2]

    def jumun(self, *arguments, expect=0):
        done = subprocess.run([JUMUN, '-q', '-e', self.endpoint, '--timeout', '1m', *arguments],
                              capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        check(done.returncode == expect,
              f'jumun {" ".join(arguments)}: exit {done.returncode}: {done.stderr}')
        return done.stdout.strip()

    def bench(self, seconds, *options):
        """A load, running."""
        return subprocess.Popen([BENCH, '-e', self.endpoint, '-s', str(seconds), '--warmup', '0',
                                 '--live', '300', '--batch', '32', '--in-flight', '2', '-q',
                                 '--timeout-ms', '60000',
                                 *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def rest(self):
        """Waits until no message is on its way between its shards, and all changes are stored."""
        until = time.monotonic() + PATIENCE_S
        while True:
            shards = json.loads(self.jumun('status', '--json'))['shards']
            if all(s['messages_waiting'] == 0 and s['dirty_actors'] == 0 and
                   s['checkpoint_index'] == s['last_index'] for s in shards):
                return
            if time.monotonic() > until:
                raise SystemExit(f'{self.options[2]} does not come to rest: {shards}')
            time.sleep(0.1)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        if how == signal.SIGTERM:
            check(code == 0, f'the node of {self.options[2]} ended with {code}')


def killed_when(seen, *arguments):
    """Runs the tool a little at a time and kills it as soon as `seen` is true: while it is looked
    at it stands still, however busy the machine is. Returns whether it was killed, and what a
    person needs if it should have been."""
    with tempfile.TemporaryFile('w+') as told:
        process = subprocess.Popen([REPLAY, *map(str, arguments)], stdout=told, stderr=told)
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE_S:
            process.send_signal(signal.SIGSTOP)
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                told.seek(0)
                code = os.waitstatus_to_exitcode(status)
                process.returncode = code
                return False, f'it ended by itself, exit {code}: {told.read()[-400:]}'
            if seen():
                process.kill()
                process.wait()
                return True, 'it was killed'
            process.send_signal(signal.SIGCONT)
            time.sleep(0.0005)
        process.kill()
        process.wait()
        return False, f'nothing was seen of it for {PATIENCE_S} s'


@contextlib.contextmanager
def beside(test, *arguments):
    """Runs a test that shares nothing with those in the block beside them: nodes and the disk are
    mostly waited for. Its end, and what it raised, come with the block's."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(test, *arguments)
        yield
        running.result()


def _show_logs():
    for log in LOGS:
        if log.exists():
            print(f'-- {log.name}, its end --')
            print(log.read_text(encoding='utf-8', errors='replace')[-2000:])


def verdict(name, tests):
    """Runs tests(work) in a directory of its own. The script's exit status."""
    work = Path(tempfile.mkdtemp(prefix=f'jumun-{name}-'))
    try:
        tests(work)
    except BaseException as error:  # pylint: disable=broad-except
        traceback.print_exc(file=sys.stdout)
        FAILURES.append(repr(error))
    if FAILURES:
        _show_logs()
    shutil.rmtree(work, ignore_errors=True)
    print('failures:', len(FAILURES))
    return 1 if FAILURES else 0
