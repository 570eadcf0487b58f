/* Readers that ask one node only; see cluster_load.h. */
#include <nng/nng.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/hex.h"
#include "tests/process/cluster_load.h"
#include "tests/process/raw_client.h"

/* As long as a frozen node may stay frozen: a question that waited in it counts. */
enum { READ_MS_MAX = 4000, READ_PAUSE_MS = 2 };

static void endpoint_of(const struct cluster *cluster, int node, int shard, char *text,
                        size_t bytes) {
    const char *general = cluster->nodes[node].endpoint, *colon = strrchr(general, ':');
    snprintf(text, bytes, "%.*s:%d", (int)(colon - general), general,
             atoi(colon + 1) + 1 + shard);
}

static void read_once(struct load_caller *c, struct raw_client *client, struct load_order *o) {
    struct raw_request request;
    struct raw_reply reply;
    struct raw_id key, cluster;
    struct history_call *call = load_begin(c, o);
    if (!call) return;
    memcpy(key.bytes, o->key.bytes, sizeof key.bytes);
    if (!hex_parse(CLUSTER_ID, cluster.bytes, sizeof cluster.bytes)) abort();
    call->is_read = true;
    call->fate = HISTORY_REFUSED;
    raw_begin(&request, 0, 1);
    raw_bare(&request, RAW_GET, &key, NULL);
    raw_name_cluster(&request, &cluster);
    if (raw_ask_for(client, &request, READ_MS_MAX, &reply) == 0) {
        struct raw_result result = {.code = 1};
        if (reply.count == 1) result = raw_result(&reply, 0);
        raw_reply_free(&reply);
        call->end_ns = load_now_ns();
        call->code = (uint16_t)result.code;
        if (result.code == JUMUN_OK || result.code == JUMUN_ORDER_NOT_FOUND) {
            call->fate = HISTORY_DONE;
            call->version = result.code == JUMUN_OK ? (uint32_t)result.version : 0;
            atomic_fetch_add(&c->load->direct_reads, 1);
            return;
        }
    }
    c->calls_count--; /* no answer by the order: nothing is learned from it */
    sleep_ms(20);
}

void *load_read_directly(void *caller) {
    struct load_caller *c = caller;
    struct load *load = c->load;
    struct raw_client clients[CLUSTER_SHARDS_MAX + 1];
    int shards = load->cluster->shards;
    char endpoint[LINKS_ENDPOINT_BYTES];
    for (int s = 0; s < shards; s++) {
        endpoint_of(load->cluster, c->node, s, endpoint, sizeof endpoint);
        raw_open(&clients[s], endpoint);
    }
    raw_open(&clients[shards], load->cluster->nodes[c->node].endpoint);
    while (!atomic_load(&load->stop) && c->calls_count < LOAD_CALLS_MAX) {
        struct load_order *o = load_pick(c);
        if (!o) break;
        /* Most go to an endpoint that would not hand them on; the wrong shard says so. */
        read_once(c, &clients[prng_below(&c->prng, (uint64_t)shards + 1)], o);
        sleep_ms(READ_PAUSE_MS);
    }
    for (int s = 0; s <= shards; s++) raw_close(&clients[s]);
    return NULL;
}
