/* The judge of the crash test: holds what was answered against what the node knows. */
#include "tests/process/crash.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESOLVE_SECONDS_MAX = 60 };

void crash_report(struct crash_worker *w, const struct crash_order *o, const char *format, ...) {
    char key[JUMUN_KEY_TEXT_BYTES], text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    jumun_key_format(&o->key, key);
    fprintf(stderr, "BROKEN: order %s: %s\n", key, text);
    atomic_fetch_add(&w->world->failures, 1);
}

static bool key_equal(const jumun_key *a, const jumun_key *b) {
    return memcmp(a->bytes, b->bytes, 16) == 0;
}

/* The events that `id` caused must be one run in one entry of the log. Returns their number, and
 * the version and index of the last of them. */
static uint32_t judge_run(struct crash_worker *w, const struct crash_order *o,
                          const struct answer_history *h, const jumun_key *id, uint32_t *version,
                          uint64_t *index) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < h->count; i++) {
        const struct answer_event *e = &h->events[i];
        if (!key_equal(&e->cause, id)) continue;
        if (count > 0 && (e->version != *version + 1 || e->index != *index)) {
            crash_report(w, o, "done twice: versions %u and %u, entries %llu and %llu", *version,
                         e->version, (unsigned long long)*index,
                         (unsigned long long)e->index);
        }
        *version = e->version;
        *index = e->index;
        count++;
    }
    return count;
}

/* Reads the history; an order that does not exist has an empty one. */
static bool judge_history(struct crash_worker *w, const struct crash_order *o,
                          struct answer_history *h) {
    int code = answer_history(w->world->patient, &o->key, h);
    if (code == JUMUN_ORDER_NOT_FOUND) {
        h->count = 0;
        return true;
    }
    if (code == JUMUN_OK) return true;
    crash_report(w, o, "its history cannot be read: %d (%s)", code, jumun_result_name(code));
    return false;
}

/* Asks again for the outcome of what had no answer, under the same id. */
static void judge_resolve(struct crash_worker *w, struct crash_order *o, struct crash_sent *sent) {
    struct answer_history before;
    uint32_t version = 0;
    uint64_t index = 0;
    if (!judge_history(w, o, &before)) return;
    bool was_done = judge_run(w, o, &before, &sent->id, &version, &index) > 0;
    int64_t until = monotonic_ms() + RESOLVE_SECONDS_MAX * 1000;
    do {
        crash_send(w, o, sent, w->world->patient);
        if (!answer_is_passing(sent->code)) break;
        sleep_ms(20);
    } while (monotonic_ms() < until);
    if (sent->fate == FATE_UNKNOWN || answer_is_passing(sent->code)) {
        crash_report(w, o, "its outcome stays unknown: %d (%s)", sent->code,
                     jumun_result_name(sent->code));
        return;
    }
    if (was_done) {
        atomic_fetch_add(&w->world->unknown_found, 1);
        if (sent->fate != FATE_DONE || sent->version != version) {
            crash_report(w, o, "was done as version %u, and its retry says %d, version %u", version,
                         sent->code, sent->version);
        }
    }
}

static void judge_sent(struct crash_worker *w, const struct crash_order *o,
                       const struct answer_history *h, const struct crash_sent *sent) {
    uint32_t version = 0;
    uint64_t index = 0;
    uint32_t events = judge_run(w, o, h, &sent->id, &version, &index);
    if (sent->fate == FATE_REFUSED && events > 0) {
        crash_report(w, o, "step %d was refused with %d and stands in the history", sent->step,
                     sent->code);
    }
    if (sent->fate != FATE_DONE) return;
    if (events == 0) {
        crash_report(w, o, "LOST: step %d was acknowledged as version %u, entry %llu", sent->step,
                     sent->version, (unsigned long long)sent->index);
    } else if (version != sent->version || index > sent->index) {
        crash_report(w, o, "step %d was acknowledged as version %u, entry %llu; it is %u, %llu",
                     sent->step, sent->version, (unsigned long long)sent->index, version,
                     (unsigned long long)index);
    }
}

static void judge_get(struct crash_worker *w, const struct crash_order *o, uint32_t version) {
    jumun_order *order = NULL;
    int code = jumun_get(w->world->patient, &o->key, NULL, &order, NULL);
    for (int tries = 0; answer_is_passing(code) && tries < 100; tries++) {
        sleep_ms(20);
        code = jumun_get(w->world->patient, &o->key, NULL, &order, NULL);
    }
    if (!crash_is_placed(o)) {
        if (code != JUMUN_ORDER_NOT_FOUND) crash_report(w, o, "never placed; get says %d", code);
    } else if (code != JUMUN_OK) {
        crash_report(w, o, "cannot be read: %d (%s)", code, jumun_result_name(code));
    } else {
        if (order->version != version) {
            crash_report(w, o, "get says version %u, its history %u", order->version, version);
        }
        if (strcmp(order->state, crash_state_wanted(o)) != 0) {
            crash_report(w, o, "is %s, not %s", order->state, crash_state_wanted(o));
        }
        if (order->total != 2900 || order->lines_count != 3) {
            crash_report(w, o, "has %u lines and total %lld", order->lines_count,
                         (long long)order->total);
        }
    }
    jumun_order_free(order);
}

static void judge_order(struct crash_worker *w, struct crash_order *o) {
    struct answer_history h;
    for (uint32_t i = 0; i < o->sent_count; i++) {
        if (o->sent[i].fate == FATE_UNKNOWN) judge_resolve(w, o, &o->sent[i]);
    }
    o->finished = true;
    if (!judge_history(w, o, &h)) return;
    uint32_t known = 0;
    for (uint32_t i = 0; i < h.count; i++) {
        if (h.events[i].version != i + 1 || (i > 0 && h.events[i].index < h.events[i - 1].index)) {
            crash_report(w, o, "its history has a gap at event %u", i);
        }
        for (uint32_t s = 0; s < o->sent_count; s++) {
            known += key_equal(&h.events[i].cause, &o->sent[s].id);
        }
    }
    if (known != h.count) crash_report(w, o, "%u events that nobody asked for", h.count - known);
    for (uint32_t i = 0; i < o->sent_count; i++) judge_sent(w, o, &h, &o->sent[i]);
    judge_get(w, o, h.count);
    atomic_fetch_add(&w->world->judged, 1);
}

void *crash_judge(void *worker) {
    struct crash_worker *w = worker;
    for (uint32_t i = w->judge_from; i < w->orders_count; i++) judge_order(w, &w->orders[i]);
    w->judge_from = w->orders_count;
    return NULL;
}
