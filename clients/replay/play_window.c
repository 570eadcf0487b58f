#include "clients/replay/play_window.h"

#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/limits.h"

enum window_state { WINDOW_SENT = 0, WINDOW_ANSWERED, WINDOW_LOST };

struct window_entry {
    uint64_t index;            /* of a record that ends here; 0 = a command */
    uint32_t shard;
    enum window_state state;
};

struct play_window {
    uint64_t *reached;
    uint64_t head, tail;       /* tickets: the oldest that is not settled, the next one */
    uint32_t capacity;
    bool held[SHARDS_MAX];     /* a command of it was lost: its place stays */
    struct window_entry entries[];
};

struct play_window *play_window_open(uint32_t capacity, uint64_t reached[]) {
    struct play_window *w = calloc(1, sizeof *w + capacity * sizeof *w->entries);
    if (!w) return NULL;
    w->capacity = capacity;
    w->reached = reached;
    return w;
}

void play_window_close(struct play_window *w) { free(w); }

bool play_window_is_full(const struct play_window *w) { return w->tail - w->head == w->capacity; }

static struct window_entry *window_at(struct play_window *w, uint64_t ticket) {
    return &w->entries[ticket % w->capacity];
}

static void window_settle(struct play_window *w) {
    while (w->head < w->tail && window_at(w, w->head)->state != WINDOW_SENT) {
        const struct window_entry *e = window_at(w, w->head++);
        if (e->state == WINDOW_LOST) w->held[e->shard] = true;
        if (e->index > w->reached[e->shard] && !w->held[e->shard]) w->reached[e->shard] = e->index;
    }
}

static uint64_t window_add(struct play_window *w, struct window_entry entry) {
    require(!play_window_is_full(w) && entry.shard < SHARDS_MAX);
    *window_at(w, w->tail) = entry;
    return w->tail++;
}

uint64_t play_window_send(struct play_window *w, uint32_t shard) {
    return window_add(w, (struct window_entry){.shard = shard});
}

void play_window_answer(struct play_window *w, uint64_t ticket, bool answered) {
    require(ticket >= w->head && ticket < w->tail);
    window_at(w, ticket)->state = answered ? WINDOW_ANSWERED : WINDOW_LOST;
    window_settle(w);
}

void play_window_end(struct play_window *w, uint32_t shard, uint64_t index) {
    window_add(w, (struct window_entry){.index = index, .shard = shard, .state = WINDOW_ANSWERED});
    window_settle(w);
}
