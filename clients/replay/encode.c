#include "clients/replay/encode.h"

#include <stdlib.h>

#include "clients/cli/cli.h"
#include "clients/cli/names.h"
#include "engine/wire/event_encode.h"
#include "engine/wire/order_encode.h"
#include "engine/wire/store_encode.h"

enum { STORE_ENCODE_BYTES = 1024 };

static bool encoded_unpack(struct encoded *out, const struct msgpack_writer *w) {
    size_t offset = 0;
    out->size = msgpack_writer_size(w);
    msgpack_unpacked_init(&out->unpacked);
    bool whole = msgpack_writer_ok(w) &&
                 msgpack_unpack_next(&out->unpacked, out->bytes, out->size, &offset) ==
                     MSGPACK_UNPACK_SUCCESS;
    if (!whole) encoded_free(out);
    return whole;
}

static bool encoded_begin(struct encoded *out, struct msgpack_writer *w, size_t bytes_max) {
    *out = (struct encoded){.bytes = malloc(bytes_max)};
    if (!out->bytes) return false;
    msgpack_writer_init(w, out->bytes, bytes_max);
    return true;
}

void encoded_free(struct encoded *e) {
    msgpack_unpacked_destroy(&e->unpacked);
    free(e->bytes);
    e->bytes = NULL;
}

/* False without memory. Free with encoded_free(). */
static bool encode_order(const struct actor *order, struct encoded *out) {
    struct msgpack_writer w;
    if (!encoded_begin(out, &w, order_encode_bytes_max(order))) return false;
    order_encode(&w, order);
    return encoded_unpack(out, &w);
}

bool encode_store(const struct actor *store, struct encoded *out) {
    struct msgpack_writer w;
    if (!encoded_begin(out, &w, STORE_ENCODE_BYTES + store->bytes)) return false;
    store_encode(&w, store);
    return encoded_unpack(out, &w);
}

/* {"events": [...]} of a history. False without memory. */
static bool encode_history(const struct replay_history *h, struct encoded *out) {
    struct msgpack_writer w;
    size_t bytes_max = 64;
    for (uint32_t i = 0; i < h->count; i++) bytes_max += event_encode_bytes_max(h->events[i].event);
    if (!encoded_begin(out, &w, bytes_max)) return false;
    msgpack_write_map(&w, 1);
    msgpack_write_text(&w, "events");
    msgpack_write_array(&w, h->count);
    for (uint32_t i = 0; i < h->count; i++) {
        event_encode(&w, h->events[i].index, h->events[i].time_ms, h->events[i].event);
    }
    return encoded_unpack(out, &w);
}

json_t *encode_event_json(uint64_t index, int64_t time_ms, const struct event *event) {
    struct msgpack_writer w;
    struct encoded e;
    if (!encoded_begin(&e, &w, event_encode_bytes_max(event))) return NULL;
    event_encode(&w, index, time_ms, event);
    if (!encoded_unpack(&e, &w)) return NULL;
    json_t *json = value_to_json(&e.unpacked.data);
    encoded_free(&e);
    return json;
}

static void json_name_items(json_t *order, const char *list, const char *const *names) {
    size_t i;
    json_t *item, *items = json_object_get(order, list);
    json_array_foreach(items, i, item) {
        json_t *named = json_object();
        for (size_t f = 0; names[f] && f < json_array_size(item); f++) {
            json_object_set(named, names[f], json_array_get(item, f));
        }
        json_array_set_new(items, i, named);
    }
}

static void json_word(json_t *order, const char *field, enum names_kind kind) {
    int n = (int)json_integer_value(json_object_get(order, field));
    json_object_set_new(order, field, n == 0 ? json_null() : json_string(names_word(kind, n)));
}

json_t *encode_order_json(const struct actor *order) {
    static const char *const line[] = {"sku", "quantity", "cancelled", "unit_price", "name", NULL};
    static const char *const payment[] = {"method", "reference", "amount", "state", NULL};
    struct encoded e;
    if (!encode_order(order, &e)) return NULL;
    json_t *json = value_to_json(&e.unpacked.data);
    encoded_free(&e);
    json_name_items(json, "lines", line);
    json_name_items(json, "payments", payment);
    json_word(json, "fulfilment", NAMES_FULFILMENT);
    json_word(json, "payment_timing", NAMES_TIMING);
    json_word(json, "ended_by", NAMES_PARTY);
    return json;
}

/* The drawing of clients/cli needs no more of its program than whether to use colours. */
static struct cli *draw_cli(const struct replay *r) {
    struct cli *cli = calloc(1, sizeof *cli);
    if (cli) cli->color = r->color;
    return cli;
}

void draw_order(const struct replay *r, const struct actor *order, int64_t now_ms) {
    struct cli *cli = draw_cli(r);
    struct encoded e;
    if (cli && encode_order(order, &e)) {
        cli_show_order(cli, &e.unpacked.data, now_ms, stdout);
        encoded_free(&e);
    }
    free(cli);
}

void draw_history(const struct replay *r, const struct replay_history *history) {
    struct cli *cli = draw_cli(r);
    struct encoded e;
    if (cli && encode_history(history, &e)) {
        cli_show_history(cli, &e.unpacked.data, stdout);
        encoded_free(&e);
    }
    free(cli);
}
