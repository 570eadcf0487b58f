#include "engine/peers/peer_message.h"

#include "engine/base/hex.h"
#include "engine/wire/msgpack_reader.h"

enum { PEER_MESSAGE_FIELDS = 6 };

void peer_message_write_head(struct msgpack_writer *w, const struct peer_message *m) {
    msgpack_write_array(w, PEER_MESSAGE_FIELDS);
    msgpack_write_uint(w, PEER_MESSAGE_VERSION);
    msgpack_write_bin(w, m->cluster.bytes, sizeof m->cluster.bytes);
    msgpack_write_uint(w, m->from);
    msgpack_write_uint(w, m->to);
    msgpack_write_uint(w, m->kind);
}

bool peer_message_read(const void *data, size_t bytes, struct peer_message *m) {
    struct msgpack_reader r;
    uint32_t fields, id_bytes;
    uint64_t version, from, to, kind;
    const void *id;
    msgpack_reader_init(&r, data, bytes);
    if (msgpack_read_array(&r, &fields) != MSGPACK_OK || fields != PEER_MESSAGE_FIELDS ||
        msgpack_read_uint(&r, &version) != MSGPACK_OK || version != PEER_MESSAGE_VERSION ||
        msgpack_read_bin(&r, &id, &id_bytes) != MSGPACK_OK || id_bytes != sizeof m->cluster ||
        msgpack_read_uint_upto(&r, UINT32_MAX, &from) != MSGPACK_OK || from == 0 ||
        msgpack_read_uint_upto(&r, UINT32_MAX, &to) != MSGPACK_OK ||
        msgpack_read_uint_upto(&r, UINT32_MAX, &kind) != MSGPACK_OK)
        return false;
    *m = (struct peer_message){.from = (uint32_t)from, .to = (uint32_t)to, .kind = (uint32_t)kind,
                               .body = bytes_of(r.at, msgpack_reader_left(&r))};
    memcpy(m->cluster.bytes, id, sizeof m->cluster.bytes);
    return true;
}

bool peer_cluster_of(const char *hex, struct id128 *cluster) {
    return hex_parse(hex, cluster->bytes, sizeof cluster->bytes);
}
