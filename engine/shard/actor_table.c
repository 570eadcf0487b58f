#include "engine/shard/actor_table.h"

#include "engine/base/prefetch.h"
#include "engine/limits.h"

enum { INDEX_ENTRIES_MIN = 1024, MOVE_PER_INSERT = 8 };

/* Order keys end in 80 random bits and store keys are hashes, but a caller may make keys of its
 * own: mix all 128 bits. */
static uint64_t key_hash(const struct id128 *key) {
    uint64_t a, b;
    memcpy(&a, key->bytes, 8);
    memcpy(&b, key->bytes + 8, 8);
    uint64_t h = (a ^ 0x9e3779b97f4a7c15ULL) * 0xff51afd7ed558ccdULL;
    h ^= h >> 32;
    h = (h ^ b) * 0xc4ceb9fe1a85ec53ULL;
    return h ^ (h >> 29);
}

static uint32_t hash_tag(uint64_t hash) { return (uint32_t)(hash >> 32) | 1u; }

static bool index_alloc(struct actor_table *t, struct actor_index *index, uint64_t entries) {
    size_t capacity;
    index->entries = shard_memory_resize(t->memory, &t->memory->table_bytes, NULL,
                                         entries * sizeof *index->entries, &capacity);
    if (!index->entries) return false;
    memset(index->entries, 0, entries * sizeof *index->entries);
    index->mask = entries - 1;
    index->used = 0;
    return true;
}

static void index_free(struct actor_table *t, struct actor_index *index) {
    shard_memory_free(&t->memory->table_bytes, index->entries);
    *index = (struct actor_index){0};
}

bool actor_table_init(struct actor_table *t, struct shard_memory *memory) {
    *t = (struct actor_table){.memory = memory, .slots_used = 1};
    return index_alloc(t, &t->index, INDEX_ENTRIES_MIN);
}

void actor_table_fini(struct actor_table *t) {
    for (uint32_t n = 1; n < t->slots_used; n++) {
        struct slot *slot = actor_table_slot(t, n);
        shard_memory_free_block(t->memory, slot->block, slot->capacity);
    }
    for (uint32_t c = 0; c < t->chunks_count; c++)
        shard_memory_free(&t->memory->table_bytes, t->chunks[c]);
    shard_memory_free(&t->memory->table_bytes, t->chunks);
    index_free(t, &t->index);
    index_free(t, &t->old);
}

static uint64_t index_home(const struct actor_index *index, uint32_t tag) {
    /* The tag alone gives the place, so that moving an entry never touches its block. */
    return ((uint64_t)tag * 0x9e3779b97f4a7c15ULL >> 20) & index->mask;
}

static uint32_t index_find(const struct actor_table *t, const struct actor_index *index,
                           uint32_t tag, uint8_t kind, const struct id128 *key) {
    if (!index->entries) return SLOT_NONE;
    for (uint64_t i = index_home(index, tag);; i = (i + 1) & index->mask) {
        uint32_t n = index->entries[i].slot;
        if (n == SLOT_NONE) return SLOT_NONE;
        if (index->entries[i].tag != tag) continue;
        const struct actor *a = actor_table_slot(t, n)->block;
        if (id128_equal(&a->key, key) && a->kind == kind) return n;
    }
}

static void index_put(struct actor_index *index, uint32_t tag, uint32_t slot) {
    uint64_t i = index_home(index, tag);
    while (index->entries[i].slot != SLOT_NONE) i = (i + 1) & index->mask;
    index->entries[i].tag = tag;
    index->entries[i].slot = slot;
    index->used++;
}

/* Removes by moving the followers of the cluster back: no tombstones, so look-ups stay short. */
static bool index_remove(struct actor_index *index, uint32_t tag, uint32_t slot) {
    if (!index->entries) return false;
    uint64_t i = index_home(index, tag);
    for (; index->entries[i].slot != slot; i = (i + 1) & index->mask)
        if (index->entries[i].slot == SLOT_NONE) return false;
    for (uint64_t j = (i + 1) & index->mask; index->entries[j].slot != SLOT_NONE;
         j = (j + 1) & index->mask) {
        uint64_t home = index_home(index, index->entries[j].tag);
        if (((j - home) & index->mask) < ((j - i) & index->mask)) continue;
        index->entries[i] = index->entries[j];
        i = j;
    }
    index->entries[i].slot = SLOT_NONE;
    index->used--;
    return true;
}

uint32_t actor_table_find(const struct actor_table *t, uint8_t kind, const struct id128 *key) {
    uint32_t tag = hash_tag(key_hash(key));
    uint32_t n = index_find(t, &t->index, tag, kind, key);
    return n != SLOT_NONE ? n : index_find(t, &t->old, tag, kind, key);
}

/* The first slot with this tag: almost always the right one, and never looks at a block. */
static uint32_t index_guess(const struct actor_index *index, uint32_t tag) {
    uint64_t i = index_home(index, tag);
    while (index->entries[i].slot != SLOT_NONE && index->entries[i].tag != tag)
        i = (i + 1) & index->mask;
    return index->entries[i].slot;
}

void actor_table_prefetch(const struct actor_table *t, const struct id128 *const *keys,
                          uint32_t count, const struct slot **slots) {
    uint32_t tags[ACTOR_TABLE_PREFETCH_MAX];
    require(count <= ACTOR_TABLE_PREFETCH_MAX);
    for (uint32_t i = 0; i < count; i++) {
        tags[i] = hash_tag(key_hash(keys[i]));
        prefetch_read(&t->index.entries[index_home(&t->index, tags[i])]);
        if (t->old.entries) prefetch_read(&t->old.entries[index_home(&t->old, tags[i])]);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = index_guess(&t->index, tags[i]);
        if (n == SLOT_NONE && t->old.entries) n = index_guess(&t->old, tags[i]);
        slots[i] = n == SLOT_NONE ? NULL : actor_table_slot(t, n);
        if (slots[i]) prefetch_read(slots[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!slots[i] || !slots[i]->block) continue;
        const uint8_t *block = (const uint8_t *)slots[i]->block;
        uint32_t bytes = slots[i]->capacity < 512 ? slots[i]->capacity : 512;
        for (uint32_t at = 0; at < bytes; at += 64) prefetch_write(block + at);
    }
}

void actor_table_prefetch_index(const struct actor_table *t, const struct id128 *key) {
    uint32_t tag = hash_tag(key_hash(key));
    prefetch_write(&t->index.entries[index_home(&t->index, tag)]);
    if (t->old.entries) prefetch_write(&t->old.entries[index_home(&t->old, tag)]);
}

/* Moves whole clusters only: what is left of `old` must stay reachable from its home, and a cluster
 * that is cut in the middle is not. */
static void index_move_some(struct actor_table *t) {
    if (!t->old.entries) return;
    uint32_t moved = 0;
    while (t->old_position <= t->old.mask) {
        uint64_t p = t->old_position;
        uint32_t slot = t->old.entries[p].slot;
        if (slot == SLOT_NONE) {
            t->old_position++;
            if (++moved >= MOVE_PER_INSERT * 4) return;
            continue;
        }
        uint32_t tag = t->old.entries[p].tag;
        index_put(&t->index, tag, slot);
        index_remove(&t->old, tag, slot); /* may pull a follower into p: look at p again */
        if (++moved >= MOVE_PER_INSERT) return;
    }
    if (t->old.used == 0) {
        index_free(t, &t->old);
    } else {
        t->old_position = 0; /* entries that wrapped round were pulled to the front */
    }
}

static bool index_make_room(struct actor_table *t) {
    index_move_some(t);
    if ((t->index.used + t->old.used + 1) * 4 <= (t->index.mask + 1) * 3) return true;
    while (t->old.entries) index_move_some(t);
    struct actor_index bigger;
    if (!index_alloc(t, &bigger, (t->index.mask + 1) * 2)) return false;
    t->old = t->index;
    t->index = bigger;
    t->old_position = 0;
    return true;
}

static uint32_t slot_take(struct actor_table *t) {
    if (t->free_slot != SLOT_NONE) {
        uint32_t n = t->free_slot;
        t->free_slot = actor_table_slot(t, n)->next;
        return n;
    }
    if (t->slots_used / SLOT_CHUNK >= t->chunks_count) {
        size_t capacity;
        if (t->chunks_count == t->chunks_capacity) {
            uint32_t wanted = t->chunks_capacity ? t->chunks_capacity * 2 : 16;
            struct slot **chunks =
                shard_memory_resize(t->memory, &t->memory->table_bytes, t->chunks,
                                    wanted * sizeof *chunks, &capacity);
            if (!chunks) return SLOT_NONE;
            t->chunks = chunks;
            t->chunks_capacity = wanted;
        }
        struct slot *chunk = shard_memory_resize(t->memory, &t->memory->table_bytes, NULL,
                                                 SLOT_CHUNK * sizeof *chunk, &capacity);
        if (!chunk) return SLOT_NONE;
        memset(chunk, 0, SLOT_CHUNK * sizeof *chunk);
        t->chunks[t->chunks_count++] = chunk;
    }
    return t->slots_used++;
}

static void slot_give_back(struct actor_table *t, uint32_t n) {
    *actor_table_slot(t, n) = (struct slot){.next = t->free_slot};
    t->free_slot = n;
}

uint32_t actor_table_add(struct actor_table *t, uint8_t kind, const struct id128 *key,
                         uint32_t bytes) {
    debug_check(actor_table_find(t, kind, key) == SLOT_NONE);
    if (!index_make_room(t)) return SLOT_NONE;
    uint32_t n = slot_take(t);
    if (n == SLOT_NONE) return SLOT_NONE;
    struct slot *slot = actor_table_slot(t, n);
    *slot = (struct slot){0};
    uint32_t room = bytes < sizeof(struct actor) ? sizeof(struct actor) : bytes;
    if (!actor_table_reserve(t, slot, room)) {
        slot_give_back(t, n);
        return SLOT_NONE;
    }
    slot->block->bytes = sizeof(struct actor);
    slot->block->kind = kind;
    slot->block->key = *key;
    index_put(&t->index, hash_tag(key_hash(key)), n);
    t->count[kind]++;
    return n;
}

bool actor_table_reserve(struct actor_table *t, struct slot *slot, uint32_t bytes) {
    if (bytes <= slot->capacity) return true;
    require(bytes <= ACTOR_BYTES_MAX);
    size_t capacity;
    struct actor *block =
        shard_memory_resize_block(t->memory, slot->block, slot->capacity, bytes, &capacity);
    if (!block) return false;
    uint32_t used = slot->block ? block->bytes : 0;
    memset((uint8_t *)block + used, 0, capacity - used);
    slot->block = block;
    slot->capacity = (uint32_t)capacity;
    return true;
}

bool actor_table_fill(struct actor_table *t, struct slot *slot, const void *block, uint32_t bytes) {
    if (!actor_table_reserve(t, slot, bytes)) return false;
    memcpy(slot->block, block, bytes);
    return true;
}

void actor_table_remove(struct actor_table *t, uint32_t number) {
    struct slot *slot = actor_table_slot(t, number);
    require(slot->block != NULL && slot->timer_position == 0);
    uint32_t tag = hash_tag(key_hash(&slot->block->key));
    if (!index_remove(&t->index, tag, number)) require(index_remove(&t->old, tag, number));
    t->count[slot->block->kind]--;
    shard_memory_free_block(t->memory, slot->block, slot->capacity);
    slot_give_back(t, number);
}
