#include "engine/replica/fold.h"

#include <stdlib.h>

#include "actors/order/order_layout.h"
#include "engine/base/prefetch.h"

enum { FOLD_SLOTS_MIN = 1024, FOLD_BLOCK_SLACK = 128, FOLD_FREE_SLOTS = 1024 };

/* A half: open addressing over pointers, so that orders do not move. */
struct fold_half {
    struct fold_order **slots;
    uint32_t capacity, count;  /* a power of two */
    uint64_t bytes;
};

struct fold {
    struct fold_half young, old;
    struct fold_half dying;    /* dropped; the slots below dying_at are free already */
    uint32_t dying_at;
    uint64_t bytes_max;
    struct fold_order *dirty;
    uint32_t dirty_count;
    uint64_t dirty_bytes;
};

/* A key's last bytes are random. */
static uint32_t slot_of(const struct id128 *key, uint32_t capacity) {
    uint64_t h;
    memcpy(&h, key->bytes + 8, 8);
    h ^= h >> 29;
    return (uint32_t)(h * 0x9e3779b97f4a7c15ull >> 32) & (capacity - 1);
}

static struct fold_order **half_slot(struct fold_half *half, const struct id128 *key) {
    uint32_t i = slot_of(key, half->capacity);
    while (half->slots[i] && !id128_equal(&half->slots[i]->key, key))
        i = (i + 1) & (half->capacity - 1);
    return &half->slots[i];
}

static bool half_grow(struct fold_half *half, uint32_t capacity) {
    struct fold_half grown = {calloc(capacity, sizeof *grown.slots), capacity, half->count,
                              half->bytes};
    if (!grown.slots) return false;
    for (uint32_t i = 0; i < half->capacity; i++) {
        if (half->slots[i]) *half_slot(&grown, &half->slots[i]->key) = half->slots[i];
    }
    free(half->slots);
    *half = grown;
    return true;
}

static bool half_add(struct fold_half *half, struct fold_order *order) {
    if (half->count >= half->capacity / 4 * 3 && !half_grow(half, half->capacity * 2)) return false;
    *half_slot(half, &order->key) = order;
    half->count++;
    half->bytes += sizeof *order + order->capacity;
    return true;
}

static void order_free(struct fold_order *o) {
    if (!o) return;
    free(o->block);
    free(o);
}

static void half_empty(struct fold_half *half) {
    for (uint32_t i = 0; i < half->capacity; i++) {
        order_free(half->slots[i]);
        half->slots[i] = NULL;
    }
    half->count = 0;
    half->bytes = 0;
}

/* Frees of what was dropped, so many slots at most. */
static void free_dropped(struct fold *f, uint32_t slots) {
    struct fold_half *dying = &f->dying;
    for (; dying->count != 0 && slots > 0; slots--, f->dying_at++) {
        struct fold_order *o = dying->slots[f->dying_at];
        if (!o) continue;
        dying->slots[f->dying_at] = NULL;
        dying->count--;
        dying->bytes -= sizeof *o + o->capacity;
        order_free(o);
    }
    if (dying->count == 0) f->dying_at = 0;
}

/* Takes one out; what stood behind it in its run is put in anew. */
static void half_take(struct fold_half *half, struct fold_order **at) {
    struct fold_order *taken = *at;
    uint32_t i = (uint32_t)(at - half->slots);
    *at = NULL;
    half->count--;
    half->bytes -= sizeof *taken + taken->capacity;
    while (half->slots[i = (i + 1) & (half->capacity - 1)]) {
        struct fold_order *moved = half->slots[i];
        half->slots[i] = NULL;
        *half_slot(half, &moved->key) = moved;
    }
}

struct fold *fold_new(uint64_t bytes_max) {
    struct fold *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    f->bytes_max = bytes_max;
    if (half_grow(&f->young, FOLD_SLOTS_MIN) && half_grow(&f->old, FOLD_SLOTS_MIN) &&
        half_grow(&f->dying, FOLD_SLOTS_MIN))
        return f;
    fold_free(f);
    return NULL;
}

void fold_free(struct fold *f) {
    half_empty(&f->young);
    half_empty(&f->old);
    half_empty(&f->dying);
    free(f->young.slots);
    free(f->old.slots);
    free(f->dying.slots);
    free(f);
}

void fold_prefetch_slot(const struct fold *f, const struct id128 *key) {
    prefetch_read(&f->young.slots[slot_of(key, f->young.capacity)]);
}

/* The first place of its run is the right one nearly always. */
void fold_prefetch_order(const struct fold *f, const struct id128 *key) {
    const struct fold_order *o = f->young.slots[slot_of(key, f->young.capacity)];
    if (!o) return;
    prefetch_read(o);
    prefetch_read((const uint8_t *)o + 64);
}

void fold_prefetch_block(const struct fold *f, const struct id128 *key) {
    const struct fold_order *o = f->young.slots[slot_of(key, f->young.capacity)];
    if (!o || !o->block) return;
    for (int line = 0; line < 7; line++)
        prefetch_write((const uint8_t *)o->block + 64 * line);
}

struct fold_order *fold_find(struct fold *f, const struct id128 *key) {
    struct fold_order **at = half_slot(&f->young, key);
    if (*at) return *at;
    at = half_slot(&f->old, key);
    struct fold_order *o = *at;
    if (!o) return NULL;
    half_take(&f->old, at);
    if (half_add(&f->young, o)) return o;
    free(o->block);
    free(o);
    return NULL; /* it is asked of the disk again, which has it: only clean orders are old */
}

static bool order_reserve(struct fold *f, struct fold_order *o, uint32_t bytes) {
    if (bytes <= o->capacity) return true;
    uint32_t capacity = (bytes + FOLD_BLOCK_SLACK + 63) & ~63u;
    struct actor *block = realloc(o->block, capacity);
    if (!block) return false;
    memset((uint8_t *)block + o->capacity, 0, capacity - o->capacity);
    f->young.bytes += capacity - o->capacity;
    o->block = block;
    o->capacity = capacity;
    return true;
}

struct fold_order *fold_put(struct fold *f, const struct id128 *key, uint32_t shard,
                            struct bytes block) {
    struct fold_order *o = calloc(1, sizeof *o);
    if (!o) return NULL;
    o->key = *key;
    o->shard = shard;
    if (!half_add(&f->young, o)) {
        free(o);
        return NULL;
    }
    if (block.size == 0) return o;
    if (!order_reserve(f, o, block.size)) {
        half_take(&f->young, half_slot(&f->young, key));
        free(o);
        return NULL;
    }
    memcpy(o->block, block.data, block.size);
    o->was_there = true;
    return o;
}

/* Notes what the rows stand for before the first change of a batch. */
static void order_touch(struct fold *f, struct fold_order *o) {
    if (o->dirty) return;
    const struct actor *b = o->block;
    bool there = b && b->version != 0;
    o->dirty = true;
    o->was_there = there;
    o->was_placed = there && order_was_placed(order_of(b)) && !(b->flags & ACTOR_RETIRED);
    o->was_open = there && b->flags & ACTOR_OPEN;
    o->was_state = there ? b->state : 0;
    o->was_last_index = there ? b->last_index : 0;
    o->events = 0;
    o->dirty_bytes = 0;
    o->next_dirty = f->dirty;
    f->dirty = o;
    f->dirty_count++;
}

/* How large the order is after its change. */
static void order_measure(struct fold *f, struct fold_order *o) {
    f->dirty_bytes = f->dirty_bytes - o->dirty_bytes + o->block->bytes;
    o->dirty_bytes = o->block->bytes;
}

enum fold_outcome fold_apply(struct fold *f, struct fold_order *o, const struct event *e,
                             uint32_t shard, uint64_t index, int64_t time_ms,
                             struct view_event *counted) {
    uint32_t version = o->block ? o->block->version : 0;
    if (e->version <= version) return FOLD_KNOWN;
    if (e->version != version + 1) return FOLD_GAP;
    if (!order_event_is_well_formed(e)) return FOLD_MALFORMED;
    const struct actor *before = version ? o->block : NULL;
    uint32_t bytes = order_bytes_after(before, e);
    if (bytes > ACTOR_BYTES_MAX) return FOLD_MALFORMED;
    if (!order_reserve(f, o, bytes)) return FOLD_NO_MEMORY;
    order_touch(f, o);
    const struct order *order = order_of(o->block);
    int64_t captured = version ? order->captured : 0, refunded = version ? order->refunded : 0;
    const struct apply_context context = {index, time_ms};
    order_apply(o->block, e, &context);
    order_measure(f, o);
    o->shard = shard;
    o->newest_kind = e->kind;
    o->events |= 1ull << (e->kind & 63);
    *counted = (struct view_event){.time_ms = time_ms,
                                   .state = e->state_after,
                                   .entered = e->state_before != e->state_after,
                                   .placed = e->kind == EVENT_ORDER_PLACED,
                                   .store = order_store(o->block),
                                   .total = order->total,
                                   .captured = order->captured - captured,
                                   .refunded = order->refunded - refunded};
    memcpy(counted->currency, order->currency, 3);
    return FOLD_APPLIED;
}

enum fold_outcome fold_replace(struct fold *f, struct fold_order *o, uint32_t shard,
                               const struct actor *block) {
    uint32_t version = o->block ? o->block->version : 0;
    if (version >= block->version) return FOLD_KNOWN;
    order_touch(f, o);
    if (!order_reserve(f, o, block->bytes)) return FOLD_NO_MEMORY;
    memcpy(o->block, block, block->bytes);
    order_measure(f, o);
    o->shard = shard;
    o->newest_kind = 0;
    o->events = VIEW_ON_ALL;
    return FOLD_APPLIED;
}

void fold_remove(struct fold *f, struct fold_order *o) {
    order_touch(f, o);
    o->block->flags |= ACTOR_RETIRED;
    order_measure(f, o);
    o->events = VIEW_ON_ALL;
}

struct fold_order *fold_dirty(struct fold *f) { return f->dirty; }
uint32_t fold_dirty_count(const struct fold *f) { return f->dirty_count; }
uint64_t fold_dirty_bytes(const struct fold *f) { return f->dirty_bytes; }

void fold_clean(struct fold *f) {
    for (struct fold_order *o = f->dirty, *next; o; o = next) {
        next = o->next_dirty;
        o->dirty = false;
        o->next_dirty = NULL;
        if (!(o->block->flags & ACTOR_RETIRED)) continue;
        free(o->block);
        o->block = NULL;
        f->young.bytes -= o->capacity;
        o->capacity = 0;
    }
    f->dirty = NULL;
    f->dirty_count = 0;
    f->dirty_bytes = 0;
    free_dropped(f, FOLD_FREE_SLOTS);
    if (f->young.bytes < f->bytes_max / 2) return;
    free_dropped(f, UINT32_MAX);
    struct fold_half empty = f->dying;
    f->dying = f->old;
    f->old = f->young;
    f->young = empty;
}

void fold_forget(struct fold *f) {
    f->dirty = NULL;
    f->dirty_count = 0;
    f->dirty_bytes = 0;
    half_empty(&f->young);
    half_empty(&f->old);
}

uint64_t fold_bytes(const struct fold *f) { return f->young.bytes + f->old.bytes + f->dying.bytes; }
