#include "engine/peers/consensus_codec.h"

#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/wire/msgpack_reader.h"

enum {
    CODEC_FIELDS = 18,
    CODEC_GRANTED = 1,
    CODEC_PRE_VOTE = 2,
    CODEC_DISRUPT_LEADER = 4,
    CODEC_FLAGS = CODEC_GRANTED | CODEC_PRE_VOTE | CODEC_DISRUPT_LEADER,
    /* array head, type, term, head of the payload */
    CODEC_RECORD_BYTES_MAX = 1 + 1 + MSGPACK_INT_BYTES_MAX + MSGPACK_HEADER_BYTES_MAX
};

size_t consensus_codec_bytes_max(const struct consensus_message *m) {
    size_t bytes = 2 * MSGPACK_HEADER_BYTES_MAX + CODEC_FIELDS * MSGPACK_INT_BYTES_MAX;
    for (uint32_t i = 0; i < m->records_count; i++) {
        bytes += CODEC_RECORD_BYTES_MAX + m->records[i]->header.payload_bytes;
    }
    return bytes;
}

void consensus_codec_write(struct msgpack_writer *w, uint32_t shard,
                           const struct consensus_message *m) {
    require(m->records_count == 0 || m->records != NULL);
    const uint8_t *start = w->at;
    unsigned flags = (m->granted ? CODEC_GRANTED : 0u) | (m->pre_vote ? CODEC_PRE_VOTE : 0u) |
                     (m->disrupt_leader ? CODEC_DISRUPT_LEADER : 0u);
    const uint64_t fields[] = {shard,         m->kind,     m->version,
                               m->features,   m->capacity, flags,
                               m->from,       m->to,       m->term,
                               m->last_index, m->last_term, m->rejected,
                               m->configuration_index,     m->previous_index,
                               m->previous_term,           m->commit_index};
    msgpack_write_array(w, CODEC_FIELDS);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) msgpack_write_uint(w, fields[i]);
    msgpack_write_array(w, m->records_count);
    for (uint32_t i = 0; i < m->records_count; i++) {
        const struct record *r = m->records[i];
        msgpack_write_array(w, 3);
        msgpack_write_uint(w, r->header.type);
        msgpack_write_uint(w, r->header.term);
        msgpack_write_bin(w, r->payload, r->header.payload_bytes);
    }
    msgpack_write_uint(w, XXH3_64bits(start, (size_t)(w->at - start)));
}

/* -- in ---------------------------------------------------------------------------------------- */

static bool codec_read_fields(struct msgpack_reader *r, uint32_t *shard,
                              struct consensus_message *m) {
    uint32_t count;
    uint64_t small[6], flags;
    static const uint64_t most[6] = {UINT16_MAX, CONSENSUS_PONG, UINT8_MAX,
                                     UINT16_MAX, UINT16_MAX,     CODEC_FLAGS};
    uint64_t *const wide[] = {&m->from,           &m->to,             &m->term,
                              &m->last_index,     &m->last_term,      &m->rejected,
                              &m->configuration_index, &m->previous_index, &m->previous_term,
                              &m->commit_index};
    if (msgpack_read_array(r, &count) != MSGPACK_OK || count != CODEC_FIELDS) return false;
    for (int i = 0; i < 6; i++) {
        if (msgpack_read_uint_upto(r, most[i], &small[i]) != MSGPACK_OK) return false;
    }
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        if (msgpack_read_uint(r, wide[i]) != MSGPACK_OK) return false;
    }
    *shard = (uint32_t)small[0];
    m->kind = (uint8_t)small[1];
    m->version = (uint8_t)small[2];
    m->features = (uint16_t)small[3];
    m->capacity = (uint16_t)small[4];
    flags = small[5];
    m->granted = flags & CODEC_GRANTED;
    m->pre_vote = flags & CODEC_PRE_VOTE;
    m->disrupt_leader = flags & CODEC_DISRUPT_LEADER;
    return m->kind >= CONSENSUS_APPEND && m->from != 0 && m->to != 0;
}

static struct record *codec_read_record(struct msgpack_reader *r, uint64_t index) {
    uint32_t count, bytes;
    uint64_t type, term;
    const void *payload;
    if (msgpack_read_array(r, &count) != MSGPACK_OK || count != 3) return NULL;
    if (msgpack_read_uint_upto(r, RECORD_CONFIGURATION, &type) != MSGPACK_OK) return NULL;
    if (type < RECORD_EVENTS || msgpack_read_uint(r, &term) != MSGPACK_OK) return NULL;
    if (msgpack_read_bin(r, &payload, &bytes) != MSGPACK_OK || bytes > ENTRY_BYTES_MAX) return NULL;
    struct record *record = record_new(bytes);
    if (record == NULL) return NULL;
    if (bytes > 0) memcpy(record->payload, payload, bytes);
    record->header.index = index;
    record->header.term = term;
    record->header.type = (uint16_t)type;
    record->header.payload_bytes = bytes;
    return record;
}

/* The checksum is the last value and has the 9 bytes of the longest integer, or fewer. It is looked
 * at after the rest: what it covers has to be found first. */
static bool codec_read_checksum(struct msgpack_reader *r, struct bytes body) {
    uint64_t checksum;
    size_t covered = body.size - msgpack_reader_left(r);
    if (msgpack_read_uint(r, &checksum) != MSGPACK_OK || msgpack_reader_left(r) != 0) return false;
    return checksum == XXH3_64bits(body.data, covered);
}

struct consensus_message *consensus_codec_read(struct bytes body, uint32_t *shard) {
    struct msgpack_reader r;
    struct consensus_message fields = {0};
    uint32_t count, number;
    msgpack_reader_init(&r, body.data, body.size);
    if (!codec_read_fields(&r, &number, &fields)) return NULL;
    if (msgpack_read_array(&r, &count) != MSGPACK_OK) return NULL;
    if (count > CONSENSUS_MESSAGE_RECORDS_MAX) return NULL;
    if (count > 0 && fields.kind != CONSENSUS_APPEND) return NULL;
    if (fields.previous_index > UINT64_MAX - CONSENSUS_MESSAGE_RECORDS_MAX) return NULL;
    struct consensus_message *m = consensus_message_new(&fields, count);
    if (m == NULL) return NULL;
    struct record **records = (struct record **)(uintptr_t)m->records;
    for (uint32_t i = 0; i < count; i++) {
        records[i] = codec_read_record(&r, fields.previous_index + 1 + i);
        if (records[i] == NULL) goto malformed;
    }
    if (!codec_read_checksum(&r, body)) goto malformed;
    *shard = number;
    return m;
malformed:
    consensus_message_free(m);
    return NULL;
}
