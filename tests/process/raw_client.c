#include "tests/process/raw_client.h"

#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { RAW_PATIENCE_MS = 20000 };

#define RAW_REQUIRE(x)                                                                     \
    do {                                                                                   \
        if (!(x)) {                                                                        \
            fprintf(stderr, "FAILED: %s:%d: %s\n", __FILE__, __LINE__, #x);                \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

void raw_open(struct raw_client *client, const char *url) {
    RAW_REQUIRE(nng_req0_open(&client->socket) == 0);
    RAW_REQUIRE(nng_socket_set_ms(client->socket, NNG_OPT_REQ_RESENDTIME,
                                  NNG_DURATION_INFINITE) == 0);
    RAW_REQUIRE(nng_socket_set_ms(client->socket, NNG_OPT_RECONNMINT, 20) == 0);
    RAW_REQUIRE(nng_socket_set_size(client->socket, NNG_OPT_RECVMAXSZ, 0) == 0);
    RAW_REQUIRE(nng_dial(client->socket, url, NULL, NNG_FLAG_NONBLOCK) == 0);
}

void raw_close(struct raw_client *client) { nng_close(client->socket); }

struct raw_id raw_id(void) {
    struct raw_id id;
    RAW_REQUIRE(getrandom(id.bytes, sizeof id.bytes, 0) == (ssize_t)sizeof id.bytes);
    return id;
}

struct raw_id raw_key(void) {
    struct raw_id id = raw_id();
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    for (int i = 5; i >= 0; i--, ms >>= 8) id.bytes[i] = (uint8_t)ms;
    return id;
}

/* -- requests ---------------------------------------------------------------------------------- */

void raw_begin(struct raw_request *r, int64_t deadline_ms, uint32_t count) {
    msgpack_sbuffer_init(&r->buffer);
    msgpack_packer_init(&r->packer, &r->buffer, msgpack_sbuffer_write);
    msgpack_pack_array(&r->packer, 3);
    msgpack_pack_int(&r->packer, 1);
    msgpack_pack_int64(&r->packer, deadline_ms);
    msgpack_pack_array(&r->packer, count);
}

void raw_name_cluster(struct raw_request *r, const struct raw_id *cluster) {
    r->buffer.data[0] = (char)0x95; /* an array of five */
    msgpack_pack_nil(&r->packer);
    msgpack_pack_bin_with_body(&r->packer, cluster->bytes, sizeof cluster->bytes);
}

void raw_free(struct raw_request *r) { msgpack_sbuffer_destroy(&r->buffer); }

static void raw_text(struct raw_request *r, const char *text) {
    msgpack_pack_str_with_body(&r->packer, text, strlen(text));
}

static void raw_id_or_nil(struct raw_request *r, const struct raw_id *id) {
    if (id) msgpack_pack_bin_with_body(&r->packer, id->bytes, sizeof id->bytes);
    else msgpack_pack_nil(&r->packer);
}

void raw_head(struct raw_request *r, int kind, const struct raw_id *key, const char *store,
              const struct raw_id *id) {
    msgpack_pack_array(&r->packer, 5);
    msgpack_pack_int(&r->packer, kind);
    if (store) raw_text(r, store);
    else raw_id_or_nil(r, key);
    raw_id_or_nil(r, id);
    msgpack_pack_int(&r->packer, 0);
}

void raw_place(struct raw_request *r, const struct raw_id *key, const struct raw_id *id,
               const char *store, uint32_t lines) {
    raw_head(r, RAW_PLACE, key, NULL, id);
    msgpack_pack_array(&r->packer, 8);
    msgpack_pack_int(&r->packer, 1); /* platform delivery */
    msgpack_pack_int(&r->packer, 1); /* prepaid */
    raw_text(r, "EUR");
    raw_text(r, store);
    msgpack_pack_array(&r->packer, lines);
    for (uint32_t i = 0; i < lines; i++) {
        msgpack_pack_array(&r->packer, 3);
        raw_text(r, "sku");
        msgpack_pack_int(&r->packer, 2);
        msgpack_pack_int(&r->packer, 500);
    }
    msgpack_pack_int(&r->packer, 300); /* fees */
    msgpack_pack_int(&r->packer, 300); /* discounts */
    msgpack_pack_int64(&r->packer, (int64_t)lines * 1000);
}

void raw_pay(struct raw_request *r, const struct raw_id *key, const struct raw_id *id,
             int64_t amount) {
    raw_head(r, RAW_PAY, key, NULL, id);
    msgpack_pack_array(&r->packer, 4);
    msgpack_pack_int(&r->packer, 2); /* captured */
    raw_text(r, "card");
    raw_text(r, "ref-1");
    msgpack_pack_int64(&r->packer, amount);
}

void raw_bare(struct raw_request *r, int kind, const struct raw_id *key,
              const struct raw_id *id) {
    raw_head(r, kind, key, NULL, id);
    msgpack_pack_array(&r->packer, 0);
}

void raw_store(struct raw_request *r, int kind, const char *store, const struct raw_id *id) {
    raw_head(r, kind, NULL, store, id);
    msgpack_pack_array(&r->packer, 0);
}

void raw_node(struct raw_request *r, int kind) {
    raw_head(r, kind, NULL, NULL, NULL);
    msgpack_pack_nil(&r->packer);
}

/* -- replies ----------------------------------------------------------------------------------- */

static void raw_read(struct raw_reply *reply, const void *bytes, size_t size) {
    size_t used = 0;
    msgpack_unpacked_init(&reply->unpacked);
    RAW_REQUIRE(msgpack_unpack_next(&reply->unpacked, bytes, size, &used) ==
                MSGPACK_UNPACK_SUCCESS);
    RAW_REQUIRE(used == size);
    const msgpack_object *o = &reply->unpacked.data;
    RAW_REQUIRE(o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size == 3);
    const msgpack_object *fields = o->via.array.ptr;
    RAW_REQUIRE(fields[0].type == MSGPACK_OBJECT_POSITIVE_INTEGER);
    RAW_REQUIRE(fields[1].type == MSGPACK_OBJECT_POSITIVE_INTEGER);
    reply->version = fields[0].via.u64;
    reply->code = fields[1].via.u64;
    if (reply->code != 0) {
        RAW_REQUIRE(fields[2].type == MSGPACK_OBJECT_STR && fields[2].via.str.size > 0);
        reply->sentence = fields[2].via.str.ptr;
        return;
    }
    RAW_REQUIRE(fields[2].type == MSGPACK_OBJECT_ARRAY);
    reply->count = fields[2].via.array.size;
    reply->results = fields[2].via.array.ptr;
}

int raw_ask_bytes(struct raw_client *client, const void *bytes, size_t size, int timeout_ms,
                  struct raw_reply *reply) {
    nng_msg *message;
    memset(reply, 0, sizeof *reply);
    RAW_REQUIRE(nng_socket_set_ms(client->socket, NNG_OPT_SENDTIMEO, timeout_ms) == 0);
    RAW_REQUIRE(nng_socket_set_ms(client->socket, NNG_OPT_RECVTIMEO, timeout_ms) == 0);
    RAW_REQUIRE(nng_msg_alloc(&message, 0) == 0);
    RAW_REQUIRE(nng_msg_append(message, bytes, size) == 0);
    int rc = nng_sendmsg(client->socket, message, 0);
    if (rc != 0) {
        nng_msg_free(message);
        return rc;
    }
    rc = nng_recvmsg(client->socket, &message, 0);
    if (rc != 0) return rc;
    /* The objects point into the bytes: the zone of the reply keeps a copy. */
    size_t got = nng_msg_len(message);
    void *copy = malloc(got);
    RAW_REQUIRE(copy != NULL);
    memcpy(copy, nng_msg_body(message), got);
    nng_msg_free(message);
    raw_read(reply, copy, got);
    RAW_REQUIRE(msgpack_zone_push_finalizer(reply->unpacked.zone, free, copy));
    return 0;
}

int raw_ask_for(struct raw_client *client, struct raw_request *r, int timeout_ms,
                struct raw_reply *reply) {
    int rc = raw_ask_bytes(client, r->buffer.data, r->buffer.size, timeout_ms, reply);
    raw_free(r);
    return rc;
}

void raw_ask(struct raw_client *client, struct raw_request *r, struct raw_reply *reply) {
    int rc = raw_ask_for(client, r, RAW_PATIENCE_MS, reply);
    if (rc == 0) return;
    fprintf(stderr, "FAILED: no reply: %s\n", nng_strerror(rc));
    exit(1);
}

void raw_reply_free(struct raw_reply *reply) { msgpack_unpacked_destroy(&reply->unpacked); }

struct raw_result raw_result(const struct raw_reply *reply, uint32_t i) {
    RAW_REQUIRE(i < reply->count);
    const msgpack_object *o = &reply->results[i];
    RAW_REQUIRE(o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size >= 4);
    uint64_t numbers[5] = {0};
    uint32_t size = o->via.array.size;
    const msgpack_object *fields = o->via.array.ptr;
    for (uint32_t n = 0; n < 5 && n < size; n++) {
        RAW_REQUIRE(fields[n].type == MSGPACK_OBJECT_POSITIVE_INTEGER);
        numbers[n] = fields[n].via.u64;
    }
    struct raw_result result = {.code = numbers[0], .version = numbers[1], .shard = numbers[2],
                                .index = numbers[3], .flags = numbers[4]};
    if (result.code <= 1) {
        if (size > 5) result.value = &fields[5];
        return result;
    }
    RAW_REQUIRE((size == 7 || size == 8) && fields[5].type == MSGPACK_OBJECT_STR);
    RAW_REQUIRE(fields[6].type == MSGPACK_OBJECT_POSITIVE_INTEGER);
    result.retry_after_ms = fields[6].via.u64;
    return result;
}

const msgpack_object *raw_member(const msgpack_object *map, const char *key) {
    RAW_REQUIRE(map && map->type == MSGPACK_OBJECT_MAP);
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        if (raw_text_is(&map->via.map.ptr[i].key, key)) return &map->via.map.ptr[i].val;
    }
    return NULL;
}

int64_t raw_number(const msgpack_object *map, const char *key) {
    const msgpack_object *o = raw_member(map, key);
    if (!o) fprintf(stderr, "no \"%s\"\n", key);
    RAW_REQUIRE(o && (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER ||
                      o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER));
    return o->via.i64;
}

bool raw_text_is(const msgpack_object *o, const char *text) {
    return o->type == MSGPACK_OBJECT_STR && o->via.str.size == strlen(text) &&
           memcmp(o->via.str.ptr, text, o->via.str.size) == 0;
}
