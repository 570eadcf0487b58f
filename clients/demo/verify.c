#include "clients/demo/verify.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/value.h"

enum { VERIFY_IN_FLIGHT_MAX = 2048, VERIFY_LINE_BYTES = 160 };

struct verify_order {
    struct verify_run *run;
    uint32_t version;
    int code;
    bool placed;
    char line[VERIFY_LINE_BYTES];
};

struct verify_run {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t in_flight;
    struct verify_order *orders;
};

/* What the order is now, without what differs from play to play (key, times, log index). */
static void verify_note(struct verify_order *o, const void *value, size_t bytes) {
    msgpack_unpacked unpacked;
    size_t offset = 0;
    char state[32];
    msgpack_unpacked_init(&unpacked);
    if (msgpack_unpack_next(&unpacked, value, bytes, &offset) == MSGPACK_UNPACK_SUCCESS) {
        const msgpack_object *m = &unpacked.data;
        o->placed = value_int(m, "placed_ms", 0) > 0;
        static const char *const amounts[] = {"total", "captured", "refunded", "refund_owed"};
        int used = snprintf(o->line, sizeof o->line, "%s version %u",
                            value_text(m, "state", state, sizeof state), o->version);
        for (size_t i = 0; i < sizeof amounts / sizeof *amounts; i++) {
            used += snprintf(o->line + used, sizeof o->line - (size_t)used, " %s %" PRId64,
                             amounts[i], value_int(m, amounts[i], 0));
        }
    }
    msgpack_unpacked_destroy(&unpacked);
}

static void verify_answered(void *arg, const jumun_result *r, const void *value, size_t bytes) {
    struct verify_order *o = arg;
    struct verify_run *run = o->run;
    o->code = r->code;
    o->version = r->code == JUMUN_OK ? r->version : 0;
    snprintf(o->line, sizeof o->line, "%s", jumun_result_name(r->code));
    if (r->code == JUMUN_OK && value) verify_note(o, value, bytes);
    pthread_mutex_lock(&run->lock);
    run->in_flight--;
    pthread_cond_signal(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static void verify_await(struct verify_run *run, uint32_t in_flight_max) {
    pthread_mutex_lock(&run->lock);
    while (run->in_flight > in_flight_max) pthread_cond_wait(&run->changed, &run->lock);
    run->in_flight++;
    pthread_mutex_unlock(&run->lock);
}

static void verify_read(const struct play *p, struct verify_run *run, uint32_t i) {
    struct verify_order *o = &run->orders[i];
    jumun_command get = {.kind = JUMUN_GET, .order = p->orders[i].key};
    o->run = run;
    verify_await(run, VERIFY_IN_FLIGHT_MAX - 1);
    int code = jumun_submit(p->client, &get, verify_answered, o);
    if (code == JUMUN_OK) return;
    const jumun_result failed = {.code = code};
    verify_answered(o, &failed, NULL, 0);
}

static void verify_count(const struct play *p, const struct verify_order *o, uint32_t i,
                         struct verify *v) {
    v->keys++;
    v->orders += o->placed;
    if (o->code != JUMUN_OK && o->code != JUMUN_ORDER_NOT_FOUND) v->unread++;
    else if (o->version < p->orders[i].version) v->behind++;
    /* What waits for a place that never comes has no version that an answer told. */
    else if (p->orders[i].version > 0 && o->version > p->orders[i].version) v->ahead++;
}

bool verify_play(const struct play *p, FILE *states, struct verify *verify) {
    uint32_t count = p->plan->orders_count;
    struct verify_run run = {.orders = calloc((size_t)count + 1, sizeof *run.orders)};
    *verify = (struct verify){0};
    if (!run.orders) return false;
    pthread_mutex_init(&run.lock, NULL);
    pthread_cond_init(&run.changed, NULL);
    for (uint32_t i = 0; i < count; i++) verify_read(p, &run, i);
    verify_await(&run, 0);
    for (uint32_t i = 0; i < count; i++) {
        verify_count(p, &run.orders[i], i, verify);
        const struct retail_invoice *invoice = p->plan->orders[i].invoice;
        if (states) fprintf(states, "%s %s\n", invoice->number, run.orders[i].line);
    }
    pthread_cond_destroy(&run.changed);
    pthread_mutex_destroy(&run.lock);
    free(run.orders);
    return true;
}
