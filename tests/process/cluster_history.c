#include "tests/process/cluster_history.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A command or a read with its place among the versions. */
struct point {
    int64_t begin_ns, end_ns;
    uint32_t version;
    bool is_read;
    uint16_t code;
};

struct check {
    const struct answer_history *events;
    struct point *points, *by_end;
    uint32_t points_count, faults;
    history_report *report;
    void *arg;
};

__attribute__((format(printf, 2, 3))) static void fault(struct check *c, const char *format, ...) {
    char sentence[256];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    c->faults++;
    c->report(c->arg, sentence);
}

static int compare_calls(const void *a, const void *b) {
    const struct history_call *x = a, *y = b;
    if (x->is_read != y->is_read) return x->is_read ? 1 : -1;
    int order = x->is_read ? 0 : memcmp(x->id.bytes, y->id.bytes, sizeof x->id.bytes);
    return order != 0 ? order : (x->begin_ns > y->begin_ns) - (x->begin_ns < y->begin_ns);
}

static int compare_begins(const void *a, const void *b) {
    const struct point *x = a, *y = b;
    return (x->begin_ns > y->begin_ns) - (x->begin_ns < y->begin_ns);
}

static int compare_ends(const void *a, const void *b) {
    const struct point *x = a, *y = b;
    return (x->end_ns > y->end_ns) - (x->end_ns < y->end_ns);
}

/* The events that a command caused, which must be one run of one entry. */
struct run { uint32_t first, last, count; };

static struct run find_run(struct check *c, const jumun_key *id) {
    struct run run = {0, 0, 0};
    uint64_t index = 0;
    for (uint32_t i = 0; i < c->events->count; i++) {
        const struct answer_event *e = &c->events->events[i];
        if (memcmp(e->cause.bytes, id->bytes, sizeof id->bytes) != 0) continue;
        if (run.count++ == 0) run.first = e->version;
        else if (e->version != run.last + 1 || e->index != index) {
            fault(c, "a command was done twice: as version %u and as version %u", run.last,
                  e->version);
        }
        run.last = e->version;
        index = e->index;
    }
    return run;
}

static void add_point(struct check *c, const struct history_call *call, int64_t end_ns,
                      uint32_t version, bool is_read) {
    c->points[c->points_count++] = (struct point){call->begin_ns, end_ns, version, is_read,
                                                  call->code};
}

/* All calls with one command id, in the order of their begins. */
static void check_command(struct check *c, const struct history_call *calls, uint32_t count) {
    struct run run = find_run(c, &calls[0].id);
    int64_t end_ns = INT64_MAX;
    bool may_be_done = false, is_acknowledged = false;
    for (uint32_t i = 0; i < count; i++) {
        const struct history_call *call = &calls[i];
        may_be_done |= call->fate != HISTORY_REFUSED;
        if (call->fate != HISTORY_DONE) continue;
        is_acknowledged = true;
        if (call->end_ns < end_ns) end_ns = call->end_ns;
        if (run.count > 0 && call->version != run.last) {
            fault(c, "a command was acknowledged as version %u and is version %u", call->version,
                  run.last);
        }
    }
    if (run.count == 0 && is_acknowledged && !calls[0].may_change_nothing) {
        fault(c, "LOST: a command was acknowledged as version %u and is not in the history",
              calls[0].version);
    }
    if (run.count == 0) return;
    if (!may_be_done) {
        fault(c, "a command was refused with %u and stands in the history as version %u",
              calls[0].code, run.last);
    }
    if (calls[0].expected_version != 0 && run.first != calls[0].expected_version + 1) {
        fault(c, "a command that demanded version %u was done at version %u",
              calls[0].expected_version, run.first - 1);
    }
    add_point(c, &calls[0], end_ns, run.last, false);
}

/* Gaps, and the set of versions between which nothing is visible. */
static void check_events(struct check *c, const struct history_call *calls, uint32_t count) {
    for (uint32_t i = 0; i < c->events->count; i++) {
        const struct answer_event *e = &c->events->events[i];
        bool is_known = false;
        if (e->version != i + 1) fault(c, "event %u of the history has version %u", i, e->version);
        if (i > 0 && e->index < c->events->events[i - 1].index) {
            fault(c, "version %u stands in an earlier entry than the one before it", e->version);
        }
        for (uint32_t k = 0; k < count && !is_known; k++) {
            is_known = !calls[k].is_read &&
                       memcmp(calls[k].id.bytes, e->cause.bytes, sizeof e->cause.bytes) == 0;
        }
        if (!is_known) fault(c, "version %u was made by nobody", e->version);
    }
}

static void check_seen(struct check *c, const struct history_call *call) {
    const struct answer_history *h = c->events;
    uint32_t v = call->version;
    bool is_inside = v > 0 && v < h->count &&
                     memcmp(h->events[v - 1].cause.bytes, h->events[v].cause.bytes, 16) == 0;
    if (v > h->count || is_inside) {
        fault(c, "a read saw version %u, to which no command led (the last one is %u)", v,
              h->count);
    }
    add_point(c, call, call->end_ns, v, true);
}

/* For each call: all that ended before it began must stand before it. */
static void check_real_time(struct check *c) {
    const struct point *newest = NULL;
    uint32_t ended = 0;
    memcpy(c->by_end, c->points, c->points_count * sizeof *c->points);
    qsort(c->points, c->points_count, sizeof *c->points, compare_begins);
    qsort(c->by_end, c->points_count, sizeof *c->by_end, compare_ends);
    for (uint32_t i = 0; i < c->points_count; i++) {
        const struct point *p = &c->points[i];
        for (; ended < c->points_count && c->by_end[ended].end_ns < p->begin_ns; ended++) {
            if (!newest || c->by_end[ended].version > newest->version) newest = &c->by_end[ended];
        }
        if (!newest || newest->version < p->version ||
            (newest->version == p->version && p->is_read)) {
            continue;
        }
        fault(c, "%s version %u, %.3f ms after a %s had ended that %s version %u",
              p->is_read ? "STALE: a read saw" : "a command was put in as", p->version,
              (double)(p->begin_ns - newest->end_ns) / 1e6, newest->is_read ? "read" : "command",
              newest->is_read ? "saw" : "led to", newest->version);
    }
}

/* Reads, refusals that tell a version, and commands that found all as they would have it. */
static bool tells_version(struct check *c, const struct history_call *call) {
    if (call->is_read) return call->fate == HISTORY_DONE;
    if (call->fate == HISTORY_REFUSED) return call->version > 0;
    return call->fate == HISTORY_DONE && call->may_change_nothing &&
           find_run(c, &call->id).count == 0;
}

uint32_t history_check(struct history_call *calls, uint32_t count,
                       const struct answer_history *events, history_report *report, void *arg) {
    struct check c = {.events = events, .report = report, .arg = arg};
    c.points = calloc((size_t)count + 1, sizeof *c.points);
    c.by_end = calloc((size_t)count + 1, sizeof *c.by_end);
    if (!c.points || !c.by_end) {
        fault(&c, "no memory to judge %u calls", count);
    } else {
        qsort(calls, count, sizeof *calls, compare_calls);
        check_events(&c, calls, count);
        for (uint32_t i = 0, n; i < count; i += n) {
            n = 1;
            while (!calls[i].is_read && i + n < count && !calls[i + n].is_read &&
                   memcmp(calls[i].id.bytes, calls[i + n].id.bytes, 16) == 0) {
                n++;
            }
            if (!calls[i].is_read) check_command(&c, &calls[i], n);
        }
        for (uint32_t i = 0; i < count; i++) {
            if (tells_version(&c, &calls[i])) check_seen(&c, &calls[i]);
        }
        check_real_time(&c);
    }
    free(c.points);
    free(c.by_end);
    return c.faults;
}
