/* Events and orders in the forms that people and scripts read: the msgpack of the wire, made into
 * JSON, and tables of clients/cli. */
#ifndef JUMUN_REPLAY_ENCODE_H
#define JUMUN_REPLAY_ENCODE_H

#include <msgpack.h>

#include "clients/replay/replay.h"

/* One value of engine/wire/event_encode.h or order_encode.h, unpacked. */
struct encoded {
    void *bytes;
    size_t size;
    msgpack_unpacked unpacked;
};

/* False without memory. Free with encoded_free(). */
bool encode_store(const struct actor *store, struct encoded *out);
void encoded_free(struct encoded *encoded);

/* The same as JSON: lists with names, as `jumun --json get` has them. NULL without memory. */
json_t *encode_order_json(const struct actor *order);
json_t *encode_event_json(uint64_t index, int64_t time_ms, const struct event *event);

/* Draws an order and a history as `jumun get` and `jumun history` do. */
void draw_order(const struct replay *r, const struct actor *order, int64_t now_ms);
void draw_history(const struct replay *r, const struct replay_history *history);

#endif
