#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/bench/bench.h"

static const struct { const char *name, *json; uint32_t of_100000; } percentiles[] = {
    {"p50", "p50_us", 50000},   {"p90", "p90_us", 90000},     {"p99", "p99_us", 99000},
    {"p99.9", "p99_9_us", 99900}, {"p99.99", "p99_99_us", 99990}, {"max", "max_us", 100000},
};

static double seconds_of(const struct bench *b) { return (double)(b->end_ns - b->begin_ns) / 1e9; }

static const char *mode_name(enum bench_mode mode) {
    switch (mode) {
    case BENCH_BATCH: return "batch";
    case BENCH_CALLERS: return "callers";
    case BENCH_READS: return "reads";
    case BENCH_OPEN: return "open";
    case BENCH_QUERIES: return "queries";
    }
    return "unknown";
}

static void report_json(const struct bench *b, FILE *out) {
    const struct bench_options *o = &b->options;
    double seconds = seconds_of(b);
    uint64_t done = histogram_count(&b->latency);
    fprintf(out,
            "{\"mode\":\"%s\",\"batch\":%u,\"in_flight\":%u,\"callers\":%u,\"rate\":%llu,"
            "\"live_orders\":%u,\"seconds\":%.3f,\"commands\":%llu,\"commands_per_second\":%.0f,"
            "\"refused\":%llu,\"overloaded\":%llu,\"not_taken\":%llu,"
            "\"failed\":%llu,\"wrong\":%llu",
            mode_name(o->mode), o->batch, o->in_flight, o->callers, (unsigned long long)o->rate,
            o->live_orders, seconds, (unsigned long long)done, (double)done / seconds,
            (unsigned long long)atomic_load(&b->refused),
            (unsigned long long)atomic_load(&b->overloaded),
            (unsigned long long)atomic_load(&b->queue_full),
            (unsigned long long)atomic_load(&b->failed),
            (unsigned long long)atomic_load(&b->wrong));
    for (size_t i = 0; i < sizeof percentiles / sizeof *percentiles; i++)
        fprintf(out, ",\"%s\":%.1f", percentiles[i].json,
                (double)histogram_percentile_ns(&b->latency, percentiles[i].of_100000) / 1e3);
    fprintf(out, "}\n");
}

static void report_codes(const struct bench *b, FILE *out) {
    for (int code = 1; code < 1100; code++) {
        uint64_t n = atomic_load(&b->by_code[code]);
        if (n == 0) continue;
        fprintf(out, "    %12llu  %s (%d)\n", (unsigned long long)n, jumun_result_text(code), code);
    }
}

void bench_report(const struct bench *b, FILE *out) {
    if (b->options.json) {
        report_json(b, out);
        return;
    }
    double seconds = seconds_of(b);
    uint64_t done = histogram_count(&b->latency);
    bool queries = b->options.mode == BENCH_QUERIES;
    fprintf(out, "%s: %llu %s in %.2f s: %.0f/s\n", mode_name(b->options.mode),
            (unsigned long long)done, queries ? "queries answered" : "commands accepted", seconds,
            (double)done / seconds);
    fprintf(out, "  latency (%s)", queries ? "answered" : "accepted");
    for (size_t i = 0; i < sizeof percentiles / sizeof *percentiles; i++)
        fprintf(out, "  %s %.2f ms", percentiles[i].name,
                (double)histogram_percentile_ns(&b->latency, percentiles[i].of_100000) / 1e6);
    fputc('\n', out);
    uint64_t queue_full = atomic_load(&b->queue_full);
    if (queue_full)
        fprintf(out, "  %llu commands could not even be queued\n", (unsigned long long)queue_full);
    report_codes(b, out);
    uint64_t wrong = atomic_load(&b->wrong);
    if (wrong)
        fprintf(out, "  WRONG: %llu answers with another version than the command must have made\n",
                (unsigned long long)wrong);
}

/* Commands a second over time, and the latency by percentile, side by side. */
int bench_plot(const struct bench *b) {
    FILE *gnuplot = popen("gnuplot", "w");
    if (!gnuplot) {
        fprintf(stderr, "jumun-bench: cannot start gnuplot\n");
        return 1;
    }
    fprintf(gnuplot,
            "set terminal pngcairo size 1280,480\nset output '%s'\nset multiplot layout 1,2\n"
            "set grid\nset key off\nset title 'commands a second'\nset xlabel 'seconds'\n"
            "set yrange [0:*]\nplot '-' with lines linewidth 2\n",
            b->options.plot);
    for (uint32_t i = 1; i < b->series_count; i++) {
        double dt = b->series[i].at_s - b->series[i - 1].at_s;
        if (dt > 0.01)
            fprintf(gnuplot, "%f %f\n", b->series[i].at_s,
                    (double)(b->series[i].done - b->series[i - 1].done) / dt);
    }
    fprintf(gnuplot, "e\nset title 'latency of accepted commands'\nset xlabel 'percentile'\n"
                     "set ylabel 'ms'\nset logscale y\nset yrange [*:*]\nset logscale x\n"
                     "set xtics ('50' 2, '90' 10, '99' 100, '99.9' 1000, '99.99' 10000)\n"
                     "plot '-' with lines linewidth 2\n");
    for (double x = 1.25; x <= 20000; x *= 1.15) {
        uint32_t of = (uint32_t)(100000 * (1 - 1 / x));
        fprintf(gnuplot, "%f %f\n", x,
                (double)histogram_percentile_ns(&b->latency, of ? of : 1) / 1e6 + 1e-6);
    }
    fprintf(gnuplot, "e\nunset multiplot\n");
    int rv = pclose(gnuplot);
    if (rv != 0) fprintf(stderr, "jumun-bench: gnuplot failed (is it installed?)\n");
    return rv != 0;
}
