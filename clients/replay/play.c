/* play: the commands of a log sent to another cluster, in their order and at a multiple of their
 * pace. */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "clients/cli/progress.h"
#include "clients/cli/text.h"
#include "clients/replay/cause.h"
#include "clients/replay/merge.h"
#include "clients/replay/place.h"
#include "clients/replay/play_window.h"
#include "clients/sdk/jumun.h"
#include "engine/base/histogram.h"
#include "engine/wire/routing.h"

enum { PLAY_IN_FLIGHT = 4096, PLAY_IN_FLIGHT_MAX = 1 << 20, PLAY_SPEED_MAX = 1000000,
       PLAY_PING_MS = 10000, PLAY_TIMEOUT_MS_MIN = 1000, PLAY_WINDOWS = 8, PLAY_PLACE_MS = 200 };

struct play {
    struct replay *replay;
    jumun_client *client;
    double speed;              /* 0 = as fast as it goes */
    bool keep_keys, scale_timeouts;
    int64_t log_begin_ms, begin_ms; /* of the first run: orders' births follow from them */
    int64_t run_begin_ms;      /* of the first entry that this run sends */
    uint64_t begin_ns;
    const char *place;         /* keeps how far it came; NULL = nobody wants to go on */
    uint64_t placed_ns;        /* when it was last written */
    uint64_t reached[SHARDS_MAX]; /* by place in the source: acknowledged up to here */
    struct play_window *window; /* with a place; guarded by the lock, as `reached` is */
    pthread_mutex_t lock;      /* guards what is below */
    pthread_cond_t answered;
    uint64_t in_flight, in_flight_max;
    uint64_t sent, done, held, refused, unanswered, deadlines, unsent;
    uint64_t refused_by_code[1000];
    struct histogram latency;
    int64_t late_ms_max;
    struct cause cause;
    char *text;                /* NUL-terminated copies of one command's texts */
    size_t text_bytes, text_used;
    jumun_line *lines;
    jumun_line_cancellation *cuts;
};

struct play_call { struct play *play; uint64_t sent_ns, ticket; };

/* -- one command --------------------------------------------------------------------------- */

static const char *play_text(struct play *p, struct bytes text) {
    if (text.size == 0 || p->text_used + text.size + 1 > p->text_bytes) return NULL;
    char *copy = p->text + p->text_used;
    memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    p->text_used += text.size + 1;
    return copy;
}

/* An order of the other cluster: born as long after the play's begin as it was after the log's,
 * at the play's pace; the rest of the key, which picks the shard, stays. */
static jumun_key play_key(const struct play *p, const struct id128 *key) {
    jumun_key out;
    memcpy(out.bytes, key->bytes, 16);
    if (p->keep_keys) return out;
    double pace = p->speed > 0 ? p->speed : 1e6;
    double after_ms = (double)(routing_birth_ms(key) - p->log_begin_ms) / pace;
    uint64_t birth_ms = (uint64_t)(p->begin_ms + (int64_t)floor(after_ms));
    for (int i = 5; i >= 0; i--, birth_ms >>= 8) out.bytes[i] = (uint8_t)birth_ms;
    return out;
}

static int64_t play_timeout(const struct play *p, int64_t asked_ms, int64_t default_ms) {
    if (!p->scale_timeouts || p->speed <= 0) return asked_ms;
    double scaled = (double)(asked_ms ? asked_ms : default_ms) / p->speed;
    return scaled < PLAY_TIMEOUT_MS_MIN ? PLAY_TIMEOUT_MS_MIN : (int64_t)scaled;
}

static const jumun_line *play_lines(struct play *p, const struct order_line *lines,
                                    uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        p->lines[i] = (jumun_line){.sku = play_text(p, lines[i].sku),
                                   .quantity = lines[i].quantity,
                                   .unit_price = lines[i].unit_price,
                                   .name = play_text(p, lines[i].name)};
    }
    return p->lines;
}

static void play_place(struct play *p, const struct command_place *c, jumun_place *out) {
    bool parcel = c->fulfilment == FULFILMENT_PARCEL;
    *out = (jumun_place){
        .fulfilment = (jumun_fulfilment)c->fulfilment,
        .payment_timing = (jumun_payment_timing)c->payment_timing,
        .currency = play_text(p, bytes_of(c->currency, 3)), .store = play_text(p, c->store),
        .lines_count = c->lines_count, .fees = c->fees, .discounts = c->discounts,
        .total = c->total, .customer = play_text(p, c->customer), .group = play_text(p, c->group),
        .external_ref = play_text(p, c->external_ref), .attributes = c->attributes.data,
        .attributes_bytes = c->attributes.size,
        .payment_timeout_ms = play_timeout(p, c->payment_timeout_ms, PAYMENT_DEADLINE_MS),
        .acceptance_timeout_ms = play_timeout(p, c->acceptance_timeout_ms,
                                              ACCEPTANCE_DEADLINE_MS),
        .auto_complete_ms = play_timeout(p, c->auto_complete_ms,
                                         parcel ? AUTO_COMPLETE_PARCEL_MS
                                                : AUTO_COMPLETE_DELIVERY_MS)};
    out->lines = play_lines(p, c->lines, c->lines_count);
}

static void play_cancel(struct play *p, const struct command_cancel *c, jumun_cancel *out) {
    for (uint32_t i = 0; i < c->lines_count; i++) {
        p->cuts[i] = (jumun_line_cancellation){c->lines[i].line, c->lines[i].quantity};
    }
    *out = (jumun_cancel){(jumun_party)c->by, play_text(p, c->reason), p->cuts, c->lines_count};
}

static void play_command(struct play *p, const struct command *c, jumun_command *out) {
    p->text_used = 0;
    *out = (jumun_command){.kind = (jumun_kind)c->kind};
    memcpy(out->options.id.bytes, c->id.bytes, 16);
    memcpy(out->options.trace.bytes, c->trace.bytes, 16);
    if (c->kind == COMMAND_STORE_PAUSE || c->kind == COMMAND_STORE_RESUME) {
        out->store_id = play_text(p, c->store.store);
        if (c->kind == COMMAND_STORE_PAUSE) {
            out->store_pause.reason = play_text(p, c->store.reason);
        }
        return;
    }
    out->order = play_key(p, &c->subject);
    switch (c->kind) {
    case COMMAND_PLACE: play_place(p, &c->place, &out->place); break;
    case COMMAND_PAY:
        out->pay = (jumun_pay){(jumun_payment_state)c->pay.state, play_text(p, c->pay.method),
                               play_text(p, c->pay.reference), c->pay.amount};
        break;
    case COMMAND_ACCEPT:
        out->accept.preparation_minutes = c->accept.preparation_minutes;
        break;
    case COMMAND_REJECT: out->reject.reason = play_text(p, c->reject.reason); break;
    case COMMAND_ASSIGN_RIDER:
        out->assign_rider.rider = play_text(p, c->assign_rider.rider);
        break;
    case COMMAND_CANCEL: play_cancel(p, &c->cancel, &out->cancel); break;
    case COMMAND_REFUND:
        out->refund.amount = c->refund.amount;
        out->refund.reason = play_text(p, c->refund.reason);
        break;
    case COMMAND_AMEND:
        out->amend = (jumun_amend){.lines_count = c->amend.lines_count, .fees = c->amend.fees,
                                   .discounts = c->amend.discounts, .total = c->amend.total};
        out->amend.lines = play_lines(p, c->amend.lines, c->amend.lines_count);
        break;
    case COMMAND_ANNOTATE: out->annotate.note = play_text(p, c->annotate.note); break;
    default: break;
    }
}

static void play_answered(void *arg, const jumun_result *r, const void *value, size_t bytes) {
    struct play_call *call = arg;
    struct play *p = call->play;
    (void)value, (void)bytes;
    histogram_record(&p->latency, (int64_t)(text_mono_ns() - call->sent_ns));
    pthread_mutex_lock(&p->lock);
    p->in_flight--;
    if (p->window) {
        play_window_answer(p->window, call->ticket, r->code == JUMUN_HELD || r->code < 1000);
    }
    free(call);
    if (r->code == JUMUN_OK) p->done++;
    else if (r->code == JUMUN_HELD) p->held++;
    else if (r->code < 1000) {
        p->refused++;
        p->refused_by_code[r->code]++;
    } else {
        p->unanswered++;
    }
    pthread_cond_signal(&p->answered);
    pthread_mutex_unlock(&p->lock);
}

/* Under the lock: until something may be sent. */
static void play_wait_for_room(struct play *p) {
    while (p->in_flight >= p->in_flight_max || (p->window && play_window_is_full(p->window))) {
        pthread_cond_wait(&p->answered, &p->lock);
    }
}

/* The other cluster may be slower than the log: a full queue is waited for, or what follows on the
 * command would overtake it. */
static int play_submit(struct play *p, const jumun_command *command, struct play_call *call) {
    enum { WAIT_MS_MAX = 100 };
    int code;
    while ((code = jumun_submit(p->client, command, play_answered, call)) == JUMUN_QUEUE_FULL &&
           !replay_interrupted()) {
        uint32_t ms = jumun_retry_after_ms(p->client, command);
        usleep((ms < 1 ? 1 : ms < WAIT_MS_MAX ? ms : WAIT_MS_MAX) * 1000);
    }
    return code;
}

static bool play_send(struct play *p, uint32_t shard, const struct command *c) {
    jumun_command command;
    uint64_t ticket = 0;
    struct play_call *call = malloc(sizeof *call);
    if (!call) return false;
    pthread_mutex_lock(&p->lock);
    play_wait_for_room(p);
    if (p->window) ticket = play_window_send(p->window, shard);
    p->in_flight++;
    p->sent++;
    pthread_mutex_unlock(&p->lock);
    play_command(p, c, &command);
    *call = (struct play_call){p, text_mono_ns(), ticket};
    int code = play_submit(p, &command, call);
    if (code == JUMUN_OK) return true;
    free(call);
    pthread_mutex_lock(&p->lock);
    p->in_flight--;
    p->sent--;
    p->unsent++;
    if (p->window) play_window_answer(p->window, ticket, false);
    pthread_mutex_unlock(&p->lock);
    return code != JUMUN_NO_MEMORY;
}

/* -- the log ------------------------------------------------------------------------------- */

/* Waits until it is the entry's time. */
static void play_wait(struct play *p, int64_t time_ms) {
    if (p->speed <= 0) return;
    int64_t due_ms = (int64_t)((double)(time_ms - p->run_begin_ms) / p->speed);
    for (;;) {
        int64_t now_ms = (int64_t)((text_mono_ns() - p->begin_ns) / 1000000);
        if (now_ms >= due_ms || replay_interrupted()) {
            if (now_ms - due_ms > p->late_ms_max) p->late_ms_max = now_ms - due_ms;
            return;
        }
        int64_t left_ms = due_ms - now_ms;
        usleep((useconds_t)(left_ms > 100 ? 100000 : left_ms * 1000));
    }
}

static bool play_event(struct play *p, uint32_t shard, const struct event *e, int64_t time_ms) {
    bool order = e->kind >= 1 && e->kind <= 63 && order_event_is_well_formed(e);
    bool store = e->kind >= 64 && e->kind <= 79 && store_event_is_well_formed(e);
    if (!order && !store) return true;
    switch (cause_of(e, time_ms, &p->cause)) {
    case CAUSE_COMMAND: return play_send(p, shard, &p->cause.command);
    case CAUSE_DEADLINE: p->deadlines++; return true;
    case CAUSE_NONE: return true;
    default: return false;
    }
}

/* Writes how far the other cluster has acknowledged the log. Told when it cannot be. */
static bool play_keep_place(struct play *p) {
    struct replay *r = p->replay;
    uint64_t reached[SHARDS_MAX];
    char error[1000];
    pthread_mutex_lock(&p->lock);
    memcpy(reached, p->reached, sizeof reached);
    pthread_mutex_unlock(&p->lock);
    p->placed_ns = text_mono_ns();
    json_t *json = json_pack("{s:s, s:I, s:I, s:f, s:b, s:b, s:o}", "cluster_id",
                             r->source.cluster_id, "begin_ms", (json_int_t)p->begin_ms,
                             "log_begin_ms", (json_int_t)p->log_begin_ms, "speed", p->speed,
                             "keep_keys", p->keep_keys, "scale_timeouts", p->scale_timeouts,
                             "shards", place_shards(&r->source, reached));
    if (place_write(p->place, json, error, sizeof error) == 0) return true;
    replay_error(r, "%s", error);
    return false;
}

/* A record's commands, at its time. */
static bool play_record(struct play *p, uint32_t shard, const struct log_item *item) {
    const struct entry_header *entry = item->payload;
    uint32_t offset = 0, size = item->header->payload_bytes - (uint32_t)sizeof *entry;
    const struct event *e;
    bool ok = true;
    if (p->begin_ns == 0) {
        p->begin_ns = text_mono_ns();
        p->run_begin_ms = entry->time_ms;
        if (p->begin_ms == 0) {
            p->begin_ms = text_now_ms();
            p->log_begin_ms = entry->time_ms;
        }
        /* Before the first command: orders that are sent twice must have the same keys. */
        if (p->place && !play_keep_place(p)) return false;
    }
    play_wait(p, entry->time_ms);
    if (replay_interrupted()) return true;
    while (ok && (e = event_next(entry + 1, size, &offset))) {
        ok = play_event(p, shard, e, entry->time_ms);
    }
    return ok;
}

/* All of a record is on its way. */
static bool play_passed(struct play *p, uint32_t shard, uint64_t index) {
    if (!p->window || replay_interrupted()) return true;
    pthread_mutex_lock(&p->lock);
    while (play_window_is_full(p->window)) pthread_cond_wait(&p->answered, &p->lock);
    play_window_end(p->window, shard, index);
    pthread_mutex_unlock(&p->lock);
    bool due = p->begin_ns && text_mono_ns() - p->placed_ns > PLAY_PLACE_MS * 1000000ull;
    return !due || play_keep_place(p);
}

static int play_stream(struct play *p, struct merge *m, uint64_t total) {
    struct log_item item;
    struct progress progress;
    enum log_step step;
    uint32_t shard;
    uint64_t records = 0;
    bool shown = !p->replay->quiet && isatty(STDERR_FILENO), ok = true;
    progress_start(&progress, shown ? stderr : NULL, "playing", "commands",
                   p->replay->color_errors);
    while (ok && !replay_interrupted() && (step = merge_next(m, &shard, &item)) != LOG_END) {
        char note[64];
        records++;
        if (step == LOG_RECORD && item.header->type == RECORD_EVENTS &&
            item.header->payload_bytes >= sizeof(struct entry_header)) {
            ok = play_record(p, shard, &item);
        }
        ok = ok && play_passed(p, shard, item.upto);
        snprintf(note, sizeof note, "%" PRIu64 " refused", p->refused);
        progress_update(&progress, (double)records / (double)(total ? total : 1), p->sent, note);
    }
    pthread_mutex_lock(&p->lock);
    while (p->in_flight > 0) pthread_cond_wait(&p->answered, &p->lock);
    pthread_mutex_unlock(&p->lock);
    progress_end(&progress, records < total ? (double)records / (double)total : 1, p->sent, "");
    if (p->place && p->begin_ms && !play_keep_place(p)) ok = false;
    if (!ok) return REPLAY_FAILED;
    return replay_interrupted() ? REPLAY_STOPPED : REPLAY_DONE;
}

static int play_report(const struct play *p, int status) {
    double seconds = (double)(text_mono_ns() - p->begin_ns) / 1e9;
    char sent[TEXT_BYTES], rate[TEXT_BYTES], count[TEXT_BYTES], late[TEXT_BYTES];
    char p50[TEXT_BYTES], p99[TEXT_BYTES];
    double at50 = (double)histogram_percentile_ns(&p->latency, 50000);
    double at99 = (double)histogram_percentile_ns(&p->latency, 99000);
    if (status == REPLAY_DONE && (p->unanswered || p->unsent)) status = REPLAY_FAILED;
    if (p->replay->json) {
        json_t *refused = json_object();
        for (int code = 0; code < 1000; code++) {
            if (!p->refused_by_code[code]) continue;
            json_object_set_new(refused, jumun_result_name(code),
                                json_integer((json_int_t)p->refused_by_code[code]));
        }
        return replay_print_json(
            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:f, s:I, s:I, s:I}", "sent",
                      (json_int_t)p->sent, "done", (json_int_t)p->done, "held",
                      (json_int_t)p->held, "refused", (json_int_t)p->refused, "unanswered",
                      (json_int_t)p->unanswered, "not_sent", (json_int_t)p->unsent, "deadlines",
                      (json_int_t)p->deadlines, "refused_by", refused, "seconds", seconds,
                      "late_ms_max", (json_int_t)p->late_ms_max, "p50_us",
                      (json_int_t)(at50 / 1000), "p99_us", (json_int_t)(at99 / 1000)), status);
    }
    printf("%s commands in %.1f s, %s/s: %" PRIu64 " done, %" PRIu64 " held, %" PRIu64
           " refused, %" PRIu64 " without answer\n", text_count(sent, p->sent), seconds,
           text_count(rate, seconds > 0 ? (uint64_t)((double)p->sent / seconds) : 0), p->done,
           p->held, p->refused, p->unanswered + p->unsent);
    for (int code = 0; code < 1000; code++) {
        if (!p->refused_by_code[code]) continue;
        printf("  %s refused: %s\n", text_count(count, p->refused_by_code[code]),
               jumun_result_text(code));
    }
    printf("latency p50 %s, p99 %s; at most %s behind the log's pace\n", text_latency(p50, at50),
           text_latency(p99, at99), text_span(late, p->late_ms_max));
    if (p->deadlines) {
        printf("%s events came of deadlines: the other cluster has its own\n",
               text_count(count, p->deadlines));
    }
    return status;
}

/* -- the command --------------------------------------------------------------------------- */

/* "100", "100x", "0.5x", "max". */
static bool play_speed(struct replay *r, double *speed) {
    const char *text = args_value(&r->args, "speed");
    char *end;
    *speed = 1;
    if (!text) return true;
    if (strcmp(text, "max") == 0) {
        *speed = 0;
        return true;
    }
    *speed = strtod(text, &end);
    if (end != text && (*end == 0 || strcmp(end, "x") == 0) && *speed > 0 &&
        *speed <= PLAY_SPEED_MAX) {
        return true;
    }
    replay_usage(r, "--speed: \"%.40s\" is not a multiple such as 100x, 0.5x or max", text);
    return false;
}

/* Takes over what the run before kept. What makes the orders' keys and timeouts is as it was then:
 * else a command that comes once more would be another one. */
static bool play_take_place(struct play *p) {
    struct replay *r = p->replay;
    char error[1000];
    const char *cluster_id = "";
    json_int_t begin_ms = 0, log_begin_ms = 0;
    double speed = 0;
    int keep_keys = 0, scale_timeouts = 0;
    json_t *shards, *json = place_read(p->place, error, sizeof error);
    if (!json && error[0] == 0) return true; /* the first run */
    bool ok = json && json_unpack(json, "{s:s, s:I, s:I, s:F, s:b, s:b, s:o}", "cluster_id",
                                  &cluster_id, "begin_ms", &begin_ms, "log_begin_ms",
                                  &log_begin_ms, "speed", &speed, "keep_keys", &keep_keys,
                                  "scale_timeouts", &scale_timeouts, "shards", &shards) == 0 &&
              begin_ms > 0;
    if (!ok) replay_error(r, "%s", error[0] ? error : "--continue: the file is not of a play");
    else if (strcmp(cluster_id, r->source.cluster_id) != 0) {
        replay_error(r, "%s is of a play of another cluster's log, %s", p->place, cluster_id);
        ok = false;
    } else if ((args_value(&r->args, "speed") && fabs(p->speed - speed) > 1e-9) ||
               (p->keep_keys && !keep_keys) || (p->scale_timeouts && !scale_timeouts)) {
        replay_error(r, "%s is of a play with another --speed, --keep-keys or --scale-timeouts: go "
                     "on without them", p->place);
        ok = false;
    } else {
        p->begin_ms = begin_ms;
        p->log_begin_ms = log_begin_ms;
        p->speed = speed;
        p->keep_keys = keep_keys;
        p->scale_timeouts = scale_timeouts;
        place_take_shards(shards, &r->source, p->reached);
    }
    json_decref(json);
    return ok;
}

static bool play_open(struct play *p, const char *endpoint) {
    char error[256] = "";
    jumun_options options = {.timeout_ms = 30000};
    p->lines = malloc(ORDER_LINES_MAX * sizeof *p->lines);
    p->cuts = malloc(ORDER_LINES_MAX * sizeof *p->cuts);
    p->text = malloc(p->text_bytes = EVENT_BYTES_MAX);
    if (p->place) {
        p->window = play_window_open((uint32_t)p->in_flight_max * PLAY_WINDOWS, p->reached);
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->answered, NULL);
    if (p->lines && p->cuts && p->text && (p->window || !p->place)) {
        p->client = jumun_open(endpoint, &options, error, sizeof error);
    }
    if (!p->client) replay_error(p->replay, "%s: %s", endpoint, error);
    int answer = p->client ? jumun_ping(p->client, PLAY_PING_MS) : JUMUN_OK;
    if (answer == JUMUN_OK) return p->client != NULL;
    if (answer == JUMUN_READ_ONLY)
        replay_error(p->replay, "%s: a replica answers there, not a node; nodes take commands "
                     "(port 7400 by default), replicas answer questions", endpoint);
    else
        replay_error(p->replay, "%s does not answer", endpoint);
    return false;
}

static void play_close(struct play *p) {
    if (p->client) jumun_close(p->client);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->answered);
    cause_free(&p->cause);
    play_window_close(p->window);
    free(p->lines);
    free(p->cuts);
    free(p->text);
    free(p);
}

static int play_all(struct play *p, const struct moment *from, const struct moment *to) {
    struct replay *r = p->replay;
    uint64_t behind[SHARDS_MAX], upto[SHARDS_MAX], total = 0, first, last;
    if (p->place && !play_take_place(p)) return REPLAY_FAILED;
    for (uint32_t i = 0; i < r->source.count; i++) {
        log_source_range(r->source.shards[i].log, &first, &last);
        behind[i] = moment_index(from, &r->source.shards[i], 0);
        /* An index is meant with its record, a time with what came behind it. */
        if (from->kind == MOMENT_INDEX && behind[i] > 0) behind[i]--;
        if (p->reached[i] > behind[i]) behind[i] = p->reached[i];
        if (p->reached[i] > 0 && p->reached[i] + 1 < first) {
            replay_error(r, "shard %u: records %" PRIu64 " to %" PRIu64 ", which the run before "
                         "did not come to, are there no more", r->source.shards[i].number,
                         p->reached[i] + 1, first - 1);
            return REPLAY_NOT_THERE;
        }
        upto[i] = moment_index(to, &r->source.shards[i], last);
        if (upto[i] > last) upto[i] = last;
        if (behind[i] + 1 < first) behind[i] = first - 1;
        p->reached[i] = behind[i];
        if (upto[i] > behind[i]) total += upto[i] - behind[i];
    }
    bool failed = replay_source_failed(r, &r->source);
    struct merge *m = failed ? NULL : merge_open(r, behind, upto);
    int status = m ? play_stream(p, m, total) : REPLAY_FAILED;
    if (status <= REPLAY_FOUND && replay_source_failed(r, &r->source)) status = REPLAY_FAILED;
    bool played = m != NULL;
    merge_close(m);
    if (!p->begin_ns) p->begin_ns = text_mono_ns(); /* there was nothing to send */
    return played ? play_report(p, status) : status;
}

int replay_play(struct replay *r) {
    struct moment from, to;
    const char *endpoint = args_value(&r->args, "into");
    int64_t in_flight = PLAY_IN_FLIGHT;
    struct play *p = calloc(1, sizeof *p);
    if (!p) return REPLAY_FAILED;
    p->replay = r;
    int status = REPLAY_USAGE;
    if (!endpoint) {
        replay_usage(r, "play needs --into ENDPOINT");
    } else if (replay_moment(r, "from", &from) && replay_moment(r, "to", &to) &&
               replay_int(r, "in-flight", &in_flight) && play_speed(r, &p->speed)) {
        status = replay_open_source(r);
    }
    p->in_flight_max = in_flight < 1 ? 1 : (uint64_t)in_flight;
    if (p->in_flight_max > PLAY_IN_FLIGHT_MAX) p->in_flight_max = PLAY_IN_FLIGHT_MAX;
    p->place = args_value(&r->args, "continue");
    p->keep_keys = args_flag(&r->args, "keep-keys");
    p->scale_timeouts = args_flag(&r->args, "scale-timeouts");
    if (status != REPLAY_DONE) {
        free(p);
        return status;
    }
    status = play_open(p, endpoint) ? play_all(p, &from, &to) : REPLAY_FAILED;
    play_close(p);
    return status;
}
