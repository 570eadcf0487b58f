#include "engine/wire/feed_decode.h"

#include <stdio.h>
#include <string.h>

#include "engine/limits.h"
#include "engine/wire/msgpack_reader.h"

/* The items of one array, by position; the first fault stays. */
struct items {
    struct msgpack_reader *r;
    uint32_t left;
    bool bad;
};

static bool present(struct items *i) {
    if (i->bad || i->left == 0) return false;
    i->left--;
    return !msgpack_take_nil(i->r);
}

static uint64_t take_uint(struct items *i, uint64_t max, uint64_t otherwise, bool needed) {
    uint64_t value = otherwise;
    if (present(i)) {
        if (msgpack_read_uint_upto(i->r, max, &value) != MSGPACK_OK) i->bad = true;
    } else if (needed) {
        i->bad = true;
    }
    return value;
}

static uint64_t need_uint(struct items *i, uint64_t max) { return take_uint(i, max, 0, true); }

static int64_t need_int(struct items *i) {
    int64_t value = 0;
    if (!present(i) || msgpack_read_int(i->r, &value) != MSGPACK_OK) i->bad = true;
    return value;
}

static struct bytes need_bin(struct items *i) {
    const void *data = NULL;
    uint32_t size = 0;
    if (!present(i) || msgpack_read_bin(i->r, &data, &size) != MSGPACK_OK) i->bad = true;
    return bytes_of(data, size);
}

static struct bytes need_str(struct items *i) {
    const void *data = NULL;
    uint32_t size = 0;
    if (!present(i) || msgpack_read_str(i->r, &data, &size) != MSGPACK_OK) i->bad = true;
    return bytes_of(data, size);
}

/* One whole value, not looked at. */
static struct bytes need_any(struct items *i) {
    const uint8_t *at = i->r->at;
    if (i->bad || i->left == 0 || msgpack_skip(i->r) != MSGPACK_OK) {
        i->bad = true;
        return (struct bytes){NULL, 0};
    }
    i->left--;
    return bytes_of(at, (size_t)(i->r->at - at));
}

static void take_kinds(struct items *i, struct feed_request *q) {
    uint32_t count = 0;
    if (!present(i)) return;
    if (msgpack_read_array(i->r, &count) != MSGPACK_OK || count > 256) {
        i->bad = true;
        return;
    }
    q->filtered = true;
    for (uint32_t n = 0; n < count && !i->bad; n++) {
        uint64_t kind = 0;
        if (msgpack_read_uint_upto(i->r, 255, &kind) != MSGPACK_OK) i->bad = true;
        q->kinds[kind / 64] |= 1ull << kind % 64;
    }
}

static void take_pull(struct items *i, struct feed_request *q) {
    q->shard = (uint32_t)need_uint(i, UINT16_MAX);
    q->from = need_uint(i, UINT64_MAX - 1);
    q->wait_ms = (uint32_t)take_uint(i, UINT32_MAX, 0, false);
    q->bytes_max = (uint32_t)take_uint(i, UINT32_MAX, FEED_BATCH_BYTES_MAX, false);
    q->form = (uint8_t)take_uint(i, FEED_MAPS, FEED_RECORDS, false);
    take_kinds(i, q);
    if (q->wait_ms > FEED_WAIT_MS_MAX) q->wait_ms = FEED_WAIT_MS_MAX;
    if (q->bytes_max > FEED_BATCH_BYTES_MAX) q->bytes_max = FEED_BATCH_BYTES_MAX;
    if (q->from == 0 || (q->filtered && q->form == FEED_RECORDS)) i->bad = true;
}

enum result_code feed_request_decode(const void *message, size_t size,
                                     struct feed_request *request) {
    struct msgpack_reader r;
    struct feed_request q = {.shard = UINT32_MAX};
    struct items i = {.r = &r};
    msgpack_reader_init(&r, message, size);
    if (msgpack_read_array(&r, &i.left) != MSGPACK_OK) return RESULT_MALFORMED_MESSAGE;
    uint64_t version = need_uint(&i, UINT64_MAX);
    if (i.bad) return RESULT_MALFORMED_MESSAGE;
    if (version != FEED_VERSION) return RESULT_UNSUPPORTED_VERSION;
    q.kind = (uint16_t)need_uint(&i, UINT16_MAX);
    switch (q.kind) {
    case FEED_HELLO: break;
    case FEED_PULL: take_pull(&i, &q); break;
    case FEED_LOCATE:
        q.shard = (uint32_t)need_uint(&i, UINT16_MAX);
        q.time_ms = need_int(&i);
        break;
    case FEED_SNAPSHOT_BEGIN:
        q.shard = (uint32_t)take_uint(&i, UINT16_MAX, UINT32_MAX, false);
        break;
    case FEED_SNAPSHOT_CHUNK:
        q.snapshot = need_uint(&i, UINT64_MAX);
        q.offset = need_uint(&i, INT64_MAX);
        q.bytes_max = (uint32_t)take_uint(&i, UINT32_MAX, FEED_BATCH_BYTES_MAX, false);
        if (q.bytes_max > FEED_BATCH_BYTES_MAX) q.bytes_max = FEED_BATCH_BYTES_MAX;
        break;
    case FEED_SNAPSHOT_END: q.snapshot = need_uint(&i, UINT64_MAX); break;
    default: return i.bad ? RESULT_MALFORMED_MESSAGE : RESULT_UNKNOWN_COMMAND;
    }
    if (i.bad || i.left != 0 || msgpack_reader_left(&r) != 0) return RESULT_MALFORMED_MESSAGE;
    *request = q;
    return RESULT_OK;
}

const char *feed_request_fault(const void *message, size_t size, enum result_code code) {
    struct msgpack_reader r;
    uint32_t count = 0;
    uint64_t version = 0, kind = 0;
    msgpack_reader_init(&r, message, size);
    bool read = msgpack_read_array(&r, &count) == MSGPACK_OK && count >= 2 &&
                msgpack_read_uint(&r, &version) == MSGPACK_OK &&
                msgpack_read_uint(&r, &kind) == MSGPACK_OK;
    if (code == RESULT_UNSUPPORTED_VERSION) return result_code_text(code);
    if (!read) return "a request to the feed is an array [1, kind, ...] in msgpack";
    switch (kind) {
    case FEED_HELLO: return "a HELLO is [1, 300], and nothing more";
    case FEED_PULL:
        return "a PULL is [1, 301, shard, from, wait_ms?, bytes_max?, form?, kinds?]: from is 1 or "
               "more, form 0 to 3, and kinds are not for form 0";
    case FEED_LOCATE: return "a LOCATE is [1, 302, shard, time_ms]";
    case FEED_SNAPSHOT_BEGIN:
        return "a SNAPSHOT_BEGIN is [1, 303, shard], at a replica [1, 303, nil]";
    case FEED_SNAPSHOT_CHUNK: return "a SNAPSHOT_CHUNK is [1, 304, id, offset, bytes_max?]";
    case FEED_SNAPSHOT_END: return "a SNAPSHOT_END is [1, 305, id]";
    default:
        return "no such kind of request: a feed answers 300 (HELLO) to 305 (SNAPSHOT_END)";
    }
}

bool feed_request_is_one(const void *message, size_t size) {
    struct msgpack_reader r;
    uint32_t count = 0;
    uint64_t version, kind;
    msgpack_reader_init(&r, message, size);
    return msgpack_read_array(&r, &count) == MSGPACK_OK && count >= 2 &&
           msgpack_read_uint(&r, &version) == MSGPACK_OK &&
           msgpack_read_uint(&r, &kind) == MSGPACK_OK && kind >= FEED_HELLO &&
           kind <= FEED_SNAPSHOT_END;
}

/* It came later than what stands before it: it may be missing. */
static void take_cluster(struct items *i, struct feed_reply *p) {
    if (!i->bad && i->left > 0) p->cluster = need_str(i);
    if (p->cluster.size >= CLUSTER_ID_BYTES) i->bad = true;
}

static void take_answer(struct items *i, enum feed_kind kind, enum feed_form form,
                        struct feed_reply *p) {
    switch (kind) {
    case FEED_HELLO: p->rest = need_any(i); break;
    case FEED_PULL:
        p->shard = (uint32_t)need_uint(i, UINT16_MAX);
        p->from = need_uint(i, UINT64_MAX);
        p->next = need_uint(i, UINT64_MAX);
        p->commit = need_uint(i, UINT64_MAX - 1);
        p->now_ms = need_int(i);
        if (form == FEED_RECORDS) p->records = need_bin(i);
        else p->rest = need_any(i);
        if (!i->bad && i->left > 0) p->times = need_any(i);
        take_cluster(i, p);
        if (p->next < p->from || p->next > p->commit + 1) i->bad = i->bad || p->next != p->from;
        break;
    case FEED_LOCATE:
        p->shard = (uint32_t)need_uint(i, UINT16_MAX);
        p->next = need_uint(i, UINT64_MAX);
        p->commit = need_uint(i, UINT64_MAX - 1);
        take_cluster(i, p);
        break;
    case FEED_SNAPSHOT_BEGIN:
        p->snapshot = need_uint(i, UINT64_MAX);
        p->bytes = need_uint(i, INT64_MAX);
        p->rest = need_any(i);
        take_cluster(i, p);
        break;
    case FEED_SNAPSHOT_CHUNK:
        p->offset = need_uint(i, INT64_MAX);
        p->records = need_bin(i);
        p->checksum = need_uint(i, UINT64_MAX);
        break;
    case FEED_SNAPSHOT_END: break;
    case FEED_REPUBLISHED: p->from = need_uint(i, UINT64_MAX); break;
    }
}

bool feed_reply_decode(const void *message, size_t size, enum feed_kind kind, enum feed_form form,
                       struct feed_reply *reply) {
    struct msgpack_reader r;
    struct feed_reply p = {.code = 0};
    struct items i = {.r = &r};
    msgpack_reader_init(&r, message, size);
    if (msgpack_read_array(&r, &i.left) != MSGPACK_OK) return false;
    if (need_uint(&i, UINT64_MAX) != FEED_VERSION || i.bad) return false;
    p.code = (uint16_t)need_uint(&i, UINT16_MAX);
    if (p.code == RESULT_OK) {
        take_answer(&i, kind, form, &p);
    } else {
        p.sentence = need_str(&i);
        p.detail = take_uint(&i, UINT64_MAX, 0, false);
        if (kind != FEED_REPUBLISHED) take_cluster(&i, &p);
    }
    if (i.bad) return false;
    *reply = p;
    return true;
}

bool feed_reply_is_of(const struct feed_reply *p, const char *cluster_id) {
    return p->cluster.size == 0 || cluster_id[0] == 0 ||
           bytes_equal(p->cluster, bytes_of_text(cluster_id));
}

bool feed_times_next(struct feed_times *t, uint64_t *last, int64_t *ms) {
    struct msgpack_reader r;
    uint32_t items = 0;
    uint64_t age_ms = 0;
    if (t->rest.size == 0) return false;
    msgpack_reader_init(&r, t->rest.data, t->rest.size);
    if (!t->begun) {
        if (msgpack_read_array(&r, &items) != MSGPACK_OK) return false;
        t->begun = true;
        t->pairs_left = items / 2;
    }
    if (t->pairs_left == 0) return false;
    t->pairs_left--;
    *ms = 0;
    if (msgpack_read_uint(&r, last) != MSGPACK_OK) return false;
    if (!msgpack_take_nil(&r)) {
        if (msgpack_read_uint_upto(&r, INT32_MAX, &age_ms) != MSGPACK_OK) return false;
        if (t->now_ms > (int64_t)age_ms) *ms = t->now_ms - (int64_t)age_ms;
    }
    t->rest = bytes_of(r.at, (size_t)((const uint8_t *)t->rest.data + t->rest.size - r.at));
    return true;
}

static bool take_shards(struct msgpack_reader *r, struct feed_hello *h) {
    uint32_t count = 0;
    if (msgpack_read_array(r, &count) != MSGPACK_OK) return false;
    for (uint32_t n = 0; n < count; n++) {
        struct feed_hello_shard s = {0};
        struct items i = {.r = r};
        if (msgpack_read_array(r, &i.left) != MSGPACK_OK) return false;
        s.shard = (uint32_t)need_uint(&i, UINT16_MAX);
        s.first = need_uint(&i, UINT64_MAX - 1);
        s.commit = need_uint(&i, UINT64_MAX - 1);
        while (!i.bad && i.left > 0) need_any(&i);
        if (i.bad) return false;
        if (h->shards_held < h->shards_max) h->shards[h->shards_held++] = s;
    }
    return true;
}

bool feed_hello_decode(struct bytes map, struct feed_hello *h) {
    struct msgpack_reader r;
    uint32_t pairs = 0;
    bool has_shards = false;
    msgpack_reader_init(&r, map.data, map.size);
    h->cluster_id[0] = 0;
    h->node_id = h->shards_count = h->shards_held = 0;
    h->notify = h->active = (struct bytes){NULL, 0};
    if (msgpack_read_map(&r, &pairs) != MSGPACK_OK) return false;
    for (uint32_t n = 0; n < pairs; n++) {
        const void *name = NULL;
        uint32_t size = 0;
        if (msgpack_read_str(&r, &name, &size) != MSGPACK_OK) return false;
        struct bytes key = bytes_of(name, size);
        struct items i = {.r = &r, .left = 1};
        if (bytes_equal(key, bytes_of_text("cluster_id"))) {
            struct bytes id = need_str(&i);
            if (i.bad || id.size >= sizeof h->cluster_id) return false;
            if (id.size != 0) memcpy(h->cluster_id, id.data, id.size);
            h->cluster_id[id.size] = 0;
        } else if (bytes_equal(key, bytes_of_text("node_id"))) {
            h->node_id = need_uint(&i, UINT64_MAX);
        } else if (bytes_equal(key, bytes_of_text("shards_count"))) {
            h->shards_count = (uint32_t)need_uint(&i, UINT16_MAX);
        } else if (bytes_equal(key, bytes_of_text("notify"))) {
            h->notify = need_str(&i);
        } else if (bytes_equal(key, bytes_of_text("active"))) {
            h->active = need_bin(&i);
            if (h->active.size != SHARDS_MAX / 8) h->active.size = 0;
        } else if (bytes_equal(key, bytes_of_text("shards"))) {
            if (!take_shards(&r, h)) return false;
            has_shards = true;
        } else {
            need_any(&i);
        }
        if (i.bad) return false;
    }
    return has_shards;
}

/* -- where a feed is ------------------------------------------------------------------------ */

void feed_address(const char *asked, struct bytes told, char *out) {
    char text[ENDPOINT_BYTES_MAX];
    snprintf(text, sizeof text, "%.*s", (int)told.size, (const char *)told.data);
    char *host = strstr(text, "://"), *port = strrchr(text, ':');
    const char *asked_host = strstr(asked, "://"), *asked_port = strrchr(asked, ':');
    bool any = host && (strncmp(host + 3, "0.0.0.0", 7) == 0 || host[3] == '*');
    if (!any || !port || !asked_host || !asked_port || asked_port <= asked_host + 2) {
        snprintf(out, ENDPOINT_BYTES_MAX, "%s", text);
        return;
    }
    snprintf(out, ENDPOINT_BYTES_MAX, "%.*s://%.*s%s", (int)(host - text), text,
             (int)(asked_port - asked_host - 3), asked_host + 3, port);
}

/* [version, 0, [[0, 0, 0, 0, 0, {..., "feed": "tcp://..."}]]] */
static bool map_feed(const void *data, size_t size, struct bytes *feed) {
    struct msgpack_reader r;
    uint32_t count = 0;
    uint64_t number = 0;
    msgpack_reader_init(&r, data, size);
    if (msgpack_read_array(&r, &count) != MSGPACK_OK || count < 3) return false;
    if (msgpack_skip(&r) != MSGPACK_OK) return false;
    if (msgpack_read_uint(&r, &number) != MSGPACK_OK) return false;
    if (number != 0 || msgpack_read_array(&r, &count) != MSGPACK_OK || count != 1) return false;
    if (msgpack_read_array(&r, &count) != MSGPACK_OK || count < 6) return false;
    for (int i = 0; i < 5; i++) {
        if (msgpack_skip(&r) != MSGPACK_OK) return false;
    }
    if (msgpack_read_map(&r, &count) != MSGPACK_OK) return false;
    for (uint32_t i = 0; i < count; i++) {
        const void *key, *value;
        uint32_t key_size, value_size;
        if (msgpack_read_str(&r, &key, &key_size) != MSGPACK_OK) return false;
        if (!bytes_equal(bytes_of(key, key_size), bytes_of_text("feed"))) {
            if (msgpack_skip(&r) != MSGPACK_OK) return false;
            continue;
        }
        if (msgpack_read_str(&r, &value, &value_size) != MSGPACK_OK) return false;
        *feed = bytes_of(value, value_size);
        return value_size != 0 && value_size < ENDPOINT_BYTES_MAX;
    }
    return false;
}

bool feed_endpoint_decode(const void *message, size_t size, const char *asked, char *feed) {
    struct bytes told;
    if (!map_feed(message, size, &told)) return false;
    feed_address(asked, told, feed);
    return true;
}
