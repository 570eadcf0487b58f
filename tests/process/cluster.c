/* Three real nodes on one machine.
 *
 *   cluster JUMUND failover      orders go on while the leader of a shard is killed, through any
 *                                node; the killed one comes back; afterwards all logs are equal
 *   cluster JUMUND restarts      each node is stopped in order and started again under load
 *   cluster JUMUND refusals      a copied directory, another cluster, a file that makes no sense
 *   cluster JUMUND alone         groups of one replica each
 *
 * Exit codes: 0 as it must be, 1 not, 2 usage. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clients/sdk/jumun.h"
#include "engine/node/config.h"
#include "persistence/lmdb/storage_lmdb.h"
#include "tests/process/node_process.h"
#include "tests/process/raw_client.h"

enum { NODES = 3, SHARDS = 3, ORDERS_MAX = 4000, LOG_RECORDS_MAX = 100000 };

static struct node_process nodes[NODES];
static char numbers[NODES][4], files[NODES][600];
static const char *directory;
static jumun_key keys[ORDERS_MAX];
static uint32_t keys_count;

/* -- the cluster ------------------------------------------------------------------------------- */

static int port_of(const struct node_process *node) {
    return atoi(strrchr(node->endpoint, ':') + 1);
}

/* Behind the ports of a node's clients come those of its peers. */
static void write_file(const char *path, const char *cluster_id, const char *more) {
    FILE *f = fopen(path, "w");
    if (!f) test_fail(NULL, "cannot write %s: %s", path, strerror(errno));
    fprintf(f, "{\"cluster_id\": \"%s\", \"shards\": %d, \"nodes\": [", cluster_id, SHARDS);
    for (int i = 0; i < NODES; i++)
        fprintf(f, "%s{\"node\": %d, \"peers\": \"tcp://127.0.0.1:%d\", \"clients\": \"%s\"}",
                i ? ", " : "", i + 1, port_of(&nodes[i]) + SHARDS + 1, nodes[i].endpoint);
    fprintf(f, "]%s}\n", more);
    fclose(f);
}

static void cluster_init(const char *program) {
    directory = directory_make();
    for (int i = 0; i < NODES; i++) {
        node_init(&nodes[i], program, directory, SHARDS + 2);
        snprintf(nodes[i].data, sizeof nodes[i].data, "%s/node-%d", directory, i + 1);
        snprintf(nodes[i].log, sizeof nodes[i].log, "%s/node-%d.log", directory, i + 1);
        snprintf(numbers[i], sizeof numbers[i], "%d", i + 1);
        snprintf(files[i], sizeof files[i], "%s/cluster.json", directory);
        const char *arguments[] = {"--cluster", files[i], "--node-id", numbers[i], "--no-pin",
                                   "--feed-listen", "none"};
        memcpy(nodes[i].arguments, arguments, sizeof arguments);
    }
    write_file(files[0], "0123456789abcdef0123456789abcdef", "");
}

static void cluster_start(void) {
    int status;
    for (int i = 0; i < NODES; i++) node_spawn(&nodes[i]);
    for (int i = 0; i < NODES; i++) {
        if (!node_wait_ready(&nodes[i], &status))
            test_fail(&nodes[i], "node %d did not start (status 0x%x)", i + 1, (unsigned)status);
    }
}

static void cluster_stop(void) {
    for (int i = 0; i < NODES; i++) node_signal(&nodes[i], SIGTERM);
    for (int i = 0; i < NODES; i++) {
        int status = node_wait_end(&nodes[i]);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            test_fail(&nodes[i], "node %d stopped with status 0x%x", i + 1, (unsigned)status);
    }
}

static jumun_client *cluster_client(void) {
    char error[256], endpoints[400];
    jumun_options options = {.timeout_ms = 30000};
    snprintf(endpoints, sizeof endpoints, "%s,%s,%s", nodes[0].endpoint, nodes[1].endpoint,
             nodes[2].endpoint);
    jumun_client *client = jumun_open(endpoints, &options, error, sizeof error);
    if (!client) test_fail(NULL, "jumun_open: %s", error);
    return client;
}

/* -- orders ------------------------------------------------------------------------------------ */

static void place_some(jumun_client *client, uint32_t count) {
    jumun_line line = {.sku = "tea", .quantity = 1, .unit_price = 100};
    jumun_place place = {.fulfilment = JUMUN_PICKUP, .currency = "EUR", .store = "store-a",
                         .lines = &line, .lines_count = 1, .total = 100};
    for (uint32_t i = 0; i < count; i++) {
        jumun_result r;
        keys[keys_count] = jumun_key_new();
        if (jumun_place_order(client, &keys[keys_count], &place, NULL, &r) != JUMUN_OK)
            test_fail(&nodes[0], "order %u: %s", keys_count, jumun_result_name(r.code));
        keys_count++;
    }
}

/* Each order exactly as it was placed. */
static void expect_orders(jumun_client *client) {
    for (uint32_t i = 0; i < keys_count; i++) {
        jumun_order *order = NULL;
        int code = jumun_get(client, &keys[i], NULL, &order, NULL);
        if (code != JUMUN_OK) test_fail(&nodes[0], "order %u: %s", i, jumun_result_name(code));
        if (order->version != 1 || order->total != 100 || order->lines_count != 1)
            test_fail(&nodes[0], "order %u is another one", i);
        jumun_order_free(order);
    }
}

/* The general endpoint of one node takes commands for all shards: two thirds of them are led by the
 * others. A client that knows no map. */
static void place_at_one(int node) {
    struct raw_client client;
    struct raw_reply reply;
    struct raw_request request;
    enum { COUNT = 60 };
    uint64_t shards_met = 0;
    raw_open(&client, nodes[node].endpoint);
    for (int tries = 0;; tries++) {
        shards_met = 0;
        raw_begin(&request, 0, COUNT);
        for (int i = 0; i < COUNT; i++) {
            struct raw_id key = raw_key(), id = raw_id();
            raw_place(&request, &key, &id, "store-b", 2);
        }
        raw_ask(&client, &request, &reply);
        if (reply.code != 0 || reply.count != COUNT) test_fail(&nodes[node], "no whole reply");
        int done = 0;
        struct raw_result refused = {.code = 0};
        for (uint32_t i = 0; i < COUNT; i++) {
            struct raw_result r = raw_result(&reply, i);
            if (r.code == 0) done++;
            else refused = r;
            shards_met |= 1ull << r.shard;
        }
        raw_reply_free(&reply);
        if (done == COUNT) break;
        if (tries == 200)
            test_fail(&nodes[node], "%d of %d orders are done; shard %u: code %u", done, COUNT,
                      (unsigned)refused.shard, (unsigned)refused.code);
        sleep_ms(50); /* an election */
    }
    if (shards_met != (1u << SHARDS) - 1) test_fail(&nodes[node], "not all shards were met");
    raw_close(&client);
}

/* As a client does whose map is from before a growth: the endpoint of one shard gets commands for
 * all. Those of other shards are passed on to whoever leads them; its own, if another node leads
 * it, are told where. */
static void place_at_wrong_shard(int node, int shard) {
    struct raw_client client;
    struct raw_reply reply;
    struct raw_request request;
    char endpoint[80];
    enum { COUNT = 60 };
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", port_of(&nodes[node]) + 1 + shard);
    raw_open(&client, endpoint);
    for (int tries = 0;; tries++) {
        uint32_t strays = 0, refused = 0;
        raw_begin(&request, 0, COUNT);
        for (int i = 0; i < COUNT; i++) {
            struct raw_id key = raw_key(), id = raw_id();
            raw_place(&request, &key, &id, "store-c", 2);
        }
        raw_ask(&client, &request, &reply);
        if (reply.code != 0 || reply.count != COUNT) test_fail(&nodes[node], "no whole reply");
        for (uint32_t i = 0; i < COUNT; i++) {
            struct raw_result r = raw_result(&reply, i);
            if ((int)r.shard == shard) continue;
            strays++;
            refused += r.code != 0;
        }
        raw_reply_free(&reply);
        if (strays > 0 && refused == 0) break;
        if (tries == 200)
            test_fail(&nodes[node], "%u of %u orders of other shards are refused", refused, strays);
        sleep_ms(50); /* an election */
    }
    raw_close(&client);
}

/* -- logs -------------------------------------------------------------------------------------- */

struct log_copy {
    uint64_t first, count;
    struct { uint64_t term, checksum; uint32_t bytes; uint16_t type; } records[LOG_RECORDS_MAX];
};
static struct log_copy logs[NODES];

static bool log_visit(void *arg, const struct record_header *record, const void *payload) {
    struct log_copy *log = arg;
    if (log->count == LOG_RECORDS_MAX) return false;
    if (log->count == 0) log->first = record->index;
    log->records[log->count].term = record->term;
    log->records[log->count].checksum = record->checksum;
    log->records[log->count].bytes = record->payload_bytes;
    log->records[log->count++].type = record->type;
    return true;
}

static void log_read(int node, uint32_t shard) {
    char path[600], error[512] = "";
    snprintf(path, sizeof path, "%s/shard-%u", nodes[node].data, shard);
    const struct storage_lmdb_options options = {.directory = path, .shard = shard};
    struct storage *storage = storage_lmdb_open(&options, error, sizeof error);
    struct storage_meta meta;
    if (!storage) test_fail(NULL, "%s", error);
    logs[node].count = 0;
    if (storage->ops->load_meta(storage, &meta, error, sizeof error) != 0 ||
        storage->ops->read(storage, meta.log_first, meta.log_last, log_visit, &logs[node], error,
                           sizeof error) < 0)
        test_fail(NULL, "%s: %s", path, error);
    storage->ops->close(storage);
}

/* Everything that is stored on two nodes is the same on both. What a leader had appended last and
 * nobody else has is no part of it. */
static void expect_equal_logs(void) {
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        for (int i = 0; i < NODES; i++) log_read(i, shard);
        for (int i = 1; i < NODES; i++) {
            uint64_t count = logs[i].count < logs[0].count ? logs[i].count : logs[0].count;
            if (count < 10 || logs[i].first != logs[0].first)
                test_fail(&nodes[i], "shard %u of node %d has %llu entries", shard, i + 1,
                          (unsigned long long)count);
            if (memcmp(logs[i].records, logs[0].records, count * sizeof logs[0].records[0]) != 0)
                test_fail(&nodes[i], "shard %u: the logs of nodes 1 and %d differ", shard, i + 1);
        }
    }
}

/* -- cases ------------------------------------------------------------------------------------- */

static void case_failover(void) {
    cluster_start();
    jumun_client *client = cluster_client();
    place_some(client, 200);
    for (int i = 0; i < NODES; i++) place_at_one(i);
    for (int i = 0; i < NODES * SHARDS; i++) place_at_wrong_shard(i % NODES, i / NODES);
    for (int victim = 0; victim < NODES; victim++) { /* each leads a shard */
        node_kill(&nodes[victim]);
        place_some(client, 200);
        place_at_one((victim + 1) % NODES);
        node_start(&nodes[victim]);
        place_some(client, 50);
        place_at_one(victim);
    }
    expect_orders(client);
    jumun_close(client);
    cluster_stop();
    expect_equal_logs();
}

static void case_restarts(void) {
    cluster_start();
    jumun_client *client = cluster_client();
    place_some(client, 100);
    for (int round = 0; round < NODES; round++) {
        node_signal(&nodes[round], SIGTERM);
        place_some(client, 100); /* while it hands over and stops */
        int status = node_wait_end(&nodes[round]);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            test_fail(&nodes[round], "stopped with status 0x%x", (unsigned)status);
        if (node_log_has(&nodes[round], "nobody has taken over"))
            test_fail(&nodes[round], "what it led was not handed over");
        place_some(client, 100);
        node_start(&nodes[round]);
        place_some(client, 100);
    }
    expect_orders(client);
    jumun_close(client);
    cluster_stop();
    expect_equal_logs();
}

static void expect_refused(struct node_process *node, int exit_code, const char *words) {
    int status;
    node_spawn(node);
    if (node_wait_ready(node, &status)) test_fail(node, "it serves; it must not: %s", words);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != exit_code)
        test_fail(node, "status 0x%x, not exit code %d: %s", (unsigned)status, exit_code, words);
    if (!node_log_has(node, words)) test_fail(node, "the log does not say \"%s\"", words);
}

static void copy_directory(const char *from, const char *to) {
    pid_t pid;
    int status;
    const char *argv[] = {"cp", "-r", from, to, NULL};
    if (posix_spawnp(&pid, "cp", NULL, NULL, (char **)(uintptr_t)argv, environ) != 0 ||
        waitpid(pid, &status, 0) != pid || status != 0)
        test_fail(NULL, "cannot copy %s", from);
}

static void case_refusals(const char *program) {
    char other[400], copy_endpoint[80];
    cluster_start();
    jumun_client *client = cluster_client();
    place_some(client, 20);
    node_stop(&nodes[1]);
    snprintf(other, sizeof other, "%s/copy", directory);
    copy_directory(nodes[1].data, other);
    node_start(&nodes[1]);

    /* The copy runs as node 2, at addresses of its own. */
    struct node_process copy;
    node_init(&copy, program, other, SHARDS + 2);
    snprintf(copy.data, sizeof copy.data, "%s", other);
    snprintf(copy.log, sizeof copy.log, "%s/copy.log", directory);
    snprintf(copy_endpoint, sizeof copy_endpoint, "tcp://127.0.0.1:%d",
             port_of(&copy) + SHARDS + 1);
    const char *arguments[] = {"--cluster", files[0], "--peer-listen", copy_endpoint, "--no-pin",
                               "--feed-listen", "none"};
    memcpy(copy.arguments, arguments, sizeof arguments);
    expect_refused(&copy, EXIT_DATA, "copy");
    place_some(client, 20); /* the others did not mind */

    /* Another cluster's file, one that names a node twice, a number that is not in it. */
    node_stop(&nodes[1]);
    snprintf(files[1], sizeof files[1], "%s/other.json", directory);
    write_file(files[1], "ffffffffffffffffffffffffffffffff", "");
    expect_refused(&nodes[1], EXIT_DATA, "belongs to the cluster 0123456789abcdef");
    write_file(files[1], "0123456789abcdef0123456789abcdef",
               ", \"groups\": [{\"shard\": 0, \"nodes\": [1, 2, 2]}]");
    expect_refused(&nodes[1], EXIT_USAGE, "names node 2 twice");
    write_file(files[1], "0123456789abcdef0123456789abcdef", "");
    snprintf(numbers[1], sizeof numbers[1], "7");
    expect_refused(&nodes[1], EXIT_USAGE, "node 7 is not a node");
    nodes[1].arguments[0] = NULL; /* as a node alone */
    expect_refused(&nodes[1], EXIT_DATA, "--cluster");
    snprintf(numbers[1], sizeof numbers[1], "2");
    nodes[1].arguments[0] = "--cluster";
    node_start(&nodes[1]);
    place_some(client, 20);
    expect_orders(client);
    jumun_close(client);
    cluster_stop();
    expect_equal_logs();
}

static void case_alone(void) {
    write_file(files[0], "0123456789abcdef0123456789abcdef", ", \"replicas\": 1");
    for (int i = 0; i < 2; i++) {
        cluster_start();
        jumun_client *client = cluster_client();
        expect_orders(client);
        place_some(client, 20);
        jumun_close(client);
        cluster_stop();
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    cluster_init(argv[1]);
    if (strcmp(argv[2], "failover") == 0) case_failover();
    else if (strcmp(argv[2], "restarts") == 0) case_restarts();
    else if (strcmp(argv[2], "refusals") == 0) case_refusals(argv[1]);
    else if (strcmp(argv[2], "alone") == 0) case_alone();
    else return 2;
    directory_remove(directory);
    printf("as it must be\n");
    return 0;
}
