/* What `jumun-replay stats` counts. One struct a shard; added up at the end. */
#ifndef JUMUN_REPLAY_STATS_H
#define JUMUN_REPLAY_STATS_H

#include "clients/replay/replay.h"

enum { STATS_KINDS = 32, STATS_STATES = 12, STATS_CURRENCIES_MAX = 16, STATS_STORES_MAX = 20000,
       SPAN_STEP_BITS = 3, SPAN_BUCKETS = (40 << SPAN_STEP_BITS) };

/* Spans in ms, eight steps a power of two: within 1/8 of what they were. */
struct spans { uint64_t count, max_ms; uint32_t buckets[SPAN_BUCKETS]; };
/* Upper edge of the bucket that `of_1000` of 1,000 do not exceed; 0 when empty. */
int64_t spans_percentile(const struct spans *spans, uint32_t of_1000);

struct stats_store {
    char id[ID_TEXT_BYTES_MAX + 1];
    uint64_t orders, ended_badly;      /* placed; rejected, cancelled or expired */
    struct spans *in_state[STATS_STATES]; /* how long orders stayed in each; NULL = none left it */
};

struct stats_money { char currency[4]; uint64_t orders; int64_t placed, captured, refunded; };

/* Events in one stretch of time. */
struct stats_bucket { uint32_t events, placed, ended; };

struct stats {
    int64_t begin_ms, end_ms, bucket_ms;
    struct stats_bucket *buckets;
    uint32_t buckets_count;
    uint64_t events, by_kind[STATS_KINDS], messages, deadlines;
    uint64_t entered[STATS_STATES];    /* orders that came into each state */
    uint64_t moved[STATS_STATES][STATS_STATES]; /* from one into the other */
    struct spans *in_state[STATS_STATES];
    struct stats_money money[STATS_CURRENCIES_MAX];
    uint32_t money_count;
    struct stats_store *stores;
    uint32_t stores_count, stores_capacity;
    uint32_t *index;                   /* open addressing over stores, 1-based */
    uint32_t index_mask;
    uint64_t stores_left_out;          /* events of stores beyond STATS_STORES_MAX */
};

/* The report, and the drawing into a PNG or SVG file by gnuplot. */
void stats_print(const struct replay *r, const struct stats *s, uint32_t stores_shown);
json_t *stats_json(const struct stats *s, uint32_t stores_shown);
/* Before anything is read: is it the name of such a file? REPLAY_DONE, or told. */
int stats_plot_check(const struct replay *r, const char *path);
int stats_plot(const struct replay *r, const struct stats *s, const char *path);

#endif
