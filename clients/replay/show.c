/* show, history: what happened to one order, told and drawn. */
#include <inttypes.h>
#include <stdlib.h>

#include "clients/cli/text.h"
#include "clients/replay/encode.h"
#include "engine/wire/routing.h"

enum { SHOW_BAR_COLUMNS = 64, SHOW_NEWS_RECORDS_MAX = 200000, SHOW_ASKED_MS_MAX = 86400000 };

/* -- where the news of an event went ------------------------------------------------------ */

/* A message to the order's store that an event's entry carried, and where it arrived. */
struct delivery {
    uint64_t index;            /* record that sent it */
    uint32_t to;
    uint64_t sequence;         /* 0 = the store lives on the same shard */
    uint64_t seen_index;       /* 0 = not seen (yet) */
    int64_t seen_ms;
};

struct news_search { struct bytes store; bool found; };

static bool news_item(void *arg, const struct store_news *item) {
    struct news_search *n = arg;
    n->found |= bytes_equal(item->store, n->store);
    return true;
}

/* The message about `store` in a record; false when it has none. */
static bool record_news(const struct log_item *item, struct bytes store, struct delivery *d) {
    uint32_t offset = 0, size = item->header->payload_bytes - (uint32_t)sizeof(struct entry_header);
    const uint8_t *events = (const uint8_t *)item->payload + sizeof(struct entry_header);
    const struct event *e;
    while ((e = event_next(events, size, &offset))) {
        bool sent = e->kind == EVENT_MESSAGE_SENT;
        if ((!sent && e->kind != EVENT_MESSAGE_SEEN) || !message_event_is_well_formed(e)) continue;
        const struct message_event *m = event_payload(e);
        if (!sent && m->sequence != 0) continue; /* another shard's */
        struct news_search n = {.store = store};
        uint8_t kind;
        if (!store_message_decode(message_event_payload(e), &kind, news_item, &n) || !n.found ||
            kind != STORE_MESSAGE_COUNTS) {
            continue;
        }
        *d = (struct delivery){.index = item->index, .to = m->peer, .sequence = m->sequence};
        if (!sent) {
            d->seen_index = item->index;
            d->seen_ms = ((const struct entry_header *)item->payload)->time_ms;
        }
        return true;
    }
    return false;
}

/* Looks for the message in its receiver's log, from the time on at which it was sent. */
static void delivery_find(struct replay *r, uint32_t from, int64_t sent_ms, struct delivery *d) {
    struct source_shard *to = source_shard_of(&r->source, d->to);
    struct log_item item;
    enum log_step step;
    uint64_t first, last;
    if (!to || d->seen_index != 0) return;
    log_source_range(to->log, &first, &last);
    uint64_t begin = log_source_index_at(to->log, sent_ms - 60000);
    struct log_cursor *c = log_cursor_open(to->log, begin > first ? begin : first, last, true);
    for (uint32_t n = 0; c && n < SHOW_NEWS_RECORDS_MAX && d->seen_index == 0 &&
                         (step = log_cursor_next(c, &item)) != LOG_END; n++) {
        uint32_t offset = 0;
        const struct event *e;
        if (step != LOG_RECORD || item.header->type != RECORD_EVENTS) continue;
        const uint8_t *events = (const uint8_t *)item.payload + sizeof(struct entry_header);
        uint32_t size = item.header->payload_bytes - (uint32_t)sizeof(struct entry_header);
        while ((e = event_next(events, size, &offset))) {
            if (e->kind != EVENT_MESSAGE_SEEN || !message_event_is_well_formed(e)) continue;
            const struct message_event *m = event_payload(e);
            if (m->peer != from || m->sequence != d->sequence) continue;
            d->seen_index = item.index;
            d->seen_ms = ((const struct entry_header *)item.payload)->time_ms;
        }
    }
    log_cursor_close(c);
}

/* One for each event that opened or closed the order; malloc'ed. */
static struct delivery *deliveries(struct replay *r, const struct source_shard *shard,
                                   const struct replay_history *h, struct bytes store) {
    struct delivery *all = calloc(h->count, sizeof *all);
    struct log_item item;
    struct log_cursor *c = log_cursor_open(shard->log, 1, 1, true);
    for (uint32_t i = 0; all && c && i < h->count; i++) {
        const struct event *e = h->events[i].event;
        bool was = e->state_before >= ORDER_PLACED && e->state_before <= ORDER_DELIVERED;
        bool is = e->state_after >= ORDER_PLACED && e->state_after <= ORDER_DELIVERED;
        if (was == is) continue;
        log_cursor_seek(c, h->events[i].index, h->events[i].index);
        if (log_cursor_next(c, &item) != LOG_RECORD) continue;
        if (record_news(&item, store, &all[i])) {
            delivery_find(r, shard->number, h->events[i].time_ms, &all[i]);
        }
    }
    log_cursor_close(c);
    return all;
}

/* -- drawing ------------------------------------------------------------------------------ */

static const char *state_style(uint8_t state) {
    static const char *const styles[] = {"0", "33", "33", "36", "36", "36", "34", "32", "32",
                                         "31", "31", "31"};
    return state < sizeof styles / sizeof *styles ? styles[state] : "0";
}

static void put_styled(const struct replay *r, const char *style, const char *text) {
    if (r->color) printf("\x1b[%sm%s\x1b[0m", style, text);
    else fputs(text, stdout);
}

/* How long before the event its command was made, when its id tells. */
static void put_asked(const struct event *e, int64_t time_ms) {
    char id[27], span[TEXT_BYTES];
    if (e->cause_kind == COMMAND_TIMER_DUE) {
        fputs("a deadline passed", stdout);
        return;
    }
    int64_t asked_ms = routing_birth_ms(&e->cause), before = time_ms - asked_ms;
    printf("asked: %s", command_kind_name(e->cause_kind));
    if (e->flags & EVENT_FLAG_FROM_HELD) fputs(", held until now", stdout);
    else if (before >= 0 && before < SHOW_ASKED_MS_MAX) {
        printf(" %s before", text_span(span, before));
    }
    printf("  %s", replay_key_text(&e->cause, id));
}

static void draw_step(const struct replay *r, const struct replay_event *one, uint32_t shard,
                      const struct delivery *d) {
    const struct event *e = one->event;
    char time[TEXT_BYTES], name[64], span[TEXT_BYTES];
    snprintf(name, sizeof name, "%s", event_kind_name(e->kind));
    for (char *c = name; *c; c++) *c = *c == '_' ? ' ' : *c;
    printf("%s  ", text_time(time, one->time_ms));
    put_styled(r, state_style(e->state_after), "●");
    printf(" %s%-24s%s -> ", REPLAY_STYLE(r, "1"), name, REPLAY_PLAIN(r));
    put_styled(r, state_style(e->state_after), order_state_name(e->state_after));
    printf("\n%25s│ ", "");
    put_asked(e, one->time_ms);
    printf("\n%25s│ decided: version %u, durable and published as record %" PRIu64 " of shard %u\n",
           "", e->version, one->index, shard);
    if (!d || d->index == 0) return;
    printf("%25s│ delivered: the store's count on shard %u", "", d->to);
    if (d->seen_index == 0) printf(": not seen yet (message %" PRIu64 ")\n", d->sequence);
    else if (d->sequence == 0) printf(", in the same record\n");
    else printf(" after %s (message %" PRIu64 ", its record %" PRIu64 ")\n",
                text_span(span, d->seen_ms > one->time_ms ? d->seen_ms - one->time_ms : 0),
                d->sequence, d->seen_index);
}

/* What the part of the bar that belongs to a state is drawn with: blocks in the state's colour;
 * without colours a letter of it, which the legend repeats, so that the parts can be told apart. */
static void draw_part(const struct replay *r, uint8_t state) {
    static const char letters[] = "?wp$arudcxne"; /* by state, as ORDER_STATES has them */
    if (r->color) put_styled(r, state_style(state), "█");
    else putchar(state < sizeof letters - 1 ? letters[state] : '?');
}

/* The states on one line, as long as they lasted. */
static void draw_bar(const struct replay *r, const struct replay_history *h) {
    int64_t begin = h->events[0].time_ms, end = h->events[h->count - 1].time_ms;
    char span[TEXT_BYTES];
    int used = 0;
    if (end <= begin) return;
    for (uint32_t i = 0; i < h->count; i++) {
        int64_t until = i + 1 < h->count ? h->events[i + 1].time_ms : end;
        int upto = (int)((double)(until - begin) / (double)(end - begin) * SHOW_BAR_COLUMNS + 0.5);
        for (; used < upto; used++) draw_part(r, h->events[i].event->state_after);
    }
    printf("  %s\n", text_span(span, end - begin));
    for (uint32_t i = 0; i < h->count; i++) { /* the legend: each state once, with its time */
        const struct event *e = h->events[i].event;
        int64_t lasted = 0;
        bool first = true;
        for (uint32_t j = 0; j < h->count; j++) {
            if (h->events[j].event->state_after != e->state_after) continue;
            if (j < i) first = false;
            if (j + 1 < h->count) lasted += h->events[j + 1].time_ms - h->events[j].time_ms;
        }
        if (!first || lasted == 0) continue;
        draw_part(r, e->state_after);
        printf(" %s %s  ", order_state_name(e->state_after), text_span(span, lasted));
    }
    fputc('\n', stdout);
}

static void draw_timeline(struct replay *r, const struct source_shard *shard,
                          const struct replay_history *h, const struct delivery *d) {
    char span[TEXT_BYTES];
    for (uint32_t i = 0; i < h->count; i++) {
        draw_step(r, &h->events[i], shard->number, d ? &d[i] : NULL);
        if (i + 1 == h->count) break;
        int64_t pause = h->events[i + 1].time_ms - h->events[i].time_ms;
        printf("%25s%s %s%s%s\n", "", pause < 60000 ? "│" : "┊", REPLAY_STYLE(r, "2"),
               pause ? text_span(span, pause) : "at once", REPLAY_PLAIN(r));
    }
    fputc('\n', stdout);
    draw_bar(r, h);
}

/* -- the commands ------------------------------------------------------------------------- */

static json_t *delivery_json(const struct delivery *d) {
    json_t *json = json_pack("{s:i, s:I, s:b}", "to_shard", (int)d->to, "message",
                             (json_int_t)d->sequence, "seen", d->seen_index != 0);
    if (d->seen_index) {
        json_object_set_new(json, "seen_index", json_integer((json_int_t)d->seen_index));
        json_object_set_new(json, "seen_ms", json_integer(d->seen_ms));
    }
    return json;
}

static json_t *history_json(const struct source_shard *shard, const struct replay_history *h,
                            const struct delivery *d) {
    json_t *events = json_array();
    for (uint32_t i = 0; i < h->count; i++) {
        const struct replay_event *one = &h->events[i];
        json_t *e = encode_event_json(one->index, one->time_ms, one->event);
        uint8_t before = one->event->state_before;
        json_object_set_new(e, "state_before",
                            before ? json_string(order_state_name(before)) : json_null());
        json_object_set_new(e, "segment", json_string(one->segment));
        json_object_set_new(e, "offset", json_integer((json_int_t)one->offset));
        json_object_set_new(e, "from_held", json_boolean(one->event->flags & EVENT_FLAG_FROM_HELD));
        int64_t asked_ms = routing_birth_ms(&one->event->cause);
        /* An id need not be a ULID that tells when it was made. */
        if (asked_ms <= one->time_ms && one->time_ms - asked_ms < SHOW_ASKED_MS_MAX) {
            json_object_set_new(e, "asked_ms", json_integer(asked_ms));
        }
        if (d && d[i].index) json_object_set_new(e, "delivered", delivery_json(&d[i]));
        json_array_append_new(events, e);
    }
    return json_pack("{s:i, s:b, s:o}", "shard", (int)shard->number, "whole", h->whole, "events",
                     events);
}

struct show { struct source_shard *shard; struct replay_history history; struct id128 key; };

static int show_begin(struct replay *r, struct show *s, struct moment *at) {
    if (!replay_key(r, replay_word(r, 1), &s->key) || !replay_moment(r, "at", at)) {
        return REPLAY_USAGE;
    }
    int status = replay_open_source(r);
    if (status != REPLAY_DONE) return status;
    return replay_find_order(r, &s->key, UINT64_MAX, at, &s->shard, &s->history);
}

int replay_history(struct replay *r) {
    struct show s = {.shard = NULL};
    struct moment at;
    int status = show_begin(r, &s, &at);
    if (status != REPLAY_DONE) return status;
    if (r->json) status = replay_print_json(history_json(s.shard, &s.history, NULL), REPLAY_DONE);
    else if (args_flag(&r->args, "timeline")) draw_timeline(r, s.shard, &s.history, NULL);
    else draw_history(r, &s.history);
    if (!s.history.whole && !r->quiet) {
        fprintf(stderr, "The log begins behind the first of its events.\n");
    }
    replay_history_free(&s.history);
    return status;
}

int replay_show(struct replay *r) {
    struct show s = {.shard = NULL};
    struct moment at;
    const char *fault;
    int status = show_begin(r, &s, &at);
    if (status != REPLAY_DONE) return status;
    struct actor *order = replay_order_build(&s.history, UINT64_MAX, &fault);
    struct delivery *d = order ? deliveries(r, s.shard, &s.history, order_store(order)) : NULL;
    if (r->json) {
        json_t *json = history_json(s.shard, &s.history, d);
        if (order) json_object_set_new(json, "order", encode_order_json(order));
        replay_print_json(json, REPLAY_DONE);
    } else {
        if (order) draw_order(r, order, replay_moment_ms(&at, &s.history));
        else replay_error(r, "the order cannot be built: %s", fault);
        fputc('\n', stdout);
        draw_timeline(r, s.shard, &s.history, d);
    }
    free(d);
    free(order);
    replay_history_free(&s.history);
    return REPLAY_DONE;
}
