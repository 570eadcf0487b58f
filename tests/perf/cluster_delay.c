/* Latency at a fixed rate when the network between the nodes is slow.
 *
 *   cluster_delay JUMUND JUMUN-BENCH [--rate N] [--seconds N] [--in-flight N]
 *
 * Three real nodes whose messages to each other go through a proxy that holds each one back for
 * 0 to 5 ms; the clients reach the nodes directly. For each delay an open loop of 20,000 commands a
 * second (its latencies count from the moment at which a command should have left), as one row of a
 * Markdown table. One command needs one way to the followers and one way back, so the last column,
 * what is left of the median beside twice the delay, should stay flat.
 *
 * Exit codes: 0 measured, 1 commands failed or nothing could be measured, 2 usage. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/process/cluster_nodes.h"

enum { SHARDS = 3, ROW_BYTES = 4096 };

struct delay_options { const char *bench; unsigned long rate, seconds, in_flight; };

static const int64_t delays_us[] = {0, 250, 500, 1000, 2000, 5000};

/* The number behind "name": in one line of JSON. Ends the program when there is none. */
static double field(const char *json, const char *name) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    const char *at = strstr(json, quoted);
    if (!at) test_fail(NULL, "jumun-bench does not tell %s: %s", name, json);
    return strtod(at + strlen(quoted), NULL);
}

static bool measure(const struct cluster *c, const struct delay_options *o, int64_t delay_us) {
    char command[2048], json[ROW_BYTES] = "";
    snprintf(command, sizeof command,
             "'%s' -e '%s' --mode open --rate %lu --seconds %lu --warmup 1 --in-flight %lu --quiet "
             "--json", o->bench, c->endpoints, o->rate, o->seconds, o->in_flight);
    FILE *bench = popen(command, "r");
    if (!bench) test_fail(NULL, "cannot start %s", o->bench);
    bool told = fgets(json, sizeof json, bench) != NULL;
    if (pclose(bench) != 0 || !told) test_fail(NULL, "%s told nothing", o->bench);
    double delay_ms = (double)delay_us / 1e3, p50_ms = field(json, "p50_us") / 1e3;
    printf("| %.2f ms | %.0f | %.2f ms | %.2f ms | %.2f ms | %.2f ms |\n", delay_ms,
           field(json, "commands_per_second"), p50_ms, field(json, "p99_us") / 1e3,
           field(json, "p99_9_us") / 1e3, p50_ms - 2 * delay_ms);
    fflush(stdout);
    return field(json, "failed") == 0 && field(json, "wrong") == 0;
}

static bool measure_all(const char *jumund, const struct delay_options *o) {
    static struct cluster cluster;
    const char *directory = directory_make();
    bool good = true;
    cluster_init(&cluster, jumund, directory, SHARDS, links_open("proxy", 3, SHARDS));
    cluster_start(&cluster);
    printf("| delay, one way | commands/s | p50 | p99 | p99.9 | p50 without the two ways |\n"
           "| --- | --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; i < sizeof delays_us / sizeof *delays_us; i++) {
        if (!cluster.links->ways->set_delay(cluster.links, delays_us[i]))
            test_fail(NULL, "these links cannot be slowed down");
        if (!measure(&cluster, o, delays_us[i])) good = false;
    }
    cluster.links->ways->set_delay(cluster.links, 0);
    cluster_stop(&cluster);
    cluster.links->ways->close(cluster.links);
    directory_remove(directory);
    return good;
}

int main(int argc, char **argv) {
    static const struct option known[] = {{"rate", 1, NULL, 'r'},
                                          {"seconds", 1, NULL, 's'},
                                          {"in-flight", 1, NULL, 'i'},
                                          {NULL, 0, NULL, 0}};
    struct delay_options o = {.rate = 20000, .seconds = 10, .in_flight = 32};
    bool usage = false;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        unsigned long value = optarg ? strtoul(optarg, NULL, 10) : 0;
        if (c == 'r') o.rate = value;
        else if (c == 's') o.seconds = value;
        else if (c == 'i') o.in_flight = value;
        if (c == '?' || value == 0) usage = true;
    }
    if (usage || optind != argc - 2) {
        fputs("usage: cluster_delay JUMUND JUMUN-BENCH [--rate N] [--seconds N] [--in-flight N]\n",
              stderr);
        return 2;
    }
    o.bench = argv[optind + 1];
    return !measure_all(argv[optind], &o);
}
