/* Disturbs a cluster of real nodes under load and judges every answer that it gave.
 *
 *   cluster_faults JUMUND CASE [--rounds N] [--seed N] [--nodes 3|5] [--shards N] [--callers N]
 *                  [--links namespaces|proxy]
 *
 * CASE is one of the table at the end, or "any": a random one of them each round. Prints its seed
 * first. Exit codes: 0 every promise was kept, 1 one was broken or something did not come back, 2
 * usage, 77 the case cannot be tried here. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/process/cluster_load.h"

enum { EXIT_SKIPPED = 77, PROGRESS = 40, DISK_MEGABYTES = 192, FROZEN_MS = 1500,
       NEW_CLIENTS_MAX = 8 };

struct world {
    struct cluster cluster;
    struct load load;
    struct prng prng;
    jumun_key placed_by_new_clients[NEW_CLIENTS_MAX];
    uint32_t new_clients;
    bool has_small_disks;
};

struct fault_options {
    const char *program, *name, *links;
    uint64_t seed;
    uint32_t rounds, nodes, shards, callers;
};

static uint32_t all_shards(const struct world *w) { return (1u << w->cluster.shards) - 1; }

static int some_shard(struct world *w) {
    return (int)prng_below(&w->prng, (uint64_t)w->cluster.shards);
}

/* Every shard takes commands again, and goes on doing so. */
static void expect_progress(struct world *w) {
    load_await_progress(&w->load, all_shards(w), PROGRESS);
}

static void restart(struct world *w, int node) {
    node_start(&w->cluster.nodes[node]);
    cluster_await_caught_up(&w->cluster, node);
}

/* -- cases: the load is running ---------------------------------------------------------------- */

static void case_kill(struct world *w) {
    for (int i = 0; i < 3; i++) {
        int leader = cluster_await_leader(&w->cluster, some_shard(w), 0);
        node_kill(&w->cluster.nodes[leader]);
        expect_progress(w);
        if (prng_chance(&w->prng, 1, 3)) { /* and again, while it recovers */
            node_spawn(&w->cluster.nodes[leader]);
            sleep_ms(prng_between(&w->prng, 0, 60));
            node_kill(&w->cluster.nodes[leader]);
        }
        restart(w, leader);
        expect_progress(w);
    }
}

/* The frozen leader wakes up with questions in its sockets and believes that it leads. */
static void case_freeze(struct world *w) {
    int shard = some_shard(w), leader = cluster_await_leader(&w->cluster, shard, 0);
    cluster_freeze(&w->cluster, leader);
    expect_progress(w);
    cluster_await_leader(&w->cluster, shard, leader);
    sleep_ms(prng_between(&w->prng, 0, FROZEN_MS));
    cluster_thaw(&w->cluster, leader);
    expect_progress(w);
    cluster_await_caught_up(&w->cluster, leader);
}

/* Frozen for about as long as an election takes: the old and the new leader meet. */
static void case_flicker(struct world *w) {
    for (int i = 0; i < 4; i++) {
        int leader = cluster_await_leader(&w->cluster, some_shard(w), 0);
        cluster_freeze(&w->cluster, leader);
        sleep_ms(prng_between(&w->prng, 20, 600));
        cluster_thaw(&w->cluster, leader);
        sleep_ms(prng_between(&w->prng, 0, 200));
    }
    expect_progress(w);
}

/* Clients reach both sides; the old leader is alone on its side. */
static void case_partition(struct world *w) {
    int shard = some_shard(w), leader = cluster_await_leader(&w->cluster, shard, 0);
    links_part(w->cluster.links, leader, 0, true);
    cluster_await_leader(&w->cluster, shard, leader);
    expect_progress(w);
    links_part(w->cluster.links, leader, 0, false);
    expect_progress(w);
    cluster_await_caught_up(&w->cluster, leader);
}

/* Two nodes that do not hear each other, both heard by the others: no majority is lost. */
static void case_bridge(struct world *w) {
    int nodes = w->cluster.nodes_count;
    int a = 1 + (int)prng_below(&w->prng, (uint64_t)nodes), b = 1 + a % nodes;
    links_part(w->cluster.links, a, ~(1u << b), true);
    sleep_ms(1500);
    expect_progress(w);
    links_part(w->cluster.links, a, ~(1u << b), false);
    expect_progress(w);
}

/* The leader hears nobody (its heartbeats go out), or nobody hears it (it hears that all is well);
 * the others must go on without it. */
static void case_one_way(struct world *w) {
    for (int deaf = 0; deaf < 2; deaf++) {
        int shard = some_shard(w), leader = cluster_await_leader(&w->cluster, shard, 0);
        for (int other = 1; other <= w->cluster.nodes_count; other++) {
            if (other == leader) continue;
            int from = deaf ? other : leader, to = deaf ? leader : other;
            w->cluster.links->ways->set_cut(w->cluster.links, from, to, true);
        }
        cluster_await_leader(&w->cluster, shard, leader);
        expect_progress(w);
        links_heal(w->cluster.links);
        expect_progress(w);
        cluster_await_caught_up(&w->cluster, leader);
    }
}

static void case_all_down(struct world *w) {
    cluster_kill(&w->cluster);
    sleep_ms(prng_between(&w->prng, 0, 300));
    cluster_start(&w->cluster);
    expect_progress(w);
}

/* What an operator does: callers must notice nothing. */
static void case_rolling(struct world *w) {
    for (int n = 1; n <= w->cluster.nodes_count; n++) {
        node_stop(&w->cluster.nodes[n]);
        expect_progress(w);
        restart(w, n);
        expect_progress(w);
    }
}

/* A client that comes just now, and is told of all addresses, is led to the cluster. */
static void expect_a_new_client_is_served(struct world *w) {
    char error[256];
    jumun_client *client = jumun_open(w->cluster.endpoints, NULL, error, sizeof error);
    if (!client) cluster_fail(&w->cluster, "a client cannot be opened: %s", error);
    jumun_key key = jumun_key_new();
    const jumun_line line = {.sku = "a", .quantity = 1, .unit_price = 100};
    const jumun_place place = {.fulfilment = JUMUN_PICKUP, .payment_timing = JUMUN_PREPAID,
                               .currency = "KRW", .store = "new-clients", .lines = &line,
                               .lines_count = 1, .total = 100};
    jumun_result result;
    int code = jumun_place_order(client, &key, &place, NULL, &result);
    jumun_close(client);
    if (code != JUMUN_OK)
        cluster_fail(&w->cluster, "a new client's order: %s", jumun_result_name(code));
    w->placed_by_new_clients[w->new_clients++ % NEW_CLIENTS_MAX] = key;
}

static void expect_new_clients_orders(struct world *w) {
    char error[256];
    jumun_client *client = jumun_open(w->cluster.endpoints, NULL, error, sizeof error);
    if (!client) cluster_fail(&w->cluster, "a client cannot be opened: %s", error);
    for (uint32_t i = 0; i < w->new_clients && i < NEW_CLIENTS_MAX; i++) {
        jumun_order *order = NULL;
        int code = jumun_get(client, &w->placed_by_new_clients[i], NULL, &order, NULL);
        jumun_order_free(order);
        if (code != JUMUN_OK)
            cluster_fail(&w->cluster, "a new client's order is gone: %s", jumun_result_name(code));
    }
    jumun_close(client);
}

/* A node's disk is not there when it starts again, nor does anything tell it to wait: at its
 * address there is a node alone, with nothing, that serves. It must get nothing of what is the
 * cluster's. */
static void case_stranger(struct world *w) {
    int leader = cluster_await_leader(&w->cluster, some_shard(w), 0);
    struct node_process *own = &w->cluster.nodes[leader];
    node_kill(own);
    struct node_process empty = *own;
    empty.out = -1; /* that one is own's */
    snprintf(empty.data, sizeof empty.data, "%.480s-not-mounted", own->data);
    const char *const options[] = {"--no-pin", "--shards", "2", NULL};
    memcpy(empty.arguments, options, sizeof options);
    node_start(&empty);
    for (int i = 0; i < NEW_CLIENTS_MAX; i++) {
        expect_a_new_client_is_served(w);
        expect_progress(w);
    }
    node_stop(&empty);
    close(empty.out);
    directory_remove(empty.data);
    restart(w, leader);
    expect_progress(w);
    expect_new_clients_orders(w);
}

/* -- full disks -------------------------------------------------------------------------------- */

static void ballast_path(const struct world *w, int node, char *path, size_t bytes) {
    snprintf(path, bytes, "%s/ballast", w->cluster.nodes[node].data);
}

/* Takes all room on the node's disk, to the last block. */
static void disk_fill(const struct world *w, int node) {
    static const char block[65536];
    char path[600];
    ballast_path(w, node, path, sizeof path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) test_fail(NULL, "%s: %s", path, strerror(errno));
    for (size_t bytes = sizeof block; bytes >= 512;) {
        if (write(fd, block, bytes) <= 0) bytes /= 2;
    }
    close(fd);
}

static void disk_empty(const struct world *w, int node) {
    char path[600];
    ballast_path(w, node, path, sizeof path);
    if (unlink(path) != 0) test_fail(NULL, "%s: %s", path, strerror(errno));
}

static void await_full(struct world *w, int node, bool is_full) {
    int64_t until = monotonic_ms() + CLUSTER_WAIT_SECONDS_MAX * 1000;
    for (;;) {
        struct cluster_replica replicas[CLUSTER_SHARDS_MAX];
        bool full = false, answered = true;
        cluster_ask(&w->cluster, node, replicas);
        for (int s = 0; s < w->cluster.shards; s++) {
            full |= replicas[s].disk_full;
            answered &= replicas[s].answered;
        }
        if (answered && full == is_full) return;
        if (monotonic_ms() > until) {
            cluster_fail(&w->cluster, "node %d: its disk %s, and it does not say so", node,
                         is_full ? "is full" : "has room again");
        }
        sleep_ms(50);
    }
}

static void disk_case(struct world *w, int node) {
    disk_fill(w, node);
    await_full(w, node, true);
    expect_progress(w); /* of all shards, those that it led too */
    sleep_ms(500);
    expect_progress(w);
    disk_empty(w, node);
    await_full(w, node, false);
    cluster_await_caught_up(&w->cluster, node);
    expect_progress(w);
}

static void case_full_leader(struct world *w) {
    disk_case(w, cluster_await_leader(&w->cluster, some_shard(w), 0));
}

static void case_full_follower(struct world *w) {
    int shard = some_shard(w), leader = cluster_await_leader(&w->cluster, shard, 0);
    disk_case(w, 1 + leader % w->cluster.nodes_count);
}

/* Each node's directory on a small file system of its own. */
static bool disks_make(struct world *w) {
    char size[32];
    snprintf(size, sizeof size, "size=%dm", DISK_MEGABYTES);
    for (int n = 1; n <= w->cluster.nodes_count; n++) {
        const char *data = w->cluster.nodes[n].data;
        if (mkdir(data, 0700) != 0) test_fail(NULL, "mkdir %s: %s", data, strerror(errno));
        if (mount("jumun-test", data, "tmpfs", 0, size) != 0) {
            printf("SKIPPED: cannot mount small file systems: %s\n", strerror(errno));
            return false;
        }
        w->has_small_disks = true;
    }
    return true;
}

/* -- rounds ------------------------------------------------------------------------------------ */

static const struct fault_case {
    const char *name;
    void (*run)(struct world *w);
    bool callers_see_no_trouble, needs_small_disks;
} cases[] = {
    {"kill", case_kill, false, false},
    {"freeze", case_freeze, false, false},
    {"flicker", case_flicker, false, false},
    {"partition", case_partition, false, false},
    {"bridge", case_bridge, false, false},
    {"one-way", case_one_way, false, false},
    {"all-down", case_all_down, false, false},
    {"rolling", case_rolling, true, false},
    {"stranger", case_stranger, false, false},
    {"full-leader", case_full_leader, false, true},
    {"full-follower", case_full_follower, false, true}};

enum { CASES = sizeof cases / sizeof *cases };

static const struct fault_case *case_find(const char *name) {
    for (size_t i = 0; i < CASES; i++) {
        if (strcmp(cases[i].name, name) == 0) return &cases[i];
    }
    return NULL;
}

static bool round_run(struct world *w, const struct fault_case *c, uint32_t round) {
    char what[64];
    load_start(&w->load);
    expect_progress(w);
    unsigned long trouble = atomic_load(&w->load.unknown) + atomic_load(&w->load.turned_away);
    c->run(w);
    load_stop(&w->load);
    snprintf(what, sizeof what, "round %u, %s", round, c->name);
    load_print(&w->load, what);
    trouble = atomic_load(&w->load.unknown) + atomic_load(&w->load.turned_away) - trouble;
    bool is_good = load_judge(&w->load) == 0;
    if (c->callers_see_no_trouble && w->load.options.all_patient && trouble > 0) {
        fprintf(stderr, "BROKEN: callers saw %lu errors, the last one %s\n", trouble,
                jumun_result_name(atomic_load(&w->load.last_trouble)));
        is_good = false;
    }
    return is_good;
}

static int rounds_run(struct world *w, const struct fault_options *o) {
    const struct fault_case *given = case_find(o->name);
    for (uint32_t round = 1; round <= o->rounds; round++) {
        const struct fault_case *c = given;
        while (!c || (c->needs_small_disks && !w->has_small_disks)) {
            c = &cases[prng_below(&w->prng, CASES)];
        }
        if (!round_run(w, c, round)) return 1;
    }
    return 0;
}

static bool number_of(const char *text, uint64_t max, uint64_t *value) {
    char *end;
    *value = strtoull(text, &end, 0);
    return *text >= '0' && *text <= '9' && *end == 0 && *value <= max;
}

static _Noreturn void usage(void) {
    fputs("usage: cluster_faults JUMUND CASE [--rounds N] [--seed N] [--nodes 3|5] [--shards N]\n"
          "       [--callers N] [--links namespaces|proxy]\ncases: any", stderr);
    for (size_t i = 0; i < CASES; i++) fprintf(stderr, " %s", cases[i].name);
    fputc('\n', stderr);
    exit(2);
}

static void options_read(struct fault_options *o, int argc, char **argv) {
    static const struct option known[] = {{"rounds", 1, NULL, 'r'},  {"seed", 1, NULL, 's'},
                                          {"nodes", 1, NULL, 'n'},   {"shards", 1, NULL, 'h'},
                                          {"callers", 1, NULL, 'c'}, {"links", 1, NULL, 'l'},
                                          {NULL, 0, NULL, 0}};
    *o = (struct fault_options){.rounds = 1, .nodes = 3, .shards = 3, .callers = 16};
    jumun_key random = jumun_key_new();
    memcpy(&o->seed, random.bytes + 8, sizeof o->seed);
    uint64_t v = 0;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (c == 'l') o->links = optarg;
        else if (c == '?' || !number_of(optarg, c == 's' ? UINT64_MAX : 1000000, &v)) usage();
        else if (c == 'r') o->rounds = (uint32_t)v;
        else if (c == 's') o->seed = v;
        else if (c == 'n') o->nodes = (uint32_t)v;
        else if (c == 'h') o->shards = (uint32_t)v;
        else if (c == 'c') o->callers = (uint32_t)v;
    }
    if (optind != argc - 2 || o->nodes < 3 || o->nodes > LINKS_NODES_MAX || o->shards < 1 ||
        o->shards > CLUSTER_SHARDS_MAX || o->callers < 1 || o->callers > LOAD_WORKERS_MAX) {
        usage();
    }
    o->program = argv[optind];
    o->name = argv[optind + 1];
    if (strcmp(o->name, "any") != 0 && !case_find(o->name)) usage();
}

static void world_close(struct world *w, const char *directory, bool keeps) {
    load_close(&w->load);
    cluster_stop(&w->cluster);
    w->cluster.links->ways->close(w->cluster.links);
    for (int n = 1; w->has_small_disks && n <= w->cluster.nodes_count; n++) {
        umount2(w->cluster.nodes[n].data, MNT_DETACH);
    }
    if (!keeps) directory_remove(directory);
}

int main(int argc, char **argv) {
    static struct world w;
    struct fault_options o;
    options_read(&o, argc, argv);
    const struct fault_case *c = case_find(o.name);
    printf("cluster_faults: %s, seed %llu, %u rounds, %u nodes, %u shards, %u callers\n", o.name,
           (unsigned long long)o.seed, o.rounds, o.nodes, o.shards, o.callers);
    prng_seed(&w.prng, o.seed);
    const char *directory = directory_make();
    struct links *links = links_open(o.links, (int)o.nodes, (int)o.shards);
    cluster_init(&w.cluster, o.program, directory, (int)o.shards, links);
    cluster_add_option(&w.cluster, "--checkpoint-age-ms", "300");
    if (c && c->needs_small_disks && !disks_make(&w)) {
        directory_remove(directory);
        return EXIT_SKIPPED;
    }
    cluster_start(&w.cluster);
    const struct load_options options = {.callers = o.callers, .live_orders = o.callers,
                                         .seed = o.seed,
                                         .all_patient = c && c->callers_see_no_trouble};
    load_open(&w.load, &w.cluster, &options);
    int code = rounds_run(&w, &o);
    if (code != 0) {
        for (int n = 1; n <= w.cluster.nodes_count; n++) node_log_tail(&w.cluster.nodes[n]);
        printf("cluster_faults: FAILED with seed %llu; the data is kept in %s\n",
               (unsigned long long)o.seed, directory);
    }
    world_close(&w, directory, code != 0);
    if (code == 0) puts("cluster_faults: every promise was kept");
    return code;
}
