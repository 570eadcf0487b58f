#include "clients/demo/play.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/text.h"

/* So many commands without an answer mean that the node is gone: better to stop than to go on. */
enum { PLAY_UNANSWERED_MAX = 1000 };

static void play_submit(struct play *p, uint32_t step);

struct play *play_new(const struct plan *plan, jumun_client *client, uint32_t in_flight_max) {
    struct play *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->plan = plan;
    p->client = client;
    p->in_flight_max = in_flight_max;
    p->orders = calloc((size_t)plan->orders_count + 1, sizeof *p->orders);
    p->next = calloc((size_t)plan->steps_count + 1, sizeof *p->next);
    p->again = calloc((size_t)in_flight_max + 1, sizeof *p->again);
    if (!p->orders || !p->next || !p->again) {
        free(p->orders);
        free(p->next);
        free(p->again);
        free(p);
        return NULL;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    for (uint32_t i = 0; i < plan->orders_count; i++) {
        p->orders[i].play = p;
        p->orders[i].key = jumun_key_new();
    }
    return p;
}

void play_delete(struct play *p) {
    if (!p) return;
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p->orders);
    free(p->next);
    free(p->again);
    free(p);
}

/* Counts an answer and takes the order's next step, 0 if it has none (else its position + 1).
 * The lock is held. */
static uint32_t play_finish(struct play *p, uint32_t step, int code, const char *detail) {
    const struct plan_step *s = &p->plan->steps[step];
    struct play_order *o = &p->orders[s->order];
    unsigned c = code >= 0 && code < PLAY_CODES ? (unsigned)code : PLAY_CODES - 1;
    if (p->counts[s->origin][s->kind % PLAY_KINDS][c]++ == 0 && *detail && !p->details[c][0]) {
        text_printable(p->details[c], sizeof p->details[c], detail, strlen(detail));
    }
    p->answered++;
    p->held += code == JUMUN_HELD;
    p->refused += code > JUMUN_HELD && code < 1000;
    p->unanswered += code >= 1000;
    p->outstanding--;
    if (s->kind == JUMUN_PLACE && code != JUMUN_OK && code != JUMUN_OUTCOME_UNKNOWN) o->lost = true;
    while (o->lost && o->first) {
        p->skipped++;
        p->outstanding--;
        o->first = p->next[o->first - 1];
    }
    uint32_t following = o->first;
    if (following) o->first = p->next[following - 1];
    if (!o->first) o->last = 0;
    o->busy = following != 0;
    pthread_cond_signal(&p->changed);
    return following;
}

/* The lock is held. */
static void play_acknowledged(struct play *p, struct play_order *o, const jumun_result *r,
                              uint64_t now) {
    if (r->version > o->version) o->version = r->version;
    if (r->shard >= PLAY_SHARDS) return;
    uint64_t last = p->acknowledged_ns[r->shard];
    if (last != 0 && now > last && now - last > p->pause_ns[r->shard])
        p->pause_ns[r->shard] = now - last;
    p->acknowledged_ns[r->shard] = now;
}

static void play_answered(void *arg, const jumun_result *r, const void *value, size_t bytes) {
    struct play_order *o = arg;
    (void)value, (void)bytes;
    struct play *p = o->play;
    uint64_t now = text_mono_ns();
    pthread_mutex_lock(&p->lock);
    histogram_record(&p->latency, (int64_t)(now - o->sent_ns));
    if (r->code == JUMUN_OK) play_acknowledged(p, o, r, now);
    uint32_t following = play_finish(p, o->current, r->code, r->detail);
    pthread_mutex_unlock(&p->lock);
    if (following) play_submit(p, following - 1);
}

static void play_command(const struct play *p, const struct plan_step *s, char *store,
                         size_t store_bytes, char *reason, size_t reason_bytes, jumun_command *c) {
    const struct retail_invoice *invoice = s->invoice;
    *c = (jumun_command){.kind = (jumun_kind)s->kind, .order = p->orders[s->order].key};
    switch (s->kind) {
    case JUMUN_PLACE:
        plan_store_id(invoice->country, store, store_bytes);
        c->place = (jumun_place){
            .fulfilment = JUMUN_PARCEL, .payment_timing = JUMUN_PREPAID, .currency = "GBP",
            .store = store, .lines = invoice->lines, .lines_count = invoice->lines_count,
            .total = invoice->total, .customer = invoice->customer,
            .external_ref = invoice->number};
        break;
    case JUMUN_PAY:
        c->pay = (jumun_pay){JUMUN_CAPTURED, "invoice", invoice->number, s->amount};
        break;
    case JUMUN_REJECT:
        c->reject.reason = "out of stock";
        break;
    case JUMUN_CANCEL:
        snprintf(reason, reason_bytes, "return, invoice %s", invoice->number);
        c->cancel = (jumun_cancel){JUMUN_BY_CUSTOMER, reason,
                                   s->lines_count ? p->plan->lines + s->lines_first : NULL,
                                   s->lines_count};
        break;
    case JUMUN_REFUND:
        snprintf(reason, reason_bytes, "return, invoice %s", invoice->number);
        c->refund.amount = s->amount;
        c->refund.reason = reason;
        break;
    default:
        break;
    }
}

/* Sends a step whose order is marked busy. A step that cannot be sent at all is finished at once,
 * and the order's next one is tried: a loop, as there may be many. */
static void play_submit(struct play *p, uint32_t step) {
    for (;;) {
        const struct plan_step *s = &p->plan->steps[step];
        struct play_order *o = &p->orders[s->order];
        char store[64], reason[96];
        jumun_command command;
        play_command(p, s, store, sizeof store, reason, sizeof reason, &command);
        o->current = step;
        o->sent_ns = text_mono_ns();
        int code = jumun_submit(p->client, &command, play_answered, o);
        if (code == JUMUN_OK) return;
        pthread_mutex_lock(&p->lock);
        uint32_t following = 0;
        if (code == JUMUN_QUEUE_FULL) p->again[p->again_count++] = step;
        else following = play_finish(p, step, code, "");
        pthread_mutex_unlock(&p->lock);
        if (!following) return;
        step = following - 1;
    }
}

static void play_progress(struct play *p, double share, bool last) {
    char note[96] = "", refused[TEXT_BYTES];
    pthread_mutex_lock(&p->lock);
    uint64_t answered = p->answered, refusals = p->refused;
    pthread_mutex_unlock(&p->lock);
    if (refusals) snprintf(note, sizeof note, "%s refused", text_count(refused, refusals));
    if (last) progress_end(&p->progress, share, answered, note);
    else progress_update(&p->progress, share, answered, note);
}

/* Waits until less than `limit` is outstanding, sends again what found no room, draws. */
static void play_wait(struct play *p, uint64_t limit, double share) {
    for (bool ready = false; !ready;) {
        uint32_t step = UINT32_MAX;
        pthread_mutex_lock(&p->lock);
        ready = p->outstanding < limit;
        if (!ready && p->again_count == 0) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += 50000000;
            if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
            pthread_cond_timedwait(&p->changed, &p->lock, &until);
        }
        if (p->again_count > 0) step = p->again[--p->again_count];
        pthread_mutex_unlock(&p->lock);
        if (step != UINT32_MAX) play_submit(p, step);
        play_progress(p, share, false);
    }
}

/* Starts a step, or leaves it behind its order's earlier ones. */
static void play_step(struct play *p, uint32_t step) {
    struct play_order *o = &p->orders[p->plan->steps[step].order];
    bool start = false;
    pthread_mutex_lock(&p->lock);
    if (o->lost) {
        p->skipped++;
    } else {
        p->outstanding++;
        start = !o->busy;
        if (start) {
            o->busy = true;
        } else {
            if (o->last) p->next[o->last - 1] = step + 1;
            else o->first = step + 1;
            o->last = step + 1;
        }
    }
    pthread_mutex_unlock(&p->lock);
    if (start) play_submit(p, step);
}

/* Tells whoever waits for it that the play is in its middle. */
static void play_tell_half(const struct play *p) {
    FILE *file = p->half_file ? fopen(p->half_file, "w") : NULL;
    if (file) fclose(file);
}

void play_run(struct play *p, const volatile sig_atomic_t *stop, FILE *out, bool color) {
    uint32_t count = p->plan->steps_count;
    uint64_t started = text_mono_ns();
    progress_start(&p->progress, out, "playing", "commands", color);
    for (uint32_t i = 0; i < count && !p->stopped; i++) {
        double share = (double)i / (double)count;
        play_wait(p, p->in_flight_max, share);
        if (i == count / 2) play_tell_half(p);
        play_step(p, i);
        pthread_mutex_lock(&p->lock);
        p->stopped = *stop || p->unanswered > PLAY_UNANSWERED_MAX;
        pthread_mutex_unlock(&p->lock);
    }
    play_wait(p, 1, 1);
    p->seconds = (double)(text_mono_ns() - started) / 1e9;
    play_progress(p, 1, true);
}
