/* A client made by hand from docs/protocol.md: nng REQ and msgpack-c, nothing of the project's own
 * code, so that engine and SDK cannot agree on the same mistake. One thread per client. */
#ifndef JUMUN_TESTS_RAW_CLIENT_H
#define JUMUN_TESTS_RAW_CLIENT_H

#include <msgpack.h>
#include <nng/nng.h>
#include <stdbool.h>
#include <stdint.h>

enum { RAW_PLACE = 1, RAW_PAY = 2, RAW_ACCEPT = 3, RAW_DELIVER = 9, RAW_CANCEL = 11,
       RAW_ANNOTATE = 14, RAW_GET = 20, RAW_HISTORY = 21, RAW_STORE_PAUSE = 50,
       RAW_STORE_RESUME = 51, RAW_STORE_GET = 52, RAW_PING = 100, RAW_SHARD_MAP = 101,
       RAW_STATUS = 102 };

struct raw_id { uint8_t bytes[16]; };

struct raw_client { nng_socket socket; };

/* Connects; waits for the server for as long as raw_ask() has patience. */
void raw_open(struct raw_client *client, const char *url);
void raw_close(struct raw_client *client);

/* A key born now, and a command id: unique over all processes. */
struct raw_id raw_key(void);
struct raw_id raw_id(void);

/* A request under construction. */
struct raw_request { msgpack_sbuffer buffer; msgpack_packer packer; };

/* [1, deadline_ms, [<count commands follow>]] */
void raw_begin(struct raw_request *r, int64_t deadline_ms, uint32_t count);
void raw_free(struct raw_request *r);

/* Head of a command: kind, subject, id (NULL = nil), expected version 0; the body follows. */
void raw_head(struct raw_request *r, int kind, const struct raw_id *key, const char *store,
              const struct raw_id *id);

/* Whole commands. A place has `lines` lines of quantity 2 at 500; its total is lines * 1000. */
void raw_place(struct raw_request *r, const struct raw_id *key, const struct raw_id *id,
               const char *store, uint32_t lines);
void raw_pay(struct raw_request *r, const struct raw_id *key, const struct raw_id *id,
             int64_t amount);
void raw_bare(struct raw_request *r, int kind, const struct raw_id *key, const struct raw_id *id);
void raw_store(struct raw_request *r, int kind, const char *store, const struct raw_id *id);
void raw_node(struct raw_request *r, int kind);

/* Behind the last command: the cluster that the message is meant for. */
void raw_name_cluster(struct raw_request *r, const struct raw_id *cluster);

/* A reply; what it points to lives until raw_reply_free(). */
struct raw_reply {
    msgpack_unpacked unpacked;
    uint64_t version, code;
    const char *sentence;           /* of a refused message, not terminated */
    uint32_t count;
    const msgpack_object *results;
};

/* Sends and waits for the reply, at most timeout_ms. 0, or nng's error. A reply of another shape
 * than documented ends the test. Consumes the request. */
int raw_ask_for(struct raw_client *client, struct raw_request *r, int timeout_ms,
                struct raw_reply *reply);
/* The same with 20 s of patience; an error ends the test. */
void raw_ask(struct raw_client *client, struct raw_request *r, struct raw_reply *reply);
/* Sends any bytes. */
int raw_ask_bytes(struct raw_client *client, const void *bytes, size_t size, int timeout_ms,
                  struct raw_reply *reply);
void raw_reply_free(struct raw_reply *reply);

struct raw_result {
    uint64_t code, version, shard, index, flags, retry_after_ms;
    const msgpack_object *value;    /* of a read; NULL = none */
};
struct raw_result raw_result(const struct raw_reply *reply, uint32_t i);

/* The value of a key in a map; NULL when it is not there. */
const msgpack_object *raw_member(const msgpack_object *map, const char *key);
/* The same for a number; ends the test when it is not there. */
int64_t raw_number(const msgpack_object *map, const char *key);
bool raw_text_is(const msgpack_object *object, const char *text);

#endif
