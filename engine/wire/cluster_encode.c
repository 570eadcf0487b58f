#include "engine/wire/cluster_encode.h"

#include "engine/wire/msgpack_pairs.h"
#include "engine/wire/msgpack_reader.h"

/* -- writing ----------------------------------------------------------------------------------- */

void cluster_encode_member(struct msgpack_writer *w, const struct cluster_member *m) {
    msgpack_write_array(w, 4);
    msgpack_write_uint(w, m->node);
    msgpack_write_text(w, cluster_member_state_name(m->state));
    msgpack_write_text(w, m->peer);
    msgpack_write_text(w, m->client);
}

void cluster_encode_epoch(struct msgpack_writer *w, const struct cluster_epoch *e) {
    msgpack_write_array(w, 2);
    msgpack_write_int(w, e->from_ms);
    msgpack_write_uint(w, e->shards_count);
}

void cluster_encode_shard(struct msgpack_writer *w, const struct cluster_shard *s) {
    msgpack_write_array(w, 6);
    msgpack_write_uint(w, s->shard);
    msgpack_write_text(w, cluster_shard_state_name(s->state));
    msgpack_write_uint(w, s->preferred);
    msgpack_write_uint(w, s->incarnation_last);
    msgpack_write_array(w, s->servers_count);
    for (uint32_t i = 0; i < s->servers_count; i++) msgpack_write_uint(w, s->servers[i]);
    msgpack_write_array(w, s->first_count);
    for (uint32_t i = 0; i < s->first_count; i++) msgpack_write_uint(w, s->first[i]);
}

void cluster_encode(struct msgpack_writer *w, uint64_t version, const struct cluster_document *d) {
    msgpack_write_map(w, 8u + (d->level ? 1 : 0) + (d->generation ? 1 : 0));
    msgpack_pair_uint(w, "version", version);
    msgpack_pair_id(w, "cluster_id", &d->cluster_id);
    msgpack_pair_uint(w, "node_last", d->node_last);
    msgpack_pair_uint(w, "replicas", d->replicas);
    msgpack_pair_uint(w, "stores_shards", d->stores_shards);
    if (d->level) msgpack_pair_uint(w, "level", d->level);
    if (d->generation) msgpack_pair_uint(w, "generation", d->generation);
    msgpack_write_text(w, "nodes");
    msgpack_write_array(w, d->nodes_count);
    for (uint32_t i = 0; i < d->nodes_count; i++) cluster_encode_member(w, &d->nodes[i]);
    msgpack_write_text(w, "epochs");
    msgpack_write_array(w, d->epochs_count);
    for (uint32_t i = 0; i < d->epochs_count; i++) cluster_encode_epoch(w, &d->epochs[i]);
    msgpack_write_text(w, "shards");
    msgpack_write_array(w, d->shards_count);
    for (uint32_t i = 0; i < d->shards_count; i++) cluster_encode_shard(w, &d->shards[i]);
}

/* -- reading: the first fault stays, and nothing is taken behind it ---------------------------- */

struct cluster_reader {
    struct msgpack_reader msgpack;
    bool bad;
};

static uint64_t take_uint(struct cluster_reader *r, uint64_t max) {
    uint64_t value = 0;
    if (!r->bad) r->bad = msgpack_read_uint_upto(&r->msgpack, max, &value) != MSGPACK_OK;
    return value;
}

static uint32_t take_array(struct cluster_reader *r, uint32_t max) {
    uint32_t count = 0;
    if (!r->bad) r->bad = msgpack_read_array(&r->msgpack, &count) != MSGPACK_OK || count > max;
    return r->bad ? 0 : count;
}

/* Opens an array of exactly `count`. */
static void take_tuple(struct cluster_reader *r, uint32_t count) {
    if (take_array(r, count) != count) r->bad = true;
}

static struct bytes take_text(struct cluster_reader *r, uint32_t max) {
    const void *data = NULL;
    uint32_t size = 0;
    if (!r->bad) r->bad = msgpack_read_str(&r->msgpack, &data, &size) != MSGPACK_OK || size > max;
    return r->bad ? (struct bytes){NULL, 0} : bytes_of(data, size);
}

/* The number of a state by its name; 0 = none has it. */
static uint8_t take_state(struct cluster_reader *r, const char *(*name)(uint8_t)) {
    struct bytes text = take_text(r, 16);
    for (uint8_t state = 1; state <= CLUSTER_MEMBER_REMOVED; state++)
        if (bytes_equal(text, bytes_of_text(name(state)))) return state;
    return 0;
}

static void take_address(struct cluster_reader *r, char out[ENDPOINT_BYTES_MAX]) {
    struct bytes text = take_text(r, ENDPOINT_BYTES_MAX - 1);
    if (text.size > 0) memcpy(out, text.data, text.size);
}

static void take_servers(struct cluster_reader *r, uint64_t *servers, uint8_t *count) {
    *count = (uint8_t)take_array(r, REPLICAS_MAX);
    for (uint32_t i = 0; i < *count; i++) servers[i] = take_uint(r, UINT64_MAX);
}

static void take_nodes(struct cluster_reader *r, struct cluster_document *d) {
    d->nodes_count = (uint16_t)take_array(r, NODES_MAX);
    for (uint32_t i = 0; i < d->nodes_count && !r->bad; i++) {
        struct cluster_member *m = &d->nodes[i];
        take_tuple(r, 4);
        m->node = (uint32_t)take_uint(r, UINT32_MAX);
        m->state = take_state(r, cluster_member_state_name);
        take_address(r, m->peer);
        take_address(r, m->client);
    }
}

static void take_epochs(struct cluster_reader *r, struct cluster_document *d) {
    d->epochs_count = (uint16_t)take_array(r, EPOCHS_MAX);
    for (uint32_t i = 0; i < d->epochs_count && !r->bad; i++) {
        take_tuple(r, 2);
        d->epochs[i].from_ms = (int64_t)take_uint(r, INT64_MAX);
        d->epochs[i].shards_count = (uint32_t)take_uint(r, UINT32_MAX);
    }
}

static void take_shards(struct cluster_reader *r, struct cluster_document *d) {
    d->shards_count = (uint16_t)take_array(r, SHARDS_MAX + 1);
    for (uint32_t i = 0; i < d->shards_count && !r->bad; i++) {
        struct cluster_shard *s = &d->shards[i];
        take_tuple(r, 6);
        s->shard = (uint32_t)take_uint(r, UINT32_MAX);
        s->state = take_state(r, cluster_shard_state_name);
        s->preferred = (uint32_t)take_uint(r, UINT32_MAX);
        s->incarnation_last = (uint32_t)take_uint(r, UINT32_MAX);
        take_servers(r, s->servers, &s->servers_count);
        take_servers(r, s->first, &s->first_count);
    }
}

static void take_cluster_id(struct cluster_reader *r, struct id128 *id) {
    const void *data = NULL;
    uint32_t size = 0;
    if (!r->bad) r->bad = msgpack_read_bin(&r->msgpack, &data, &size) != MSGPACK_OK || size != 16;
    if (!r->bad) memcpy(id, data, 16);
}

static void take_field(struct cluster_reader *r, struct bytes name, uint64_t *version,
                       struct cluster_document *d) {
#define named(text) bytes_equal(name, bytes_of_text(text))
    if (named("version")) *version = take_uint(r, UINT32_MAX);
    else if (named("cluster_id")) take_cluster_id(r, &d->cluster_id);
    else if (named("node_last")) d->node_last = (uint32_t)take_uint(r, UINT32_MAX);
    else if (named("replicas")) d->replicas = (uint8_t)take_uint(r, REPLICAS_MAX);
    else if (named("stores_shards")) d->stores_shards = (uint32_t)take_uint(r, SHARDS_MAX);
    else if (named("level")) d->level = (uint8_t)take_uint(r, UINT8_MAX);
    else if (named("generation")) d->generation = (uint8_t)take_uint(r, UINT8_MAX);
    else if (named("nodes")) take_nodes(r, d);
    else if (named("epochs")) take_epochs(r, d);
    else if (named("shards")) take_shards(r, d);
    else if (!r->bad) r->bad = msgpack_skip(&r->msgpack) != MSGPACK_OK;
#undef named
}

const char *cluster_decode(const void *data, size_t bytes, uint64_t *version,
                           struct cluster_document *d) {
    struct cluster_reader r = {.bad = false};
    uint32_t fields = 0;
    memset(d, 0, sizeof *d);
    *version = 0;
    msgpack_reader_init(&r.msgpack, data, bytes);
    r.bad = msgpack_read_map(&r.msgpack, &fields) != MSGPACK_OK;
    for (uint32_t i = 0; i < fields && !r.bad; i++) {
        struct bytes name = take_text(&r, UINT16_MAX);
        take_field(&r, name, version, d);
    }
    if (r.bad || msgpack_reader_left(&r.msgpack) != 0) return "it is no cluster document";
    if (*version == 0) return "the version";
    return cluster_document_fault(d);
}
