/* The report of `jumun-replay stats`: text, JSON, and a drawing. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "clients/cli/table.h"
#include "clients/cli/text.h"
#include "clients/replay/stats.h"

enum { SPARK_COLUMNS = 72, FUNNEL_COLUMNS = 40 };

static const char *const percentile_names[] = {"p50", "p90", "p99"};
static const uint32_t percentiles[] = {500, 900, 990};

static uint32_t stats_busiest(const struct stats *s) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < s->buckets_count; i++) {
        if (s->buckets[i].events > s->buckets[best].events) best = i;
    }
    return best;
}

/* Events a second in the part that is looked at; 0 where that has no length. */
static double stats_average(const struct stats *s) {
    return s->end_ms > s->begin_ms ? (double)s->events * 1000 / (double)(s->end_ms - s->begin_ms)
                                   : 0;
}

static int store_compare(const void *a, const void *b) {
    const struct stats_store *const *x = a, *const *y = b;
    if ((*x)->orders != (*y)->orders) return (*x)->orders > (*y)->orders ? -1 : 1;
    return strcmp((*x)->id, (*y)->id);
}

/* The stores by their orders; malloc'ed. */
static const struct stats_store **stats_ranking(const struct stats *s) {
    const struct stats_store **ranking = malloc((s->stores_count + 1) * sizeof *ranking);
    for (uint32_t i = 0; ranking && i < s->stores_count; i++) ranking[i] = &s->stores[i];
    if (ranking && s->stores_count) {
        qsort(ranking, s->stores_count, sizeof *ranking, store_compare);
    }
    return ranking;
}

/* -- text --------------------------------------------------------------------------------- */

/* How long buckets from..before are of what is looked at. The last one may end earlier; a rate that
 * is made of a moment tells nothing, so at least half of it counts where others stand beside it. */
static double stats_seconds(const struct stats *s, uint32_t from, uint32_t before) {
    int64_t whole_ms = (int64_t)(before - from) * s->bucket_ms;
    int64_t left_ms = s->end_ms + 1 - (s->begin_ms + (int64_t)from * s->bucket_ms);
    int64_t least_ms = s->buckets_count > before - from ? (whole_ms + 1) / 2 : 1;
    int64_t ms = left_ms < whole_ms ? left_ms : whole_ms;
    return (double)(ms > least_ms ? ms : least_ms) / 1000;
}

/* Events over time on one line. */
static void print_spark(const struct replay *r, const struct stats *s) {
    static const char *const blocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double columns[SPARK_COLUMNS] = {0}, most = 0;
    uint32_t used = s->buckets_count < SPARK_COLUMNS ? s->buckets_count : SPARK_COLUMNS;
    char begin[TEXT_BYTES], end[TEXT_BYTES], rate[TEXT_BYTES];
    for (uint32_t i = 0; i < used; i++) {
        uint32_t from = (uint32_t)((uint64_t)i * s->buckets_count / used);
        uint32_t before = (uint32_t)((uint64_t)(i + 1) * s->buckets_count / used);
        for (uint32_t j = from; j < before; j++) columns[i] += (double)s->buckets[j].events;
        columns[i] /= stats_seconds(s, from, before);
        if (columns[i] > most) most = columns[i];
    }
    printf("\nevents over time, up to %s/s\n  %s", text_count(rate, (uint64_t)most),
           REPLAY_STYLE(r, "36"));
    for (uint32_t i = 0; i < used; i++) {
        fputs(blocks[columns[i] > 0 ? 1 + (int)(columns[i] * 7 / most) : 0], stdout);
    }
    printf("%s\n  %s -> %s\n", REPLAY_PLAIN(r), text_time(begin, s->begin_ms),
           text_time(end, s->end_ms));
}

static void print_overview(const struct replay *r, const struct stats *s) {
    char count[TEXT_BYTES], other[TEXT_BYTES], span[TEXT_BYTES], time[TEXT_BYTES];
    const struct stats_bucket *busiest = &s->buckets[stats_busiest(s)];
    printf("%s%s events%s, %s orders placed in %s", REPLAY_STYLE(r, "1"),
           text_count(count, s->events), REPLAY_PLAIN(r),
           text_count(other, s->by_kind[EVENT_ORDER_PLACED]),
           text_span(span, s->end_ms - s->begin_ms));
    if (s->end_ms > s->begin_ms) {
        printf(", %s events/s on average", text_count(count, (uint64_t)stats_average(s)));
    }
    printf("; %s messages between shards\n", text_count(count, s->messages));
    if (s->events == 0) return;
    printf("busiest %s: %s, %s events, %s orders placed\n", text_span(span, s->bucket_ms),
           text_time(time, s->begin_ms + (int64_t)stats_busiest(s) * s->bucket_ms),
           text_count(count, busiest->events), text_count(other, busiest->placed));
    for (uint32_t i = 0; i < s->money_count; i++) {
        const struct stats_money *m = &s->money[i];
        char placed[TEXT_BYTES], captured[TEXT_BYTES], refunded[TEXT_BYTES];
        printf("%s orders over %s placed, %s captured, %s refunded\n", text_count(count, m->orders),
               text_money(placed, m->placed, m->currency),
               text_money(captured, m->captured, m->currency),
               text_money(refunded, m->refunded, m->currency));
    }
}

/* How many orders came into each state. */
static void print_funnel(const struct replay *r, const struct stats *s) {
    static const uint8_t way[] = {ORDER_PLACED, ORDER_PAID, ORDER_ACCEPTED, ORDER_READY,
                                  ORDER_PICKED_UP, ORDER_DELIVERED, ORDER_COMPLETED,
                                  ORDER_REJECTED, ORDER_CANCELLED, ORDER_EXPIRED};
    uint64_t most = s->by_kind[EVENT_ORDER_PLACED] ? s->by_kind[EVENT_ORDER_PLACED] : 1;
    char count[TEXT_BYTES];
    puts("\nhow far orders came");
    for (size_t i = 0; i < sizeof way; i++) {
        /* An order that is paid as it is placed has never been in the state "placed". */
        uint64_t n = way[i] == ORDER_PLACED ? s->by_kind[EVENT_ORDER_PLACED] : s->entered[way[i]];
        if (n == 0) continue;
        int columns = (int)((double)n / (double)most * FUNNEL_COLUMNS + 0.5);
        printf("  %-10s %12s %5.1f %%  %s", order_state_name(way[i]), text_count(count, n),
               100.0 * (double)n / (double)most,
               REPLAY_STYLE(r, "36"));
        for (int c = 0; c < columns && c < FUNNEL_COLUMNS; c++) fputs("█", stdout);
        printf("%s\n", REPLAY_PLAIN(r));
    }
}

static void span_cells(struct table *t, const struct spans *spans) {
    char text[TEXT_BYTES];
    for (size_t p = 0; p < 3; p++) {
        if (!spans || spans->count == 0) table_cell(t, "2", "-");
        else table_cell(t, NULL, "%s", text_span(text, spans_percentile(spans, percentiles[p])));
    }
}

static void print_durations(const struct replay *r, const struct stats *s) {
    char text[TEXT_BYTES];
    struct table *t = table_new("lrrrrr", r->color);
    puts("\nhow long orders stayed");
    table_heading(t);
    table_cell(t, NULL, "in state");
    table_cell(t, NULL, "orders");
    for (size_t p = 0; p < 3; p++) table_cell(t, NULL, "%s", percentile_names[p]);
    table_cell(t, NULL, "longest");
    for (uint32_t state = 1; state < STATS_STATES; state++) {
        const struct spans *spans = s->in_state[state];
        if (!spans) continue;
        table_cell(t, NULL, "%s", order_state_name(state));
        table_cell(t, NULL, "%s", text_count(text, spans->count));
        span_cells(t, spans);
        table_cell(t, NULL, "%s", text_span(text, (int64_t)spans->max_ms));
    }
    table_print(t, stdout, 2);
    table_delete(t);
}

static void print_stores(const struct replay *r, const struct stats *s, uint32_t shown) {
    static const uint8_t states[] = {ORDER_PAID, ORDER_ACCEPTED, ORDER_PICKED_UP};
    const struct stats_store **ranking = stats_ranking(s);
    char text[TEXT_BYTES];
    if (!ranking || s->stores_count == 0 || shown == 0) {
        free(ranking);
        return;
    }
    struct table *t = table_new("lrrrrrrrrrrr", r->color);
    printf("\nstores by orders, with p50 / p90 / p99 of the time in a state\n");
    table_heading(t);
    table_cell(t, NULL, "store");
    table_cell(t, NULL, "orders");
    table_cell(t, NULL, "lost");
    for (size_t i = 0; i < sizeof states; i++) {
        table_cell(t, NULL, "%s", order_state_name(states[i]));
        table_cell(t, NULL, "p90");
        table_cell(t, NULL, "p99");
    }
    for (uint32_t i = 0; i < s->stores_count && i < shown; i++) {
        const struct stats_store *store = ranking[i];
        table_cell(t, NULL, "%s", store->id);
        table_cell(t, NULL, "%s", text_count(text, store->orders));
        table_cell(t, store->ended_badly ? "31" : "2", "%s", text_count(text, store->ended_badly));
        for (size_t j = 0; j < sizeof states; j++) span_cells(t, store->in_state[states[j]]);
        table_row_end(t);
    }
    table_print(t, stdout, 2);
    table_delete(t);
    free(ranking);
}

void stats_print(const struct replay *r, const struct stats *s, uint32_t stores_shown) {
    print_overview(r, s);
    if (s->events == 0) return;
    print_spark(r, s);
    print_funnel(r, s);
    print_durations(r, s);
    print_stores(r, s, stores_shown);
}

/* -- JSON --------------------------------------------------------------------------------- */

static json_t *spans_json(const struct spans *spans) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "orders", (json_int_t)spans->count, "p50_ms",
                     (json_int_t)spans_percentile(spans, 500), "p90_ms",
                     (json_int_t)spans_percentile(spans, 900), "p99_ms",
                     (json_int_t)spans_percentile(spans, 990), "max_ms",
                     (json_int_t)spans->max_ms);
}

static json_t *states_json(struct spans *const in_state[STATS_STATES]) {
    json_t *json = json_object();
    for (uint32_t i = 1; i < STATS_STATES; i++) {
        if (in_state[i]) json_object_set_new(json, order_state_name(i), spans_json(in_state[i]));
    }
    return json;
}

static json_t *stores_json(const struct stats *s, uint32_t shown) {
    json_t *stores = json_array();
    const struct stats_store **ranking = stats_ranking(s);
    for (uint32_t i = 0; ranking && i < s->stores_count && i < shown; i++) {
        json_array_append_new(stores, json_pack("{s:s, s:I, s:I, s:o}", "store", ranking[i]->id,
                              "orders", (json_int_t)ranking[i]->orders, "lost",
                              (json_int_t)ranking[i]->ended_badly, "in_state",
                              states_json(ranking[i]->in_state)));
    }
    free(ranking);
    return stores;
}

json_t *stats_json(const struct stats *s, uint32_t stores_shown) {
    json_t *series = json_array(), *kinds = json_object(), *funnel = json_object();
    json_t *money = json_array();
    uint32_t busiest = stats_busiest(s);
    for (uint32_t i = 0; i < s->buckets_count; i++) {
        const struct stats_bucket *b = &s->buckets[i];
        if (b->events == 0) continue;
        json_array_append_new(series, json_pack("[I, I, I, I]",
                              (json_int_t)(s->begin_ms + (int64_t)i * s->bucket_ms),
                              (json_int_t)b->events, (json_int_t)b->placed,
                              (json_int_t)b->ended));
    }
    for (uint32_t i = 1; i < STATS_KINDS; i++) {
        if (s->by_kind[i]) {
            json_object_set_new(kinds, event_kind_name(i), json_integer((json_int_t)s->by_kind[i]));
        }
    }
    for (uint32_t i = 1; i < STATS_STATES; i++) {
        json_object_set_new(funnel, order_state_name(i), json_integer((json_int_t)s->entered[i]));
    }
    for (uint32_t i = 0; i < s->money_count; i++) {
        const struct stats_money *m = &s->money[i];
        json_array_append_new(money, json_pack("{s:s, s:I, s:I, s:I, s:I}", "currency",
                              m->currency, "orders", (json_int_t)m->orders, "placed",
                              (json_int_t)m->placed, "captured", (json_int_t)m->captured,
                              "refunded", (json_int_t)m->refunded));
    }
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:o, s:o, s:o, s:{s:I, s:I, s:I}, s:o, "
                     "s:o, s:I, s:o}",
                     "begin_ms", (json_int_t)s->begin_ms, "end_ms", (json_int_t)s->end_ms,
                     "bucket_ms", (json_int_t)s->bucket_ms, "events", (json_int_t)s->events,
                     "events_per_second", stats_average(s),
                     "messages", (json_int_t)s->messages, "deadlines", (json_int_t)s->deadlines,
                     "kinds", kinds, "entered", funnel, "money", money, "busiest", "at_ms",
                     (json_int_t)(s->begin_ms + (int64_t)busiest * s->bucket_ms), "events",
                     (json_int_t)s->buckets[busiest].events, "placed",
                     (json_int_t)s->buckets[busiest].placed, "in_state", states_json(s->in_state),
                     "stores", stores_json(s, stores_shown), "stores_count",
                     (json_int_t)s->stores_count, "series", series);
}

/* -- drawing ------------------------------------------------------------------------------ */

static void plot_series(FILE *gnuplot, const struct stats *s, int column) {
    enum { POINTS_MAX = 2000 };
    uint32_t step = s->buckets_count / POINTS_MAX + 1;
    for (uint32_t i = 0; i < s->buckets_count; i += step) {
        uint64_t sum = 0;
        for (uint32_t j = i; j < i + step && j < s->buckets_count; j++) {
            sum += column == 0 ? s->buckets[j].events
                   : column == 1 ? s->buckets[j].placed : s->buckets[j].ended;
        }
        fprintf(gnuplot, "%.3f %f\n",
                (double)(s->begin_ms + (int64_t)i * s->bucket_ms) / 1000,
                (double)sum / stats_seconds(s, i, i + step));
    }
    fputs("e\n", gnuplot);
}

static void plot_durations(FILE *gnuplot, const struct stats *s) {
    bool first = true;
    for (uint32_t i = 1; i < STATS_STATES; i++) {
        if (!s->in_state[i]) continue;
        fprintf(gnuplot, "%s '-' using 1:2 with lines lw 2 title '%s'", first ? "plot" : ",",
                order_state_name(i));
        first = false;
    }
    if (first) return;
    fputc('\n', gnuplot);
    for (uint32_t i = 1; i < STATS_STATES; i++) {
        if (!s->in_state[i]) continue;
        for (uint32_t of = 10; of <= 1000; of += 10) {
            fprintf(gnuplot, "%f %f\n", of / 10.0,
                    (double)(spans_percentile(s->in_state[i], of) + 1) / 1000);
        }
        fputs("e\n", gnuplot);
    }
}

static bool plot_ends_with(const char *path, const char *ending) {
    size_t n = strlen(path), m = strlen(ending);
    return n > m && strcmp(path + n - m, ending) == 0;
}

int stats_plot_check(const struct replay *r, const char *path) {
    if (strpbrk(path, "'\"\\\n")) {
        return replay_usage(r, "--plot: the name of the file must not hold quotes");
    }
    if (plot_ends_with(path, ".svg") || plot_ends_with(path, ".png")) {
        /* gnuplot would draw onto standard output instead. */
        bool there = access(path, F_OK) == 0;
        FILE *f = fopen(path, "ab");
        if (!f) {
            replay_error(r, "%s: %s", path, strerror(errno));
            return REPLAY_FAILED;
        }
        fclose(f);
        if (!there) unlink(path);
        return REPLAY_DONE;
    }
    return replay_usage(r, "--plot: \"%.100s\" ends neither with .png nor with .svg", path);
}

/* As fine as the span needs: no two ticks look alike. The days stand in the title where all is of
 * one. */
static void plot_time_axis(FILE *gnuplot, const struct stats *s) {
    enum { SHORT_MS = 10000, DAY_MS = 86400000 };
    int64_t width_ms = (int64_t)s->buckets_count * s->bucket_ms;
    if (width_ms < 2000 && s->buckets_count == 1) width_ms = 2000;
    bool one_day = s->begin_ms / DAY_MS == s->end_ms / DAY_MS;
    time_t begin_s = (time_t)(s->begin_ms / 1000);
    struct tm begin;
    char day[32] = "", count[TEXT_BYTES], placed[TEXT_BYTES];
    gmtime_r(&begin_s, &begin);
    if (one_day) strftime(day, sizeof day, "%Y-%m-%d, ", &begin);
    fprintf(gnuplot, "set multiplot layout 2,1 title '%s events, %s orders placed' noenhanced\n",
            text_count(count, s->events), text_count(placed, s->by_kind[EVENT_ORDER_PLACED]));
    fprintf(gnuplot, "set xdata time\nset timefmt '%%s'\nset format x \"%s\"\nset xtics autofreq\n"
            "set xrange ['%.3f':'%.3f']\nset title 'rates over time (%sUTC)'\n",
            width_ms <= SHORT_MS ? "%H:%M:%.1S"
            : one_day ? "%H:%M:%S" : "%Y-%m-%d\\n%H:%M",
            (double)s->begin_ms / 1000, (double)(s->begin_ms + width_ms) / 1000, day);
}

int stats_plot(const struct replay *r, const struct stats *s, const char *path) {
    bool svg = plot_ends_with(path, ".svg");
    /* A line needs two points, and an axis some length. */
    const char *with = s->buckets_count > 1 ? "lines lw 2" : "points pt 7";
    FILE *gnuplot = popen("gnuplot", "w");
    if (!gnuplot) {
        replay_error(r, "gnuplot cannot be started: %s", strerror(errno));
        return REPLAY_FAILED;
    }
    fprintf(gnuplot, "set terminal %s\nset output '%s'\n",
            svg ? "svg size 1200,900 dynamic" : "pngcairo size 1200,900", path);
    plot_time_axis(gnuplot, s);
    fprintf(gnuplot, "set grid\nset key outside right top noenhanced\nset border 3\n"
            "set tics nomirror\nset ylabel 'a second'\nset yrange [0:*]\n"
            "plot '-' using 1:2 with %s title 'events', '-' using 1:2 with %s "
            "title 'orders placed', '-' using 1:2 with %s title 'orders ended'\n",
            with, with, with);
    for (int column = 0; column < 3; column++) plot_series(gnuplot, s, column);
    fputs("set xdata\nset format x '%g %%'\nset format y '%g'\n"
          "set xrange [0:100]\nset yrange [*:*]\nset logscale y\n"
          "set ylabel 'seconds in the state'\n"
          "set xlabel 'share of orders that had left it by then'\n"
          "set title 'time in each state'\n",
          gnuplot);
    plot_durations(gnuplot, s);
    fputs("unset multiplot\n", gnuplot);
    if (pclose(gnuplot) == 0) return REPLAY_DONE;
    replay_error(r, "gnuplot failed (is it installed?)");
    return REPLAY_FAILED;
}
