#include "clients/cli/key_set.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_SET_FIRST = 1024 };

static int key_compare(const void *a, const void *b) { return memcmp(a, b, sizeof(jumun_key)); }

void key_set_settle(struct key_set *s) {
    size_t kept = 0;
    if (s->count) qsort(s->keys, s->count, sizeof *s->keys, key_compare);
    for (size_t i = 0; i < s->count; i++)
        if (kept == 0 || key_compare(&s->keys[i], &s->keys[kept - 1]) != 0)
            s->keys[kept++] = s->keys[i];
    s->count = kept;
}

/* Of a log most events are of orders that others were of, too: these go before more is asked for.
 * At least half of the room is free then, so that a key is sorted a few times only. */
static bool set_make_room(struct key_set *s) {
    key_set_settle(s);
    if (s->capacity && s->count <= s->capacity / 2) return true;
    size_t capacity = s->capacity ? 2 * s->capacity : KEY_SET_FIRST;
    jumun_key *keys = realloc(s->keys, capacity * sizeof *keys);
    if (!keys) return false;
    s->keys = keys;
    s->capacity = capacity;
    return true;
}

bool key_set_add(struct key_set *s, const void *key) {
    if (s->count == s->capacity && !set_make_room(s)) return false;
    memcpy(s->keys[s->count++].bytes, key, sizeof(jumun_key));
    return true;
}

void key_set_free(struct key_set *s) {
    free(s->keys);
    *s = (struct key_set){.count = 0};
}
