#include "clients/replay/fold_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/memory.h"
#include "engine/base/prefetch.h"
#include "engine/limits.h"

enum { TABLE_PARTS_BITS = 14, TABLE_PARTS = 1 << TABLE_PARTS_BITS, PART_ENTRIES_MIN = 4,
       SPILL_BUFFER_BYTES = 1 << 20, SPILL_READ_BYTES = 1024, SPILL_STAGE_BYTES = 4096,
       BLOCK_SLACK_BYTES = 96, BLOCK_ROUND_BYTES = 64 };

/* What is fetched of a block: most of an order. */
enum { LINE_BYTES = 64, BLOCK_LINES = 9 };

/* Places in the file are of some sizes: n units for small blocks, then a quarter more each. One
 * that is left goes to the next block of its size, so that the file is bounded by what is in it.
 * The place of a block in memory has the number of its size in its low bits. */
enum { SLOT_UNIT = 128, SLOT_UNITS_SMALL = 64, SLOT_SIZES = 96 };
static_assert(SLOT_SIZES <= SLOT_UNIT, "a number of a size fits below the unit");

/* Left places of one size, in units. */
struct slot_list { uint32_t *places, count, capacity; };

/* An entry is 8 bytes: 0 = empty. From the top: tag, marked, spilled, where. `where` is the address
 * of a block in memory / 16, or the place in the file / 8.
 *
 * The table is in parts, by the first bits of the hash; an entry's place in its part follows from
 * the tag alone, the bits behind those. So a part grows by itself, without a look at any block, and
 * never is more than a little of the table there twice. */
enum { WHERE_BITS = 43, TAG_BITS = 19, TAG_AT = 64 - TAG_BITS };
static const uint64_t entry_spilled = 1ull << WHERE_BITS, entry_marked = 2ull << WHERE_BITS;
static const uint64_t where_mask = (1ull << WHERE_BITS) - 1;
static_assert(TAG_AT == WHERE_BITS + 2, "an entry has no bit to spare");

struct fold_part { uint64_t *entries; uint32_t size, used; };

struct fold_table {
    struct fold_part *parts;
    uint64_t size, used;       /* of all parts */
    uint64_t block_bytes, block_bytes_max;
    uint32_t hand_part, hand;  /* of the sweep */
    char scratch[512];
    int fd;                    /* -1 = nothing was written yet */
    uint8_t *buffer;           /* the end of the file, not written yet */
    uint64_t buffer_at;        /* its place in the file */
    uint32_t buffer_bytes;
    uint64_t spilled;
    struct slot_list left[SLOT_SIZES];
    uint64_t *scratch_block;   /* for visits of blocks that are in the file */
    char error[256];
};

/* In the file. */
struct spill_head { int64_t entered_ms; uint32_t flags, bytes; };

/* Keys of orders end with random bytes, those of stores are hashes. */
static uint64_t table_hash(const struct id128 *key) {
    uint64_t tail;
    memcpy(&tail, key->bytes + 8, 8);
    return __builtin_bswap64(tail) * 0x9E3779B97F4A7C15ULL;
}
static struct fold_part *hash_part(const struct fold_table *t, uint64_t hash) {
    return &t->parts[hash >> (64 - TABLE_PARTS_BITS)];
}
static uint64_t hash_tag(uint64_t hash) { return hash << TABLE_PARTS_BITS >> TAG_AT; }

static uint64_t entry_tag(uint64_t entry) { return entry >> TAG_AT; }
static uint32_t part_home(const struct fold_part *p, uint64_t tag) {
    return (uint32_t)(tag * p->size >> TAG_BITS);
}
static uint32_t part_next(const struct fold_part *p, uint32_t i) {
    return i + 1 == p->size ? 0 : i + 1;
}

static struct fold_block *entry_block(uint64_t entry) {
    return (struct fold_block *)(uintptr_t)((entry & where_mask) << 4);
}
static bool entry_is_spilled(uint64_t entry) { return entry & entry_spilled; }
/* Where the block lies in the file. */
static uint64_t entry_at(uint64_t entry) { return (entry & where_mask) << 3; }
/* What is asked of the allocator for a block; its release need not look that up again. */
static size_t block_size(uint32_t capacity) {
    return sizeof(struct fold_block) - sizeof(struct actor) + capacity;
}
static void block_free(struct fold_block *b) { memory_block_free(b, block_size(b->capacity)); }
/* The entry, its block elsewhere: tag and mark stay. */
static uint64_t entry_in_memory(uint64_t entry, const struct fold_block *b) {
    uint64_t where = (uint64_t)(uintptr_t)b >> 4;
    require(where <= where_mask && (uintptr_t)b % 16 == 0);
    return (entry & ~(where_mask | entry_spilled)) | where;
}
static uint64_t entry_in_file(uint64_t entry, uint64_t at) {
    require(at >> 3 <= where_mask);
    return (entry & ~where_mask) | entry_spilled | at >> 3;
}

static void table_fail(struct fold_table *t, const char *what) {
    if (t->error[0]) return;
    snprintf(t->error, sizeof t->error, "scratch file in %.150s: %s: %s", t->scratch, what,
             strerror(errno));
}

struct fold_table *fold_table_open(uint64_t memory_bytes_max, const char *scratch) {
    struct fold_table *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->parts = calloc(TABLE_PARTS, sizeof *t->parts);
    t->block_bytes_max = memory_bytes_max;
    t->fd = -1;
    t->buffer_at = SLOT_UNIT; /* so that no block lies at 0 */
    snprintf(t->scratch, sizeof t->scratch, "%s", scratch ? scratch : "/tmp");
    if (t->parts) return t;
    free(t);
    return NULL;
}

void fold_table_close(struct fold_table *t) {
    if (!t) return;
    for (uint32_t n = 0; n < TABLE_PARTS; n++) {
        struct fold_part *p = &t->parts[n];
        for (uint32_t i = 0; i < p->size; i++) {
            uint64_t e = p->entries[i];
            if (e && !entry_is_spilled(e)) free(entry_block(e)); /* without a look at it */
        }
        free(p->entries);
    }
    if (t->fd >= 0) close(t->fd);
    for (uint32_t i = 0; i < SLOT_SIZES; i++) free(t->left[i].places);
    free(t->scratch_block);
    free(t->buffer);
    free(t->parts);
    free(t);
}

/* -- the file ----------------------------------------------------------------------------- */

static bool spill_open(struct fold_table *t) {
    char path[600];
    if (t->fd >= 0) return true;
    if (!t->buffer) t->buffer = malloc(SPILL_BUFFER_BYTES);
    snprintf(path, sizeof path, "%s/jumun-replay-XXXXXX", t->scratch);
    t->fd = t->buffer ? mkostemp(path, O_CLOEXEC) : -1;
    if (t->fd < 0) {
        table_fail(t, "cannot be made");
        return false;
    }
    unlink(path);
    return true;
}

static bool spill_flush(struct fold_table *t) {
    uint32_t done = 0;
    while (done < t->buffer_bytes) {
        ssize_t n = pwrite(t->fd, t->buffer + done, t->buffer_bytes - done,
                           (off_t)(t->buffer_at + done));
        if (n <= 0) {
            table_fail(t, "cannot be written");
            return false;
        }
        done += (uint32_t)n;
    }
    t->buffer_at += t->buffer_bytes;
    t->buffer_bytes = 0;
    return true;
}

static bool spill_put(struct fold_table *t, const void *data, uint32_t bytes) {
    const uint8_t *at = data;
    while (bytes > 0) {
        uint32_t room = SPILL_BUFFER_BYTES - t->buffer_bytes, n = bytes < room ? bytes : room;
        memcpy(t->buffer + t->buffer_bytes, at, n);
        t->buffer_bytes += n;
        at += n;
        bytes -= n;
        if (t->buffer_bytes == SPILL_BUFFER_BYTES && !spill_flush(t)) return false;
    }
    return true;
}

/* Over what a block left at `at`, all in the file's extent. */
static bool spill_over(struct fold_table *t, uint64_t at, const void *data, uint32_t bytes) {
    const uint8_t *from = data;
    while (bytes > 0 && at < t->buffer_at) {
        uint64_t here = t->buffer_at - at;
        ssize_t n = pwrite(t->fd, from, bytes < here ? bytes : (size_t)here, (off_t)at);
        if (n <= 0) {
            table_fail(t, "cannot be written");
            return false;
        }
        from += n;
        at += (uint64_t)n;
        bytes -= (uint32_t)n;
    }
    memcpy(t->buffer + (bytes ? at - t->buffer_at : 0), from, bytes);
    return true;
}

/* The number of the size that `bytes` need, and its bytes. */
static uint32_t slot_size(uint32_t bytes, uint32_t *slot_bytes) {
    uint32_t units = (bytes + SLOT_UNIT - 1) / SLOT_UNIT, size = units;
    if (units > SLOT_UNITS_SMALL) {
        uint32_t room = SLOT_UNITS_SMALL;
        for (size = SLOT_UNITS_SMALL; room < units; size++) room += room / 4;
        units = room;
    }
    require(size < SLOT_SIZES);
    *slot_bytes = units * SLOT_UNIT;
    return size;
}

/* One that cannot be noted is lost until the file goes. */
static void slot_leave(struct fold_table *t, uint64_t spilled_at) {
    struct slot_list *l = &t->left[spilled_at % SLOT_UNIT];
    if (spilled_at == 0 || spilled_at / SLOT_UNIT > UINT32_MAX) return;
    if (l->count == l->capacity) {
        uint32_t capacity = l->capacity ? l->capacity + l->capacity / 2 : 256;
        uint32_t *places = realloc(l->places, capacity * sizeof *places);
        if (!places) return;
        l->places = places;
        l->capacity = capacity;
    }
    l->places[l->count++] = (uint32_t)(spilled_at / SLOT_UNIT);
}

/* Writes a block to where there is room. 0 = it cannot. */
static uint64_t spill_write(struct fold_table *t, const struct fold_block *b) {
    static const uint8_t zeros[SLOT_UNIT];
    const struct spill_head head = {b->entered_ms, b->flags, b->actor.bytes};
    uint32_t bytes = (uint32_t)sizeof head + head.bytes, slot_bytes;
    uint32_t size = slot_size(bytes, &slot_bytes);
    struct slot_list *l = &t->left[size];
    if (l->count > 0) {
        uint64_t at = (uint64_t)l->places[l->count - 1] * SLOT_UNIT;
        uint8_t whole[SPILL_STAGE_BYTES]; /* one write for most */
        bool fits = bytes <= sizeof whole, ok;
        if (fits) {
            memcpy(whole, &head, sizeof head);
            memcpy(whole + sizeof head, &b->actor, head.bytes);
            ok = spill_over(t, at, whole, bytes);
        } else {
            ok = spill_over(t, at, &head, sizeof head) &&
                 spill_over(t, at + sizeof head, &b->actor, head.bytes);
        }
        if (ok) l->count--;
        return ok ? at | size : 0;
    }
    uint64_t at = t->buffer_at + t->buffer_bytes;
    bool ok = spill_put(t, &head, sizeof head) && spill_put(t, &b->actor, head.bytes);
    for (uint32_t rest = slot_bytes - bytes; ok && rest > 0;) {
        uint32_t n = rest < sizeof zeros ? rest : (uint32_t)sizeof zeros;
        ok = spill_put(t, zeros, n);
        rest -= n;
    }
    return ok ? at | size : 0;
}

static bool spill_get(struct fold_table *t, uint64_t at, void *out, uint32_t bytes) {
    uint8_t *to = out;
    while (bytes > 0) {
        if (at >= t->buffer_at) {
            if (at + bytes > t->buffer_at + t->buffer_bytes) return false;
            memcpy(to, t->buffer + (at - t->buffer_at), bytes);
            return true;
        }
        uint64_t here = t->buffer_at - at;
        ssize_t n = pread(t->fd, to, bytes < here ? bytes : (size_t)here, (off_t)at);
        if (n <= 0) {
            table_fail(t, "cannot be read");
            return false;
        }
        to += n;
        at += (uint64_t)n;
        bytes -= (uint32_t)n;
    }
    return true;
}

static bool entry_spill(struct fold_table *t, uint64_t *e) {
    struct fold_block *b = entry_block(*e);
    if (b->spilled_at == 0) {
        b->spilled_at = spill_open(t) ? spill_write(t, b) : 0;
        if (b->spilled_at == 0) return false;
        t->spilled++;
    }
    *e = entry_in_file(*e, b->spilled_at - b->spilled_at % SLOT_UNIT);
    t->block_bytes -= sizeof *b + b->capacity;
    block_free(b);
    return true;
}

/* What one read of the file gives: the head, and as a rule the whole block. */
struct spill_piece {
    struct spill_head head;
    struct actor actor;
    uint8_t rest[SPILL_READ_BYTES - sizeof(struct spill_head) - sizeof(struct actor)];
};
static_assert(sizeof(struct spill_piece) == SPILL_READ_BYTES, "nothing lies in between");

static bool spill_piece(struct fold_table *t, uint64_t at, struct spill_piece *piece) {
    uint64_t left = t->buffer_at + t->buffer_bytes - at;
    uint32_t bytes = left < sizeof *piece ? (uint32_t)left : (uint32_t)sizeof *piece;
    return bytes >= sizeof piece->head + sizeof piece->actor && spill_get(t, at, piece, bytes) &&
           piece->head.bytes >= sizeof piece->actor && piece->head.bytes <= ACTOR_BYTES_MAX;
}

/* The block behind a piece that was read. */
static bool spill_block(struct fold_table *t, uint64_t at, const struct spill_piece *piece,
                        struct actor *out) {
    uint32_t bytes = piece->head.bytes, here = SPILL_READ_BYTES - sizeof piece->head;
    if (here > bytes) here = bytes;
    memcpy(out, (const uint8_t *)piece + sizeof piece->head, here);
    return here == bytes || spill_get(t, at + SPILL_READ_BYTES, (uint8_t *)out + here,
                                      bytes - here);
}

static struct fold_block *entry_load(struct fold_table *t, uint64_t *e,
                                     const struct spill_piece *piece) {
    uint32_t bytes = piece->head.bytes;
    uint32_t capacity = (bytes + BLOCK_SLACK_BYTES + BLOCK_ROUND_BYTES - 1) &
                        ~(BLOCK_ROUND_BYTES - 1u);
    struct fold_block *b = malloc(block_size(capacity));
    uint64_t at = entry_at(*e);
    if (!b || !spill_block(t, at, piece, &b->actor)) {
        free(b);
        return NULL;
    }
    memset((uint8_t *)&b->actor + bytes, 0, capacity - bytes);
    b->entered_ms = piece->head.entered_ms;
    b->flags = piece->head.flags;
    uint32_t slot_bytes;
    b->capacity = capacity;
    b->spilled_at = at | slot_size((uint32_t)sizeof piece->head + bytes, &slot_bytes);
    *e = entry_in_memory(*e, b) & ~entry_spilled;
    t->block_bytes += sizeof *b + capacity;
    return b;
}

/* -- the table ---------------------------------------------------------------------------- */

/* The entry of a key; NULL when there is none. What is in the file is read back. */
static uint64_t *table_find(struct fold_table *t, const struct id128 *key) {
    uint64_t hash = table_hash(key), tag = hash_tag(hash);
    const struct fold_part *p = hash_part(t, hash);
    if (p->size == 0) return NULL;
    for (uint32_t i = part_home(p, tag); p->entries[i]; i = part_next(p, i)) {
        uint64_t *e = &p->entries[i];
        struct spill_piece piece;
        if (entry_tag(*e) != tag) continue;
        if (!entry_is_spilled(*e)) {
            if (id128_equal(&entry_block(*e)->actor.key, key)) return e;
        } else if (spill_piece(t, entry_at(*e), &piece) && id128_equal(&piece.actor.key, key)) {
            return entry_load(t, e, &piece) ? e : NULL;
        }
    }
    return NULL;
}

static void part_put(struct fold_part *p, uint64_t entry) {
    uint32_t i = part_home(p, entry_tag(entry));
    while (p->entries[i]) i = part_next(p, i);
    p->entries[i] = entry;
}

static bool part_grow(struct fold_table *t, struct fold_part *p) {
    uint32_t size = p->size, wanted = size + size / 4;
    if (wanted < size + PART_ENTRIES_MIN) wanted = size + PART_ENTRIES_MIN;
    uint64_t *old = p->entries, *entries = calloc(wanted, sizeof *entries);
    if (!entries) return p->used + 1 < size;
    p->entries = entries;
    p->size = wanted;
    t->size += wanted - size;
    for (uint32_t i = 0; i < size; i++) {
        if (old[i]) part_put(p, old[i]);
    }
    free(old);
    return true;
}

struct fold_block *fold_table_get(struct fold_table *t, const struct id128 *key) {
    uint64_t *e = table_find(t, key);
    if (!e) return NULL;
    struct fold_block *b = entry_block(*e);
    b->flags |= FOLD_REFERENCED;
    return b;
}

struct fold_block *fold_table_add(struct fold_table *t, const struct id128 *key, uint32_t bytes) {
    uint64_t hash = table_hash(key);
    struct fold_part *p = hash_part(t, hash);
    bool full = p->used + 2 > p->size || p->used * 7ull >= p->size * 6ull; /* one stays empty */
    if (full && !part_grow(t, p)) return NULL;
    uint32_t capacity = (bytes + BLOCK_ROUND_BYTES - 1) & ~(BLOCK_ROUND_BYTES - 1u);
    if (capacity < sizeof(struct actor)) capacity = sizeof(struct actor);
    struct fold_block *b = calloc(1, block_size(capacity));
    if (!b) return NULL;
    b->capacity = capacity;
    b->flags = FOLD_REFERENCED;
    b->actor.key = *key;
    part_put(p, entry_in_memory(hash_tag(hash) << TAG_AT, b));
    p->used++;
    t->used++;
    t->block_bytes += sizeof *b + capacity;
    return b;
}

void fold_table_change(struct fold_table *t, struct fold_block *b) {
    slot_leave(t, b->spilled_at);
    b->spilled_at = 0;
}

struct fold_block *fold_table_reserve(struct fold_table *t, struct fold_block *b, uint32_t bytes) {
    fold_table_change(t, b);
    if (bytes <= b->capacity) return b;
    uint64_t *e = table_find(t, &b->actor.key);
    uint32_t capacity = (bytes + BLOCK_SLACK_BYTES + BLOCK_ROUND_BYTES - 1) &
                        ~(BLOCK_ROUND_BYTES - 1u);
    uint32_t before = b->capacity;
    struct fold_block *moved = e ? realloc(b, block_size(capacity)) : NULL;
    if (!moved) return NULL;
    memset((uint8_t *)&moved->actor + before, 0, capacity - before);
    moved->capacity = capacity;
    *e = entry_in_memory(*e, moved);
    t->block_bytes += capacity - before;
    return moved;
}

void fold_table_remove(struct fold_table *t, const struct id128 *key) {
    uint64_t *e = table_find(t, key);
    if (!e) return;
    struct fold_part *p = hash_part(t, table_hash(key));
    struct fold_block *b = entry_block(*e);
    slot_leave(t, b->spilled_at);
    t->block_bytes -= sizeof *b + b->capacity;
    block_free(b);
    p->used--;
    t->used--;
    /* What stands behind moves up, as far as its own place allows. */
    uint32_t hole = (uint32_t)(e - p->entries), i = hole;
    for (;;) {
        p->entries[hole] = 0;
        for (;;) {
            i = part_next(p, i);
            if (!p->entries[i]) return;
            uint32_t home = part_home(p, entry_tag(p->entries[i]));
            bool between = hole <= i ? hole < home && home <= i : hole < home || home <= i;
            if (!between) break;
        }
        p->entries[hole] = p->entries[i];
        hole = i;
    }
}

bool fold_table_mark(struct fold_table *t, const struct id128 *key) {
    uint64_t *e = table_find(t, key);
    if (e) *e |= entry_marked;
    return e != NULL;
}

/* -- ahead of its use --------------------------------------------------------------------- */

void fold_table_foresee(const struct fold_table *t, const struct id128 *key,
                        struct fold_hint *hint) {
    hint->hash = table_hash(key);
    hint->entry = 0;
    prefetch_read(hash_part(t, hint->hash));
}

void fold_table_foresee_entry(const struct fold_table *t, const struct fold_hint *hint) {
    const struct fold_part *p = hash_part(t, hint->hash);
    prefetch_read(p->entries + part_home(p, hash_tag(hint->hash)));
}

void fold_table_foresee_block(const struct fold_table *t, struct fold_hint *hint) {
    uint64_t tag = hash_tag(hint->hash);
    const struct fold_part *p = hash_part(t, hint->hash);
    if (p->size == 0) return;
    for (uint32_t i = part_home(p, tag); p->entries[i]; i = part_next(p, i)) {
        if (entry_tag(p->entries[i]) != tag) continue;
        if (entry_is_spilled(p->entries[i])) return;
        hint->entry = p->entries[i];
        hint->slot = i;
        const char *block = (const char *)entry_block(hint->entry);
        for (uint32_t k = 0; k < BLOCK_LINES; k++) prefetch_write(block + k * LINE_BYTES);
        return;
    }
}

/* Whether the block that was foreseen is there. (It may be another's, at the same address.) */
static bool hint_holds(const struct fold_table *t, const struct fold_hint *hint) {
    const struct fold_part *p = hash_part(t, hint->hash);
    return hint->entry != 0 && hint->slot < p->size && p->entries[hint->slot] == hint->entry;
}

struct fold_block *fold_table_get_foreseen(struct fold_table *t, const struct id128 *key,
                                           const struct fold_hint *hint) {
    if (!hint_holds(t, hint)) return fold_table_get(t, key);
    struct fold_block *b = entry_block(hint->entry);
    if (!id128_equal(&b->actor.key, key)) return fold_table_get(t, key);
    b->flags |= FOLD_REFERENCED;
    return b;
}

/* -- room --------------------------------------------------------------------------------- */

static uint64_t table_bytes(const struct fold_table *t) {
    return t->size * sizeof(uint64_t) + TABLE_PARTS * sizeof(struct fold_part);
}

void fold_table_trim(struct fold_table *t) {
    if (t->block_bytes_max == 0 || t->error[0]) return;
    uint64_t least = t->block_bytes_max / 4, entries = table_bytes(t);
    uint64_t most = entries + least < t->block_bytes_max ? t->block_bytes_max - entries : least;
    if (t->block_bytes <= most) return;
    uint64_t wanted = most - most / 8, looked = 0;
    while (t->block_bytes > wanted && looked < 2 * t->size + TABLE_PARTS) {
        struct fold_part *p = &t->parts[t->hand_part];
        looked++;
        if (t->hand >= p->size) {
            t->hand = 0;
            t->hand_part = (t->hand_part + 1) % TABLE_PARTS;
            continue;
        }
        uint64_t *e = &p->entries[t->hand++];
        if (!*e || entry_is_spilled(*e)) continue;
        struct fold_block *b = entry_block(*e);
        if (b->flags & FOLD_REFERENCED) b->flags &= ~(uint32_t)FOLD_REFERENCED;
        else if (!entry_spill(t, e)) return;
    }
}

uint64_t fold_table_count(const struct fold_table *t) { return t->used; }
uint64_t fold_table_spilled(const struct fold_table *t) { return t->spilled; }
uint64_t fold_table_scratch(const struct fold_table *t) {
    return t->fd >= 0 ? t->buffer_at + t->buffer_bytes : 0;
}
const char *fold_table_error(const struct fold_table *t) { return t->error; }

typedef bool (*fold_visit)(void *arg, const struct fold_block *block);

static bool entry_visit(struct fold_table *t, uint64_t entry, fold_visit visit, void *arg) {
    struct spill_piece piece;
    uint32_t marked = entry & entry_marked ? FOLD_MARKED : 0;
    if (!entry_is_spilled(entry)) {
        struct fold_block *resident = entry_block(entry);
        resident->flags = (resident->flags & ~(uint32_t)FOLD_MARKED) | marked;
        return visit(arg, resident);
    }
    if (!t->scratch_block) t->scratch_block = malloc(sizeof(struct fold_block) + ACTOR_BYTES_MAX);
    struct fold_block *b = (struct fold_block *)(void *)t->scratch_block;
    if (!b || !spill_piece(t, entry_at(entry), &piece) ||
        !spill_block(t, entry_at(entry), &piece, &b->actor)) {
        table_fail(t, "cannot be read");
        return false;
    }
    b->entered_ms = piece.head.entered_ms;
    b->flags = (piece.head.flags & ~(uint32_t)FOLD_MARKED) | marked;
    b->capacity = piece.head.bytes;
    return visit(arg, b);
}

bool fold_table_each(struct fold_table *t, fold_visit visit, void *arg) {
    for (uint32_t n = 0; n < TABLE_PARTS; n++) {
        const struct fold_part *p = &t->parts[n];
        for (uint32_t i = 0; i < p->size; i++) {
            if (p->entries[i] && !entry_visit(t, p->entries[i], visit, arg)) return false;
        }
    }
    return true;
}
