/* jumun-bench: a load for a node, with checked answers. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clients/bench/bench.h"
#include "engine/base/priority.h"
#include "engine/wire/nng_threads.h"

const char *argp_program_version = "jumun-bench " JUMUN_VERSION;

static const char doc[] =
    "Plays the life of orders (place with 3 lines, pay, accept, assign_rider, pick_up, deliver) "
    "against a node and reports commands per second and latencies. Every answer is checked: each "
    "accepted command must have made exactly one new version of its order.\v"
    "Modes:\n"
    "  batch    closed loop: --in-flight messages of up to --batch commands. The\n"
    "           default\n"
    "  callers  closed loop: --callers threads of one client, one command each at a\n"
    "           time; with --async callers that are no threads: the callback of one\n"
    "           command submits the next\n"
    "  reads    closed loop: orders read by key (get), batched\n"
    "  open     open loop: --rate commands a second, whether or not answers come;\n"
    "           a latency counts from the intended moment (no coordinated omission)\n"
    "  queries  --query to query replicas (--replica): closed loop with --callers\n"
    "           queries in flight, or, with --rate, open loop. They go out in\n"
    "           messages of up to --batch, --in-flight of them at a time\n\n"
    "Examples:\n"
    "  jumun-bench --batch 128 --in-flight 32\n"
    "  jumun-bench --mode callers --callers 64\n"
    "  jumun-bench --mode open --rate 200000 --plot load.png\n"
    "  jumun-bench --mode queries --query board --callers 256 --rate 5000\n\n"
    "Exit status: 0 done, 1 an answer was wrong, commands failed, or the report could not be "
    "written, 2 usage, 3 no connection.";

enum { OPT_BATCH = 256, OPT_IN_FLIGHT, OPT_CALLERS, OPT_LIVE, OPT_STORES, OPT_LINES, OPT_RATE,
       OPT_WARMUP, OPT_PREFILL, OPT_JSON, OPT_PLOT, OPT_TIMEOUT, OPT_QUEUE,
       OPT_REPLICA, OPT_QUERY, OPT_FIELDS, OPT_ASYNC, OPT_PATIENT };

static const struct argp_option options[] = {
    {"endpoint", 'e', "URL", 0,
     "Node to load (default tcp://127.0.0.1:7400, or $JUMUN_ENDPOINT)", 0},
    {"mode", 'm', "MODE", 0, "batch, callers, reads, open or queries", 0},
    {"replica", OPT_REPLICA, "URL,...", 0, "Replicas, mode queries (default "
     "tcp://127.0.0.1:7500, or $JUMUN_REPLICA)", 0},
    {"seconds", 's', "N", 0, "Measured time (default 10)", 0},
    {"warmup", OPT_WARMUP, "N", 0, "Seconds before it (default 2)", 0},
    {"batch", OPT_BATCH, "N", 0, "Commands a message at most (default 128)", 1},
    {"in-flight", OPT_IN_FLIGHT, "N", 0, "Messages in flight, all shards, 1 to 64 (default 16)", 1},
    {"callers", OPT_CALLERS, "N", 0, "Threads in mode callers, queries in flight in mode queries "
     "(default 64)", 1},
    {"async", OPT_ASYNC, 0, 0, "Mode callers: callbacks instead of threads that wait", 1},
    {"rate", OPT_RATE, "N", 0, "Commands a second in mode open, queries in mode queries", 1},
    {"query", OPT_QUERY, "KIND", 0, "get, multi-get (128 orders), board (of a store), customer "
     "(its orders) or state (orders in one); lists of up to 50 rows (default get)", 1},
    {"fields", OPT_FIELDS, "NAME,...", 0, "Only these of each order (default: whole orders)", 1},
    {"timeout-ms", OPT_TIMEOUT, "N", 0, "Patience of a command, with retries (default 10000)", 1},
    {"queue", OPT_QUEUE, "N", 0, "Commands waiting in the client, per shard (default 1048576)", 1},
    {"live", OPT_LIVE, "N", 0, "Orders alive at a time (default 100000)", 2},
    {"stores", OPT_STORES, "N", 0, "Stores they are spread over, 1 to 256 (default 256)", 2},
    {"lines", OPT_LINES, "N", 0, "Lines of an order, 1 to 64 (default 3)", 2},
    {"prefill", OPT_PREFILL, "N", 0, "Place N orders first and leave them alive", 2},
    {"patient", OPT_PATIENT, 0, 0, "Threads that are woken wait for their turn, as those of "
     "jumund --patient do", 2},
    {"json", OPT_JSON, 0, 0, "Report as one line of JSON", 3},
    {"plot", OPT_PLOT, "FILE", 0, "Write rate over time and latencies as PNG (gnuplot)", 3},
    {"quiet", 'q', 0, 0, "No progress", 3},
    {NULL, 'h', NULL, OPTION_HIDDEN, NULL, 0},
    {0}};

static uint64_t number(const char *arg, uint64_t min, uint64_t max, const char *name,
                       struct argp_state *state) {
    char *end;
    unsigned long long n = strtoull(arg, &end, 10);
    if (*arg == '-' || end == arg || *end || n < min || n > max)
        argp_error(state, "--%s needs a whole number from %llu to %llu, not \"%s\"", name,
                   (unsigned long long)min, (unsigned long long)max, arg);
    return n;
}

static double seconds_arg(const char *arg, const char *name, struct argp_state *state) {
    char *end;
    double n = strtod(arg, &end);
    if (end == arg || *end || !(n >= 0) || n > 86400)
        argp_error(state, "--%s needs seconds, not \"%s\"", name, arg);
    return n;
}

static enum bench_mode mode_of(const char *arg, struct argp_state *state) {
    if (!strcmp(arg, "batch")) return BENCH_BATCH;
    if (!strcmp(arg, "callers")) return BENCH_CALLERS;
    if (!strcmp(arg, "reads")) return BENCH_READS;
    if (!strcmp(arg, "open")) return BENCH_OPEN;
    if (!strcmp(arg, "queries")) return BENCH_QUERIES;
    argp_error(state, "unknown mode \"%s\": batch, callers, reads, open or queries", arg);
    return BENCH_BATCH;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct bench_options *o = state->input;
    switch (key) {
    case 'e': o->endpoint = arg; break;
    case 'm': o->mode = mode_of(arg, state); break;
    case 's': o->seconds = seconds_arg(arg, "seconds", state); break;
    case 'q': o->quiet = true; break;
    case OPT_WARMUP: o->warmup_seconds = seconds_arg(arg, "warmup", state); break;
    case OPT_BATCH: o->batch = (uint32_t)number(arg, 1, 1024, "batch", state); break;
    case OPT_IN_FLIGHT: o->in_flight = (uint32_t)number(arg, 1, 64, "in-flight", state); break;
    case OPT_CALLERS: o->callers = (uint32_t)number(arg, 1, 4096, "callers", state); break;
    case OPT_ASYNC: o->async = true; break;
    case OPT_PATIENT: o->patient = true; break;
    case OPT_RATE: o->rate = number(arg, 1, 100000000, "rate", state); break;
    case OPT_TIMEOUT: o->timeout_ms = (uint32_t)number(arg, 1, 3600000, "timeout-ms", state); break;
    case OPT_QUEUE: o->queue = (uint32_t)number(arg, 1, 1u << 24, "queue", state); break;
    case OPT_LIVE: o->live_orders = (uint32_t)number(arg, 1, 50000000, "live", state); break;
    case OPT_STORES: o->stores = (uint32_t)number(arg, 1, 256, "stores", state); break;
    case OPT_LINES: o->lines = (uint32_t)number(arg, 1, 64, "lines", state); break;
    case OPT_PREFILL: o->prefill = number(arg, 1, 1000000000, "prefill", state); break;
    case OPT_REPLICA: o->replicas = arg; break;
    case OPT_QUERY: o->query = arg; break;
    case OPT_FIELDS: o->fields = arg; break;
    case OPT_JSON: o->json = true; break;
    case OPT_PLOT: o->plot = arg; break;
    case 'h': argp_state_help(state, stdout, ARGP_HELP_STD_HELP); break;
    case ARGP_KEY_ARG: argp_error(state, "unexpected argument \"%s\"", arg); break;
    case ARGP_KEY_END:
        if (o->mode == BENCH_OPEN && o->rate == 0) argp_error(state, "mode open needs --rate");
        if (!bench_query_is_known(o->query)) argp_error(state, "unknown query \"%s\"", o->query);
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* Enough commands waiting in the client to fill every message in flight. */
static uint32_t lanes_for(const struct bench_options *o) {
    switch (o->mode) {
    case BENCH_CALLERS: return o->callers;
    case BENCH_OPEN: return o->live_orders;
    default: return o->batch * o->in_flight;
    }
}

static int connect_client(struct bench *b) {
    char error[256] = "";
    jumun_options client_options = {.batch_commands_max = b->options.batch,
                                    .messages_in_flight_max = b->options.in_flight,
                                    .queue_commands_max = b->options.queue,
                                    .timeout_ms = b->options.timeout_ms,
                                    .attempt_timeout_ms = b->options.timeout_ms / 2 + 1};
    b->client = jumun_open(b->options.endpoint, &client_options, error, sizeof error);
    if (!b->client) {
        fprintf(stderr, "jumun-bench: %s\n", error);
        return 2;
    }
    int code = jumun_ping(b->client, 5000);
    if (code == JUMUN_OK) return 0;
    fprintf(stderr, "jumun-bench: %s: %s\n", b->options.endpoint, jumun_result_text(code));
    return 3;
}

static int run(struct bench *b) {
    if (b->options.mode == BENCH_QUERIES) return bench_run_queries(b);
    int failed = bench_prefill(b);
    if (failed) return failed;
    switch (b->options.mode) {
    case BENCH_CALLERS: return b->options.async ? bench_run_batch(b) : bench_run_callers(b);
    case BENCH_OPEN: return bench_run_open(b);
    default: return bench_run_batch(b);
    }
}

int main(int argc, char **argv) {
    static struct bench b;
    const char *endpoint = getenv("JUMUN_ENDPOINT"), *replicas = getenv("JUMUN_REPLICA");
    b.options = (struct bench_options){
        .endpoint = endpoint ? endpoint : "tcp://127.0.0.1:7400", .mode = BENCH_BATCH,
        .replicas = replicas ? replicas : "tcp://127.0.0.1:7500", .query = "get",
        .batch = 128, .in_flight = 16, .callers = 64, .live_orders = 100000, .stores = 256,
        .lines = 3, .seconds = 10, .warmup_seconds = 2, .timeout_ms = 10000, .queue = 1u << 20};
    argp_err_exit_status = 2;
    struct argp argp = {options, parse, NULL, doc, NULL, NULL, NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &b.options);
    if (b.options.patient) priority_patient();
    nng_threads_limit();
    if (!bench_workload_init(&b, lanes_for(&b.options))) {
        fprintf(stderr, "jumun-bench: no memory for %u orders\n", b.options.live_orders);
        return 1;
    }
    int status = b.options.mode == BENCH_QUERIES ? 0 : connect_client(&b);
    if (status == 0) {
        status = run(&b);
        for (int i = 0; i < BENCH_STRIPES; i++) histogram_add(&b.latency, &b.stripes[i].h);
        if (b.end_ns != 0) bench_report(&b, stdout);
        if (b.end_ns != 0 && b.options.plot && bench_plot(&b)) status = 1;
        if (atomic_load(&b.wrong) || atomic_load(&b.failed)) status = 1;
    }
    if (b.client) jumun_close(b.client);
    bench_workload_fini(&b);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "jumun-bench: the report could not be written: %s\n", strerror(errno));
        if (status == 0) status = 1;
    }
    return status;
}
