#include "engine/peers/catch_up.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"

enum {
    CATCH_UP_ENTRIES_MAX = CONSENSUS_MESSAGE_RECORDS_MAX,
    CATCH_UP_BURST_MS = 250,         /* what a thread that got no processor makes up for */
    CATCH_UP_LOST_MS = 500,          /* what is not answered for so long is sent again */
    CATCH_UP_SERVED_MS = 2000        /* so long a node counts that was sent something */
};

struct catch_up_job {
    uint32_t shard;
    struct storage *storage;
    uint64_t from;                   /* previous_index when it was asked for */
    uint64_t end, commit;            /* index of the last record, and commit_index; they grow when
                                        more is asked for */
    struct consensus_message next;   /* of what is still to be sent; without records */
};

/* How far a follower has been sent what it lacks. The leader asks anew with each answer, from what
 * was answered on; what is on its way behind that needs no second copy. */
struct catch_up_sent {
    uint32_t shard;
    uint64_t to, term;               /* to == 0: free */
    uint64_t asked;                  /* previous_index of the newest wish ... */
    uint64_t wished;                 /* ... and where that ended, with all that followed it */
    uint64_t upto, upto_term;        /* last record sent */
    int64_t unanswered_ms;           /* monotonic: since when that is on its way; 0 = it is not */
};

struct catch_up {
    struct catch_up_options options;
    pthread_t thread;
    pthread_mutex_t mutex;           /* guards all below */
    pthread_cond_t changed;
    bool stop;
    bool reading;                    /* `now` is in the hands of the thread */
    bool replaced;                   /* by a newer one of its follower, or unwanted */
    struct catch_up_job now;
    uint32_t count;
    struct catch_up_job jobs[CATCH_UP_JOBS_MAX]; /* first come, first served */
    struct catch_up_sent sent[CATCH_UP_JOBS_MAX];
    uint32_t sent_next;              /* the place that is taken from somebody when none is free */
    struct catch_up_stats stats;
    int64_t paid_until_ns;           /* monotonic: when all that was sent is within the bound */
    int64_t served_ms[NODES_MAX];    /* monotonic, by node: when it was last sent something */
    /* the thread's own */
    const struct consensus_message *wanted; /* what is being read for */
    struct record *records[CATCH_UP_ENTRIES_MAX];
    uint32_t records_count, looked_at;
    uint64_t records_bytes;
    bool chained;                    /* the log is the one that the message speaks of */
};

static bool catch_up_same(const struct catch_up_job *a, const struct catch_up_job *b) {
    return a->shard == b->shard && a->next.to == b->next.to;
}

/* It asks for what comes right behind: appends are cut by their size, and followed by others before
 * the first one has been answered. */
static bool catch_up_continues(const struct catch_up_job *a, const struct catch_up_job *b) {
    return catch_up_same(a, b) && a->end == b->next.previous_index &&
           a->next.term == b->next.term;
}

static void catch_up_extend(struct catch_up_job *a, const struct catch_up_job *b) {
    if (b->end > a->end) a->end = b->end;
    if (b->commit > a->commit) a->commit = b->commit;
}

/* The leader repeats itself until it hears of progress: what is being sent goes on. */
static bool catch_up_repeats(const struct catch_up_job *a, const struct catch_up_job *b) {
    return catch_up_same(a, b) && a->from == b->from && a->next.term == b->next.term;
}

/* The follower's place; the oldest one is given away when there is none. The mutex is held. */
static struct catch_up_sent *catch_up_sent(struct catch_up *c, const struct catch_up_job *job) {
    for (uint32_t i = 0; i < CATCH_UP_JOBS_MAX; i++) {
        struct catch_up_sent *sent = &c->sent[i];
        if (sent->to == job->next.to && sent->shard == job->shard) return sent;
    }
    struct catch_up_sent *sent = &c->sent[c->sent_next++ % CATCH_UP_JOBS_MAX];
    *sent = (struct catch_up_sent){.shard = job->shard, .to = job->next.to};
    return sent;
}

/* Moves the beginning of a wish behind what is on its way already. False when that is all of it.
 * The mutex is held. */
static bool catch_up_skip_sent(struct catch_up *c, struct catch_up_job *job) {
    struct catch_up_sent *sent = catch_up_sent(c, job);
    uint64_t asked = job->next.previous_index;
    int64_t now_ms = clock_mono_ms();
    bool follows = sent->term == job->next.term && asked == sent->wished;
    bool again = sent->term != job->next.term || asked >= sent->upto ||
                 (!follows && asked < sent->asked);
    bool lost = !follows && sent->unanswered_ms != 0 &&
                now_ms - sent->unanswered_ms >= CATCH_UP_LOST_MS;
    if (!again && !follows && asked > sent->asked) {
        lost = false;
        sent->unanswered_ms = now_ms;
    }
    if (!follows || again) sent->asked = asked;
    sent->wished = job->end;
    if (again || lost) {
        sent->term = job->next.term;
        sent->upto = asked;
        sent->unanswered_ms = 0;
        return true;
    }
    if (sent->upto >= job->end) return false;
    job->next.previous_index = sent->upto;
    job->next.previous_term = sent->upto_term;
    return true;
}

/* The mutex is held. */
static void catch_up_note_sent(struct catch_up *c, const struct catch_up_job *job) {
    struct catch_up_sent *sent = catch_up_sent(c, job);
    if (sent->term != job->next.term) return;
    sent->upto = job->next.previous_index;
    sent->upto_term = job->next.previous_term;
    if (sent->unanswered_ms == 0) sent->unanswered_ms = clock_mono_ms();
}

/* -- one message ------------------------------------------------------------------------------- */

/* Takes records as long as the message has room; a first one always. */
static bool catch_up_visit(void *arg, const struct record_header *header, const void *payload) {
    struct catch_up *c = arg;
    if (header->index == c->wanted->previous_index)
        return c->chained = header->term == c->wanted->previous_term;
    uint64_t bytes = c->records_bytes + header->payload_bytes;
    if (c->records_count > 0 && bytes > CONSENSUS_MESSAGE_BYTES_MAX) return false;
    if (c->records_count == CATCH_UP_ENTRIES_MAX) return false;
    struct record *r = record_new(header->payload_bytes);
    if (!r) return false;
    r->header = *header;
    memcpy(r->payload, payload, header->payload_bytes);
    c->records[c->records_count++] = r;
    c->records_bytes = bytes;
    return true;
}

/* The second look: the same records still stand there. */
static bool catch_up_look(void *arg, const struct record_header *header, const void *payload) {
    struct catch_up *c = arg;
    (void)payload;
    if (header->index == c->wanted->previous_index)
        return c->chained = header->term == c->wanted->previous_term;
    c->chained = header->term == c->records[c->looked_at++]->header.term;
    return c->chained && c->looked_at < c->records_count;
}

static void catch_up_release(struct catch_up *c) {
    for (uint32_t i = 0; i < c->records_count; i++) record_release(c->records[i]);
    c->records_count = 0;
}

/* Reads the job's next records. What is not committed may be replaced by a newer leader, at any
 * time: then the record at previous_index has to be the one that the message names, and since a
 * read may take several transactions, all is looked at a second time: what stands there before and
 * after stood there in between. A follower would else take records behind a predecessor that never
 * was theirs. False when the log cannot be read; no records when it is another one by now. */
static bool catch_up_read(struct catch_up *c, const struct catch_up_job *job) {
    char error[512];
    const struct consensus_message *next = &job->next;
    const struct storage_ops *ops = job->storage->ops;
    uint64_t previous = next->previous_index, last = previous + next->records_count;
    uint64_t from = previous > next->commit_index ? previous : previous + 1;
    c->wanted = next;
    c->records_count = c->looked_at = 0;
    c->records_bytes = 0;
    c->chained = from > previous;
    int rc = ops->read(job->storage, from, last, catch_up_visit, c, error, sizeof error);
    uint64_t end = previous + c->records_count;
    if (rc >= 0 && c->chained && end > next->commit_index && c->records_count > 0)
        rc = ops->read(job->storage, from, end, catch_up_look, c, error, sizeof error);
    if (rc >= 0 && c->chained) return true;
    if (rc < 0) log_warn("shard %u: what server %llu lacks cannot be read: %s", job->shard,
                         (unsigned long long)next->to, error);
    /* What was read of committed ones before a damaged one may go. */
    if (!c->chained || end > next->commit_index) catch_up_release(c);
    return rc >= 0;
}

/* Sends the next message of the job and moves it on. False when it is over: what was lost is asked
 * for again. */
static bool catch_up_step(struct catch_up *c, struct catch_up_job *job) {
    struct consensus_message *next = &job->next;
    bool good = catch_up_read(c, job), sent = false;
    uint32_t count = c->records_count;
    if (c->records_count > 0) {
        struct consensus_message message = *next;
        message.records = c->records;
        message.records_count = c->records_count;
        sent = c->options.send(c->options.arg, job->shard, &message);
        const struct record_header *end = &c->records[c->records_count - 1]->header;
        next->previous_index = end->index;
        next->previous_term = end->term;
    }
    catch_up_release(c);
    pthread_mutex_lock(&c->mutex);
    c->stats.failed += !good;
    if (sent) {
        c->served_ms[consensus_server_node(next->to) % NODES_MAX] = clock_mono_ms();
        if (!c->replaced) catch_up_note_sent(c, job);
        c->stats.messages++;
        c->stats.entries += count;
        c->stats.bytes += c->records_bytes;
    }
    pthread_mutex_unlock(&c->mutex);
    /* What comes behind a lost message would be refused: the leader asks again. */
    return good && sent;
}

/* -- the thread -------------------------------------------------------------------------------- */

/* Waits until the bound allows more. The mutex is held. */
static void catch_up_pay(struct catch_up *c) {
    while (!c->stop) {
        int64_t wait_ns = c->paid_until_ns - clock_mono_ns() - CATCH_UP_BURST_MS * 1000000LL;
        if (wait_ns <= 0) return;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        int64_t ns = until.tv_nsec + wait_ns;
        until.tv_sec += ns / 1000000000;
        until.tv_nsec = ns % 1000000000;
        pthread_cond_timedwait(&c->changed, &c->mutex, &until);
    }
}

/* The mutex is held. */
static void catch_up_charge(struct catch_up *c) {
    if (c->options.bytes_per_second == 0) return;
    int64_t now_ns = clock_mono_ns();
    if (c->paid_until_ns < now_ns) c->paid_until_ns = now_ns;
    c->paid_until_ns +=
        (int64_t)((double)c->records_bytes * 1e9 / (double)c->options.bytes_per_second);
}

static void *catch_up_main(void *arg) {
    struct catch_up *c = arg;
    pthread_setname_np(pthread_self(), "catch-up");
    pthread_mutex_lock(&c->mutex);
    while (!c->stop) {
        catch_up_pay(c);
        if (c->stop) break;
        if (c->count == 0) {
            pthread_cond_wait(&c->changed, &c->mutex);
            continue;
        }
        c->now = c->jobs[0];
        c->count--;
        memmove(&c->jobs[0], &c->jobs[1], c->count * sizeof c->jobs[0]);
        c->now.next.records_count = (uint32_t)(c->now.end - c->now.next.previous_index);
        c->now.next.commit_index = c->now.commit;
        c->reading = true;
        c->replaced = false;
        pthread_mutex_unlock(&c->mutex);
        bool more = catch_up_step(c, &c->now);
        pthread_mutex_lock(&c->mutex);
        catch_up_charge(c);
        c->reading = false;
        more &= c->now.end > c->now.next.previous_index && !c->replaced;
        if (more && c->count < CATCH_UP_JOBS_MAX) c->jobs[c->count++] = c->now;
        pthread_cond_broadcast(&c->changed); /* somebody may wait for the end of the read */
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

/* -- from outside ------------------------------------------------------------------------------ */

struct catch_up *catch_up_start(const struct catch_up_options *options, char *error,
                                size_t error_bytes) {
    struct catch_up *c = calloc(1, sizeof *c);
    pthread_condattr_t attributes;
    if (!c) {
        snprintf(error, error_bytes, "no memory for the catch-up of followers");
        return NULL;
    }
    c->options = *options;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    int rc = pthread_create(&c->thread, NULL, catch_up_main, c);
    if (rc == 0) return c;
    snprintf(error, error_bytes, "cannot start the catch-up of followers: %s", strerror(rc));
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->mutex);
    free(c);
    return NULL;
}

/* The mutex is held. */
static enum catch_up_answer catch_up_take(struct catch_up *c, struct catch_up_job *job) {
    uint32_t i = 0;
    while (i < c->count && !catch_up_same(&c->jobs[i], job)) i++;
    struct catch_up_job *old = c->reading && !c->replaced && catch_up_same(&c->now, job) ? &c->now
                               : i < c->count ? &c->jobs[i] : NULL;
    if (old && catch_up_continues(old, job)) {
        catch_up_extend(old, job);
        return CATCH_UP_TAKEN;
    }
    if (!catch_up_skip_sent(c, job)) return CATCH_UP_SENT;
    if (old && catch_up_repeats(old, job)) return CATCH_UP_TAKEN;
    bool skipped = job->from != job->next.previous_index;
    if (old && skipped && old->next.term == job->next.term) {
        catch_up_extend(old, job);
        return CATCH_UP_TAKEN;
    }
    if (c->reading && catch_up_same(&c->now, job)) c->replaced = true;
    if (i == c->count && c->count == CATCH_UP_JOBS_MAX) return CATCH_UP_FULL;
    if (i == c->count) c->count++;
    c->jobs[i] = *job;
    return CATCH_UP_TAKEN;
}

enum catch_up_answer catch_up_offer(struct catch_up *c, uint32_t shard, struct storage *storage,
                    const struct consensus_message *message) {
    struct catch_up_job job = {shard, storage, message->previous_index,
                               message->previous_index + message->records_count,
                               message->commit_index, *message};
    job.next.records = NULL;
    pthread_mutex_lock(&c->mutex);
    enum catch_up_answer answer = catch_up_take(c, &job);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    return answer;
}

bool catch_up_is_busy(struct catch_up *c) {
    pthread_mutex_lock(&c->mutex);
    bool busy = c->count > 0 || c->reading || c->paid_until_ns > clock_mono_ns();
    pthread_mutex_unlock(&c->mutex);
    return busy;
}

void catch_up_forget(struct catch_up *c, uint32_t shard) {
    pthread_mutex_lock(&c->mutex);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->jobs[i].shard != shard) c->jobs[kept++] = c->jobs[i];
    }
    c->count = kept;
    for (uint32_t i = 0; i < CATCH_UP_JOBS_MAX; i++) {
        if (c->sent[i].shard == shard) c->sent[i].to = 0;
    }
    if (c->reading && c->now.shard == shard) c->replaced = true;
    while (c->reading && c->now.shard == shard) pthread_cond_wait(&c->changed, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
}

void catch_up_stop(struct catch_up *c) {
    pthread_mutex_lock(&c->mutex);
    c->stop = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    int rc = pthread_join(c->thread, NULL);
    require(rc == 0);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

void catch_up_pace(struct catch_up *c, uint64_t bytes_per_second) {
    pthread_mutex_lock(&c->mutex);
    c->options.bytes_per_second = bytes_per_second;
    pthread_mutex_unlock(&c->mutex);
}

uint32_t catch_up_nodes(struct catch_up *c) {
    int64_t now_ms = clock_mono_ms();
    bool waits[NODES_MAX] = {false};
    uint32_t nodes = 0;
    pthread_mutex_lock(&c->mutex);
    for (uint32_t i = 0; i < c->count; i++)
        waits[consensus_server_node(c->jobs[i].next.to) % NODES_MAX] = true;
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        bool served = c->served_ms[i] != 0 && now_ms - c->served_ms[i] < CATCH_UP_SERVED_MS;
        nodes += waits[i] || served;
    }
    pthread_mutex_unlock(&c->mutex);
    return nodes;
}

void catch_up_stats(struct catch_up *c, struct catch_up_stats *stats) {
    pthread_mutex_lock(&c->mutex);
    *stats = c->stats;
    stats->waiting = c->count;
    pthread_mutex_unlock(&c->mutex);
}
