#include "clients/replay/unseen.h"

#include <stdlib.h>

bool unseen_add(struct unseen *u, uint32_t peer, uint64_t sequence, uint64_t index,
                struct bytes payload) {
    if (peer >= SHARDS_MAX || sequence <= u->acknowledged[peer]) return true;
    if (u->count == u->capacity) {
        uint64_t capacity = u->capacity ? u->capacity * 2 : 64;
        struct unseen_message *messages = realloc(u->messages, capacity * sizeof *messages);
        if (!messages) return false;
        u->messages = messages;
        u->capacity = capacity;
    }
    uint8_t *copy = malloc(payload.size + 1u);
    if (!copy) return false;
    memcpy(copy, payload.data, payload.size);
    u->messages[u->count++] = (struct unseen_message){sequence, index, peer, payload.size, copy};
    return true;
}

bool unseen_add_record(struct unseen *u, uint64_t index, const void *events, uint32_t bytes) {
    uint32_t offset = 0;
    const struct event *e;
    while ((e = event_next(events, bytes, &offset))) {
        if (e->kind != EVENT_MESSAGE_SENT || !message_event_is_well_formed(e)) continue;
        const struct message_event *m = event_payload(e);
        if (!unseen_add(u, m->peer, m->sequence, index, message_event_payload(e))) return false;
    }
    return true;
}

static int unseen_compare(const void *a, const void *b) {
    const struct unseen_message *x = a, *y = b;
    if (x->peer != y->peer) return x->peer < y->peer ? -1 : 1;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

void unseen_settle(struct unseen *u) {
    uint64_t kept = 0;
    if (u->count > 0) qsort(u->messages, u->count, sizeof *u->messages, unseen_compare);
    for (uint64_t i = 0; i < u->count; i++) {
        if (kept > 0 && unseen_compare(&u->messages[i], &u->messages[kept - 1]) == 0) {
            free(u->messages[i].payload);
        } else {
            u->messages[kept++] = u->messages[i];
        }
    }
    u->count = kept;
}

uint64_t unseen_missing(const struct unseen *u, uint32_t peer, uint64_t last) {
    uint64_t wanted = u->acknowledged[peer] + 1;
    for (uint64_t i = 0; i < u->count; i++) {
        if (u->messages[i].peer != peer) continue;
        if (u->messages[i].sequence != wanted) break;
        wanted++;
    }
    return wanted <= last ? wanted : 0;
}

void unseen_free(struct unseen *u) {
    for (uint64_t i = 0; i < u->count; i++) free(u->messages[i].payload);
    free(u->messages);
    *u = (struct unseen){.count = 0};
}
