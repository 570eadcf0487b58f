/* A backup that ends at now. A log beside which a node works ends in what may be taken back, and
 * the stored state, which only holds what may not, is seconds old: the node itself knows. What it
 * tells is believed once the directory holds it: a record of that index and term. All in front of
 * that record is then what its group has committed, for two logs of a group that share a record's
 * index and term share all in front of it. So what was read in the middle of a truncation, or lies
 * in the directory of somebody else, is never taken for it. */
#include "clients/replay/backup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"

enum {
    NOW_PAUSE_MS = 50,             /* between two looks at what is on its way to the disk */
    NOW_LOOKS_AN_ANSWER = 20,
    NOW_HEARD_MS = 300,            /* in that time a follower hears how far its group is */
    NOW_PATIENCE_MS = 10000,
    NOW_LOOKS_MAX = 5              /* for the messages between shards to have arrived */
};

/* Without the node: nothing when it was asked for, else with what is known without it. */
static int now_give_up(struct backup *b, const char *why) {
    const struct replay *r = b->replay;
    if (b->now.named) {
        replay_error(r, "%s", why);
        return REPLAY_FAILED;
    }
    if (!r->quiet && (r->source.clustered || r->source.in_cluster)) {
        fprintf(stderr, "jumun-replay: %s: the copy ends with what the stored state covers\n",
                why);
    }
    b->now.url[0] = 0;
    return BACKUP_NOW_NOBODY;
}

/* What the node tells of itself, or a sentence. */
static bool now_ask(struct backup *b, char *why, size_t bytes) {
    const struct source *s = &b->replay->source;
    struct backup_now *now = &b->now;
    struct settled *told = &now->told;
    if (settled_ask(now->url, told, why, bytes) != 0) return false;
    if (strcmp(told->cluster_id, s->cluster_id) != 0 || told->node_id != s->node_id) {
        snprintf(why, bytes, "%s is node %" PRIu64 " of cluster %s, and %s is of node %" PRIu64
                 " of cluster %s", now->url, told->node_id, told->cluster_id, s->path, s->node_id,
                 s->cluster_id);
    } else if (!told->run[0]) {
        snprintf(why, bytes, "%s is of a version that does not tell how far its log is settled",
                 now->url);
    } else if (strcmp(told->run, now->run) != 0) {
        snprintf(why, bytes, "%s is not the node that runs on %s: it has another directory, or "
                 "this is a copy", now->url, s->path);
    } else {
        return true;
    }
    return false;
}

/* What is committed by now is to be in the backup. */
static void now_take_floor(struct backup *b) {
    const struct source *s = &b->replay->source;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct settled_shard *shard = &b->now.told.shards[s->shards[i].number];
        uint64_t committed = shard->index + shard->unsettled;
        if (committed > b->now.floor[i]) b->now.floor[i] = committed;
    }
}

int backup_now_begin(struct backup *b) {
    const struct source *s = &b->replay->source;
    struct backup_now *now = &b->now;
    char why[1600];
    const char *url = args_value(&b->replay->args, "node");
    bool told = settled_runs_on(s->path, now->run, now->url);
    now->named = url != NULL;
    if (!url && !told) return REPLAY_DONE;
    if (!told) {
        replay_error(b->replay, "%s tells of no node that runs on it: none does, or one of an "
                     "older version", s->path);
        return REPLAY_FAILED;
    }
    if (url && strlen(url) >= sizeof now->url) {
        return replay_usage(b->replay, "%.100s...: the address is too long", url);
    }
    if (url) snprintf(now->url, sizeof now->url, "%s", url);
    if (!now_ask(b, why, sizeof why)) {
        int status = now_give_up(b, why);
        return status == BACKUP_NOW_NOBODY ? REPLAY_DONE : status;
    }
    now_take_floor(b);
    return REPLAY_DONE;
}

/* Whether the log, as it was looked at last, holds what the node tells of it. */
static bool now_holds(const struct source_shard *shard, const struct settled_shard *told) {
    uint64_t first, last;
    struct log_item item;
    log_source_range(shard->log, &first, &last);
    if (!told->here || told->index == 0) return true;
    /* A peer's state stands for it and all in front of it: nothing of that is to be copied. */
    if (told->index + 1 == first) return true;
    if (told->index < first || told->index > last) return false;
    struct log_cursor *c = log_cursor_open(shard->log, told->index, told->index, true);
    bool same = c && log_cursor_next(c, &item) == LOG_RECORD && item.index == told->index &&
                item.header->term == told->term;
    log_cursor_close(c);
    return same;
}

/* Whether a shard is not settled yet as far as it was committed. */
static bool now_is_behind(const struct backup *b, char *why, size_t bytes) {
    for (uint32_t i = 0; i < b->replay->source.count; i++) {
        uint32_t number = b->replay->source.shards[i].number;
        const struct settled_shard *told = &b->now.told.shards[number];
        if (!told->here || told->index >= b->now.floor[i]) continue;
        snprintf(why, bytes, "shard %u: record %" PRIu64 " is committed, and the node at %s has on "
                 "its disk only those up to %" PRIu64, number, b->now.floor[i], b->now.url,
                 told->index);
        return true;
    }
    return false;
}

/* Whether the directory has what the node told. */
static bool now_is_there(struct backup *b, char *why, size_t bytes) {
    char error[1200];
    for (uint32_t i = 0; i < b->replay->source.count; i++) {
        const struct source_shard *shard = &b->replay->source.shards[i];
        const struct settled_shard *told = &b->now.told.shards[shard->number];
        if (log_source_refresh(shard->log, error, sizeof error) != 0) {
            snprintf(why, bytes, "shard %u: %s", shard->number, error);
            return false;
        }
        if (now_holds(shard, told)) continue;
        snprintf(why, bytes, "shard %u: %s tells of record %" PRIu64 " of term %" PRIu64
                 ", which is not in %s", shard->number, b->now.url, told->index, told->term,
                 shard->directory);
        return false;
    }
    return true;
}

/* Asks until all is there. What was told stays true, and comes out of the journal within a moment,
 * though that may be hard to read while it is written: only seldom is there something to be told
 * anew, as when a peer's state has taken the log's place. */
static int now_await(struct backup *b) {
    int64_t until_ms = clock_mono_ms() + NOW_PATIENCE_MS;
    char why[1600];
    bool behind = true;
    for (uint32_t looks = 0;; looks++) {
        if ((behind || looks % NOW_LOOKS_AN_ANSWER == 0) && !now_ask(b, why, sizeof why))
            return now_give_up(b, why);
        behind = now_is_behind(b, why, sizeof why);
        if (!behind && now_is_there(b, why, sizeof why)) return REPLAY_DONE;
        if (replay_interrupted()) return REPLAY_STOPPED;
        if (clock_mono_ms() > until_ms) return now_give_up(b, why);
        usleep(NOW_PAUSE_MS * 1000);
    }
}

/* What is settled; of a shard that has no replica running there, what is known without. */
static void now_take_ends(struct backup *b) {
    const struct source *s = &b->replay->source;
    uint64_t first, last, begin;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct settled_shard *told = &b->now.told.shards[s->shards[i].number];
        log_source_range(s->shards[i].log, &first, &last);
        b->upto[i] = told->here ? told->index : source_committed(&s->shards[i], last);
        /* The archive has nothing that was not settled, too. */
        uint64_t archived = backup_archived(b, i, &begin);
        if (b->upto[i] < archived) b->upto[i] = archived;
    }
}

int backup_now_ends(struct backup *b) {
    const struct source *s = &b->replay->source;
    char why[1600] = "";
    /* In a group the others may know already that something is committed: what a shard here has
     * seen of another one's log may not be known to be settled in that log's replica here. */
    bool grouped = s->clustered || s->in_cluster;
    /* Once more: what a stored state reflects that was copied meanwhile is to be there, too. */
    if (!now_ask(b, why, sizeof why)) return now_give_up(b, why);
    now_take_floor(b);
    for (int look = 0; look < NOW_LOOKS_MAX; look++) {
        uint32_t i = 0;
        usleep((grouped ? NOW_HEARD_MS : 0) * 1000 + look * NOW_HEARD_MS * 1000);
        int status = now_await(b);
        if (status != REPLAY_DONE) return status;
        now_take_ends(b);
        if (s->count > 1 && (status = backup_settle(b)) != REPLAY_DONE) return status;
        for (; i < s->count; i++) {
            const struct source_shard *shard = &s->shards[i];
            if (!now_holds(shard, &b->now.told.shards[shard->number])) {
                snprintf(why, sizeof why, "shard %u: its log changes all the time", shard->number);
                break;
            }
            if (b->upto[i] >= b->now.floor[i]) continue;
            snprintf(why, sizeof why, "shard %u: of what it has seen of other shards up to record %"
                     PRIu64 ", this node does not have all", shard->number, b->now.floor[i]);
            break;
        }
        b->settled = i == s->count;
        if (b->settled) return REPLAY_DONE;
    }
    return now_give_up(b, why);
}
