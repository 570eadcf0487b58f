#!/usr/bin/env python3
"""Style as a test: what a reviewer would otherwise have to repeat.

  tidy.py ROOT              checks the tree; exit 1 if anything is found
  tidy.py ROOT --headers    compiles each header alone (CC, default cc); exit 1 if one cannot
  tidy.py --canary          feeds each rule something that breaks it, and something that must pass
  tidy.py ROOT --report     prints sizes and the share of comments in headers; exit 0

A finding is one line: path:line: rule: what is wrong (and what to do instead).
"""
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 800
HEADER_COMMENT_SHARE_AIM = 0.30
# Functions that are longer than the bound and may stay so, "path:name". Only ever gets shorter.
LONG_FUNCTIONS_TOLERATED = set()

ROOMS = ('actors', 'persistence', 'engine', 'clients')
C_STANDARD = {'assert.h', 'ctype.h', 'errno.h', 'inttypes.h', 'limits.h', 'stdalign.h', 'stdarg.h',
              'stdatomic.h', 'stdbool.h', 'stddef.h', 'stdint.h', 'stdio.h', 'stdlib.h',
              'string.h'}
ACTOR_STANDARD = {'assert.h', 'inttypes.h', 'limits.h', 'stdalign.h', 'stdbool.h', 'stddef.h',
                  'stdint.h', 'string.h'}

# What each room may include of the project: path prefixes. The longest matching room counts.
PROJECT_INCLUDES = {
    'actors/': ('actors/', 'engine/base/', 'engine/limits.h'),
    'persistence/': ('persistence/', 'actors/actor.h', 'actors/event.h', 'engine/base/',
                     'engine/limits.h'),
    'persistence/consensus/': ('persistence/consensus', 'persistence/record.h', 'engine/base/',
                               'engine/limits.h'),
    'engine/base/': ('engine/base/', 'engine/limits.h'),
    'engine/limits.h': (),
    'engine/wire/': ('engine/wire/', 'engine/base/', 'engine/limits.h', 'engine/shard/request.h',
                     'engine/shard/history.h', 'actors/'),
    'engine/shard/': ('engine/shard/', 'engine/base/', 'engine/limits.h', 'engine/wire/',
                      'actors/', 'persistence/storage.h', 'persistence/record.h',
                      'persistence/consensus.h'),
    'engine/': ('engine/', 'actors/', 'persistence/storage.h', 'persistence/record.h',
                'persistence/consensus.h'),
    # The node alone names the implementation of the storage.
    'engine/node/': ('engine/', 'actors/', 'persistence/storage.h', 'persistence/record.h',
                     'persistence/consensus.h', 'persistence/lmdb/storage_lmdb.h'),
    'clients/': ('clients/', 'engine/wire/', 'engine/base/', 'engine/limits.h', 'actors/'),
    'clients/sdk/jumun.h': (),
    'clients/sdk/jumun_query.h': ('jumun.h',), # as it is installed, beside it
    # The tool for logs reads and writes what the engine stores.
    'clients/replay/': ('clients/', 'engine/wire/', 'engine/base/', 'engine/limits.h', 'actors/',
                        'persistence/log_source.h', 'persistence/log_source_ops.h',
                        'persistence/state_source.h',
                        'persistence/record.h', 'persistence/storage.h',
                        'persistence/lmdb/storage_lmdb.h'),
    'tests/': ('',),
}
# Who may include a library: header pattern, path prefixes.
LIBRARY_INCLUDES = [
    (r'lmdb\.h$', ('persistence/lmdb/', 'engine/replica/', 'tests/')),
    (r'raft(\.h$|/)', ('persistence/consensus/', 'tests/')),
    (r'nng/', ('engine/node/', 'engine/ingress/', 'engine/egress/', 'engine/courier/',
                'engine/cluster/', 'engine/feed/', 'engine/replica/', 'engine/peers/',
                'engine/wire/tls.', 'engine/wire/socket_close.', 'engine/wire/nng_threads.',
                'clients/sdk/', 'clients/replay/feed_', 'tests/')),
    (r'msgpack(\.h$|/)', ('engine/wire/', 'clients/', 'tests/')),
    (r'jemalloc/', ('engine/base/', 'tests/')),
    (r'xxhash\.h$', ('actors/store/', 'persistence/', 'engine/', 'clients/', 'tests/')),
    (r'jansson\.h$', ('clients/', 'engine/node/', 'tests/')),
    (r'zlib\.h$', ('clients/', 'tests/')),
    (r'cmocka\.h$', ('tests/',)),
]

PRODUCT = ('actors/', 'persistence/', 'engine/', 'clients/')
# Calls that are refused: word, where (prefixes; empty = everywhere), what to do instead.
BANNED_CALLS = [
    ('strcpy', (), 'memcpy with a checked size, or snprintf'),
    ('strcat', (), 'snprintf at an offset'),
    ('strncpy', (), 'memcpy with a checked size: strncpy may leave no terminator'),
    ('sprintf', (), 'snprintf'),
    ('vsprintf', (), 'vsnprintf'),
    ('gets', (), 'fgets or getline'),
    ('atoi', PRODUCT, 'strtoll with all its checks'),
    ('atol', PRODUCT, 'strtoll with all its checks'),
    ('atoll', PRODUCT, 'strtoll with all its checks'),
    ('atof', PRODUCT, 'strtod with all its checks'),
    ('strtok', (), 'strtok_r, or a walk by hand'),
    ('rand', (), 'engine/base/prng.h'),
    ('srand', (), 'engine/base/prng.h'),
    ('random', (), 'engine/base/prng.h'),
    ('gmtime', (), 'gmtime_r'),
    ('localtime', (), 'localtime_r'),
    ('ctime', (), 'strftime with gmtime_r'),
    ('asctime', (), 'strftime with gmtime_r'),
    ('alloca', (), 'an array of bounded size'),
    ('system', PRODUCT, 'posix_spawn'),
    ('__builtin_prefetch', (), 'engine/base/prefetch.h'),
    ('assert', PRODUCT,
     'require() of engine/base/check.h, which stays in every build'),
    ('malloc', ('actors/',), 'the room that the caller gives'),
    ('calloc', ('actors/',), 'the room that the caller gives'),
    ('realloc', ('actors/',), 'the room that the caller gives'),
    ('free', ('actors/',), 'the room that the caller gives'),
    ('time', ('actors/', 'engine/shard/', 'persistence/consensus/'), 'the time in the context'),
    ('clock_gettime', ('actors/', 'engine/shard/', 'persistence/consensus/'),
     'the time in the arguments'),
    ('printf', ('actors/', 'engine/shard/', 'persistence/'), 'engine/base/log.h'),
]
# One place each that is allowed what the table refuses.
BANNED_EXCEPTIONS = {
    ('__builtin_prefetch', 'engine/base/prefetch.h'),
    ('clock_gettime', 'engine/shard/shard_thread.c'),  # the thread that hands the time to the shard
}
# Spelled in two halves, so that this file does not find itself.
LEFTOVERS = ('TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK')
MACHINE_PATHS = re.compile(r'(?<![\w.$}/])/(work|home|root|Users|mnt|farm|nix)/\w')
TEXT_SUFFIXES = {'.c', '.h', '.py', '.sh', '.md', '.build', '.txt', '.in', '.service', '.supp', ''}
LONG_LINE_FREE = {'.md', '.json', '.csv', '.txt', '.gz', '.supp'}


class File:
    """One file of the tree. `code` is the text with comments and literals blanked, so that rules
    about code do not trip over prose; lines and columns stay where they were."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.suffix = Path(path).suffix
        self.lines = text.splitlines()
        self.is_c = self.suffix in ('.c', '.h')
        self.code = blank_comments_and_literals(text) if self.is_c else text
        self.code_lines = self.code.splitlines()

    def under(self, *prefixes):
        return any(self.path.startswith(p) for p in prefixes)


def blank_comments_and_literals(text):
    token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

    def blank(match):
        s = match.group(0)
        if s[0] in '"\'':
            return s[0] + ' ' * (len(s) - 2) + s[-1]
        return re.sub(r'[^\n]', ' ', s)
    return token.sub(blank, text)


def rule_columns(f):
    if f.suffix in LONG_LINE_FREE:
        return
    for n, line in enumerate(f.lines, 1):
        if len(line) > COLUMNS_MAX:
            yield n, f'{len(line)} columns, at most {COLUMNS_MAX}'


def rule_blanks(f):
    for n, line in enumerate(f.lines, 1):
        if '\t' in line and Path(f.path).name != 'Makefile':
            yield n, 'a tab: use spaces'
        if line != line.rstrip() and f.suffix != '.md':
            yield n, 'blanks at the end of the line'
        if '\r' in line:
            yield n, 'a carriage return'
    if f.text and not f.text.endswith('\n'):
        yield len(f.lines), 'no newline at the end of the file'


def rule_leftovers(f):
    for n, line in enumerate(f.lines, 1):
        for word in LEFTOVERS:
            if re.search(rf'\b{word}\b', line):
                yield n, f'"{word}": finish it, or say in the docs why it stays'


def rule_machine_paths(f):
    for n, line in enumerate(f.lines, 1):
        if MACHINE_PATHS.search(line):
            yield n, 'an absolute path of one machine'


def rule_file_length(f):
    if (f.is_c or f.suffix == '.py') and len(f.lines) > FILE_LINES_MAX:
        yield len(f.lines), f'{len(f.lines)} lines, at most {FILE_LINES_MAX}: split it by role'


def functions_of(f):
    """Yields (name, first line, number of lines) of each function body: a brace at the outermost
    level whose head ends with a parameter list. Lines count from the brace's to its partner's."""
    depth = head = body = 0
    for match in re.finditer(r'[{};]|^#[^\n]*', f.code, re.M):
        at, token = match.start(), match.group(0)
        if token[0] == '#':
            head = match.end() if depth == 0 else head
        elif token == '{':
            if depth == 0:
                text = re.sub(r'__attribute__\s*\(\(.*?\)\)\)?', '', f.code[head:at], flags=re.S)
                name = re.search(r'(\w+)\s*\(', text)
                is_function = name and text.rstrip().endswith(')') and '=' not in text
                body = (name.group(1), at) if is_function else None
            depth += 1
        elif token == '}':
            depth -= 1
            if depth == 0:
                head = match.end()
                if body:
                    first = f.code.count('\n', 0, body[1]) + 1
                    yield body[0], first, f.code.count('\n', 0, at) + 2 - first
        elif depth == 0:
            head = match.end()


def rule_function_length(f):
    if not f.is_c:
        return
    for name, first, count in functions_of(f):
        if count > FUNCTION_LINES_MAX and f'{f.path}:{name}' not in LONG_FUNCTIONS_TOLERATED:
            yield first, f'{name}() has {count} lines, at most {FUNCTION_LINES_MAX}'


def rule_banned_calls(f):
    if not f.is_c:
        return
    for n, line in enumerate(f.code_lines, 1):
        for word, prefixes, instead in BANNED_CALLS:
            if prefixes and not f.under(*prefixes):
                continue
            if (word, f.path) in BANNED_EXCEPTIONS or word not in line:
                continue
            if re.search(rf'(?<![\w.>]){word}\s*\(', line):
                yield n, f'{word}() is refused: use {instead}'


def rule_includes(f):
    if not f.is_c:
        return
    room = max((r for r in PROJECT_INCLUDES if f.path.startswith(r)), key=len, default=None)
    for n, line in enumerate(f.lines, 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if not match:
            continue
        quoted, header = match.group(1) == '"', match.group(2)
        if quoted:
            allowed = PROJECT_INCLUDES.get(room, ('',))
            if not header.startswith(tuple(allowed) or ('\0',)) and header != f.path:
                yield n, f'{room or f.path} must not include "{header}"'
            continue
        if header.startswith('jumun'):
            if not f.under('clients/', 'tests/', 'examples/'):
                yield n, 'the engine must not include the client library'
            continue
        for pattern, prefixes in LIBRARY_INCLUDES:
            if re.match(pattern, header):
                if not f.under(*prefixes):
                    yield n, f'<{header}> belongs to {", ".join(prefixes)} only'
                break
        else:
            if f.under('actors/') and header not in ACTOR_STANDARD:
                yield n, f'<{header}> in a pure room: only {", ".join(sorted(ACTOR_STANDARD))}'


def rule_header_guard(f):
    if f.suffix != '.h':
        return
    if not re.search(r'^#ifndef (\w+)\n#define \1$', f.text, re.M) and '#pragma once' not in f.text:
        yield 1, 'no include guard'
    if not f.text.lstrip().startswith(('/*', '//')):
        yield 1, 'a header starts with a comment that says what it is for'


def rule_test_asserts(f):
    """A test program without an assertion proves nothing."""
    if f.under('tests/unit/') and f.suffix == '.c' and 'test_' in f.path:
        if not re.search(r'\bassert_\w+\s*\(|\bfail(_msg)?\s*\(', f.code):
            yield 1, 'a test without an assertion'


FILE_RULES = {
    'columns': rule_columns, 'blanks': rule_blanks, 'leftovers': rule_leftovers,
    'machine-paths': rule_machine_paths, 'file-length': rule_file_length,
    'function-length': rule_function_length, 'banned-calls': rule_banned_calls,
    'includes': rule_includes, 'header-guard': rule_header_guard,
    'test-asserts': rule_test_asserts,
}


def tree_rule_dead_sources(files):
    """Every C source is named in a meson.build: by its path, or (tests in a foreach) by the word
    behind test_. Examples are built by whoever installs the library, and by its test."""
    named, suffixes = set(), {}
    for f in files:
        if f.path.endswith('meson.build'):
            for word in re.findall(r"'([\w./-]+)'", f.text):
                folder, name = os.path.split(os.path.join(os.path.dirname(f.path), word))
                for candidate in (name, name + '.c', f'test_{name}.c'):
                    named.add(os.path.normpath(os.path.join(folder, candidate)))
                # In a foreach: 'test_storage_' + name + '.c'.
                suffixes.setdefault(os.path.normpath(folder), set()).add(f'_{name}.c')
    for f in files:
        if f.suffix == '.c' and f.under(*(r + '/' for r in ROOMS), 'tests/'):
            ends = suffixes.get(os.path.dirname(f.path), ()) if f.under('tests/') else ()
            if f.path not in named and '/examples/' not in f.path and not any(
                    f.path.endswith(end) for end in ends):
                yield f.path, 1, f'{f.path} is in no meson.build: build it or delete it'


def tree_rule_dead_headers(files):
    """Every header is included by somebody (the public one is installed instead)."""
    included = set()
    for f in files:
        if f.is_c:
            included.update(re.findall(r'#\s*include\s*"([^"]+)"', f.text))
    for f in files:
        if f.suffix == '.h' and f.path != 'clients/sdk/jumun.h' and f.path not in included:
            # A header beside its includer may be named without its folder.
            if not any(f.path.endswith('/' + i) for i in included):
                yield f.path, 1, 'no file includes this header: use it or delete it'


def tree_rule_dead_links(files):
    """A page that is named exists, and so does a source file that a page names by its path."""
    paths = {f.path for f in files}
    for f in files:
        if f.path.startswith('tests/tidy/'):
            continue
        wanted = r'\bdocs/[\w-]+\.md\b'
        if f.suffix == '.md':
            wanted += r'|`((?:actors|persistence|engine|clients|tests)/[\w./-]+\.(?:c|h|py|sh))`'
        for n, line in enumerate(f.lines, 1):
            for match in re.finditer(wanted, line):
                path = match.group(0).strip('`')
                if path not in paths:
                    yield f.path, n, f'{path} does not exist'


TREE_RULES = {'dead-sources': tree_rule_dead_sources, 'dead-headers': tree_rule_dead_headers,
              'dead-links': tree_rule_dead_links}


def read_tree(root):
    listed = subprocess.run(['git', '-C', root, 'ls-files', '-co', '--exclude-standard', '-z'],
                            capture_output=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        names = listed.stdout.decode().split('\0')
    else:  # an unpacked archive without git
        names = [str(p.relative_to(root)) for p in Path(root).rglob('*') if p.is_file()]
        names = [n for n in names if not n.startswith(('build', '.git/'))]
    files = []
    for name in sorted(filter(None, names)):
        path = Path(root, name)
        if path.suffix not in TEXT_SUFFIXES or not path.is_file():
            continue
        try:
            text = path.read_text(encoding='utf-8')
        except UnicodeDecodeError:
            continue
        if path.name != 'LICENSE':
            files.append(File(name, text))
    return files


def check(files):
    findings = []
    for f in files:
        for rule, find in FILE_RULES.items():
            findings += [f'{f.path}:{n}: {rule}: {what}' for n, what in find(f)]
    for rule, find in TREE_RULES.items():
        findings += [f'{path}:{n}: {rule}: {what}' for path, n, what in find(files)]
    return findings


def header_compiles(root, path, compiler, flags):
    result = subprocess.run(
        compiler + ['-std=gnu17', '-fsyntax-only', '-D_GNU_SOURCE', '-I', root, '-x', 'c',
                    '-Wall', '-Wextra', '-Wno-unused-parameter', '-Wno-unused-function', '-Werror']
        + flags + ['-include', os.path.join(root, path), os.devnull],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return path, result.returncode, result.stderr


def check_headers(root):
    compiler = os.environ.get('CC', 'cc').split()
    flags = subprocess.run(['pkg-config', '--cflags', 'raft', 'msgpack'], capture_output=True,
                           text=True, check=False).stdout.split()
    headers = [f.path for f in read_tree(root) if f.suffix == '.h']
    bad = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, code, errors in pool.map(
                lambda p: header_compiles(root, p, compiler, flags), headers):
            if code != 0:
                bad.append(f'{path}:1: header-alone: does not compile alone\n{errors}')
    return headers, bad


def comment_share(f):
    comment = sum(len(m.group(0).splitlines())
                  for m in re.finditer(r'//[^\n]*|/\*.*?\*/', f.text, re.S))
    filled = sum(1 for line in f.lines if line.strip())
    return comment, max(1, filled)


def report(files):
    print(f'{"room":<14} {"files":>5} {".c lines":>9} {".h lines":>9} {"comment share of .h":>20}')
    total_comment = total_filled = 0
    for room in ROOMS + ('tests',):
        mine = [f for f in files if f.path.startswith(room + '/') and f.is_c]
        pairs = [comment_share(f) for f in mine if f.suffix == '.h']
        comment, filled = sum(p[0] for p in pairs), sum(p[1] for p in pairs)
        if room != 'tests':
            total_comment, total_filled = total_comment + comment, total_filled + filled
        print(f'{room:<14} {len(mine):>5} {sum(len(f.lines) for f in mine if f.suffix == ".c"):>9}'
              f' {sum(len(f.lines) for f in mine if f.suffix == ".h"):>9}'
              f' {comment / max(1, filled):>19.0%}')
    share = total_comment / max(1, total_filled)
    print(f'headers of the product: {share:.0%} comment (aim: {HEADER_COMMENT_SHARE_AIM:.0%})')


# One snippet per rule that must be found, and one beside it that must not.
CANARIES = [
    ('columns', 'engine/a.c', 'int x; // ' + 'y' * 100 + '\n', 'int x;\n'),
    ('blanks', 'engine/a.c', '\tint x;\n', '    int x;\n'),
    ('blanks', 'engine/a.c', 'int x; \n', 'int x;\n'),
    ('blanks', 'engine/a.c', 'int x;', 'int x;\n'),
    ('leftovers', 'engine/a.c', '/* ' + 'TO' + 'DO: later */\n', '/* toad */\n'),
    ('machine-paths', 'docs/a.md', 'see /ho' + 'me/me/x\n', 'see /var/lib/jumun and $D/home/x\n'),
    ('file-length', 'engine/a.c', 'int x;\n' * 801, 'int x;\n' * 800),
    ('function-length', 'engine/a.c', 'int f(int a) {\n' + '    a++;\n' * 69 + '}\n',
     'int f(int a) {\n' + '    a++;\n' * 68 + '}\n'),
    ('function-length', 'engine/a.c', 'static int f(int a,\n  int b) {\n' + '  a++;\n' * 69 + '}\n',
     'static const int a[] = {\n' + '    1,\n' * 90 + '};\n'),
    ('banned-calls', 'clients/a.c', 'void f(char *a) { strcpy(a, "b"); }\n',
     '/* strcpy(a, b) */ const char *s = "strcpy(a, b)";\n'),
    ('banned-calls', 'engine/a.c', 'void f(int a) { assert(a); }\n',
     'static_assert(1, "x"); void f(int a) { require(a); }\n'),
    ('banned-calls', 'actors/order/a.c', 'void *f(void) { return malloc(8); }\n',
     'void f(struct x *x) { x->free(x); order_free(x); }\n'),
    ('banned-calls', 'engine/shard/a.c', 'long f(void) { return time(0); }\n',
     'long f(void) { return uptime(0); }\n'),
    ('includes', 'actors/order/a.c', '#include "persistence/storage.h"\n',
     '#include "engine/base/bytes.h"\n#include <stdint.h>\n'),
    ('includes', 'actors/order/a.c', '#include <time.h>\n', '#include <string.h>\n'),
    ('includes', 'actors/order/a.c', '#include "engine/shard/shard.h"\n',
     '#include "engine/limits.h"\n'),
    ('includes', 'engine/shard/a.c', '#include <lmdb.h>\n', '#include "persistence/storage.h"\n'),
    ('includes', 'engine/shard/a.c', '#include "persistence/lmdb/storage_lmdb.h"\n',
     '#include "persistence/record.h"\n'),
    ('includes', 'persistence/lmdb/a.c', '#include <raft.h>\n', '#include <lmdb.h>\n'),
    ('includes', 'persistence/a.c', '#include "engine/shard/shard.h"\n',
     '#include "actors/actor.h"\n'),
    ('includes', 'engine/shard/a.c', '#include <nng/nng.h>\n', '#include <pthread.h>\n'),
    ('includes', 'persistence/a.c', '#include <msgpack.h>\n', '#include <xxhash.h>\n'),
    ('includes', 'clients/cli/a.c', '#include "engine/shard/shard.h"\n',
     '#include "clients/sdk/jumun.h"\n'),
    ('includes', 'clients/sdk/jumun.h', '#include "engine/limits.h"\n', '#include <stdint.h>\n'),
    ('header-guard', 'engine/a.h', '/* A. */\nint x;\n',
     '/* A. */\n#ifndef A_H\n#define A_H\n#endif\n'),
    ('header-guard', 'engine/a.h', '#ifndef A_H\n#define A_H\n#endif\n',
     '/* A. */\n#ifndef A_H\n#define A_H\n#endif\n'),
    ('test-asserts', 'tests/unit/base/test_a.c', 'static void t(void **s) { (void)s; }\n',
     'static void t(void **s) { assert_int_equal(1, 1); }\n'),
]
TREE_CANARIES = [
    ('dead-sources', [('engine/base/meson.build', "files('b.c')\n"), ('engine/base/a.c', '\n')],
     [('engine/base/meson.build', "files('a.c')\n"), ('engine/base/a.c', '\n')]),
    ('dead-headers', [('engine/base/a.h', '/* A. */\n'), ('engine/base/b.c', '\n')],
     [('engine/base/a.h', '/* A. */\n'), ('engine/base/b.c', '#include "engine/base/a.h"\n')]),
    ('dead-links', [('README.md', 'see docs/' + 'gone.md\n')],
     [('README.md', 'see docs/' + 'here.md\n'), ('docs/here.md', '`engine/<room>/x.c`\n')]),
    ('dead-links', [('docs/here.md', '`engine/base/gone.c`\n')],
     [('docs/here.md', '`engine/base/b.c`\n'), ('engine/base/b.c', '\n')]),
]


def canary():
    failures, fired = [], set()
    for rule, path, bad, good in CANARIES:
        if not list(FILE_RULES[rule](File(path, bad))):
            failures.append(f'{rule} did not find: {bad[:60]!r}')
        found = list(FILE_RULES[rule](File(path, good)))
        if found:
            failures.append(f'{rule} found in what is right: {good[:60]!r}: {found}')
        fired.add(rule)
    for rule, bad, good in TREE_CANARIES:
        if not list(TREE_RULES[rule]([File(*f) for f in bad])):
            failures.append(f'{rule} did not find: {bad!r}')
        if list(TREE_RULES[rule]([File(*f) for f in good])):
            failures.append(f'{rule} found in what is right: {good!r}')
        fired.add(rule)
    for rule in set(FILE_RULES) | set(TREE_RULES):
        if rule not in fired:
            failures.append(f'{rule} has no canary')
    for word, prefixes, _ in BANNED_CALLS:
        f = File((prefixes or ('engine/',))[0] + 'a.c', f'void f(void) {{ {word}(0); }}\n')
        if not list(rule_banned_calls(f)):
            failures.append(f'banned-calls did not find {word}()')
    for failure in failures:
        print(failure)
    print(f'{len(CANARIES) + len(TREE_CANARIES)} canaries, {len(failures)} failures')
    return 1 if failures else 0


def main(arguments):
    if '--canary' in arguments:
        return canary()
    if not arguments or arguments[0].startswith('-'):
        print(__doc__.strip())
        return 0 if '--help' in arguments else 2
    root = arguments[0]
    if '--headers' in arguments:
        headers, findings = check_headers(root)
        checked = f'{len(headers)} headers'
    else:
        files = read_tree(root)
        if '--report' in arguments:
            report(files)
            return 0
        findings = check(files)
        checked = f'{len(files)} files'
    for finding in findings:
        print(finding)
    print(f'{checked}, {len(findings)} findings')
    return 1 if findings else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
