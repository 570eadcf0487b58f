/* Key and value of a msgpack map in one call, for maps whose keys are names. Any thread. */
#ifndef JUMUN_WIRE_MSGPACK_PAIRS_H
#define JUMUN_WIRE_MSGPACK_PAIRS_H

#include "engine/base/bytes.h"
#include "engine/wire/msgpack_writer.h"

static inline void msgpack_pair_int(struct msgpack_writer *w, const char *name, int64_t value) {
    msgpack_write_text(w, name);
    msgpack_write_int(w, value);
}

static inline void msgpack_pair_uint(struct msgpack_writer *w, const char *name, uint64_t value) {
    msgpack_write_text(w, name);
    msgpack_write_uint(w, value);
}

static inline void msgpack_pair_bool(struct msgpack_writer *w, const char *name, bool value) {
    msgpack_write_text(w, name);
    msgpack_write_bool(w, value);
}

static inline void msgpack_pair_text(struct msgpack_writer *w, const char *name,
                                     const char *value) {
    msgpack_write_text(w, name);
    msgpack_write_text(w, value);
}

static inline void msgpack_pair_str(struct msgpack_writer *w, const char *name,
                                    struct bytes value) {
    msgpack_write_text(w, name);
    msgpack_write_str(w, value.data, value.size);
}

static inline void msgpack_pair_bin(struct msgpack_writer *w, const char *name,
                                    struct bytes value) {
    msgpack_write_text(w, name);
    msgpack_write_bin(w, value.data, value.size);
}

/* bin of 16 bytes, or nil when the id is zero ("none"). */
static inline void msgpack_pair_id(struct msgpack_writer *w, const char *name,
                                   const struct id128 *id) {
    msgpack_write_text(w, name);
    if (id128_is_zero(id)) msgpack_write_nil(w);
    else msgpack_write_bin(w, id->bytes, 16);
}

#endif
