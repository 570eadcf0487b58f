/* How long callers wait when the leader of a shard dies.
 *
 *   cluster_failover JUMUND [--kills N] [--freeze] [--callers N] [--links namespaces|proxy]
 *
 * Three real nodes under load; N times (50) the leader of a shard, each in turn, is killed with
 * kill -9 (or frozen) and later brought back. The pause of a kill is the longest time between two
 * acknowledged commands of that shard, from the kill on until it is served again: what callers
 * notice, retries of the library included. All answers are judged as in the cluster tests.
 *
 * Exit codes: 0 measured and nothing lost, 1 something was lost or did not come back, 2 usage. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/process/cluster_load.h"

enum { KILLS_MAX = 1000, SHARDS = 3, PROGRESS = 50, KILLS_A_JUDGEMENT = 5 };

static double pauses_ms[KILLS_MAX];

static int by_value(const void *a, const void *b) {
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int by_pause(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The load has stopped: the notes are whole. */
static double pause_ms_of(const struct load *load, uint32_t shard, int64_t from_ns, int64_t to_ns) {
    size_t count = 0, room = 1;
    for (uint32_t i = 0; i < load->callers_count; i++) room += load->callers[i].calls_count;
    int64_t *ends = calloc(room, sizeof *ends), longest = 0, last = from_ns;
    if (!ends) test_fail(NULL, "no memory");
    for (uint32_t i = 0; i < load->callers_count; i++) {
        for (uint32_t k = 0; k < load->callers[i].calls_count; k++) {
            const struct history_call *c = &load->callers[i].calls[k];
            if (c->is_read || c->fate != HISTORY_DONE || c->shard != shard) continue;
            if (c->end_ns >= from_ns && c->end_ns <= to_ns) ends[count++] = c->end_ns;
        }
    }
    qsort(ends, count, sizeof *ends, by_value);
    for (size_t i = 0; i < count; i++) {
        if (ends[i] - last > longest) longest = ends[i] - last;
        last = ends[i];
    }
    free(ends);
    return (double)longest / 1e6;
}

struct kill { uint32_t shard; int64_t from_ns, to_ns; };

static struct kill kill_one(struct cluster *c, struct load *load, uint32_t shard, bool freezes) {
    struct kill k = {.shard = shard};
    int leader = cluster_await_leader(c, (int)shard, 0);
    load_await_progress(load, 1u << shard, PROGRESS);
    k.from_ns = load_now_ns();
    if (freezes) cluster_freeze(c, leader);
    else node_kill(&c->nodes[leader]);
    load_await_progress(load, (1u << SHARDS) - 1, PROGRESS);
    k.to_ns = load_now_ns();
    if (freezes) cluster_thaw(c, leader);
    else node_start(&c->nodes[leader]);
    cluster_await_caught_up(c, leader);
    return k;
}

static void print_result(uint32_t count, bool freezes, const struct load *load) {
    qsort(pauses_ms, count, sizeof *pauses_ms, by_pause);
    load_print(load, "load");
    printf("%u leaders %s: pause p50 %.0f ms, p99 %.0f ms, max %.0f ms; %u faults\n", count,
           freezes ? "frozen" : "killed", pauses_ms[count / 2],
           pauses_ms[(count * 99 + 99) / 100 - 1], pauses_ms[count - 1], load->faults);
}

int main(int argc, char **argv) {
    static const struct option known[] = {{"kills", 1, NULL, 'k'},   {"freeze", 0, NULL, 'f'},
                                          {"callers", 1, NULL, 'c'}, {"links", 1, NULL, 'l'},
                                          {NULL, 0, NULL, 0}};
    static struct cluster cluster;
    static struct load load;
    struct kill kills[KILLS_A_JUDGEMENT];
    uint32_t count = 50, callers = 16;
    const char *links = NULL;
    bool freezes = false;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (c == 'k') count = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'c') callers = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'l') links = optarg;
        else if (c == 'f') freezes = true;
        else return 2;
    }
    if (optind != argc - 1 || count < 1 || count > KILLS_MAX || callers < 1 ||
        callers > LOAD_WORKERS_MAX) {
        fputs("usage: cluster_failover JUMUND [--kills N] [--freeze] [--callers N] [--links W]\n",
              stderr);
        return 2;
    }
    const char *directory = directory_make();
    cluster_init(&cluster, argv[optind], directory, SHARDS, links_open(links, 3, SHARDS));
    cluster_start(&cluster);
    const struct load_options options = {.callers = callers, .live_orders = 2 * callers,
                                         .all_patient = true, .seed = 1};
    load_open(&load, &cluster, &options);
    for (uint32_t done = 0; done < count && load.faults == 0;) {
        uint32_t n = 0;
        load_start(&load);
        for (; n < KILLS_A_JUDGEMENT && done + n < count; n++) {
            kills[n] = kill_one(&cluster, &load, (done + n) % SHARDS, freezes);
        }
        load_stop(&load);
        for (uint32_t i = 0; i < n; i++, done++) {
            pauses_ms[done] = pause_ms_of(&load, kills[i].shard, kills[i].from_ns, kills[i].to_ns);
        }
        load_judge(&load);
    }
    print_result(count, freezes, &load);
    load_close(&load);
    cluster_stop(&cluster);
    cluster.links->ways->close(cluster.links);
    directory_remove(directory);
    return load.faults > 0;
}
