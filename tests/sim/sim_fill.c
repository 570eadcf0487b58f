/* Gaps in the replicas' histories, filled from the others: the part that engine/node/backfill.c
 * plays. What a peer has committed is put where it lacks, a few records at a time. */
#include <stdlib.h>
#include <string.h>

#include "engine/shard/shard_internal.h"
#include "tests/sim/sim.h"

enum { FILL_EVERY_MS = 400, FILL_RECORDS_MAX = 24 };

/* Packs records `from` and on as a feed sends them; free() it. NULL = the peer has not the first
 * one, or does not know it to be committed. */
static uint8_t *fill_pack(const struct sim_replica *peer, uint64_t from, uint64_t last,
                          size_t *bytes) {
    uint64_t commit = shard_commit_index(peer->shard);
    uint8_t *out = NULL;
    *bytes = 0;
    if (last > commit) last = commit;
    if (last >= from + FILL_RECORDS_MAX) last = from + FILL_RECORDS_MAX - 1;
    for (uint64_t index = from; index <= last; index++) {
        const void *payload;
        const struct record_header *h = storage_memory_record(peer->disk, index, &payload);
        if (h == NULL) break;
        size_t size = (sizeof *h + h->payload_bytes + 7) / 8 * 8;
        out = realloc(out, *bytes + size);
        require(out != NULL);
        memset(out + *bytes, 0, size);
        memcpy(out + *bytes, h, sizeof *h);
        memcpy(out + *bytes + sizeof *h, payload, h->payload_bytes);
        *bytes += size;
    }
    return out;
}

/* The node that has the records, if one runs; *absent counts those that have not. */
static uint8_t *fill_find(const struct sim_replica *r, uint64_t from, uint64_t last, size_t *bytes,
                          uint32_t *absent) {
    const struct sim *sim = r->sim;
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        const struct sim_replica *peer = sim->nodes[n].replicas[r->group];
        if (peer == NULL || peer == r || peer->shard == NULL || !sim->nodes[n].up) continue;
        uint8_t *records = fill_pack(peer, from, last, bytes);
        if (records != NULL) return records;
        (*absent)++;
    }
    return NULL;
}

static bool fill_gap(struct sim_replica *r, const struct storage_gap *gap) {
    char error[256];
    size_t bytes = 0;
    uint32_t absent = 0;
    uint64_t from = gap->first;
    uint8_t *records = fill_find(r, from, gap->last, &bytes, &absent);
    /* All others have dropped it: what they have still. */
    while (records == NULL && gap->opens && absent + 1 == r->sim->options.voters &&
           ++from <= gap->last) {
        absent = 0;
        records = fill_find(r, from, gap->last, &bytes, &absent);
    }
    if (records == NULL) return false;
    enum storage_filled filled = r->storage->ops->fill(r->storage, records, bytes, error,
                                                       sizeof error);
    free(records);
    /* Without a rotten bit somewhere all that is committed has to fit. */
    bool fits = filled == STORAGE_FILLED || filled == STORAGE_FILL_NO_ROOM;
    if (!fits && r->sim->totals.damaged == 0)
        sim_fail(r->sim, SIM_CORRECTNESS, "shard %u on node %u: a gap cannot be filled: %s",
                 r->group, r->node + 1, error);
    return filled == STORAGE_FILLED;
}

void replica_fill(struct sim_replica *r) {
    struct storage_gap gap;
    if (!sim_is_cluster(r->sim) || r->sim->mono_ms < r->fill_ms) return;
    r->fill_ms = r->sim->mono_ms + FILL_EVERY_MS;
    for (uint32_t i = 0; r->storage->ops->gap(r->storage, i, &gap); i++)
        if (fill_gap(r, &gap)) return;
}
