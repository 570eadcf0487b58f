#include "engine/replica/sums.h"

#include <stdlib.h>
#include <xxhash.h>

enum { SUMS_SLOTS_MIN = 256 };

static bool grow_slots(struct sums *s) {
    uint32_t count = s->slots_count ? s->slots_count * 2 : SUMS_SLOTS_MIN;
    uint32_t *slots = calloc(count, sizeof *slots);
    if (!slots) return false;
    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t at = (uint32_t)s->entries[i].hash & (count - 1);
        while (slots[at]) at = (at + 1) & (count - 1);
        slots[at] = i + 1;
    }
    free(s->slots);
    s->slots = slots;
    s->slots_count = count;
    return true;
}

static bool reserve(struct sums *s, uint32_t key_bytes) {
    if (s->count >= s->slots_count / 2 && !grow_slots(s)) return false;
    if (s->count == s->capacity) {
        uint32_t capacity = s->capacity ? s->capacity * 2 : SUMS_SLOTS_MIN;
        struct sums_entry *entries = realloc(s->entries, capacity * sizeof *entries);
        if (!entries) return false;
        s->entries = entries;
        s->capacity = capacity;
    }
    if (s->keys_capacity - s->keys_bytes < key_bytes) {
        uint32_t capacity = s->keys_capacity ? s->keys_capacity * 2 : 16384;
        uint8_t *keys = realloc(s->keys, capacity);
        if (!keys) return false;
        s->keys = keys;
        s->keys_capacity = capacity;
    }
    return true;
}

bool sums_add(struct sums *s, const struct view_sum *sum) {
    uint64_t hash = XXH3_64bits(sum->key, sum->key_bytes);
    uint32_t at = 0;
    struct sums_entry *e = NULL;
    if (s->slots_count != 0) {
        for (at = (uint32_t)hash & (s->slots_count - 1); s->slots[at];
             at = (at + 1) & (s->slots_count - 1)) {
            e = &s->entries[s->slots[at] - 1];
            if (e->hash == hash && e->key_bytes == sum->key_bytes &&
                memcmp(sums_key(s, e), sum->key, sum->key_bytes) == 0)
                break;
            e = NULL;
        }
    }
    if (!e) {
        if (!reserve(s, sum->key_bytes)) return false;
        for (at = (uint32_t)hash & (s->slots_count - 1); s->slots[at];)
            at = (at + 1) & (s->slots_count - 1);
        s->slots[at] = s->count + 1;
        e = &s->entries[s->count++];
        *e = (struct sums_entry){hash, s->keys_bytes, sum->key_bytes, {0}};
        memcpy(s->keys + s->keys_bytes, sum->key, sum->key_bytes);
        s->keys_bytes += sum->key_bytes;
    }
    for (int i = 0; i < VIEW_NUMBERS; i++)
        e->numbers[i] = view_add(e->numbers[i], sum->numbers[i]);
    return true;
}

void sums_clear(struct sums *s) {
    if (s->count != 0) memset(s->slots, 0, s->slots_count * sizeof *s->slots);
    s->count = s->keys_bytes = 0;
}

void sums_fini(struct sums *s) {
    free(s->entries);
    free(s->slots);
    free(s->keys);
    *s = (struct sums){0};
}
