#include "engine/peers/hello.h"

#include "engine/base/program.h"
#include "engine/wire/msgpack_reader.h"

enum { HELLO_FIELDS = 7, HELLO_FIELDS_WITH_LEVELS = 9, HELLO_FIELDS_WITH_TIME = 10,
       HELLO_LEAD_FIELDS = 4, HELLO_HEARD_FIELDS = 3 };

void hello_write(struct msgpack_writer *w, const struct hello *h) {
    msgpack_write_array(w, HELLO_FIELDS_WITH_TIME);
    msgpack_write_uint(w, h->document);
    msgpack_write_array(w, h->leads_count);
    for (uint32_t i = 0; i < h->leads_count; i++) {
        msgpack_write_array(w, HELLO_LEAD_FIELDS);
        msgpack_write_uint(w, h->leads[i].shard);
        msgpack_write_uint(w, h->leads[i].term);
        msgpack_write_uint(w, h->leads[i].leader);
        msgpack_write_bool(w, h->leads[i].ready);
    }
    msgpack_write_text(w, h->endpoint);
    msgpack_write_text(w, h->version);
    msgpack_write_uint(w, h->instance);
    msgpack_write_int(w, h->started_ms);
    msgpack_write_array(w, h->heard_count);
    for (uint32_t i = 0; i < h->heard_count; i++) {
        msgpack_write_array(w, HELLO_HEARD_FIELDS);
        msgpack_write_uint(w, h->heard[i].node);
        msgpack_write_uint(w, h->heard[i].instance);
        msgpack_write_uint(w, h->heard[i].age_ms);
    }
    msgpack_write_uint(w, h->level_min);
    msgpack_write_uint(w, h->level_max);
    msgpack_write_int(w, h->now_ms);
}

/* An array of at least `fields`; what is behind them is left in *more. */
static bool hello_open(struct msgpack_reader *r, uint32_t fields, uint32_t *more) {
    uint32_t count;
    if (msgpack_read_array(r, &count) != MSGPACK_OK || count < fields) return false;
    *more = count - fields;
    return true;
}

static bool hello_close(struct msgpack_reader *r, uint32_t more) {
    while (more-- > 0) {
        if (msgpack_skip(r) != MSGPACK_OK) return false;
    }
    return true;
}

static bool hello_read_text(struct msgpack_reader *r, char *out, size_t out_bytes) {
    const void *text;
    uint32_t size;
    if (msgpack_read_str(r, &text, &size) != MSGPACK_OK || size >= out_bytes) return false;
    if (memchr(text, 0, size)) return false;
    memcpy(out, text, size);
    out[size] = 0;
    return true;
}

static bool hello_read_leads(struct msgpack_reader *r, struct hello *h) {
    uint32_t count, more;
    if (msgpack_read_array(r, &count) != MSGPACK_OK || count > LOCAL_SHARDS_SLOTS) return false;
    for (uint32_t i = 0; i < count; i++) {
        struct hello_lead *lead = &h->leads[i];
        uint64_t shard;
        if (!hello_open(r, HELLO_LEAD_FIELDS, &more) ||
            msgpack_read_uint_upto(r, UINT32_MAX, &shard) != MSGPACK_OK ||
            msgpack_read_uint(r, &lead->term) != MSGPACK_OK ||
            msgpack_read_uint(r, &lead->leader) != MSGPACK_OK ||
            msgpack_read_bool(r, &lead->ready) != MSGPACK_OK || !hello_close(r, more))
            return false;
        lead->shard = (uint32_t)shard;
    }
    h->leads_count = count;
    return true;
}

static bool hello_read_heard(struct msgpack_reader *r, struct hello *h) {
    uint32_t count, more;
    if (msgpack_read_array(r, &count) != MSGPACK_OK || count > NODES_MAX) return false;
    for (uint32_t i = 0; i < count; i++) {
        struct hello_heard *heard = &h->heard[i];
        uint64_t node;
        if (!hello_open(r, HELLO_HEARD_FIELDS, &more) ||
            msgpack_read_uint_upto(r, UINT32_MAX, &node) != MSGPACK_OK ||
            msgpack_read_uint(r, &heard->instance) != MSGPACK_OK ||
            msgpack_read_uint(r, &heard->age_ms) != MSGPACK_OK || !hello_close(r, more))
            return false;
        heard->node = (uint32_t)node;
    }
    h->heard_count = count;
    return true;
}

static bool hello_read_levels(struct msgpack_reader *r, struct hello *h, uint32_t *more) {
    uint64_t min = LEVEL_FIRST, max = LEVEL_FIRST;
    if (*more >= HELLO_FIELDS_WITH_LEVELS - HELLO_FIELDS) {
        *more -= HELLO_FIELDS_WITH_LEVELS - HELLO_FIELDS;
        if (msgpack_read_uint_upto(r, UINT8_MAX, &min) != MSGPACK_OK ||
            msgpack_read_uint_upto(r, UINT8_MAX, &max) != MSGPACK_OK)
            return false;
    }
    h->level_min = (uint8_t)min;
    h->level_max = (uint8_t)max;
    return true;
}

/* Behind the levels. */
static bool hello_read_time(struct msgpack_reader *r, struct hello *h, uint32_t *more) {
    h->now_ms = 0;
    if (*more == 0) return true;
    *more -= 1;
    return msgpack_read_int(r, &h->now_ms) == MSGPACK_OK;
}

bool hello_read(struct bytes body, struct hello *h) {
    struct msgpack_reader r;
    uint32_t more;
    msgpack_reader_init(&r, body.data, body.size);
    return hello_open(&r, HELLO_FIELDS, &more) &&
           msgpack_read_uint(&r, &h->document) == MSGPACK_OK && hello_read_leads(&r, h) &&
           hello_read_text(&r, h->endpoint, sizeof h->endpoint) &&
           hello_read_text(&r, h->version, sizeof h->version) &&
           msgpack_read_uint(&r, &h->instance) == MSGPACK_OK &&
           msgpack_read_int(&r, &h->started_ms) == MSGPACK_OK && hello_read_heard(&r, h) &&
           hello_read_levels(&r, h, &more) && hello_read_time(&r, h, &more) &&
           hello_close(&r, more) && msgpack_reader_left(&r) == 0;
}
