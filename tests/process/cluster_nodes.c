#include "tests/process/cluster_nodes.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/process/raw_client.h"

enum { STATUS_MS_MAX = 1000, LOOK_AGAIN_MS = 20 };

void cluster_fail(struct cluster *c, const char *format, ...) {
    va_list args;
    fputs("FAILED: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    for (int n = 1; n <= c->nodes_count; n++) {
        fprintf(stderr, "node %d:\n", n);
        node_log_tail(&c->nodes[n]);
        if (c->nodes[n].pid) kill(c->nodes[n].pid, SIGKILL);
    }
    _exit(1);
}

static void cluster_write_file(const struct cluster *c, int node) {
    FILE *file = fopen(c->files[node], "w");
    if (!file) test_fail(NULL, "cannot write %s", c->files[node]);
    fprintf(file, "{\"cluster_id\": \"" CLUSTER_ID "\", \"version\": 1, "
            "\"shards\": %d, \"replicas\": %d,\n \"nodes\": [", c->shards, c->nodes_count);
    for (int to = 1; to <= c->nodes_count; to++) {
        char peers[LINKS_ENDPOINT_BYTES];
        c->links->ways->peer_endpoint(c->links, node, to, peers);
        fprintf(file, "%s\n  {\"node\": %d, \"peers\": \"%s\", \"clients\": \"%s\"}",
                to > 1 ? "," : "", to, peers, c->nodes[to].endpoint);
    }
    fputs("]}\n", file);
    if (fclose(file) != 0) test_fail(NULL, "cannot write %s", c->files[node]);
}

void cluster_init(struct cluster *c, const char *program, const char *directory, int shards,
                  struct links *links) {
    *c = (struct cluster){.directory = directory, .shards = shards, .links = links,
                          .nodes_count = links->nodes};
    for (int n = 1; n <= c->nodes_count; n++) {
        struct node_process *node = &c->nodes[n];
        char endpoint[LINKS_ENDPOINT_BYTES];
        *node = (struct node_process){.program = program, .out = -1, .shards = shards,
                                      .network = links->ways->network(links, n)};
        snprintf(node->data, sizeof node->data, "%s/node-%d", directory, n);
        snprintf(node->log, sizeof node->log, "%s/node-%d.log", directory, n);
        snprintf(c->files[n], sizeof c->files[n], "%s/cluster-%d.json", directory, n);
        snprintf(c->numbers[n], sizeof c->numbers[n], "%d", n);
        links->ways->client_endpoint(links, n, endpoint);
        memcpy(node->endpoint, endpoint, sizeof node->endpoint);
        size_t used = strlen(c->endpoints);
        snprintf(c->endpoints + used, sizeof c->endpoints - used, "%s%s", n > 1 ? "," : "",
                 endpoint);
        const char *const options[] = {"--cluster", c->files[n], "--node-id", c->numbers[n],
                                       "--no-pin"};
        memcpy(node->arguments, options, sizeof options);
    }
    for (int n = 1; n <= c->nodes_count; n++) cluster_write_file(c, n);
}

void cluster_add_option(struct cluster *c, const char *option, const char *value) {
    for (int n = 1; n <= c->nodes_count; n++) {
        const char **argument = c->nodes[n].arguments;
        while (*argument) argument++;
        argument[0] = option;
        argument[1] = value;
    }
}

void cluster_start(struct cluster *c) {
    int status;
    for (int n = 1; n <= c->nodes_count; n++) node_spawn(&c->nodes[n]);
    for (int n = 1; n <= c->nodes_count; n++) {
        if (!node_wait_ready(&c->nodes[n], &status)) {
            cluster_fail(c, "node %d did not start (status 0x%x)", n, (unsigned)status);
        }
    }
    for (int s = 0; s < c->shards; s++) cluster_await_leader(c, s, 0);
}

void cluster_stop(struct cluster *c) {
    for (int n = 1; n <= c->nodes_count; n++) node_signal(&c->nodes[n], SIGTERM);
    for (int n = 1; n <= c->nodes_count; n++) {
        if (!c->nodes[n].pid) continue;
        int status = node_wait_end(&c->nodes[n]);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            cluster_fail(c, "after SIGTERM node %d ended with status 0x%x", n, (unsigned)status);
        }
    }
}

void cluster_kill(struct cluster *c) {
    for (int n = 1; n <= c->nodes_count; n++) node_signal(&c->nodes[n], SIGKILL);
    for (int n = 1; n <= c->nodes_count; n++) {
        if (c->nodes[n].pid) node_wait_end(&c->nodes[n]);
        c->frozen[n] = false;
    }
}

static bool object_is_true(const msgpack_object *o) {
    return o && o->type == MSGPACK_OBJECT_BOOLEAN && o->via.boolean;
}

static void cluster_read_replicas(const msgpack_object *status, struct cluster_replica *replicas) {
    const msgpack_object *shards = raw_member(status, "shards");
    for (uint32_t i = 0; shards && i < shards->via.array.size; i++) {
        const msgpack_object *o = &shards->via.array.ptr[i];
        int64_t shard = raw_number(o, "shard");
        if (shard >= CLUSTER_SHARDS_MAX) continue; /* the meta group */
        replicas[shard] = (struct cluster_replica){
            .answered = true, .disk_full = object_is_true(raw_member(o, "disk_full")),
            .leads = raw_text_is(raw_member(o, "role"), "leader") &&
                     object_is_true(raw_member(o, "ready")),
            .leader_node = (int)raw_number(o, "leader_node"),
            .term = (uint64_t)raw_number(o, "term"),
            .applied_index = (uint64_t)raw_number(o, "applied_index"),
            .commit_index = (uint64_t)raw_number(o, "commit_index")};
    }
}

void cluster_ask(struct cluster *c, int node, struct cluster_replica *replicas) {
    struct raw_client client;
    struct raw_request request;
    struct raw_reply reply;
    memset(replicas, 0, CLUSTER_SHARDS_MAX * sizeof *replicas);
    if (!c->nodes[node].pid || c->frozen[node]) return;
    raw_open(&client, c->nodes[node].endpoint);
    raw_begin(&request, 0, 1);
    raw_node(&request, RAW_STATUS);
    if (raw_ask_for(&client, &request, STATUS_MS_MAX, &reply) == 0) {
        if (reply.count == 1) {
            struct raw_result result = raw_result(&reply, 0);
            if (result.value) cluster_read_replicas(result.value, replicas);
        }
        raw_reply_free(&reply);
    }
    raw_close(&client);
}

/* The node that leads a shard and serves; 0 = none now. `but` is not looked at (0 = all are). */
static int cluster_leader(struct cluster *c, int shard, int but) {
    int leader = 0;
    uint64_t term = 0;
    for (int n = 1; n <= c->nodes_count; n++) {
        struct cluster_replica replicas[CLUSTER_SHARDS_MAX];
        if (n == but) continue;
        cluster_ask(c, n, replicas);
        if (replicas[shard].leads && replicas[shard].term >= term) {
            leader = n;
            term = replicas[shard].term;
        }
    }
    return leader;
}

int cluster_await_leader(struct cluster *c, int shard, int but) {
    int64_t until = monotonic_ms() + CLUSTER_WAIT_SECONDS_MAX * 1000;
    int leader;
    while ((leader = cluster_leader(c, shard, but)) == 0) {
        if (monotonic_ms() > until) cluster_fail(c, "shard %d has no leader", shard);
        sleep_ms(LOOK_AGAIN_MS);
    }
    return leader;
}

void cluster_await_caught_up(struct cluster *c, int node) {
    uint64_t wanted[CLUSTER_SHARDS_MAX] = {0};
    struct cluster_replica replicas[CLUSTER_SHARDS_MAX];
    int64_t until = monotonic_ms() + CLUSTER_WAIT_SECONDS_MAX * 1000;
    for (int n = 1; n <= c->nodes_count; n++) {
        if (n == node) continue;
        cluster_ask(c, n, replicas);
        for (int s = 0; s < c->shards; s++) {
            if (replicas[s].commit_index > wanted[s]) wanted[s] = replicas[s].commit_index;
        }
    }
    for (int s = 0; s < c->shards; s++) {
        for (;;) {
            cluster_ask(c, node, replicas);
            if (replicas[s].answered && replicas[s].applied_index >= wanted[s]) break;
            if (monotonic_ms() > until) {
                cluster_fail(c, "node %d is at entry %llu of shard %d, not at %llu", node,
                             (unsigned long long)replicas[s].applied_index, s,
                             (unsigned long long)wanted[s]);
            }
            sleep_ms(LOOK_AGAIN_MS);
        }
    }
}

void cluster_freeze(struct cluster *c, int node) {
    node_signal(&c->nodes[node], SIGSTOP);
    c->frozen[node] = true;
}

void cluster_thaw(struct cluster *c, int node) {
    node_signal(&c->nodes[node], SIGCONT);
    c->frozen[node] = false;
}
