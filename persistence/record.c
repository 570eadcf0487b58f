#include "persistence/record.h"

#include <stdlib.h>
#define XXH_STATIC_LINKING_ONLY /* the streaming state on the stack */
#include <xxhash.h>

#include "engine/base/check.h"

static const size_t record_covered_at = offsetof(struct record_header, index);

struct record *record_new(uint32_t capacity) {
    struct record *r = malloc(sizeof *r + capacity);
    if (!r) return NULL;
    r->next = NULL;
    atomic_init(&r->refs, 1);
    r->capacity = capacity;
    r->header = (struct record_header){.format = RECORD_FORMAT};
    return r;
}

void record_release(struct record *r) {
    unsigned before = atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel);
    require(before > 0);
    if (before == 1) free(r);
}

/* Of a record in one piece, wherever it lies. */
static uint64_t record_checksum(const void *record, uint32_t payload_bytes) {
    return XXH3_64bits((const uint8_t *)record + record_covered_at,
                       sizeof(struct record_header) - record_covered_at + payload_bytes);
}

void record_seal(struct record_header *header, const void *payload) {
    require(header->payload_bytes == 0 || payload);
    /* In memory as on disk the payload stands behind the header: one pass is the fast case. */
    if (payload == header + 1 || header->payload_bytes == 0) {
        header->checksum = record_checksum(header, header->payload_bytes);
        return;
    }
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, (const uint8_t *)header + record_covered_at,
                       sizeof *header - record_covered_at);
    XXH3_64bits_update(&state, payload, header->payload_bytes);
    header->checksum = XXH3_64bits_digest(&state);
}

const char *record_fault(const void *data, size_t bytes, uint64_t index) {
    if (bytes < sizeof(struct record_header)) return "cut short: not even a whole header";
    struct record_header header;
    memcpy(&header, data, sizeof header);
    size_t payload_bytes = bytes - sizeof header;
    if (payload_bytes < header.payload_bytes) return "cut short: the payload is not whole";
    if (payload_bytes > header.payload_bytes) return "longer than its header says";
    if (record_checksum(data, header.payload_bytes) != header.checksum) {
        return "checksum does not match";
    }
    /* From here on the bytes are those that were written; they may still be in the wrong place. */
    if (header.format != RECORD_FORMAT) return "of a format that this version does not know";
    if (header.index != index) return "holds another index than the one it is stored at";
    if (header.type < RECORD_EVENTS || header.type > RECORD_CONFIGURATION) {
        return "of a type that this version does not know";
    }
    return NULL;
}
