#include "clients/replay/key_sort.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/limits.h"

enum { RUN_READ_BYTES_MIN = 4096 };
#define KEY_SORT_BYTES_MAX (8ull << 32) /* that a place can tell */
static_assert(KEY_SORT_BYTES_MIN >= 2 * ACTOR_BYTES_MAX, "a largest actor fits beside its place");

/* A sorted run in the file, and what has been read of it. */
struct run {
    uint64_t at, end;          /* in the file: not read yet */
    uint8_t *window;           /* a part of the buffer, or of its own for a large actor */
    uint32_t window_bytes;
    uint32_t from, upto;       /* in the window: not visited yet */
    bool own;
};

struct key_sort {
    uint8_t *buffer;           /* actors from the front, their places from the back */
    uint64_t buffer_bytes, used;
    uint32_t count;
    uint64_t extra_bytes, bytes_most;
    char scratch[512];
    int fd;                    /* -1 = nothing was written */
    uint64_t file_bytes;
    struct run *runs;
    uint32_t runs_count, runs_capacity;
    uint32_t *heap;            /* numbers of runs, the smallest key first */
    uint32_t heap_count;
    char error[256];
};

static uint32_t padded(const struct actor *a) { return (a->bytes + 7) & ~7u; }

static bool sort_fail(struct key_sort *s, const char *what) {
    if (s->error[0]) return false;
    snprintf(s->error, sizeof s->error, "scratch file in %.150s: %s: %s", s->scratch, what,
             strerror(errno));
    return false;
}

struct key_sort *key_sort_open(uint64_t memory_bytes, const char *scratch) {
    struct key_sort *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->buffer_bytes = memory_bytes > KEY_SORT_BYTES_MIN ? memory_bytes & ~7ull : KEY_SORT_BYTES_MIN;
    if (s->buffer_bytes > KEY_SORT_BYTES_MAX) s->buffer_bytes = KEY_SORT_BYTES_MAX;
    /* Pages that nothing is put into are never touched. */
    s->buffer = malloc(s->buffer_bytes);
    s->fd = -1;
    snprintf(s->scratch, sizeof s->scratch, "%s", scratch ? scratch : "/tmp");
    if (s->buffer) return s;
    free(s);
    return NULL;
}

static void run_free(struct run *run) {
    if (run->own) free(run->window);
    run->own = false;
}

void key_sort_close(struct key_sort *s) {
    if (!s) return;
    for (uint32_t i = 0; i < s->runs_count; i++) run_free(&s->runs[i]);
    if (s->fd >= 0) close(s->fd);
    free(s->heap);
    free(s->runs);
    free(s->buffer);
    free(s);
}

static void sort_measure(struct key_sort *s, uint64_t bytes) {
    if (bytes > s->bytes_most) s->bytes_most = bytes;
}

/* -- runs --------------------------------------------------------------------------------- */

/* A place is the offset of an actor / 8, so that 4 bytes are enough for 32 GiB. */
static const struct actor *actor_at(const uint8_t *buffer, uint32_t place) {
    return (const struct actor *)(const void *)(buffer + 8ull * place);
}

static uint32_t *sort_places(struct key_sort *s) {
    return (uint32_t *)(void *)(s->buffer + s->buffer_bytes) - s->count;
}

static int place_compare(const void *a, const void *b, void *buffer) {
    return memcmp(actor_at(buffer, *(const uint32_t *)a)->key.bytes,
                  actor_at(buffer, *(const uint32_t *)b)->key.bytes, sizeof(struct id128));
}

static bool file_write(struct key_sort *s, const uint8_t *data, uint64_t bytes) {
    while (bytes > 0) {
        ssize_t n = pwrite(s->fd, data, bytes, (off_t)s->file_bytes);
        if (n <= 0) return sort_fail(s, "cannot be written");
        data += n;
        bytes -= (uint64_t)n;
        s->file_bytes += (uint64_t)n;
    }
    return true;
}

static bool file_open(struct key_sort *s) {
    char path[600];
    if (s->fd >= 0) return true;
    snprintf(path, sizeof path, "%s/jumun-replay-XXXXXX", s->scratch);
    s->fd = mkostemp(path, O_CLOEXEC);
    if (s->fd < 0) return sort_fail(s, "cannot be made");
    unlink(path);
    return true;
}

static bool run_write(struct key_sort *s) {
    enum { STAGE_BYTES = 256 << 10 };
    const uint32_t *places = sort_places(s);
    uint8_t *stage = malloc(STAGE_BYTES);
    uint32_t staged = 0;
    bool ok = stage != NULL;
    for (uint32_t i = 0; ok && i < s->count; i++) {
        const struct actor *a = actor_at(s->buffer, places[i]);
        uint32_t bytes = padded(a);
        if (staged + bytes > STAGE_BYTES) {
            ok = file_write(s, stage, staged);
            staged = 0;
        }
        if (bytes > STAGE_BYTES) {
            ok = ok && file_write(s, (const uint8_t *)a, bytes);
        } else {
            memcpy(stage + staged, a, bytes);
            staged += bytes;
        }
    }
    ok = ok && file_write(s, stage, staged);
    free(stage);
    if (!stage) snprintf(s->error, sizeof s->error, "no memory");
    return ok;
}

/* What is in the buffer becomes a run of the file. */
static bool sort_spill(struct key_sort *s) {
    if (s->runs_count == s->runs_capacity) {
        uint32_t capacity = s->runs_capacity ? s->runs_capacity * 2 : 64;
        struct run *runs = realloc(s->runs, capacity * sizeof *runs);
        if (!runs) {
            snprintf(s->error, sizeof s->error, "no memory");
            return false;
        }
        s->runs = runs;
        s->runs_capacity = capacity;
    }
    uint64_t at = s->file_bytes;
    qsort_r(sort_places(s), s->count, sizeof(uint32_t), place_compare, s->buffer);
    if (!file_open(s) || !run_write(s)) return false;
    s->runs[s->runs_count++] = (struct run){.at = at, .end = s->file_bytes};
    s->count = 0;
    s->used = 0;
    return true;
}

bool key_sort_add(struct key_sort *s, const struct actor *actor) {
    uint32_t bytes = padded(actor);
    uint64_t wanted = s->used + bytes + (s->count + 1ull) * sizeof(uint32_t);
    if (wanted > s->buffer_bytes && !sort_spill(s)) return false;
    memcpy(s->buffer + s->used, actor, actor->bytes);
    memset(s->buffer + s->used + actor->bytes, 0, bytes - actor->bytes);
    s->count++;
    *sort_places(s) = (uint32_t)(s->used / 8);
    s->used += bytes;
    sort_measure(s, s->used + s->count * sizeof(uint32_t));
    return true;
}

/* -- the merge ---------------------------------------------------------------------------- */

static const struct actor *run_actor(const struct run *run) {
    return (const struct actor *)(const void *)(run->window + run->from);
}

/* Reads on until the window holds `wanted` bytes that were not visited. */
static bool run_read(struct key_sort *s, struct run *run, uint32_t wanted) {
    uint32_t have = run->upto - run->from;
    if (have >= wanted) return true;
    if (wanted > run->window_bytes) {
        uint8_t *larger = malloc(wanted);
        if (!larger) {
            snprintf(s->error, sizeof s->error, "no memory");
            return false;
        }
        memcpy(larger, run->window + run->from, have);
        s->extra_bytes += wanted - (run->own ? run->window_bytes : 0);
        run_free(run);
        run->window = larger;
        run->window_bytes = wanted;
        run->own = true;
        sort_measure(s, s->buffer_bytes + s->extra_bytes);
    } else {
        memmove(run->window, run->window + run->from, have);
    }
    run->from = 0;
    run->upto = have;
    while (run->upto < run->window_bytes && run->at < run->end) {
        uint64_t room = run->window_bytes - run->upto, left = run->end - run->at;
        ssize_t n = pread(s->fd, run->window + run->upto, room < left ? room : left,
                          (off_t)run->at);
        if (n <= 0) return sort_fail(s, "cannot be read");
        run->upto += (uint32_t)n;
        run->at += (uint64_t)n;
    }
    if (run->upto >= wanted) return true;
    errno = EIO;
    return sort_fail(s, "ends too soon");
}

/* The next actor into the window, whole. *more = there is one. */
static bool run_next(struct key_sort *s, struct run *run, bool *more) {
    *more = run->from < run->upto || run->at < run->end;
    if (!*more) return true;
    return run_read(s, run, sizeof(struct actor)) && run_read(s, run, padded(run_actor(run)));
}

static bool heap_less(const struct key_sort *s, uint32_t a, uint32_t b) {
    return memcmp(run_actor(&s->runs[a])->key.bytes, run_actor(&s->runs[b])->key.bytes,
                  sizeof(struct id128)) < 0;
}

/* The run at `i` finds its place among those below. */
static void heap_sink(struct key_sort *s, uint32_t i) {
    for (;;) {
        uint32_t least = i, left = 2 * i + 1;
        for (uint32_t k = left; k < left + 2 && k < s->heap_count; k++) {
            if (heap_less(s, s->heap[k], s->heap[least])) least = k;
        }
        if (least == i) return;
        uint32_t swapped = s->heap[i];
        s->heap[i] = s->heap[least];
        s->heap[least] = swapped;
        i = least;
    }
}

/* The buffer is divided among the runs. */
static bool merge_begin(struct key_sort *s) {
    uint64_t window = s->buffer_bytes / s->runs_count & ~7ull;
    if (window < RUN_READ_BYTES_MIN) {
        window = RUN_READ_BYTES_MIN;
        free(s->buffer);
        s->buffer_bytes = s->runs_count * window;
        s->buffer = malloc(s->buffer_bytes);
    }
    if (window > 1u << 30) window = 1u << 30;
    s->heap = malloc(s->runs_count * sizeof *s->heap);
    if (!s->heap || !s->buffer) {
        snprintf(s->error, sizeof s->error, "no memory");
        return false;
    }
    for (uint32_t i = 0; i < s->runs_count; i++) {
        bool more;
        s->runs[i].window = s->buffer + i * window;
        s->runs[i].window_bytes = (uint32_t)window;
        if (!run_next(s, &s->runs[i], &more)) return false;
        if (more) s->heap[s->heap_count++] = i;
    }
    sort_measure(s, s->buffer_bytes + s->extra_bytes);
    for (uint32_t i = s->heap_count / 2; i-- > 0;) heap_sink(s, i);
    return true;
}

typedef bool (*sort_visit)(void *arg, const struct actor *actor);

static bool merge_each(struct key_sort *s, sort_visit visit, void *arg) {
    if (!merge_begin(s)) return false;
    while (s->heap_count > 0) {
        struct run *run = &s->runs[s->heap[0]];
        bool more;
        if (!visit(arg, run_actor(run))) return false;
        run->from += padded(run_actor(run));
        if (!run_next(s, run, &more)) return false;
        if (!more) {
            run_free(run);
            s->heap[0] = s->heap[--s->heap_count];
        }
        heap_sink(s, 0);
    }
    return true;
}

bool key_sort_each(struct key_sort *s, sort_visit visit, void *arg) {
    if (s->runs_count > 0) return (s->count == 0 || sort_spill(s)) && merge_each(s, visit, arg);
    if (s->count == 0) return true;
    uint32_t *places = sort_places(s);
    qsort_r(places, s->count, sizeof *places, place_compare, s->buffer);
    for (uint32_t i = 0; i < s->count; i++) {
        if (!visit(arg, actor_at(s->buffer, places[i]))) return false;
    }
    return true;
}

uint64_t key_sort_bytes(const struct key_sort *s) { return s->bytes_most; }
uint32_t key_sort_runs(const struct key_sort *s) { return s->runs_count; }
const char *key_sort_error(const struct key_sort *s) { return s->error; }
