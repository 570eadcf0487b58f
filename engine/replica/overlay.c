#include "engine/replica/overlay.h"

#include <stdlib.h>
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/base/prefetch.h"

enum { OVERLAY_CHUNK_BYTES = 1 << 20, OVERLAY_SLOTS_MIN = 1024, OVERLAY_STEP_BYTES = 64 };

struct overlay_chunk { struct overlay_chunk *next; };

static uint32_t slot_of(const struct id128 *key, uint32_t capacity) {
    uint64_t h;
    memcpy(&h, key->bytes + 8, 8); /* a key's last bytes are random */
    h ^= h >> 29;
    return (uint32_t)(h * 0x9e3779b97f4a7c15ull >> 32) & (capacity - 1);
}

/* -- memory ------------------------------------------------------------------------------------ */

/* Memory that lives as long as the table; NULL without any. */
static void *chunk_new(struct overlay *t, size_t bytes) {
    struct overlay_chunk *chunk = malloc(sizeof *chunk + bytes);
    if (!chunk) return NULL;
    chunk->next = t->chunks;
    t->chunks = chunk;
    return chunk + 1;
}

void *overlay_take(struct overlay *t, size_t bytes) {
    bytes = (bytes + 7) & ~(size_t)7;
    if ((size_t)(t->end - t->at) < bytes) {
        require((size_t)(t->spare_end - t->spare) >= bytes);
        t->at = t->spare;
        t->end = t->spare_end;
        t->bytes += (size_t)(t->end - t->at);
        t->spare = t->spare_end = NULL;
    }
    void *taken = t->at;
    t->at += bytes;
    return taken;
}

/* The old slots stay for whoever still looks at them. */
static bool slots_grow(struct overlay *t, uint32_t capacity) {
    const struct overlay_slots *old = atomic_load_explicit(&t->slots, memory_order_relaxed);
    struct overlay_slots *s = chunk_new(t, sizeof *s + (size_t)capacity * sizeof *s->slots);
    if (!s) return false;
    s->capacity = capacity;
    t->bytes += (size_t)capacity * sizeof *s->slots;
    memset((void *)s->slots, 0, (size_t)capacity * sizeof *s->slots);
    for (uint32_t i = 0; old && i < old->capacity; i++) {
        struct overlay_order *o = atomic_load_explicit(&old->slots[i], memory_order_relaxed);
        if (!o) continue;
        uint32_t at = slot_of(&o->key, capacity);
        while (atomic_load_explicit(&s->slots[at], memory_order_relaxed))
            at = (at + 1) & (capacity - 1);
        atomic_store_explicit(&s->slots[at], o, memory_order_relaxed);
    }
    atomic_store_explicit(&t->slots, s, memory_order_release);
    return true;
}

static bool sum_slots_grow(struct overlay *t, uint32_t capacity) {
    struct overlay_sum **slots = calloc(capacity, sizeof *slots);
    if (!slots) return false;
    for (uint32_t i = 0; i < t->sums_capacity; i++) {
        if (!t->sum_slots[i]) continue;
        uint32_t at = (uint32_t)t->sum_slots[i]->hash & (capacity - 1);
        while (slots[at]) at = (at + 1) & (capacity - 1);
        slots[at] = t->sum_slots[i];
    }
    free(t->sum_slots);
    t->sum_slots = slots;
    t->sums_capacity = capacity;
    return true;
}

struct overlay *overlay_new(uint64_t id, uint32_t orders) {
    struct overlay *t = calloc(1, sizeof *t);
    uint32_t capacity = OVERLAY_SLOTS_MIN;
    if (!t) return NULL;
    while (capacity / 2 < orders) capacity *= 2;
    t->id = id;
    t->holders = 1;
    if (slots_grow(t, capacity) && sum_slots_grow(t, OVERLAY_SLOTS_MIN)) return t;
    overlay_free(t);
    return NULL;
}

void overlay_free(struct overlay *t) {
    for (struct overlay_chunk *chunk = t->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    for (int i = 0; i < OVERLAY_SIZES; i++) free(t->unused[i].list);
    free(t->retired);
    free(t->sum_slots);
    free(t);
}

static uint32_t size_class(size_t bytes) {
    return (uint32_t)((bytes + OVERLAY_STEP_BYTES - 1) / OVERLAY_STEP_BYTES);
}

/* A version may be used again. Without memory to note it, it is not. */
static void unused_push(struct overlay *t, struct overlay_version *v, uint32_t steps) {
    if (steps >= OVERLAY_SIZES) return;
    if (t->unused[steps].count == t->unused[steps].capacity) {
        uint32_t capacity = t->unused[steps].capacity ? t->unused[steps].capacity * 2 : 256;
        struct overlay_version **list =
            realloc(t->unused[steps].list, capacity * sizeof *list);
        if (!list) return;
        t->unused[steps].list = list;
        t->unused[steps].capacity = capacity;
    }
    t->unused[steps].list[t->unused[steps].count++] = v;
}

/* What no reader can reach any more is free. */
static void collect_retired(struct overlay *t) {
    while (t->retired_count != 0) {
        const struct overlay_retired *r =
            &t->retired[t->retired_first & (t->retired_capacity - 1)];
        if (r->number > t->oldest) break;
        unused_push(t, r->version, r->steps);
        t->retired_first++;
        t->retired_count--;
    }
}

/* Room for so many more retired versions. */
static bool retired_grow(struct overlay *t, uint32_t more) {
    uint32_t capacity = t->retired_capacity ? t->retired_capacity : 1024;
    while (capacity < t->retired_count + more) capacity *= 2;
    if (capacity == t->retired_capacity) return true;
    struct overlay_retired *ring = malloc(capacity * sizeof *ring);
    if (!ring) return false;
    for (uint32_t i = 0; i < t->retired_count; i++)
        ring[i] = t->retired[(t->retired_first + i) & (t->retired_capacity - 1)];
    free(t->retired);
    t->retired = ring;
    t->retired_first = 0;
    t->retired_capacity = capacity;
    return true;
}

bool overlay_reserve(struct overlay *t, uint32_t orders, uint64_t blocks_bytes, uint32_t sums,
                     uint64_t extra_bytes, uint64_t oldest) {
    uint32_t capacity = atomic_load_explicit(&t->slots, memory_order_relaxed)->capacity;
    size_t bytes = orders * (sizeof(struct overlay_order) + sizeof(struct overlay_version) +
                             OVERLAY_STEP_BYTES + 32) +
                   (orders / OVERLAY_SHELF_ORDERS + OVERLAY_STATES) *
                       sizeof(struct overlay_shelf) +
                   blocks_bytes + extra_bytes + 64 +
                   sums * (sizeof(struct overlay_sum) + sizeof(struct overlay_number) +
                           VIEW_KEY_BYTES_MAX + 16);
    t->oldest = oldest;
    collect_retired(t);
    if (!retired_grow(t, orders)) return false;
    while (capacity / 2 < t->orders_count + orders) capacity *= 2;
    if (capacity != atomic_load_explicit(&t->slots, memory_order_relaxed)->capacity &&
        !slots_grow(t, capacity))
        return false;
    capacity = t->sums_capacity;
    while (capacity / 2 < t->sums_count + sums) capacity *= 2;
    if (capacity != t->sums_capacity && !sum_slots_grow(t, capacity)) return false;
    if ((size_t)(t->end - t->at) >= bytes || (size_t)(t->spare_end - t->spare) >= bytes)
        return true;
    if (bytes < OVERLAY_CHUNK_BYTES) bytes = OVERLAY_CHUNK_BYTES;
    t->spare = chunk_new(t, bytes);
    t->spare_end = t->spare ? t->spare + bytes : NULL;
    return t->spare != NULL;
}

/* -- the writer -------------------------------------------------------------------------------- */

/* The order's place; a new one is not to be seen before its first version is published. */
static struct overlay_order *order_of_key(struct overlay *t, struct fold_order *from) {
    if (from->recent_id == t->id) return from->recent;
    struct overlay_slots *s = atomic_load_explicit(&t->slots, memory_order_relaxed);
    struct overlay_order *o;
    from->recent_id = t->id;
    uint32_t at = slot_of(&from->key, s->capacity);
    while ((o = atomic_load_explicit(&s->slots[at], memory_order_relaxed))) {
        if (id128_equal(&o->key, &from->key)) return from->recent = o;
        at = (at + 1) & (s->capacity - 1);
    }
    from->recent = o = overlay_take(t, sizeof *o);
    *o = (struct overlay_order){.key = from->key,
                                .next = atomic_load_explicit(&t->orders, memory_order_relaxed),
                                .was_last_index = from->was_last_index,
                                .was_state = from->was_state,
                                .was_there = from->was_there,
                                .was_placed = from->was_placed,
                                .was_open = from->was_open};
    t->orders_count++;
    atomic_store_explicit(&t->orders, o, memory_order_release);
    atomic_store_explicit(&s->slots[at], o, memory_order_release);
    return o;
}

static struct bytes chain_text(const struct view_order *v, enum overlay_chain chain) {
    return chain == OVERLAY_STORE ? v->store : chain == OVERLAY_CUSTOMER ? v->customer
                                                                         : v->external_ref;
}

static uint32_t text_hash(struct bytes text) {
    return (uint32_t)XXH3_64bits(text.data, text.size);
}

/* Names never change once an order was placed. */
static void chain_order(struct overlay *t, struct overlay_order *o, const struct view_order *v) {
    o->named = true;
    for (int c = 0; c < OVERLAY_CHAINS; c++) {
        struct bytes text = chain_text(v, (enum overlay_chain)c);
        if (text.size == 0) continue;
        o->hashes[c] = text_hash(text);
        _Atomic(struct overlay_order *) *head = &t->chains[c][o->hashes[c] % OVERLAY_BUCKETS];
        o->chained[c] = atomic_load_explicit(head, memory_order_relaxed);
        atomic_store_explicit(head, o, memory_order_release);
    }
}

static struct overlay_shelf *shelf_new(struct overlay *t, uint32_t state) {
    struct overlay_shelf *s = overlay_take(t, sizeof *s), *last = t->shelves[state];
    atomic_init(&s->next, NULL);
    atomic_init(&s->first_ms, UINT64_MAX);
    atomic_init(&s->last_ms, 0);
    atomic_init(&s->left, UINT64_MAX);
    atomic_init(&s->count, 0);
    s->there = 0;
    atomic_store_explicit(last ? &last->next : &t->states[state], s, memory_order_release);
    t->shelves[state] = s;
    return s;
}

static void leave_state(struct overlay_order *o, uint64_t number) {
    if (!o->shelf) return;
    if (--o->shelf->there == 0)
        atomic_store_explicit(&o->shelf->left, number, memory_order_release);
    o->shelf = NULL;
}

static void list_in_state(struct overlay *t, struct overlay_order *o, uint8_t state,
                          uint64_t placed_ms, uint64_t number) {
    if (o->shelf && o->state == state) return;
    leave_state(o, number);
    struct overlay_shelf *s = t->shelves[state];
    uint32_t count = s ? atomic_load_explicit(&s->count, memory_order_relaxed) : 0;
    if (!s || count == OVERLAY_SHELF_ORDERS) {
        s = shelf_new(t, state);
        count = 0;
    }
    if (placed_ms < atomic_load_explicit(&s->first_ms, memory_order_relaxed))
        atomic_store_explicit(&s->first_ms, placed_ms, memory_order_relaxed);
    if (placed_ms > atomic_load_explicit(&s->last_ms, memory_order_relaxed))
        atomic_store_explicit(&s->last_ms, placed_ms, memory_order_relaxed);
    atomic_store_explicit(&s->left, UINT64_MAX, memory_order_relaxed);
    s->orders[count] = o;
    s->there++;
    o->shelf = s;
    o->state = state;
    atomic_store_explicit(&s->count, count + 1, memory_order_release);
}

/* Memory for a block: of a version that is out of reach, or new. */
static struct overlay_version *version_new(struct overlay *t, uint32_t steps) {
    if (steps < OVERLAY_SIZES && t->unused[steps].count != 0)
        return t->unused[steps].list[--t->unused[steps].count];
    return overlay_take(t, sizeof(struct overlay_version) + steps * (size_t)OVERLAY_STEP_BYTES);
}

void overlay_prefetch(const struct overlay *t, const struct fold_order *first,
                      const struct fold_order *later) {
    if (first->recent_id == t->id) {
        prefetch_write(first->recent);
        prefetch_write((const uint8_t *)first->recent + 64);
    }
    for (int line = 0; line < 9; line++)
        prefetch_read((const uint8_t *)later->block + 64 * line);
}

void overlay_put(struct overlay *t, struct fold_order *from, uint64_t number) {
    struct overlay_order *o = order_of_key(t, from);
    struct overlay_version *older =
        (struct overlay_version *)atomic_load_explicit(&o->newest, memory_order_relaxed);
    uint32_t steps = size_class(from->block->bytes);
    struct overlay_version *v = version_new(t, steps);
    struct view_order named;
    v->older = older;
    v->order = o;
    v->number = number;
    v->shard = from->shard;
    memcpy(v->block, from->block, from->block->bytes);
    o->events |= from->events;
    atomic_store_explicit(&o->newest, v, memory_order_release);
    view_order_of(overlay_block(v), v->shard, &named);
    if (named.exists)
        list_in_state(t, o, named.state % OVERLAY_STATES, (uint64_t)named.placed_ms, number);
    else leave_state(o, number);
    if (!o->named && named.exists) chain_order(t, o, &named);
    if (older) {
        uint32_t at = (t->retired_first + t->retired_count++) & (t->retired_capacity - 1);
        t->retired[at] = (struct overlay_retired){older, number, o->steps};
    }
    o->steps = (uint16_t)steps;
}

static struct overlay_sum *sum_of_key(struct overlay *t, enum view_number view, const uint8_t *key,
                                      const struct sums_entry *e) {
    uint64_t hash = e->hash + (uint64_t)view;
    uint32_t at = (uint32_t)hash & (t->sums_capacity - 1);
    struct overlay_sum *s;
    while ((s = t->sum_slots[at])) {
        if (s->hash == hash && s->key_bytes == e->key_bytes &&
            memcmp(s->key, key, e->key_bytes) == 0)
            return s;
        at = (at + 1) & (t->sums_capacity - 1);
    }
    s = overlay_take(t, sizeof *s + e->key_bytes);
    *s = (struct overlay_sum){.hash = hash, .key_bytes = e->key_bytes};
    memcpy(s->key, key, e->key_bytes);
    s->next = atomic_load_explicit(&t->sums[view], memory_order_relaxed);
    atomic_store_explicit(&t->sums[view], s, memory_order_release);
    t->sum_slots[at] = s;
    t->sums_count++;
    return s;
}

void overlay_add(struct overlay *t, enum view_number view, const struct sums *sums,
                 const struct sums_entry *e, uint64_t number) {
    struct overlay_sum *s = sum_of_key(t, view, sums_key(sums, e), e);
    struct overlay_number *older =
        (struct overlay_number *)atomic_load_explicit(&s->newest, memory_order_relaxed);
    struct overlay_number *n = NULL;
    /* The one before that is out of reach when all readers have the newest one or a newer one. */
    if (older && older->older && older->number <= t->oldest) n = older->older;
    if (!n) n = overlay_take(t, sizeof *n);
    else older->older = NULL;
    *n = (struct overlay_number){.older = older, .number = number};
    for (int i = 0; i < VIEW_NUMBERS; i++)
        n->numbers[i] = view_add(e->numbers[i], older ? older->numbers[i] : 0);
    atomic_store_explicit(&s->newest, n, memory_order_release);
}

/* -- readers ----------------------------------------------------------------------------------- */

static const struct overlay_version *overlay_version_at(const struct overlay_order *o,
                                                        uint64_t number) {
    const struct overlay_version *v = atomic_load_explicit(&o->newest, memory_order_acquire);
    while (v && v->number > number) v = v->older;
    return v;
}

const struct overlay_number *overlay_number_at(const struct overlay_sum *s, uint64_t number) {
    const struct overlay_number *n = atomic_load_explicit(&s->newest, memory_order_acquire);
    while (n && n->number > number) n = n->older;
    return n;
}

const struct overlay_version *overlay_find(const struct overlay *t, const struct id128 *key,
                                           uint64_t number) {
    const struct overlay_slots *s = atomic_load_explicit(&t->slots, memory_order_acquire);
    const struct overlay_order *o;
    uint32_t at = slot_of(key, s->capacity);
    while ((o = atomic_load_explicit(&s->slots[at], memory_order_acquire))) {
        if (id128_equal(&o->key, key)) return overlay_version_at(o, number);
        at = (at + 1) & (s->capacity - 1);
    }
    return NULL;
}

static bool each_in_state(const struct overlay *t, const struct overlay_group *g, uint64_t number,
                          bool (*visit)(void *, const struct overlay_version *), void *arg) {
    const struct overlay_shelf *s =
        atomic_load_explicit(&t->states[g->state % OVERLAY_STATES], memory_order_acquire);
    for (; s; s = atomic_load_explicit(&s->next, memory_order_acquire)) {
        uint32_t count = atomic_load_explicit(&s->count, memory_order_acquire);
        if (atomic_load_explicit(&s->left, memory_order_acquire) <= number) continue;
        if (atomic_load_explicit(&s->last_ms, memory_order_relaxed) < g->first_ms) continue;
        if (g->last_ms && atomic_load_explicit(&s->first_ms, memory_order_relaxed) > *g->last_ms)
            continue;
        for (uint32_t i = 0; i < count; i++) {
            const struct overlay_version *v = overlay_version_at(s->orders[i], number);
            if (v && overlay_block(v)->state == g->state && !visit(arg, v)) return false;
        }
    }
    return true;
}

static bool each_of(const struct overlay *t, const struct overlay_group *g, uint64_t number,
                    bool (*visit)(void *, const struct overlay_version *), void *arg) {
    uint32_t hash = text_hash(g->text);
    const struct overlay_order *o =
        atomic_load_explicit(&t->chains[g->chain][hash % OVERLAY_BUCKETS], memory_order_acquire);
    for (; o; o = o->chained[g->chain]) {
        struct view_order named;
        if (o->hashes[g->chain] != hash) continue;
        const struct overlay_version *v = overlay_version_at(o, number);
        if (!v) continue;
        view_order_of(overlay_block(v), v->shard, &named);
        if (bytes_equal(chain_text(&named, g->chain), g->text) && !visit(arg, v)) return false;
    }
    return true;
}

bool overlay_each(const struct overlay *t, const struct overlay_group *g, uint64_t number,
                  bool (*visit)(void *, const struct overlay_version *), void *arg) {
    if (g->by == OVERLAY_IN_STATE) return each_in_state(t, g, number, visit, arg);
    if (g->by == OVERLAY_OF) return each_of(t, g, number, visit, arg);
    const struct overlay_order *o = atomic_load_explicit(&t->orders, memory_order_acquire);
    for (; o; o = o->next) {
        const struct overlay_version *v = overlay_version_at(o, number);
        if (v && !visit(arg, v)) return false;
    }
    return true;
}
