/* Looking for damage on the simulated disk: all of it is one piece. */
#include <stdio.h>
#include <string.h>

#include "tests/world/storage_memory_private.h"

static void damage_add(struct storage_scrubbed *out, const char *kind, const char *where,
                       uint64_t index, const char *what) {
    if (out->count == STORAGE_DAMAGES_MAX) return;
    struct storage_damage *d = &out->damage[out->count++];
    *d = (struct storage_damage){.kind = kind, .index = index, .upto = index};
    snprintf(d->where, sizeof d->where, "%s", where);
    snprintf(d->what, sizeof d->what, "%s", what);
}

enum storage_scrub memory_scrub(struct storage *s, struct storage_scrub_place *place,
                                uint64_t bytes_max, struct storage_scrubbed *out) {
    struct storage_memory *d = disk_of(s);
    struct storage_stats stats;
    out->bytes = out->count = 0;
    if (d->crashed) return STORAGE_SCRUB_LATER;
    s->ops->stats(s, &stats);
    uint64_t from = place->next > stats.log_first ? place->next : stats.log_first;
    for (uint64_t index = from; index <= stats.log_last && index != 0; index++) {
        const struct memory_record *m = log_find(d, index);
        if (m == NULL) continue; /* in a gap */
        const char *what = record_fault(m->data, m->bytes, index);
        out->bytes += m->bytes;
        if (what != NULL) damage_add(out, "record_damaged", "log", index, what);
    }
    for (uint32_t b = 0; b < MEMORY_BUCKETS; b++) {
        for (const struct memory_actor *a = d->buckets[b]; a != NULL; a = a->next) {
            out->bytes += a->bytes;
            if (a->damaged) damage_add(out, "state_damaged", "state", 0, "checksum does not match");
        }
    }
    *place = (struct storage_scrub_place){.next = 0};
    return STORAGE_SCRUB_DONE;
}
