#include "clients/replay/fold_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/limits.h"

enum { TABLE_ENTRIES_MIN = 1024, SPILL_BUFFER_BYTES = 1 << 20, SPILL_READ_BYTES = 1024,
       BLOCK_SLACK_BYTES = 96, BLOCK_ROUND_BYTES = 64 };

/* where: 0 = empty; bit 0 clear = address of the block in memory, set = 8-byte unit in the file,
 * above bit 1; bit 1 = marked. */
enum { WHERE_SPILLED = 1, WHERE_MARKED = 2, WHERE_BITS = 3 };
struct fold_entry { uint64_t tag, where; };

struct fold_table {
    struct fold_entry *entries;
    uint64_t size, used;
    uint64_t block_bytes, block_bytes_max;
    uint64_t hand;             /* of the sweep */
    char scratch[512];
    int fd;                    /* -1 = nothing was written yet */
    uint8_t *buffer;           /* the end of the file, not written yet */
    uint64_t buffer_at;        /* its place in the file */
    uint32_t buffer_bytes;
    uint64_t spilled;
    uint64_t *scratch_block;   /* for visits of blocks that are in the file */
    char error[256];
};

/* In the file. */
struct spill_head { int64_t entered_ms; uint32_t flags, bytes; };

/* Keys of orders end with random bytes, those of stores are hashes. */
static uint64_t table_tag(const struct id128 *key) {
    uint64_t tag;
    memcpy(&tag, key->bytes + 8, 8);
    return __builtin_bswap64(tag) * 0x9E3779B97F4A7C15ULL;
}

static uint64_t table_home(const struct fold_table *t, uint64_t tag) {
    return (uint64_t)((unsigned __int128)tag * t->size >> 64);
}

static struct fold_block *entry_block(const struct fold_entry *e) {
    return (struct fold_block *)(uintptr_t)(e->where & ~(uint64_t)WHERE_BITS);
}
static bool entry_is_spilled(const struct fold_entry *e) { return e->where & WHERE_SPILLED; }
/* Where the block lies in the file. */
static uint64_t entry_at(const struct fold_entry *e) { return e->where >> 2 << 3; }

static void table_fail(struct fold_table *t, const char *what) {
    if (t->error[0]) return;
    snprintf(t->error, sizeof t->error, "scratch file in %.150s: %s: %s", t->scratch, what,
             strerror(errno));
}

struct fold_table *fold_table_open(uint64_t memory_bytes_max, const char *scratch) {
    struct fold_table *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->size = TABLE_ENTRIES_MIN;
    t->entries = calloc(t->size, sizeof *t->entries);
    t->block_bytes_max = memory_bytes_max;
    t->fd = -1;
    t->buffer_at = 8; /* so that no block lies at 0 */
    snprintf(t->scratch, sizeof t->scratch, "%s", scratch ? scratch : "/tmp");
    if (t->entries) return t;
    free(t);
    return NULL;
}

void fold_table_close(struct fold_table *t) {
    if (!t) return;
    for (uint64_t i = 0; i < t->size; i++) {
        if (t->entries[i].where && !entry_is_spilled(&t->entries[i])) {
            free(entry_block(&t->entries[i]));
        }
    }
    if (t->fd >= 0) close(t->fd);
    free(t->scratch_block);
    free(t->buffer);
    free(t->entries);
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

static bool entry_spill(struct fold_table *t, struct fold_entry *e) {
    static const uint64_t zero;
    struct fold_block *b = entry_block(e);
    if (b->spilled_at == 0) {
        struct spill_head head = {b->entered_ms, b->flags, b->actor.bytes};
        if (!spill_open(t)) return false;
        uint64_t at = t->buffer_at + t->buffer_bytes;
        if (!spill_put(t, &head, sizeof head) || !spill_put(t, &b->actor, head.bytes) ||
            !spill_put(t, &zero, -head.bytes & 7u)) {
            return false;
        }
        b->spilled_at = at;
        t->spilled++;
    }
    e->where = b->spilled_at >> 3 << 2 | (e->where & WHERE_MARKED) | WHERE_SPILLED;
    t->block_bytes -= sizeof *b + b->capacity;
    free(b);
    return true;
}

/* The head and as much of the block as one read gives; false when it cannot be read. */
static bool spill_head(struct fold_table *t, uint64_t at, struct spill_head *head,
                       struct actor *actor) {
    return spill_get(t, at, head, sizeof *head) &&
           spill_get(t, at + sizeof *head, actor, sizeof *actor) &&
           head->bytes >= sizeof *actor && head->bytes <= ACTOR_BYTES_MAX;
}

static struct fold_block *entry_load(struct fold_table *t, struct fold_entry *e,
                                     const struct spill_head *head) {
    uint32_t capacity = (head->bytes + BLOCK_SLACK_BYTES + BLOCK_ROUND_BYTES - 1) &
                        ~(BLOCK_ROUND_BYTES - 1u);
    struct fold_block *b = malloc(sizeof *b - sizeof b->actor + capacity);
    uint64_t at = entry_at(e);
    if (!b || !spill_get(t, at + sizeof *head, &b->actor, head->bytes)) {
        free(b);
        return NULL;
    }
    memset((uint8_t *)&b->actor + head->bytes, 0, capacity - head->bytes);
    b->entered_ms = head->entered_ms;
    b->flags = head->flags;
    b->capacity = capacity;
    b->spilled_at = at;
    e->where = (uint64_t)(uintptr_t)b | (e->where & WHERE_MARKED);
    t->block_bytes += sizeof *b + capacity;
    return b;
}

/* -- the table ---------------------------------------------------------------------------- */

/* The entry of a key; NULL when there is none. What is in the file is read back. */
static struct fold_entry *table_find(struct fold_table *t, const struct id128 *key) {
    uint64_t tag = table_tag(key);
    for (uint64_t i = table_home(t, tag); t->entries[i].where; i = i + 1 == t->size ? 0 : i + 1) {
        struct fold_entry *e = &t->entries[i];
        struct spill_head head;
        struct actor actor;
        if (e->tag != tag) continue;
        if (!entry_is_spilled(e)) {
            if (id128_equal(&entry_block(e)->actor.key, key)) return e;
        } else if (spill_head(t, entry_at(e), &head, &actor) && id128_equal(&actor.key, key)) {
            return entry_load(t, e, &head) ? e : NULL;
        }
    }
    return NULL;
}

static void table_put(struct fold_table *t, struct fold_entry entry) {
    uint64_t i = table_home(t, entry.tag);
    while (t->entries[i].where) i = i + 1 == t->size ? 0 : i + 1;
    t->entries[i] = entry;
}

static bool table_grow(struct fold_table *t) {
    uint64_t size = t->size, wanted = size + size / 2;
    struct fold_entry *old = t->entries, *entries = calloc(wanted, sizeof *entries);
    if (!entries) return t->used + 1 < size;
    t->entries = entries;
    t->size = wanted;
    for (uint64_t i = 0; i < size; i++) {
        if (old[i].where) table_put(t, old[i]);
    }
    free(old);
    t->hand = 0;
    return true;
}

struct fold_block *fold_table_get(struct fold_table *t, const struct id128 *key) {
    struct fold_entry *e = table_find(t, key);
    if (!e) return NULL;
    struct fold_block *b = entry_block(e);
    b->flags |= FOLD_REFERENCED;
    return b;
}

struct fold_block *fold_table_add(struct fold_table *t, const struct id128 *key, uint32_t bytes) {
    if (t->used * 5 >= t->size * 4 && !table_grow(t)) return NULL;
    uint32_t capacity = (bytes + BLOCK_ROUND_BYTES - 1) & ~(BLOCK_ROUND_BYTES - 1u);
    if (capacity < sizeof(struct actor)) capacity = sizeof(struct actor);
    struct fold_block *b = calloc(1, sizeof *b - sizeof b->actor + capacity);
    if (!b) return NULL;
    b->capacity = capacity;
    b->flags = FOLD_REFERENCED;
    b->actor.key = *key;
    table_put(t, (struct fold_entry){table_tag(key), (uint64_t)(uintptr_t)b});
    t->used++;
    t->block_bytes += sizeof *b + capacity;
    return b;
}

struct fold_block *fold_table_reserve(struct fold_table *t, struct fold_block *b, uint32_t bytes) {
    b->spilled_at = 0; /* it is about to change */
    if (bytes <= b->capacity) return b;
    struct fold_entry *e = table_find(t, &b->actor.key);
    uint32_t capacity = (bytes + BLOCK_SLACK_BYTES + BLOCK_ROUND_BYTES - 1) &
                        ~(BLOCK_ROUND_BYTES - 1u);
    uint32_t before = b->capacity;
    struct fold_block *moved = e ? realloc(b, sizeof *b - sizeof b->actor + capacity) : NULL;
    if (!moved) return NULL;
    memset((uint8_t *)&moved->actor + before, 0, capacity - before);
    moved->capacity = capacity;
    e->where = (uint64_t)(uintptr_t)moved | (e->where & WHERE_MARKED);
    t->block_bytes += capacity - before;
    return moved;
}

void fold_table_remove(struct fold_table *t, const struct id128 *key) {
    struct fold_entry *e = table_find(t, key);
    if (!e) return;
    struct fold_block *b = entry_block(e);
    t->block_bytes -= sizeof *b + b->capacity;
    free(b);
    t->used--;
    /* What stands behind moves up, as far as its own place allows. */
    uint64_t hole = (uint64_t)(e - t->entries), i = hole;
    for (;;) {
        t->entries[hole].where = 0;
        for (;;) {
            i = i + 1 == t->size ? 0 : i + 1;
            if (!t->entries[i].where) return;
            uint64_t home = table_home(t, t->entries[i].tag);
            bool between = hole <= i ? hole < home && home <= i : hole < home || home <= i;
            if (!between) break;
        }
        t->entries[hole] = t->entries[i];
        hole = i;
    }
}

bool fold_table_mark(struct fold_table *t, const struct id128 *key) {
    struct fold_entry *e = table_find(t, key);
    if (e) e->where |= WHERE_MARKED;
    return e != NULL;
}

void fold_table_prefetch(struct fold_table *t, const struct id128 *const *keys, uint32_t count) {
    uint64_t tags[FOLD_PREFETCH_MAX];
    for (uint32_t i = 0; i < count; i++) {
        tags[i] = table_tag(keys[i]);
        __builtin_prefetch(&t->entries[table_home(t, tags[i])]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct fold_entry *e = &t->entries[table_home(t, tags[i])];
        for (int step = 0; step < 3 && e->where && e + 1 < t->entries + t->size; step++, e++) {
            if (e->tag != tags[i] || entry_is_spilled(e)) continue;
            const char *block = (const char *)entry_block(e);
            for (uint32_t at = 0; at < 576; at += 64) __builtin_prefetch(block + at, 1);
            break;
        }
    }
}

void fold_table_trim(struct fold_table *t) {
    if (t->block_bytes_max == 0 || t->error[0]) return;
    uint64_t least = t->block_bytes_max / 8, entries = t->size * sizeof *t->entries;
    uint64_t most = entries + least < t->block_bytes_max ? t->block_bytes_max - entries : least;
    if (t->block_bytes <= most) return;
    uint64_t wanted = most - most / 8, looked = 0;
    while (t->block_bytes > wanted && looked < 2 * t->size) {
        struct fold_entry *e = &t->entries[t->hand];
        t->hand = t->hand + 1 == t->size ? 0 : t->hand + 1;
        looked++;
        if (!e->where || entry_is_spilled(e)) continue;
        struct fold_block *b = entry_block(e);
        if (b->flags & FOLD_REFERENCED) b->flags &= ~(uint32_t)FOLD_REFERENCED;
        else if (!entry_spill(t, e)) return;
    }
}

uint64_t fold_table_count(const struct fold_table *t) { return t->used; }
uint64_t fold_table_bytes(const struct fold_table *t) {
    return t->block_bytes + t->size * sizeof *t->entries;
}
uint64_t fold_table_spilled(const struct fold_table *t) { return t->spilled; }
const char *fold_table_error(const struct fold_table *t) { return t->error; }

bool fold_table_each(struct fold_table *t,
                     bool (*visit)(void *arg, const struct fold_block *block), void *arg) {
    for (uint64_t i = 0; i < t->size; i++) {
        struct fold_entry *e = &t->entries[i];
        struct spill_head head;
        struct actor actor;
        if (!e->where) continue;
        if (!entry_is_spilled(e)) {
            struct fold_block *resident = entry_block(e);
            resident->flags &= ~(uint32_t)FOLD_MARKED;
            if (e->where & WHERE_MARKED) resident->flags |= FOLD_MARKED;
            if (!visit(arg, resident)) return false;
            continue;
        }
        if (!t->scratch_block) {
            t->scratch_block = malloc(sizeof(struct fold_block) + ACTOR_BYTES_MAX);
        }
        struct fold_block *b = (struct fold_block *)(void *)t->scratch_block;
        if (!b || !spill_head(t, entry_at(e), &head, &actor) ||
            !spill_get(t, entry_at(e) + sizeof head, &b->actor, head.bytes)) {
            table_fail(t, "cannot be read");
            return false;
        }
        b->entered_ms = head.entered_ms;
        b->flags = head.flags & ~(uint32_t)FOLD_MARKED;
        if (e->where & WHERE_MARKED) b->flags |= FOLD_MARKED;
        b->capacity = head.bytes;
        if (!visit(arg, b)) return false;
    }
    return true;
}
