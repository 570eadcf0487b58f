/* Life cycle and the round of work. */
#include "engine/shard/shard.h"

#include <stdio.h>

#include "engine/base/log.h"
#include "engine/base/program.h"
#include "engine/shard/shard_internal.h"

enum { POLL_EVENTS_MAX = 64, ELECTION_TIMEOUT_MS = 300, HEARTBEAT_MS = 50, RATE_WINDOW_MS = 10,
       BLOCKED_MS = 5, DISK_FULL_MS = 100, FOLLOWER_DRAIN_MS = 1000 };

void shard_init_parked(struct shard *s) {
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
    s->checkpoint.cursors = calloc(SHARD_CURSORS_MAX, sizeof *s->checkpoint.cursors);
    return s->entry_buffer && s->message_buffer && s->news_picked && s->limbo && s->parked &&
           s->visitors && n->items && n->shards && n->buckets && n->texts && n->status &&
           s->checkpoint.configuration && s->checkpoint.cursors &&
           outbox_init(&s->outbox, s->options.id, s->options.shards_count,
                       s->options.outbox_window) &&
           actor_table_init(&s->table, &s->memory);
}

struct shard *shard_open(const struct shard_options *options, int64_t now_ms, int64_t mono_ms,
                         char *error, size_t error_bytes) {
    require(options->shards_count >= 1 && options->shards_count <= SHARDS_MAX);
    require(options->id < SHARDS_MAX || options->id == SHARD_META);
    require(options->server_id > 0);
    struct shard *s = aligned_alloc(64, (sizeof *s + 63) & ~(size_t)63);
    if (!s) {
        snprintf(error, error_bytes, "no memory for shard %u", options->id);
        return NULL;
    }
    memset(s, 0, sizeof *s);
    s->options = *options;
    if (!s->options.checkpoint_age_ms) s->options.checkpoint_age_ms = CHECKPOINT_AGE_MS;
    if (!s->options.resend_after_ms) s->options.resend_after_ms = 1000;
    if (!s->options.outbox_window) s->options.outbox_window = OUTBOX_WINDOW_MESSAGES;
    if (!s->options.retention_ms) s->options.retention_ms = RETENTION_MS;
    s->view.level = program.level_max;
    if (options->view) s->view = s->view_offered = *options->view;
    s->options.view = NULL;
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
    shard_init_parked(s);
    struct consensus_options co = {.id = options->server_id, .address = "self",
                                   .election_timeout_ms = ELECTION_TIMEOUT_MS,
                                   .heartbeat_ms = HEARTBEAT_MS,
                                   .seed = options->seed + options->id};
    s->consensus = consensus_new(&co);
    if (!s->consensus || !shard_start(s, error, error_bytes)) {
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

/* -- the round of work ----------------------------------------------------------------------- */

static void bootstrap_finished(struct shard *s) {
    char error[256] = "";
    if (shard_start(s, error, sizeof error)) return;
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
        consensus_persisted_batch(s->consensus, event->sequence - s->appends_before, s->mono_ms,
                                  &update);
        shard_take_update(s, &update);
        if (s->undurable) shard_release_undurable(s);
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

static bool everything_is_stored(struct shard *s);

/* Messages leave together, a few milliseconds after the first of them: each send and each wake of
 * the other shard costs more than a message. */
static uint32_t send_messages(struct shard *s, int64_t *next_ms) {
    if (s->outbox.messages_waiting == 0 && !s->inbox) return 0;
    uint32_t asked = shard_ask_messages(s);
    if (s->inbox && s->inbox_since_ms + MESSAGE_LINGER_MS < *next_ms)
        *next_ms = s->inbox_since_ms + MESSAGE_LINGER_MS;
    if (s->mono_ms - s->outbox_sent_ms < MESSAGE_LINGER_MS) {
        if (s->outbox_sent_ms + MESSAGE_LINGER_MS < *next_ms)
            *next_ms = s->outbox_sent_ms + MESSAGE_LINGER_MS;
        return asked;
    }
    s->outbox_sent_ms = s->mono_ms;
    return asked + outbox_send(&s->outbox, s->options.courier, s->commit_index, s->mono_ms,
                               s->options.resend_after_ms, next_ms);
}

/* Something is due or waits, and no round can do anything about it. */
static bool is_blocked(const struct shard *s) {
    uint32_t slot;
    int64_t deadline_ms = timer_heap_first(&s->timers, &slot);
    return s->phase == SHARD_SERVING &&
           (!shard_turn_has_room(s) || s->gathering_since_ms != 0 ||
            (deadline_ms != 0 && deadline_ms <= s->now_ms));
}

/* A replica that cannot go on answers what waits, and what still comes. */
static uint32_t work_failed(struct shard *s) {
    if (!s->alone && s->phase == SHARD_SERVING) {
        shard_answer_lost(s);
        shard_forget_after(s, 0);
    }
    shard_tell_leader(s);
    atomic_store(&s->drained, true);
    uint16_t code = s->alone ? RESULT_STORAGE_FAILED : RESULT_NOT_LEADER;
    return shard_fail_loaded(s) + shard_refuse_mailbox(s, code, shard_gate_part);
}

/* Messages of peers before the clock: after a long round they tell that the leader lives. */
static uint32_t work_consensus(struct shard *s) {
    uint32_t done = shard_receive(s);
    if (s->mono_ms >= s->consensus_timeout_ms) {
        struct consensus_update update = {0};
        consensus_tick(s->consensus, s->mono_ms, &update);
        shard_take_update(s, &update);
    }
    shard_commit_configuration(s);
    done += shard_check_role(s);
    return done + shard_install(s);
}

static uint32_t work_started(struct shard *s, int64_t *next_ms) {
    uint32_t done = work_consensus(s);
    if (s->failed) return done;
    done += shard_recover(s, next_ms);
    shard_steward(s);
    done += shard_turns(s);
    if (s->phase == SHARD_SERVING) {
        done += send_messages(s, next_ms);
        shard_timers_load(s);
        measure_rate(s);
    } else if (!s->alone && consensus_role(s->consensus) != CONSENSUS_LEADER) {
        done += shard_refuse_mailbox(s, RESULT_NOT_LEADER, shard_gate_part);
        shard_free_queues(s); /* whoever leads gets them sent again */
    }
    if (s->phase == SHARD_SERVING || s->phase == SHARD_FOLLOWING) {
        done += shard_checkpoint(s, next_ms);
        shard_trail_retain(s);
        shard_evict_under_pressure(s);
    }
    shard_tell_leader(s);
    if (s->consensus_timeout_ms < *next_ms) *next_ms = s->consensus_timeout_ms;
    return done;
}

/* When the shard has to look again although nothing comes. */
static void next_look(struct shard *s, uint32_t done, int64_t *next_ms) {
    uint32_t slot;
    int64_t deadline = timer_heap_first(&s->timers, &slot);
    if (deadline != 0 && s->phase == SHARD_SERVING) {
        int64_t in = deadline > s->now_ms ? deadline - s->now_ms : 0;
        if (in < 1 && s->disk_full) in = DISK_FULL_MS;
        if (s->mono_ms + in < *next_ms) *next_ms = s->mono_ms + in;
    }
    if (s->phase == SHARD_FORGETTING && s->forget_ms > s->mono_ms && s->forget_ms < *next_ms)
        *next_ms = s->forget_ms;
    if (s->steward.target != 0 && s->steward.pause_until_ms > s->mono_ms &&
        s->steward.pause_until_ms < *next_ms)
        *next_ms = s->steward.pause_until_ms;
    if (s->phase == SHARD_INSTALLING && s->install_retry_ms < *next_ms)
        *next_ms = s->install_retry_ms;
    if (s->phase == SHARD_SERVING && s->gathering_since_ms != 0 &&
        s->gathering_since_ms + TURN_GATHER_MS_MAX < *next_ms)
        *next_ms = s->gathering_since_ms + TURN_GATHER_MS_MAX;
    if (s->unpublished && s->published_ms + 20 < *next_ms) *next_ms = s->published_ms + 20;
    /* What is due and had to wait (for the limbo, which the storage's wake empties, or for memory)
     * would have the thread come back at once, over and over. */
    if (done == 0 && *next_ms < s->mono_ms + BLOCKED_MS && is_blocked(s))
        *next_ms = s->mono_ms + BLOCKED_MS;
}

static void note_commit_known(struct shard *s) {
    bool known = s->phase == SHARD_SERVING ||
                 (s->phase == SHARD_FOLLOWING && consensus_leader(s->consensus) != 0);
    if (known != atomic_load_explicit(&s->commit_known, memory_order_relaxed))
        atomic_store_explicit(&s->commit_known, known, memory_order_release);
}

uint32_t shard_work(struct shard *s, int64_t now_ms, int64_t mono_ms, int64_t *next_ms) {
    require(mono_ms >= s->mono_ms);
    s->now_ms = now_ms;
    s->mono_ms = mono_ms;
    s->draining = atomic_load_explicit(&s->closed_for_commands, memory_order_relaxed);
    *next_ms = INT64_MAX;
    uint32_t done = take_storage_events(s);
    if (s->failed) return done + work_failed(s);
    if (s->phase != SHARD_BOOTSTRAPPING) done += work_started(s, next_ms);
    if (s->draining) atomic_store(&s->drained, everything_is_stored(s));
    note_commit_known(s);
    if (done) shard_publish(s);
    next_look(s, done, next_ms);
    if (done == 0 && s->unpublished) shard_publish(s);
    return done;
}

/* -- the end ---------------------------------------------------------------------------------- */

static bool everything_is_stored(struct shard *s) {
    if (mailbox_commands(&s->mailbox) != 0 || s->parked_count != 0) return false;
    if (s->phase == SHARD_SERVING)
        return s->commit_index == s->applied_index && shard_checkpoint_is_clean(s);
    if (s->alone || s->phase == SHARD_BOOTSTRAPPING) return false;
    /* The log goes on without this replica: what it has not stored yet it replays. */
    if (s->draining_since_ms == 0) s->draining_since_ms = s->mono_ms;
    return shard_checkpoint_is_clean(s) || s->mono_ms - s->draining_since_ms >= FOLLOWER_DRAIN_MS;
}

bool shard_settle(struct shard *s) {
    take_storage_events(s);
    return s->checkpoint.phase != CHECKPOINT_WRITING;
}

void shard_free_queues(struct shard *s) {
    struct inbox_message *lists[2] = {s->inbox, atomic_exchange(&s->inbox_top, NULL)};
    for (int i = 0; i < 2; i++)
        while (lists[i]) {
            struct inbox_message *next = lists[i]->next;
            free(lists[i]);
            lists[i] = next;
            atomic_fetch_sub_explicit(&s->inbox_count, 1, memory_order_relaxed);
        }
    s->inbox = s->inbox_last = NULL;
}

static void free_peer_messages(struct shard *s) {
    struct peer_message *lists[2] = {s->peers, atomic_exchange(&s->peers_top, NULL)};
    for (int i = 0; i < 2; i++)
        while (lists[i]) {
            struct peer_message *next = lists[i]->next;
            consensus_message_free(lists[i]->message);
            free(lists[i]);
            lists[i] = next;
        }
}

void shard_close(struct shard *s) {
    if (!s) return;
    if (s->phase == SHARD_SERVING && !s->alone) shard_answer_lost(s);
    shard_refuse_mailbox(s, RESULT_SHUTTING_DOWN, shard_gate_part);
    if (s->table.memory) {
        timer_heap_fini(&s->timers);
        actor_table_fini(&s->table);
    }
    shard_free_queues(s);
    free_peer_messages(s);
    for (uint32_t i = 0; s->limbo && i < LIMBO_RING; i++) free(s->limbo[i].acks);
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
