/* Life cycle, the round of work, and the way in from other threads. */
#include "engine/shard/shard.h"

#include <stdio.h>

#include "engine/base/log.h"
#include "engine/shard/shard_internal.h"

enum { POLL_EVENTS_MAX = 64, ELECTION_TIMEOUT_MS = 300, HEARTBEAT_MS = 50, RATE_WINDOW_MS = 10,
       RETRY_AFTER_MS_MIN = 5, RETRY_AFTER_MS_MAX = 1000, BLOCKED_MS = 5, DISK_FULL_MS = 100 };

static void parked_init(struct shard *s) {
    for (uint32_t p = 1; p < PARKED_COMMANDS_MAX; p++) s->parked[p].next = p + 1;
    s->parked[PARKED_COMMANDS_MAX].next = 0;
    s->parked_free = 1;
}

static bool shard_alloc(struct shard *s) {
    struct turn_news *n = &s->turn.news;
    s->entry_buffer = malloc(sizeof(struct entry_header) + ENTRY_BYTES_MAX + EVENT_BYTES_MAX);
    s->message_buffer = malloc(SHARD_MESSAGE_BYTES_MAX);
    s->news_picked = malloc(TURN_NEWS_MAX * sizeof *s->news_picked);
    s->limbo = calloc(LIMBO_RING, sizeof *s->limbo);
    s->parked = calloc(PARKED_COMMANDS_MAX + 1, sizeof *s->parked);
    s->visitors = calloc(1024, sizeof *s->visitors);
    n->items = malloc(TURN_NEWS_MAX * sizeof *n->items);
    n->shards = malloc(TURN_NEWS_MAX * sizeof *n->shards);
    n->buckets = calloc(TURN_NEWS_BUCKETS, sizeof *n->buckets);
    n->texts = malloc((size_t)TURN_NEWS_MAX * ID_TEXT_BYTES_MAX);
    n->status = malloc(TURN_STATUS_MAX * sizeof *n->status);
    s->checkpoint.configuration = malloc(sizeof((struct storage_meta *)0)->configuration);
    s->checkpoint.cursors =
        calloc(3 + s->options.shards_count, sizeof *s->checkpoint.cursors);
    return s->entry_buffer && s->message_buffer && s->news_picked && s->limbo && s->parked &&
           s->visitors && n->items && n->shards && n->buckets && n->texts && n->status &&
           s->checkpoint.configuration && s->checkpoint.cursors &&
           outbox_init(&s->outbox, s->options.id, s->options.shards_count) &&
           actor_table_init(&s->table, &s->memory);
}

struct shard *shard_open(const struct shard_options *options, int64_t now_ms, int64_t mono_ms,
                         char *error, size_t error_bytes) {
    require(options->shards_count >= 1 && options->shards_count <= SHARDS_MAX);
    require(options->id < options->shards_count && options->server_id > 0);
    struct shard *s = aligned_alloc(64, (sizeof *s + 63) & ~(size_t)63);
    if (!s) {
        snprintf(error, error_bytes, "no memory for shard %u", options->id);
        return NULL;
    }
    memset(s, 0, sizeof *s);
    s->options = *options;
    if (!s->options.checkpoint_age_ms) s->options.checkpoint_age_ms = CHECKPOINT_AGE_MS;
    if (!s->options.resend_after_ms) s->options.resend_after_ms = 1000;
    if (!s->options.retention_ms) s->options.retention_ms = RETENTION_MS;
    if (!s->options.trailing_entries) s->options.trailing_entries = RAFT_TRAILING_ENTRIES;
    s->now_ms = now_ms;
    s->mono_ms = mono_ms;
    pthread_mutex_init(&s->published_lock, NULL);
    mailbox_init(&s->mailbox,
                 options->mailbox_commands_max ? options->mailbox_commands_max
                                               : MAILBOX_COMMANDS_MAX,
                 MAILBOX_BYTES_MAX);
    if (!shard_alloc(s)) {
        snprintf(error, error_bytes, "no memory for shard %u", options->id);
        shard_close(s);
        return NULL;
    }
    timer_heap_init(&s->timers, &s->table);
    parked_init(s);
    struct consensus_options co = {.id = options->server_id, .address = "self",
                                   .election_timeout_ms = ELECTION_TIMEOUT_MS,
                                   .heartbeat_ms = HEARTBEAT_MS,
                                   .seed = options->seed + options->id};
    s->consensus = consensus_new(&co);
    if (!s->consensus || !shard_recovery_begin(s, error, error_bytes)) {
        if (!s->consensus) snprintf(error, error_bytes, "no memory for consensus");
        shard_close(s);
        return NULL;
    }
    shard_publish(s);
    return s;
}

void shard_fail(struct shard *s) {
    s->failed = true;
    atomic_store(&s->closed_for_commands, true);
    s->published_ms = 0;
    shard_publish(s);
}

/* -- the way in: any thread ------------------------------------------------------------------ */

bool shard_offer(struct shard *s, struct request_part *part, uint32_t *retry_after_ms) {
    if (mailbox_push(&s->mailbox, part)) {
        if (s->wake) s->wake(s->wake_arg);
        return true;
    }
    /* How long until what waits now is gone, at the rate of the last moments. */
    uint64_t rate = atomic_load_explicit(&s->drain_per_second, memory_order_relaxed);
    uint64_t wait = rate ? mailbox_commands(&s->mailbox) * 1000ULL / rate : 100;
    if (wait < RETRY_AFTER_MS_MIN) wait = RETRY_AFTER_MS_MIN;
    *retry_after_ms = wait > RETRY_AFTER_MS_MAX ? RETRY_AFTER_MS_MAX : (uint32_t)wait;
    return false;
}

void shard_on_wake(struct shard *s, void (*wake)(void *arg), void *arg) {
    s->wake_arg = arg;
    s->wake = wake;
}

/* -- the round of work ----------------------------------------------------------------------- */

static void bootstrap_finished(struct shard *s) {
    char error[256] = "";
    if (shard_recovery_begin(s, error, sizeof error)) return;
    log_error("shard %u: %s", s->options.id, error);
    shard_fail(s);
}

static void on_storage_event(struct shard *s, const struct storage_event *event) {
    struct consensus_update update = {0};
    switch (event->kind) {
    case STORAGE_APPENDED:
        if (s->phase == SHARD_BOOTSTRAPPING) {
            bootstrap_finished(s);
            break;
        }
        consensus_persisted(s->consensus, event->index, s->mono_ms, &update);
        shard_take_update(s, &update);
        break;
    case STORAGE_LOG_FULL:
        s->disk_full = true;
        log_warn("shard %u: no room on disk: writes are refused until there is", s->options.id);
        break;
    case STORAGE_LOG_ROOM:
        s->disk_full = false;
        log_info("shard %u: there is room on disk again", s->options.id);
        break;
    case STORAGE_CHECKPOINTED: shard_on_checkpointed(s, event); break;
    case STORAGE_LOADED: shard_on_loaded(s, event); break;
    case STORAGE_TIMER_LOADED: shard_on_timer_loaded(s, event); break;
    default: impossible("an unknown storage event");
    }
}

static uint32_t take_storage_events(struct shard *s) {
    struct storage_event events[POLL_EVENTS_MAX];
    uint32_t total = 0, n;
    do {
        n = s->options.storage->ops->poll(s->options.storage, events, POLL_EVENTS_MAX);
        for (uint32_t i = 0; i < n; i++) on_storage_event(s, &events[i]);
        total += n;
    } while (n == POLL_EVENTS_MAX);
    return total;
}

/* Admission under load. What is taken waits for the decision and then for the disk; a bound in
 * commands alone would let it wait for seconds when the machine is slow. Once more than a turn has
 * been under way for a whole window, the rate of answers in that window is what the shard can do,
 * and no more is taken than it answers in MAILBOX_WAIT_MS_MAX. Bursts are let through. */
static void measure_rate(struct shard *s) {
    if (mailbox_commands(&s->mailbox) <= TURN_COMMANDS_MAX) {
        s->busy_since_ms = s->mono_ms;
        mailbox_admit(&s->mailbox, UINT32_MAX);
    }
    int64_t passed = s->mono_ms - s->rate_since_ms;
    if (passed < RATE_WINDOW_MS) return;
    uint64_t now = s->rate_commands * 1000 / (uint64_t)passed;
    uint64_t before = atomic_load_explicit(&s->drain_per_second, memory_order_relaxed);
    bool busy = s->busy_since_ms <= s->rate_since_ms;
    uint64_t rate = busy && before ? (3 * before + now) / 4 : now > before ? now : before;
    if (rate > UINT32_MAX) rate = UINT32_MAX;
    atomic_store_explicit(&s->drain_per_second, (unsigned)rate, memory_order_relaxed);
    if (busy) {
        uint64_t admit = rate * MAILBOX_WAIT_MS_MAX / 1000;
        if (admit < TURN_COMMANDS_MAX) admit = TURN_COMMANDS_MAX;
        mailbox_admit(&s->mailbox, admit > UINT32_MAX ? UINT32_MAX : (uint32_t)admit);
    }
    s->rate_since_ms = s->mono_ms;
    s->rate_commands = 0;
}

/* A shard that cannot serve answers all the same; what it has decided of a part before it failed
 * stands. */
static uint32_t refuse_mailbox(struct shard *s, uint16_t code) {
    uint32_t done = 0;
    struct request_part *part;
    while ((part = mailbox_take(&s->mailbox))) {
        uint32_t from = s->part_position;
        s->part_position = 0;
        if (from == 0) {
            part->left = part->count;
            part->gate_index = 0;
        }
        done += part->count - from;
        for (uint32_t i = from, count = part->count; i < count; i++) {
            uint32_t position = request_part_position(part, i);
            struct request *request = part->request;
            struct result *r = &request->results[position];
            *r = (struct result){.code = code, .shard = s->options.id};
            shard_count_result(s, &request->commands[position], r);
            if (--part->left == 0) shard_gate_part(s, part);
        }
    }
    return done;
}

static bool everything_is_stored(const struct shard *s);

/* Messages leave together, a few milliseconds after the first of them: each send and each wake of
 * the other shard costs more than a message. */
static uint32_t send_messages(struct shard *s, int64_t *next_ms) {
    if (s->outbox.messages_waiting == 0 && !s->inbox) return 0;
    if (s->inbox && s->inbox_since_ms + MESSAGE_LINGER_MS < *next_ms)
        *next_ms = s->inbox_since_ms + MESSAGE_LINGER_MS;
    if (s->mono_ms - s->outbox_sent_ms < MESSAGE_LINGER_MS) {
        if (s->outbox_sent_ms + MESSAGE_LINGER_MS < *next_ms)
            *next_ms = s->outbox_sent_ms + MESSAGE_LINGER_MS;
        return 0;
    }
    s->outbox_sent_ms = s->mono_ms;
    return outbox_send(&s->outbox, s->options.courier, s->commit_index, s->mono_ms,
                       s->options.resend_after_ms, next_ms);
}

/* Something is due or waits, and no round can do anything about it. */
static bool is_blocked(const struct shard *s) {
    uint32_t slot;
    int64_t deadline_ms = timer_heap_first(&s->timers, &slot);
    return s->phase == SHARD_SERVING &&
           (!shard_turn_has_room(s) || (deadline_ms != 0 && deadline_ms <= s->now_ms));
}

uint32_t shard_work(struct shard *s, int64_t now_ms, int64_t mono_ms, int64_t *next_ms) {
    require(mono_ms >= s->mono_ms);
    s->now_ms = now_ms;
    s->mono_ms = mono_ms;
    s->draining = atomic_load_explicit(&s->closed_for_commands, memory_order_relaxed);
    *next_ms = INT64_MAX;
    uint32_t done = take_storage_events(s);
    if (s->failed) {
        atomic_store(&s->drained, true);
        return done + shard_fail_loaded(s) + refuse_mailbox(s, RESULT_STORAGE_FAILED);
    }
    if (s->phase != SHARD_BOOTSTRAPPING) {
        if (mono_ms >= s->consensus_timeout_ms) {
            struct consensus_update update = {0};
            consensus_tick(s->consensus, mono_ms, &update);
            shard_take_update(s, &update);
        }
        done += shard_recover(s);
        done += shard_turns(s);
    }
    if (s->phase == SHARD_SERVING) {
        done += send_messages(s, next_ms);
        shard_timers_load(s);
        done += shard_checkpoint(s, next_ms);
        shard_evict_under_pressure(s);
        measure_rate(s);
    }
    if (s->draining) atomic_store(&s->drained, everything_is_stored(s));
    if (done) shard_publish(s);
    uint32_t slot;
    int64_t deadline = timer_heap_first(&s->timers, &slot);
    if (deadline != 0) {
        int64_t in = deadline > now_ms ? deadline - now_ms : 0;
        if (in < 1 && s->disk_full) in = DISK_FULL_MS;
        if (mono_ms + in < *next_ms) *next_ms = mono_ms + in;
    }
    if (s->phase != SHARD_BOOTSTRAPPING && s->consensus_timeout_ms < *next_ms)
        *next_ms = s->consensus_timeout_ms;
    if (s->unpublished && s->published_ms + 20 < *next_ms) *next_ms = s->published_ms + 20;
    if (done == 0 && s->unpublished) shard_publish(s);
    /* What is due and had to wait (for the limbo, which the storage's wake empties, or for memory)
     * would have the thread come back at once, over and over. */
    if (done == 0 && *next_ms < mono_ms + BLOCKED_MS && is_blocked(s))
        *next_ms = mono_ms + BLOCKED_MS;
    return done;
}

/* -- the end ---------------------------------------------------------------------------------- */

void shard_drain(struct shard *s) {
    atomic_store(&s->closed_for_commands, true);
    if (s->wake) s->wake(s->wake_arg);
}

static bool everything_is_stored(const struct shard *s) {
    return s->phase == SHARD_SERVING && s->commit_index == s->applied_index &&
           shard_checkpoint_is_clean(s) && mailbox_commands(&s->mailbox) == 0 &&
           s->parked_count == 0;
}

bool shard_is_drained(const struct shard *s) {
    return atomic_load(&((struct shard *)(uintptr_t)s)->drained);
}

bool shard_settle(struct shard *s) {
    take_storage_events(s);
    return s->checkpoint.phase != CHECKPOINT_WRITING;
}

static void free_queues(struct shard *s) {
    struct inbox_message *lists[2] = {s->inbox, atomic_exchange(&s->inbox_top, NULL)};
    for (int i = 0; i < 2; i++)
        while (lists[i]) {
            struct inbox_message *next = lists[i]->next;
            free(lists[i]);
            lists[i] = next;
        }
    for (uint32_t i = 0; s->limbo && i < LIMBO_RING; i++) free(s->limbo[i].acks);
}

void shard_close(struct shard *s) {
    if (!s) return;
    refuse_mailbox(s, RESULT_SHUTTING_DOWN);
    if (s->table.memory) {
        timer_heap_fini(&s->timers);
        actor_table_fini(&s->table);
    }
    free_queues(s);
    outbox_fini(&s->outbox);
    if (s->consensus) consensus_free(s->consensus);
    shard_memory_free(&s->memory.table_bytes, s->dirty.items);
    struct turn_news *n = &s->turn.news;
    void *blocks[] = {s->entry_buffer, s->message_buffer, s->news_picked, s->limbo, s->parked,
                      s->visitors, n->items, n->shards, n->buckets, n->texts, n->status,
                      s->turn.acks, s->loaded, s->dirty_stores, s->checkpoint.configuration,
                      s->checkpoint.cursors, s->checkpoint.data.items, s->checkpoint.data.blocks,
                      s->checkpoint.slots};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    pthread_mutex_destroy(&s->published_lock);
    free(s);
}
