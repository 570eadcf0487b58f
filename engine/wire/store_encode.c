#include "engine/wire/store_encode.h"

#include "engine/wire/msgpack_pairs.h"

enum { STORE_ENCODE_FIXED_BYTES = 192 }; /* keys, numbers and headers; the test counts them */

size_t store_encode_bytes_max(const struct actor *store) {
    struct store_view v;
    store_view(store, &v);
    return STORE_ENCODE_FIXED_BYTES + v.id.size + v.pause_reason.size;
}

void store_encode(struct msgpack_writer *w, const struct actor *store) {
    struct store_view v;
    store_view(store, &v);
    msgpack_write_map(w, 7);
    msgpack_pair_str(w, "id", v.id);
    msgpack_pair_bool(w, "paused", v.paused);
    msgpack_pair_str(w, "pause_reason", v.pause_reason);
    msgpack_pair_int(w, "open_orders", v.open_orders);
    msgpack_pair_uint(w, "placed_orders", v.placed_orders);
    msgpack_pair_uint(w, "version", v.version);
    msgpack_pair_uint(w, "last_index", v.last_index);
}
