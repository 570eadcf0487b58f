#!/usr/bin/env python3
"""Builds Jumun three times and runs its tests; called by ./test.

  ./test                  everything: plain build, address/undefined sanitizers, thread sanitizer
  ./test --quick          only the plain build; without the suites 'sim', 'process' and 'cluster'
  ./test unit sim         only these suites, in the plain build
                          (suites: unit, sim, fuzz, process, cluster, tidy, perf)
  ./test --asan unit      only these suites, under the address and undefined sanitizers
  ./test --tsan           only the thread sanitizer's stage
  options: -v (meson's whole output), -k WORD (only tests whose name holds WORD), --help

The last line is "N passed, N failed" (", N skipped" if any), summed over all stages; a stage that
does not build or runs out of time counts as one failure. Above it is a line "FAILED ..." for each
failure, and above those what matters of the first failures' output. Exit codes: 0 none failed,
1 some failed, 2 usage. Logs: <build directory>/meson-logs/.
"""
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOTAL_SECONDS_MAX = 54 * 60
COMMON = ['-Dmalloc=system', '-Ddebug_checks=true', '-Dbuildtype=debugoptimized']
# gcc warns of what its own instrumentation makes: only the plain build is held to its warnings.
BUILDS = {
    'build': COMMON + ['-Dwerror=true'],
    'build-asan': COMMON + ['-Dwerror=false', '-Db_sanitize=address,undefined'],
    'build-tsan': COMMON + ['-Dwerror=false', '-Db_sanitize=thread'],
}
SANITIZER_FLAGS = {'build-asan': ['-fsanitize=address,undefined'],
                   'build-tsan': ['-fsanitize=thread']}
ASAN_SUITES = ['unit', 'fuzz', 'sim', 'process']
# name, build directory, suites, factor on the tests' timeouts, bound of the stage in seconds.
STAGES = [
    ('tidy', 'build', ['tidy'], 1, 300),
    ('unit', 'build', ['unit'], 1, 600),
    ('fuzz', 'build', ['fuzz'], 1, 600),
    ('sim', 'build', ['sim'], 1, 900),
    ('process', 'build', ['process'], 1, 1200),
    ('cluster', 'build', ['cluster'], 1, 900),
    ('address/undefined', 'build-asan', ASAN_SUITES, 5, 2000),
    ('thread', 'build-tsan', ['tsan'], 10, 900),
]
# What is shown of failures at the very end: some logs are only kept by their last lines.
EXCERPTS_MAX, EXCERPT_LINES_ALL, EXCERPT_LINES_MIN = 6, 25, 8
PASSED = ('OK', 'EXPECTEDFAIL')
SKIPPED = ('SKIP',)


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []      # (what, lines of output)

    def fail(self, what, output=()):
        self.failed += 1
        self.failures.append((what, list(output)))

    def line(self):
        text = f'{self.passed} passed, {self.failed} failed'
        return text + (f', {self.skipped} skipped' if self.skipped else '')


def say(text):
    print(text, flush=True)


def run(command, env, seconds, show):
    """Runs a command in a process group of its own, so that nothing of it outlives its time.
    Returns (exit code or None when time ran out, its output)."""
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True)
    lines, ended = [], []

    def end_group(*_):
        ended.append(True)
        os.killpg(process.pid, signal.SIGKILL)

    previous = signal.signal(signal.SIGALRM, end_group)
    signal.alarm(max(1, int(seconds)))
    try:
        for raw in process.stdout:
            line = raw.decode(errors='replace').rstrip()
            lines.append(line)
            if show(line):
                say('    ' + line.strip())
        process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)
        raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    return (None if ended else process.returncode), lines


def probe_sanitizer(build):
    """Finds out whether the sanitizer's runtime starts on this machine: some kernels randomise
    addresses more than gcc 12's runtimes can bear, and some sandboxes forbid leak detection.
    Returns (wrapper command, extra environment, reason why it cannot run)."""
    options = {}
    with tempfile.TemporaryDirectory() as directory:
        source, program = Path(directory, 'probe.c'), Path(directory, 'probe')
        source.write_text('#include <stdlib.h>\nint main(void) { free(malloc(8)); return 0; }\n')
        cc = os.environ.get('CC', 'cc').split()
        subprocess.run(cc + SANITIZER_FLAGS[build] + [str(source), '-o', str(program)], check=True)

        def starts(wrapper, environment):
            # Randomised addresses fail only sometimes: several starts, all must succeed.
            return all(subprocess.run(wrapper + [str(program)], stdin=subprocess.DEVNULL,
                                      capture_output=True, check=False,
                                      env={**os.environ, **environment}).returncode == 0
                       for _ in range(10))

        fixed = ['setarch', platform.machine(), '-R']
        no_leaks = {'ASAN_OPTIONS': 'detect_leaks=0'}
        for wrapper in ([], fixed):
            if starts(wrapper, {}):
                return wrapper, options, None
            if build == 'build-asan' and starts(wrapper, no_leaks):
                say('    leak detection cannot run here (ptrace is forbidden): it is left out')
                return wrapper, {'leaks': '0'}, None
    return [], options, 'the sanitizer runtime does not start on this machine'


def environment_of(build, extra):
    env = dict(os.environ, MALLOC_PERTURB_='165', JUMUN_TEST_BUILD=build)
    if build == 'build-asan':
        env['ASAN_OPTIONS'] = f'detect_leaks={extra.get("leaks", "1")}:strict_string_checks=1'
        env['LSAN_OPTIONS'] = f'suppressions={ROOT}/tests/lsan.supp:print_suppressions=0'
        env['UBSAN_OPTIONS'] = 'halt_on_error=1:print_stacktrace=1'
    if build == 'build-tsan':
        env['TSAN_OPTIONS'] = (f'halt_on_error=1:second_deadlock_stack=1:'
                               f'suppressions={ROOT}/tests/tsan.supp')
    return env


def configure(build, env, show):
    """Configures once; a directory with other options is set right. (exit code, output)"""
    command = ['meson', 'setup', build] + BUILDS[build]
    if (ROOT / build / 'build.ninja').exists():
        command = ['meson', 'configure', build] + BUILDS[build]
    elif (ROOT / build).exists():
        command.insert(2, '--wipe')
    return run(command, env, 300, show)


def read_results(build, logbase):
    path = ROOT / build / 'meson-logs' / f'{logbase}.json'
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def output_of(result):
    """The lines that a test wrote."""
    return ((result.get('stdout') or '') + '\n' + (result.get('stderr') or '')).splitlines()


def tail(lines, count=60):
    for line in lines[-count:]:
        say('    | ' + line)


TELLS_NOTHING = re.compile(r'^\W*$|^\[       OK|^\[=+\]|^\[  PASSED|^\[\d+/\d+\] |'
                           r'FAILED TEST\(S\)|listed below:$')
TELLS_WHY = re.compile(r'\[  ERROR|FAILED|Sanitizer|runtime error|Traceback|\b[Ee]rror: |'
                       r'Assertion|invariant broken|ninja: build stopped')


def excerpt(lines, count):
    """The lines from the first on that tells why, with the very last ones; or just the last."""
    passed = {line.split()[-1] for line in lines if line.startswith('[       OK')}
    lines = [line.rstrip() for line in lines if not TELLS_NOTHING.search(line) and
             not (line.startswith('[ RUN') and line.split()[-1] in passed)]
    first = next((i for i, line in enumerate(lines) if TELLS_WHY.search(line)), None)
    if first is not None:
        lines = lines[first:]
        if len(lines) > count:
            lines = lines[:count - 3] + ['...'] + lines[-2:]
    return lines[-count:]


def show_failures(failures):
    shown = [f for f in failures if f[1]][:EXCERPTS_MAX]
    for what, lines in shown:
        say(f'--- {what}')
        for line in excerpt(lines, max(EXCERPT_LINES_MIN, EXCERPT_LINES_ALL // len(shown))):
            say('    | ' + line[:200])
    for what, _ in failures:
        say(f'FAILED {what}')


def run_stage(stage, options, deadline, prepared, totals):
    name, build, suites, factor, seconds = stage
    started = time.monotonic()
    show_all = (lambda line: True) if options['verbose'] else (lambda line: False)
    test_line = re.compile(r'^\s*\d+/\d+\s')

    def left():
        return min(seconds - (time.monotonic() - started), deadline - time.monotonic())

    if left() <= 1:
        totals.fail(f'{name}: no time was left for it')
        say(f'    NOT RUN: {name}: the bound of {TOTAL_SECONDS_MAX // 60} minutes is reached')
        return
    failed_output = []
    if build not in prepared:
        wrapper, extra, reason = ([], {}, None)
        if build in SANITIZER_FLAGS:
            wrapper, extra, reason = probe_sanitizer(build)
        env = environment_of(build, extra)
        if reason is None:
            code, output = configure(build, env, show_all)
            if code != 0:
                reason = 'configure failed'
                failed_output = output
                tail(output)
        else:
            say(f'    skipped: {reason}')
        prepared[build] = (wrapper, env, reason)
    wrapper, env, reason = prepared[build]
    if reason:
        if reason == 'configure failed':
            totals.fail(f'{name}: {reason}', failed_output)
        else:
            totals.skipped += 1
        return
    logbase = 'test-' + re.sub(r'\W', '-', name)
    stale = ROOT / build / 'meson-logs' / f'{logbase}.json'
    stale.unlink(missing_ok=True)
    if build == 'build' and 'built' not in prepared:
        code, output = run(['ninja', '-C', build], env, left(), show_all)
        if code != 0:
            totals.fail(f'{name}: the build failed', output)
            tail(output)
            return
        prepared['built'] = True
        say(f'    built in {time.monotonic() - started:.0f} s')
    names = options['names'](build, suites, env)
    if names == []:
        say('    no test of that name here')
        return
    command = ['meson', 'test', '-C', build, '--print-errorlogs', '--logbase', logbase,
               '--timeout-multiplier', str(factor)]
    for suite in suites:
        command += ['--suite', suite]
    if build != 'build':  # whether broken builds are caught tells nothing about memory; nor do
        command += ['--no-suite', 'canary', '--no-suite', 'patient']  # those that mostly wait
    if wrapper:
        command += ['--wrapper', ' '.join(wrapper)]
    if suites in (['process'], ['cluster']):  # whole nodes under load: one test at a time
        command += ['--num-processes', '1']
    code, output = run(command + (names or []), env, left(),
                       show_all if options['verbose'] else lambda line: test_line.match(line))
    results = read_results(build, logbase)
    failed_before = totals.failed
    for result in results:
        if result['result'] in PASSED:
            totals.passed += 1
        elif result['result'] in SKIPPED:
            totals.skipped += 1
        else:
            totals.fail(f'{name}: {result["name"]} ({result["result"]} after '
                        f'{result.get("duration", 0):.0f} s)', output_of(result))
    if code is None:
        totals.fail(f'{name}: out of time after {time.monotonic() - started:.0f} s', output)
    elif code != 0 and totals.failed == failed_before:
        if not any('No suitable tests' in line for line in output):
            totals.fail(f'{name}: meson test ended with {code} (build failure?)', output)
    if totals.failed > failed_before and not options['verbose']:
        tail(output, 150)


def matching_names(word):
    def names(build, suites, env):
        if word is None:
            return None
        command = ['meson', 'test', '-C', build, '--list']
        for suite in suites:
            command += ['--suite', suite]
        listed = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, check=False).stdout
        found = [line.rsplit(' / ', 1)[-1].strip() for line in listed.splitlines() if ' / ' in line]
        return [name for name in found if word in name]
    return names


def parse(arguments):
    options = {'verbose': False, 'names': matching_names(None)}
    stages, suites, only = list(STAGES), [], None
    known = {'unit', 'sim', 'fuzz', 'process', 'cluster', 'tidy', 'perf'}
    arguments = list(arguments)
    while arguments:
        argument = arguments.pop(0)
        if argument in ('-h', '--help'):
            print(__doc__.strip())
            sys.exit(0)
        elif argument == '-v':
            options['verbose'] = True
        elif argument == '-k' and arguments:
            options['names'] = matching_names(arguments.pop(0))
        elif argument == '--quick':
            stages = [s for s in STAGES
                      if s[1] == 'build' and s[0] not in ('sim', 'process', 'cluster')]
        elif argument == '--asan':
            only = 'build-asan'
        elif argument == '--tsan':
            only = 'build-tsan'
        elif argument in known:
            suites.append(argument)
        else:
            print(f'unknown argument: {argument} (see ./test --help)', file=sys.stderr)
            sys.exit(2)
    if only == 'build-asan':
        stages = [('address/undefined', only, suites or ASAN_SUITES, 5, 2000)]
    elif only == 'build-tsan':
        stages = [('thread', only, suites or ['tsan'], 10, 900)]
    elif suites:
        stages = [(suite, 'build', [suite], 1, 1500) for suite in suites]
    return options, stages


def main():
    options, stages = parse(sys.argv[1:])
    for place in (ROOT, *(ROOT / build for build in BUILDS)):
        if place.exists() and not os.access(place, os.W_OK):
            print(f'test: this user may not write to {place}, and ./test builds there: '
                  f'run it as {place.owner()}, or in a clone of your own', file=sys.stderr)
            return 1
    deadline = time.monotonic() + TOTAL_SECONDS_MAX
    totals, prepared = Totals(), {}
    begun = time.monotonic()
    try:
        for number, stage in enumerate(stages, 1):
            say(f'[{number}/{len(stages)}] {stage[0]}: {", ".join(stage[2])} in {stage[1]}/')
            started = time.monotonic()
            before = (totals.passed, totals.failed)
            run_stage(stage, options, deadline, prepared, totals)
            say(f'    {totals.passed - before[0]} passed, {totals.failed - before[1]} failed'
                f' in {time.monotonic() - started:.0f} s')
    except KeyboardInterrupt:
        totals.fail('interrupted')
    say(f'all stages took {time.monotonic() - begun:.0f} s')
    show_failures(totals.failures)
    say(totals.line())
    return 1 if totals.failed else 0


if __name__ == '__main__':
    sys.exit(main())
