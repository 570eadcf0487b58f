/* jumun-demo: plays a real year of orders into a running node and tells what happened. */
#include <getopt.h>
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/text.h"
#include "clients/cli/when.h"
#include "clients/demo/questions.h"
#include "clients/demo/report.h"

enum demo_exit { DEMO_DONE = 0, DEMO_FAILED = 1, DEMO_USAGE = 2, DEMO_NO_ANSWER = 3,
                 DEMO_BAD_FILE = 4, DEMO_INTERRUPTED = 130 };

struct demo_options {
    const char *endpoint, *replica, *data, *states, *half;
    uint32_t invoices_max, in_flight_max;
    int64_t wait_ms;
    bool json, quiet, plan_only, no_hints, color, color_errors;
};

#define DEMO_DATA "online_retail_orders.csv.gz"

static volatile sig_atomic_t demo_stop;

static void demo_on_signal(int number) {
    (void)number;
    /* The second one ends the program: the first waits for what is in flight. */
    if (demo_stop) _exit(DEMO_INTERRUPTED);
    demo_stop = 1;
}

static void demo_help(void) {
    puts("jumun-demo [OPTION]...\n"
         "Plays a year of invoices of a real shop into a running node, through libjumun: sales\n"
         "become the lives of orders, cancel invoices become cancels and refunds; what does not\n"
         "fit is sent as it is, so that the engine's answers to it are seen.\n"
         "\n"
         "  -e, --endpoint URL    node, or several of a cluster separated by commas\n"
         "                        (JUMUN_ENDPOINT; default tcp://127.0.0.1:7400)\n"
         "  -r, --replica URL     query replica to ask afterwards (JUMUN_REPLICA; default: none)\n"
         "  -d, --data FILE       CSV, plain or gzip'd (default: online_retail_orders.csv.gz\n"
         "                        in ./data, else as installed);\n"
         "                        columns: order_id, customer_id, country, kind, items,\n"
         "                        total_cents, placed_ms, cancels_order_id; others are ignored\n"
         "  -n, --limit N         only the first N invoices\n"
         "  -f, --in-flight N     commands at a time, 1 .. 100000 (default 2048)\n"
         "  -w, --wait TIME       for the node to answer at the start (default 30s)\n"
         "  -p, --plan            only read the file and tell what would be sent\n"
         "  -s, --states FILE     read every order back, compare it with what was\n"
         "                        acknowledged, and write what became of each to FILE\n"
         "      --half FILE       make FILE when half of the commands have been sent\n"
         "  -j, --json            print the report as JSON\n"
         "  -q, --quiet           no progress\n"
         "      --no-hints        leave out what to try next\n"
         "      --color WHEN      auto, always or never\n"
         "  -V, --version\n"
         "  -h, --help\n"
         "\n"
         "Exit status: 0 done, 1 some commands got no final answer, or orders are not as they\n"
         "were acknowledged, 2 usage, 3 no connection, 4 the file cannot be read or\n"
         "understood, 130 interrupted.\n"
         "\n"
         "Examples:\n"
         "  jumun-demo --limit 1000\n"
         "  jumun-demo --json --quiet > report.json");
}

static bool demo_number(const char *name, const char *text, int64_t min, int64_t max, int64_t *n) {
    if (text_parse_int64(text, n) && *n >= min && *n <= max) return true;
    fprintf(stderr, "jumun-demo: --%s: \"%.40s\" is not a number from %" PRId64 " to %" PRId64 "\n",
            name, text, min, max);
    return false;
}

static bool demo_wait(const char *text, int64_t *ms) {
    char fault[WHEN_ERROR_BYTES];
    bool read = when_parse_span(text, ms);
    if (read && *ms <= 3600000) return true;
    fprintf(stderr, "jumun-demo: --wait: %s\n",
            read ? "at most 1h" : when_span_fault(text, fault));
    return false;
}

/* DEMO_DONE, or the status to leave with; `*leave` says whether to leave. */
static int demo_options_read(struct demo_options *o, int argc, char **argv, bool *leave) {
    static const struct option longs[] = {
        {"endpoint", required_argument, NULL, 'e'}, {"data", required_argument, NULL, 'd'},
        {"replica", required_argument, NULL, 'r'},
        {"limit", required_argument, NULL, 'n'},    {"in-flight", required_argument, NULL, 'f'},
        {"wait", required_argument, NULL, 'w'},     {"plan", no_argument, NULL, 'p'},
        {"json", no_argument, NULL, 'j'},           {"quiet", no_argument, NULL, 'q'},
        {"color", required_argument, NULL, 'c'},    {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {"no-hints", no_argument, NULL, 'N'},       {"states", required_argument, NULL, 's'},
        {"half", required_argument, NULL, 'H'},
        {NULL, 0, NULL, 0}};
    int code;
    int64_t n;
    *leave = true;
    while ((code = getopt_long(argc, argv, "e:r:d:n:f:w:s:pjqVh", longs, NULL)) != -1) {
        switch (code) {
        case 'e': o->endpoint = optarg; break;
        case 'd': o->data = optarg; break;
        case 'r': o->replica = optarg; break;
        case 'n':
            if (!demo_number("limit", optarg, 1, UINT32_MAX, &n)) return DEMO_USAGE;
            o->invoices_max = (uint32_t)n;
            break;
        case 'f':
            if (!demo_number("in-flight", optarg, 1, 100000, &n)) return DEMO_USAGE;
            o->in_flight_max = (uint32_t)n;
            break;
        case 'w':
            if (!demo_wait(optarg, &o->wait_ms)) return DEMO_USAGE;
            break;
        case 's': o->states = optarg; break;
        case 'H': o->half = optarg; break;
        case 'p': o->plan_only = true; break;
        case 'j': o->json = true; break;
        case 'q': o->quiet = true; break;
        case 'N': o->no_hints = true; break;
        case 'c':
            if (strcmp(optarg, "auto") == 0) break;
            o->color = o->color_errors = strcmp(optarg, "always") == 0;
            if (o->color || strcmp(optarg, "never") == 0) break;
            fprintf(stderr, "jumun-demo: --color: \"%.40s\" is not auto, always or never\n",
                    optarg);
            return DEMO_USAGE;
        case 'V': puts("jumun-demo " JUMUN_VERSION); return DEMO_DONE;
        case 'h': demo_help(); return DEMO_DONE;
        default: fputs("Try: jumun-demo --help\n", stderr); return DEMO_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "jumun-demo: \"%s\" is one word too many\n", argv[optind]);
        return DEMO_USAGE;
    }
    *leave = false;
    return DEMO_DONE;
}

static void demo_print_plan(const struct plan *plan) {
    char count[TEXT_BYTES];
    for (int o = 0; o < PLAN_ORIGINS; o++) {
        if (o == PLAN_CANCEL_UNMATCHED) continue;
        printf("%10s  %s\n", text_count(count, plan->invoices_by_origin[o]), plan_origin_name(o));
    }
    printf("%10s  cancel lines that match nothing\n", text_count(count, plan->lines_unmatched));
    printf("%10s  whole cancels\n", text_count(count, plan->cancels_whole));
    printf("%10s  partial cancels\n", text_count(count, plan->cancels_partial));
    printf("%10s  commands\n", text_count(count, plan->steps_count));
}

/* Shards publish their counts a few times a second: waits until what was played is in them. */
static void demo_settle(jumun_client *client, uint64_t commands) {
    for (int i = 0; i < 50 && report_commands(client) < commands; i++) usleep(50000);
}

/* False when an order is not as it was acknowledged. */
static bool demo_verify(const struct demo_options *o, const struct play *play,
                        struct verify *verify) {
    FILE *states = fopen(o->states, "w");
    if (!states) {
        fprintf(stderr, "jumun-demo: cannot write %s\n", o->states);
        return false;
    }
    bool done = verify_play(play, states, verify);
    done = fclose(states) == 0 && done;
    return done && verify->behind + verify->ahead + verify->unread == 0;
}

static int demo_play(const struct demo_options *o, const struct retail *retail,
                     const struct plan *plan) {
    char error[256] = "";
    jumun_options client_options = {.timeout_ms = 30000};
    jumun_client *client = jumun_open(o->endpoint, &client_options, error, sizeof error);
    if (!client) {
        fprintf(stderr, "jumun-demo: %s: %s\n", o->endpoint, error);
        return DEMO_NO_ANSWER;
    }
    int status = DEMO_NO_ANSWER, code = jumun_ping(client, (uint32_t)o->wait_ms);
    struct play *play = NULL;
    if (code != JUMUN_OK) {
        fprintf(stderr, "jumun-demo: %s does not answer: %s\n", o->endpoint,
                jumun_result_text(code));
    } else if (!(play = play_new(plan, client, o->in_flight_max))) {
        fputs("jumun-demo: no memory\n", stderr);
    } else {
        struct report_options report = {.json = o->json, .color = o->color,
                                       .no_hints = o->no_hints, .endpoint = o->endpoint};
        uint64_t before = report_commands(client);
        struct verify verify = {0};
        play->half_file = o->half;
        play_run(play, &demo_stop, o->quiet ? NULL : stderr, o->color_errors);
        demo_settle(client, before + play->answered - play->unanswered);
        /* Who stops it stops the node too: there is nothing to try next. */
        report.no_hints = report.no_hints || demo_stop;
        bool failed = play->unanswered || play->stopped;
        if (o->states && !failed) {
            failed = !demo_verify(o, play, &verify);
            report.verify = &verify;
        }
        bool answered = report_print(play, retail, &report);
        if (o->replica && !o->json && !demo_stop)
            answered = questions_print(play, retail, o->replica, o->color) && answered;
        status = demo_stop ? DEMO_INTERRUPTED : !answered ? DEMO_NO_ANSWER
               : failed ? DEMO_FAILED : DEMO_DONE;
    }
    /* Closing waits for the last callback to return: only then may its play go. */
    jumun_close(client);
    play_delete(play);
    return status;
}

int main(int argc, char **argv) {
    const char *endpoint = getenv("JUMUN_ENDPOINT"), *no_color = getenv("NO_COLOR");
    bool colors = !(no_color && *no_color), leave;
    struct demo_options o = {
        .endpoint = endpoint && *endpoint ? endpoint : "tcp://127.0.0.1:7400",
        .data = access("data/" DEMO_DATA, R_OK) == 0 ? "data/" DEMO_DATA
                                                     : DEMO_DATA_DIR "/" DEMO_DATA,
        .replica = getenv("JUMUN_REPLICA"), .in_flight_max = 2048, .wait_ms = 30000,
        .color = colors && isatty(STDOUT_FILENO), .color_errors = colors && isatty(STDERR_FILENO)};
    setlocale(LC_CTYPE, "");
    int status = demo_options_read(&o, argc, argv, &leave);
    if (leave) return status;
    struct sigaction action = {.sa_handler = demo_on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    struct retail retail;
    struct plan plan;
    char error[512];
    if (!retail_read(&retail, o.data, o.invoices_max, error, sizeof error)) {
        fprintf(stderr, "jumun-demo: %s\n", error);
        return DEMO_BAD_FILE;
    }
    status = DEMO_FAILED;
    if (!plan_make(&plan, &retail)) {
        fputs("jumun-demo: no memory\n", stderr);
    } else {
        status = DEMO_DONE;
        if (o.plan_only) demo_print_plan(&plan);
        else status = demo_play(&o, &retail, &plan);
        plan_free(&plan);
    }
    retail_free(&retail);
    return status;
}
