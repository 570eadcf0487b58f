#include "engine/replica/answer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "actors/result_codes.h"
#include "engine/base/check.h"
#include "engine/base/utf8.h"
#include "engine/replica/answer_internal.h"
#include "engine/wire/msgpack_pairs.h"
#include "engine/wire/order_encode.h"
#include "engine/wire/order_fields.h"

enum {
    ANSWER_REFUSAL_BYTES = 128,    /* of one refused result at most */
    ANSWER_TOKEN_BYTES = 24,       /* of one token */
    ANSWER_SENTENCE_BYTES = 96,
    ANSWER_RETRY_MS = 50,
    ANSWER_NOT_READY_MS = 200
};

static const char answer_not_ready[] =
    "this replica has reached no node yet and knows no shard: ask another one";

/* The order at hand lies here: a block on disk is not aligned. One per thread, which frees it at
 * its end. */
static pthread_key_t block_key;
static pthread_once_t block_once = PTHREAD_ONCE_INIT;

static void make_block_key(void) {
    int rc = pthread_key_create(&block_key, free);
    require(rc == 0);
}

static uint8_t *thread_block(void) {
    pthread_once(&block_once, make_block_key);
    uint8_t *block = pthread_getspecific(block_key);
    if (block) return block;
    block = malloc(ACTOR_BYTES_MAX);
    if (block) pthread_setspecific(block_key, block);
    return block;
}

const struct actor *answering_order(struct answering *a, const struct id128 *key,
                                    uint32_t *shard) {
    struct bytes block;
    if (!view_order_get(a->source->store, &a->read, key, &block, shard)) return NULL;
    if (block.size < sizeof(struct actor) || block.size > ACTOR_BYTES_MAX) return NULL;
    memcpy(a->block, block.data, block.size);
    return (const struct actor *)(const void *)a->block;
}

void answering_row(struct answering *a, const struct query *q, const struct actor *order) {
    if (!order) msgpack_write_nil(&a->w);
    else if (q->fields_count == 0) order_encode(&a->w, order);
    else order_fields_encode(&a->w, order, q->fields, q->fields_count);
}

void answering_head(struct answering *a, uint32_t version, uint32_t shard, uint64_t index,
                    bool more, uint32_t flags) {
    msgpack_write_array(&a->w, more ? 7 : 6);
    msgpack_write_uint(&a->w, RESULT_OK);
    msgpack_write_uint(&a->w, version);
    msgpack_write_uint(&a->w, shard);
    msgpack_write_uint(&a->w, index);
    msgpack_write_uint(&a->w, flags | (a->partial && version == 0 ? RESULT_FLAG_PARTIAL : 0));
}

void answering_refuse_as(struct answering *a, uint16_t code, uint32_t shard, uint64_t index,
                         uint32_t retry_after_ms, const char *sentence) {
    msgpack_write_array(&a->w, 7);
    msgpack_write_uint(&a->w, code);
    msgpack_write_uint(&a->w, 0);
    msgpack_write_uint(&a->w, shard);
    msgpack_write_uint(&a->w, index);
    msgpack_write_uint(&a->w, 0);
    msgpack_write_text(&a->w, sentence);
    msgpack_write_uint(&a->w, retry_after_ms);
}

void answering_refuse(struct answering *a, uint16_t code, uint32_t shard, uint64_t index,
                      uint32_t retry_after_ms) {
    answering_refuse_as(a, code, shard, index, retry_after_ms, result_code_text(code));
}

void answering_unready(struct answering *a, int rc) {
    if (rc == MDB_NOTFOUND) answering_refuse(a, RESULT_VIEW_NOT_READY, 0, 0, 1000);
    else if (rc == ENOMEM) answering_refuse(a, RESULT_OUT_OF_MEMORY, 0, 0, ANSWER_RETRY_MS);
    else answering_refuse(a, RESULT_STORAGE_FAILED, 0, 0, 0);
}

int answering_place(const struct answering *a, uint32_t shard) {
    for (uint32_t i = 0; i < a->positions_count; i++) {
        if (a->positions[i].shard == shard) return (int)i;
    }
    return -1;
}

/* -- one moment, and whether it is good enough ------------------------------------------------- */

static void take_positions(struct answering *a) {
    const void *rows = NULL;
    a->positions_count = view_positions(a->source->store, &a->read, &rows);
    if (a->positions_count > SHARDS_MAX) a->positions_count = SHARDS_MAX;
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->positions_count; i++) {
        memcpy(&a->positions[count], (const uint8_t *)rows + i * sizeof *a->positions,
               sizeof *a->positions);
        if (a->positions[count].shard < SHARDS_MAX) count++;
    }
    a->positions_count = count;
}

static void demand(struct answering *a, const struct query_token *t, struct answer *answer) {
    int place = answering_place(a, t->shard);
    if (place >= 0 && a->positions[place].index >= t->index) return;
    if (t->index == 0) return;
    answer->reached = false;
    a->partial = true;
    if (t->shard < SHARDS_MAX) a->missing[t->shard] = true;
    else a->unknown_missing = t->shard + 1;
}

/* Ages were taken before the transaction began, so that none is too young for what it shows. */
static void check_demands(struct answering *a, const uint32_t *ages_before, struct answer *answer) {
    const struct query_request *r = a->request;
    bool here[SHARDS_MAX] = {false};
    for (uint32_t i = 0; i < a->positions_count; i++) {
        uint32_t shard = a->positions[i].shard;
        here[shard] = true;
        a->ages[i] = ages_before[shard];
        a->missing[shard] = a->positions[i].lacks != VIEW_WHOLE;
        if (r->max_age_ms >= 0 && a->ages[i] > r->max_age_ms) {
            answer->reached = false;
            a->missing[shard] = true;
        }
    }
    a->ready = a->positions_count != 0;
    for (uint32_t shard = 0; shard < SHARDS_MAX; shard++) {
        if (!here[shard] && a->source->is_existing(a->source->arg, shard)) {
            a->ready = a->missing[shard] = true;
            if (r->max_age_ms >= 0) answer->reached = false;
        }
        if (a->source->is_partial(a->source->arg, shard)) a->missing[shard] = true;
        a->partial = a->partial || a->missing[shard];
    }
    for (uint32_t i = 0; i < r->at_least_count; i++) demand(a, &r->at_least[i], answer);
    /* Who knows nothing keeps nobody waiting: another replica may know. */
    if (!a->ready) answer->reached = true;
}

/* -- results ----------------------------------------------------------------------------------- */

static void answer_get(struct answering *a, const struct query *q) {
    uint32_t shard = 0;
    const struct actor *order = answering_order(a, &q->key, &shard);
    int place = order ? answering_place(a, shard) : -1;
    uint64_t index = place >= 0 ? a->positions[place].index : 0;
    bool missing = place >= 0 ? a->missing[shard] : a->partial;
    /* Where it would be is not known of an order that is not there: any shard that lags may be. */
    if (missing) {
        answering_refuse(a, RESULT_TOKEN_NOT_REACHED, shard, index, ANSWER_RETRY_MS);
    } else if (!order) {
        answering_refuse(a, RESULT_ORDER_NOT_FOUND, shard, index, 0);
    } else {
        answering_head(a, order->version, shard, index, false, 0);
        answering_row(a, q, order);
    }
}

static void answer_multi_get(struct answering *a, const struct query *q) {
    uint32_t keys = q->subject.size / 16, count = 0;
    answering_head(a, 0, 0, 0, false, 0);
    size_t head = msgpack_writer_size(&a->w);
    msgpack_writer_tagged_(&a->w, 0xdc, 0, 2);
    for (; count < keys; count++) {
        struct id128 key;
        uint32_t shard;
        size_t mark = msgpack_writer_size(&a->w);
        memcpy(key.bytes, (const uint8_t *)q->subject.data + 16 * (size_t)count, 16);
        answering_row(a, q, answering_order(a, &key, &shard));
        if (msgpack_writer_ok(&a->w)) continue;
        if (count > 0) msgpack_writer_rewind(&a->w, mark);
        break;
    }
    if (!msgpack_writer_ok(&a->w)) return;
    a->w.start[head + 1] = (uint8_t)(count >> 8);
    a->w.start[head + 2] = (uint8_t)count;
}

static void answer_rebuild(struct answering *a, const struct query *q) {
    struct answer_build build;
    const char *why;
    if (!a->source->rebuild(a->source->arg, q->subject, &build, &why)) {
        answering_refuse_as(a, RESULT_MALFORMED_COMMAND, 0, 0, 0, why);
        return;
    }
    answering_head(a, 0, 0, 0, false, 0);
    msgpack_write_map(&a->w, 3);
    msgpack_write_text(&a->w, "view");
    msgpack_write_str(&a->w, q->subject.data, q->subject.size);
    msgpack_pair_uint(&a->w, "generation", build.generation);
    msgpack_pair_bool(&a->w, "under_way", build.under_way);
}

static void refuse_fault(struct answering *a, const struct query *q) {
    char sentence[ANSWER_SENTENCE_BYTES];
    snprintf(sentence, sizeof sentence, "%s", q->why ? q->why : result_code_text(q->fault));
    if (q->fault == RESULT_FIELD_UNKNOWN && utf8_is_valid(q->culprit.data, q->culprit.size))
        snprintf(sentence, sizeof sentence, "an order has no field of the name \"%.*s\"",
                 q->culprit.size < 40 ? (int)q->culprit.size : 0, (const char *)q->culprit.data);
    answering_refuse_as(a, q->fault, 0, 0, 0, sentence);
}

static void answer_one(struct answering *a, const struct query *q) {
    if (q->fault != 0) {
        refuse_fault(a, q);
        return;
    }
    if (!a->ready && (q->kind < NODE_COMMAND_PING || q->kind > NODE_COMMAND_STATUS)) {
        answering_refuse_as(a, RESULT_NOT_READY, 0, 0, ANSWER_NOT_READY_MS, answer_not_ready);
        return;
    }
    switch (q->kind) {
    case QUERY_GET: answer_get(a, q); break;
    case QUERY_MULTI_GET: answer_multi_get(a, q); break;
    case QUERY_BY_REF:
    case QUERY_CUSTOMER_ORDERS:
    case QUERY_STORE_BOARD:
    case QUERY_STATE_ORDERS: answer_list(a, q); break;
    case QUERY_COUNTERS: answer_counters(a, q); break;
    case QUERY_WATCH: answer_watch(a, q); break;
    case QUERY_EXPORT: answer_export(a, q); break;
    case QUERY_REBUILD: answer_rebuild(a, q); break;
    case NODE_COMMAND_PING:
        answering_head(a, 0, 0, 0, false, 0);
        msgpack_write_text(&a->w, "pong");
        break;
    case NODE_COMMAND_STATUS:
        answering_head(a, 0, 0, 0, false, 0);
        a->source->status(a->source->arg, &a->w);
        break;
    case NODE_COMMAND_SHARD_MAP:
        answering_head(a, 0, 0, 0, false, 0);
        a->source->shard_map(a->source->arg, &a->w);
        break;
    default: answering_refuse(a, RESULT_UNKNOWN_COMMAND, 0, 0, 0); break;
    }
}

static void write_tokens(struct answering *a) {
    uint32_t missing = a->unknown_missing != 0;
    msgpack_write_array(&a->w, a->positions_count);
    for (uint32_t i = 0; i < a->positions_count; i++) {
        msgpack_write_array(&a->w, 3);
        msgpack_write_uint(&a->w, a->positions[i].shard);
        msgpack_write_uint(&a->w, a->positions[i].index);
        msgpack_write_uint(&a->w, a->ages[i]);
    }
    for (uint32_t i = 0; i < SHARDS_MAX; i++) missing += a->missing[i];
    msgpack_write_array(&a->w, missing);
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        if (a->missing[i]) msgpack_write_uint(&a->w, i);
    }
    if (a->unknown_missing) msgpack_write_uint(&a->w, a->unknown_missing - 1);
}

/* A value that finds no more room is left out, and its result says so: there is always room for
 * that, and for the tokens. */
static void write_results(struct answering *a) {
    const struct query_request *r = a->request;
    uint8_t *end = a->w.end - SHARDS_MAX * (ANSWER_TOKEN_BYTES + 4) - 64;
    msgpack_write_array(&a->w, r->queries_count);
    for (uint32_t i = 0; i < r->queries_count; i++) {
        size_t mark = msgpack_writer_size(&a->w);
        a->w.end = end - (size_t)(r->queries_count - i - 1) * ANSWER_REFUSAL_BYTES;
        answer_one(a, &r->queries[i]);
        if (msgpack_writer_ok(&a->w)) continue;
        msgpack_writer_rewind(&a->w, mark);
        a->w.end += ANSWER_REFUSAL_BYTES;
        if (a->w.end > end) a->w.end = end;
        answering_refuse(a, RESULT_MESSAGE_TOO_LARGE, 0, 0, 0);
    }
    a->w.end = a->w.start + MESSAGE_BYTES_MAX;
}

bool answer_request(const struct answer_source *source, const struct query_request *request,
                    uint8_t *buffer, struct answer *answer) {
    struct answering a = {.source = source, .request = request};
    uint32_t ages[SHARDS_MAX];
    a.block = thread_block();
    if (!a.block) return false;
    for (uint32_t i = 0; i < SHARDS_MAX; i++) ages[i] = source->age_ms(source->arg, i);
    if (!view_read_begin(source->store, &a.read)) return false;
    *answer = (struct answer){.reached = true};
    take_positions(&a);
    check_demands(&a, ages, answer);
    msgpack_writer_init(&a.w, buffer, MESSAGE_BYTES_MAX);
    msgpack_write_array(&a.w, 5);
    msgpack_write_uint(&a.w, PROTOCOL_VERSION);
    msgpack_write_uint(&a.w, RESULT_OK);
    write_results(&a);
    write_tokens(&a);
    view_read_end(source->store, &a.read);
    answer->bytes = msgpack_writer_size(&a.w);
    answer->changed = !a.watched || a.changed;
    return true;
}

size_t answer_refusal(enum result_code code, const char *sentence, uint8_t *buffer,
                      size_t capacity) {
    struct msgpack_writer w;
    msgpack_writer_init(&w, buffer, capacity);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, PROTOCOL_VERSION);
    msgpack_write_uint(&w, code);
    msgpack_write_text(&w, sentence ? sentence : result_code_text(code));
    return msgpack_writer_size(&w);
}
