#!/usr/bin/env python3
"""Runs every benchmark of docs/performance.md beside the bare parts, in one go.

    tests/perf/measure.py --build build-release [--rounds 3] [--seconds 5] [--only NAME,...]

Each figure is the median of the rounds; the bare probe runs right before its Jumun twin in every
round, so that the ratio survives a machine whose speed swings. Prints Markdown to stdout and
progress to stderr. Durability is never off: both sides commit with full sync.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import ports  # noqa: E402


def say(text):
    print(text, file=sys.stderr, flush=True)


def halves():
    """This process's processors, one half for clients and one for the node; None with just one."""
    cpus = sorted(os.sched_getaffinity(0))
    middle = (len(cpus) + 1) // 2
    return (cpus[:middle], cpus[middle:]) if len(cpus) > 1 else None


def keep_to(cpus):
    """What a new process does before it begins; None: it may go anywhere."""
    return (lambda: os.sched_setaffinity(0, cpus)) if cpus else None


class Node:
    """One jumund on a directory of its own; on all processors, or on `cpus` alone."""

    def __init__(self, args, directory, *options, cpus=None):
        self.args, self.directory, self.options, self.cpus = args, directory, options, cpus
        self.port = ports.pick(30) + 5
        self.endpoint = f"tcp://127.0.0.1:{self.port}"

    def start(self):
        shards = len(self.cpus) if self.cpus else self.args.shards
        command = [f"{self.args.build}/engine/node/jumund", "--data", self.directory,
                   "--listen", self.endpoint, "--shards", str(shards), *self.options]
        if self.args.patient:
            command.append("--patient")
        self.log = open(f"{self.directory}.log", "a")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        preexec_fn=keep_to(self.cpus))
        begin = time.monotonic()
        for line in self.process.stdout:
            if line.startswith("jumund ready"):
                return time.monotonic() - begin
        raise SystemExit(f"jumund did not start; see {self.directory}.log")

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(60)

    def status(self):
        out = subprocess.run([f"{self.args.build}/clients/cli/jumun", "--endpoint", self.endpoint,
                              "--json", "status"], capture_output=True, text=True, check=True)
        return json.loads(out.stdout)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bench(args, node, *options, cpus=None):
    command = [f"{args.build}/clients/bench/jumun-bench", "--endpoint", node.endpoint, "--json",
               "--quiet", "--seconds", str(args.seconds), "--warmup", "1", *map(str, options)]
    if args.patient:
        command.append("--patient")
    out = subprocess.run(command, capture_output=True, text=True, preexec_fn=keep_to(cpus))
    if not out.stdout.strip():
        raise SystemExit(f"{' '.join(command)}: {out.stderr}")
    result = json.loads(out.stdout)
    if result["wrong"]:
        raise SystemExit(f"{' '.join(command)}: wrong answers: {result}")
    return result


def probe(args, directory, *options):
    out = subprocess.run([f"{args.build}/tests/perf/bare_probe", "--json", "--shards",
                          str(args.shards), "--seconds", str(args.seconds), *map(str, options),
                          directory], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


def fresh(args, name):
    directory = os.path.join(args.directory, name)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    return directory


def paired(args, title, bench_options, probe_options):
    """Rounds of (probe, bench); a fresh node each time, so that no round pays for the last one."""
    rows = []
    for n in range(args.rounds):
        bare = probe(args, fresh(args, "bare"), *probe_options)
        node = Node(args, fresh(args, "node"))
        node.start()
        cpu = node.cpu_seconds()
        mine = bench(args, node, *bench_options)
        cpu = node.cpu_seconds() - cpu
        node.stop()
        rows.append((mine, bare))
        say(f"  {title} [{n + 1}/{args.rounds}]: {mine['commands_per_second']:,.0f}/s "
            f"p50 {mine['p50_us']:,.0f} us p99 {mine['p99_us']:,.0f} us | bare "
            f"{bare['commands_per_second']:,.0f}/s p50 {bare['p50_us']:,.0f} us | "
            f"node cpu {cpu:.1f} s")
    median = lambda f: statistics.median(f(*r) for r in rows)
    return {
        "title": title,
        "rate": median(lambda m, b: m["commands_per_second"]),
        "p50": median(lambda m, b: m["p50_us"]), "p99": median(lambda m, b: m["p99_us"]),
        "p9999": median(lambda m, b: m["p99_99_us"]),
        "bare": median(lambda m, b: b["commands_per_second"]),
        "bare_p50": median(lambda m, b: b["p50_us"]),
        "ratio": median(lambda m, b: m["commands_per_second"] / b["commands_per_second"]),
        "latency_ratio": median(lambda m, b: m["p50_us"] / b["p50_us"]),
    }


def throughput(args):
    rows = []
    for in_flight in (8, 16, 32):
        rows.append(paired(args, f"128 commands a message, {in_flight} in flight",
                           ["--batch", 128, "--in-flight", in_flight],
                           ["--batch", 128, "--in-flight", in_flight]))
    rows.append(paired(args, "64 callers, one command at a time each",
                       ["--mode", "callers", "--callers", 64], ["--batch", 1, "--in-flight", 64]))
    rows.append(paired(args, "64 callers that are callbacks, not threads",
                       ["--mode", "callers", "--callers", 64, "--async"],
                       ["--batch", 1, "--in-flight", 64]))
    rows.append(paired(args, "1 caller, one command at a time",
                       ["--mode", "callers", "--callers", 1], ["--batch", 1, "--in-flight", 1]))
    rows.append(paired(args, "reads by key at the leader, batched",
                       ["--mode", "reads", "--batch", 128, "--in-flight", 16],
                       ["--batch", 128, "--in-flight", 16]))
    print("| load | commands/s | p50 | p99 | p99.99 | bare parts | ratio | p50 / bare p50 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        print(f"| {r['title']} | {r['rate']:,.0f} | {r['p50'] / 1e3:.2f} ms "
              f"| {r['p99'] / 1e3:.2f} ms "
              f"| {r['p9999'] / 1e3:.1f} ms | {r['bare']:,.0f}/s, p50 {r['bare_p50'] / 1e3:.2f} ms "
              f"| {r['ratio']:.2f} | {r['latency_ratio']:.2f} |")
    print()


def floor(args, groups, apart):
    """What waiting threads, messages and synced writes allow without any engine: answers/s."""
    command = [f"{args.build}/tests/perf/callers_probe", fresh(args, "floor"), "64", str(groups),
               str(max(1, int(args.seconds))), *(["apart"] if apart else [])]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(out.split(": ")[1].split()[0])


def callers(args):
    """64 waiting threads, beside the least that they cost, on shared and on separate processors."""
    print("| 64 callers, one command at a time each | commands/s | p50 | p99 "
          "| the least they cost: one message for all | two messages in turn | to the first |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for title, both in (("client and node on all processors", (None, None)),
                        ("client and node on a half of their own each", halves())):
        if not both:
            continue
        rows = []
        for n in range(args.rounds):
            one, two = (floor(args, groups, both[0] is not None) for groups in (1, 2))
            node = Node(args, fresh(args, "node"), cpus=both[1])
            node.start()
            mine = bench(args, node, "--mode", "callers", "--callers", 64, cpus=both[0])
            node.stop()
            rows.append((mine["commands_per_second"], mine["p50_us"], mine["p99_us"], one, two,
                         mine["commands_per_second"] / one))
            say(f"  {title} [{n + 1}/{args.rounds}]: {rows[-1][0]:,.0f}/s, the least "
                f"{one:,.0f}/s and {two:,.0f}/s")
        rate, p50, p99, one, two, ratio = (statistics.median(column) for column in zip(*rows))
        print(f"| {title} | {rate:,.0f} | {p50 / 1e3:.2f} ms | {p99 / 1e3:.2f} ms | {one:,.0f}/s "
              f"| {two:,.0f}/s | {ratio:.2f} |")
    print()


def total(status, key):
    return sum(shard[key] for shard in status["shards"])


def first_answer(args, node):
    """From the start of the process to the first answered read of a stored order's shard."""
    begin = time.monotonic()
    node.start()
    bench_begin = subprocess.run(
        [f"{args.build}/clients/cli/jumun", "--endpoint", node.endpoint,
         "store", "get", "store-0001"],
        capture_output=True, text=True)
    seconds = time.monotonic() - begin
    if bench_begin.returncode != 0:
        raise SystemExit(f"no answer after the restart: {bench_begin.stderr}")
    return seconds


def memory_and_restart(args):
    live = args.live
    node = Node(args, fresh(args, "live"))
    node.start()
    result = bench(args, node, "--prefill", live, "--live", 1, "--seconds", 0.1)
    status = node.status()
    orders = total(status, "orders_in_memory")
    blocks = total(status, "actor_bytes") / orders
    tables = total(status, "table_bytes") / orders
    say(f"  {orders:,} live orders: {blocks:.0f} + {tables:.0f} bytes each")
    print(f"- Memory of a live order with 3 lines, just placed ({orders:,} of them): "
          f"**{blocks + tables:.0f} bytes** ({blocks:.0f} its block with the allocator's rounding, "
          f"{tables:.0f} tables, timers and lists); resident set of the whole process "
          f"{status['memory']['process_bytes'] / orders:.0f} bytes an order.")
    for how, label in ((signal.SIGTERM, "after an orderly stop"),
                       (signal.SIGKILL, "after kill -9")):
        times = []
        for _ in range(args.rounds):
            node.stop(how)
            times.append(first_answer(args, node))
        status = node.status()
        print(f"- Restart with {orders:,} live orders {label}: first answer after "
              f"**{statistics.median(times):.2f} s** (process start, both programs' included; "
              f"replayed {total(status, 'recovery_events'):,} events).")
        say(f"  restart {label}: {times}")
    node.stop()


def recovery(args):
    """Everything is replayed from the log: checkpoints are put off, then kill -9."""
    node = Node(args, fresh(args, "replay"), "--checkpoint-age-ms", "3600000")
    node.start()
    bench(args, node, "--batch", 128, "--in-flight", 16)
    node.stop(signal.SIGKILL)
    rates = []
    for _ in range(args.rounds):
        node.start()
        status = node.status()
        for shard in status["shards"]:
            if shard["recovery_ms"] > 0 and shard["recovery_events"] > 100000:
                rates.append(shard["recovery_events"] / shard["recovery_ms"] * 1000)
        events = total(status, "recovery_events")
        node.stop(signal.SIGKILL)
    say(f"  recovery rates: {[round(r) for r in rates]}")
    print(f"- Apply on recovery: **{statistics.median(rates):,.0f} events/s per core** "
          f"({events:,} events over {args.shards} shards, all shards at once, from reading and "
          f"checking the log to serving).")


def overload(args):
    node = Node(args, fresh(args, "overload"))
    node.start()
    capacity = bench(args, node, "--batch", 128, "--in-flight", 16)["commands_per_second"]
    before = node.status()["memory"]["process_bytes"]
    rate = int(3 * capacity)
    result = bench(args, node, "--mode", "open", "--rate", rate, "--live", 400000,
                   "--queue", 1024, "--timeout-ms", 100)
    status = node.status()
    say(f"  overload: {result}")
    print(f"- Overload at 3 x ({rate:,}/s offered, {capacity:,.0f}/s taken in a closed loop): "
          f"accepted {result['commands_per_second']:,.0f}/s "
          f"with p50 {result['p50_us'] / 1e3:.1f} ms, "
          f"**p99 {result['p99_us'] / 1e3:.1f} ms**; overloaded {result['overloaded']:,}, not even "
          f"queued by the client {result['not_taken']:,}, failed {result['failed']:,}; "
          f"resident set "
          f"{before / 1e6:.0f} -> {status['memory']['process_bytes'] / 1e6:.0f} MB.")
    node.stop()


PARTS = {"throughput": throughput, "callers": callers, "memory": memory_and_restart,
         "recovery": recovery, "overload": overload}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build-release", help="build directory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--shards", type=int, default=os.cpu_count())
    parser.add_argument("--patient", action="store_true",
                        help="node and load generator run --patient; the bare parts do not")
    parser.add_argument("--live", type=int, default=1000000, help="orders of the memory part")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    subprocess.run(["ninja", "-C", args.build, "engine/node/jumund", "clients/cli/jumun",
                    "clients/bench/jumun-bench", "tests/perf/bare_probe",
                    "tests/perf/callers_probe"],
                   check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory(prefix="jumun-measure-") as args.directory:
        for name in args.only.split(","):
            say(f"{name}:")
            PARTS[name](args)


if __name__ == "__main__":
    main()
