/* sim [--nodes N] [--seed] N | --seeds A..B | --replay FILE
 *     [--hours H] [--seconds S] [--set NAME=VALUE]... [--canary NAME] [--verbose]
 *
 * --nodes 1 (the default) is a node alone, 3 or 5 a cluster with so many replicas of each group.
 * --hours H stretches the hostile phase over about H simulated hours; the steps stay as many.
 * --seconds S begins no other seed after S seconds. --set overrides what the seed has drawn.
 * --replay FILE runs each line of it: the arguments of one run (see regressions.txt).
 * One seed runs in this process (for a debugger); many run each in a child, so that a crash is one
 * seed's. Exit: 0 all well, 127 crash, 128 liveness, 129 correctness; with --canary: 0 when a seed
 * catches the planted fault, 1 when none does. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/log.h"
#include "tests/sim/sim.h"

static const char *const canary_names[] = {
#define X(name, text) text,
    SIM_CANARIES(X)
#undef X
};
enum { CANARIES = sizeof canary_names / sizeof *canary_names };

static enum sim_exit run(const struct sim_options *options, struct sim_totals *totals, char *fault,
                         size_t fault_bytes) {
    struct sim *sim = calloc(1, sizeof *sim);
    require(sim != NULL);
    sim->options = *options;
    prng_seed(&sim->prng, options->seed);
    workload_init(sim);
    sim->files = storage_memory_files_new();
    sim_init(sim);
    uint32_t steps = 0;
    while (sim->verdict == SIM_OK && steps < options->steps) {
        steps++;
        sim->totals.steps++;
        if (sim->commands_count + 10000 > SIM_COMMANDS_MAX ||
            sim->orders_count + 10000 > SIM_ORDERS_MAX) {
            break;
        }
        if (sim_is_cluster(sim) || sim->nodes[0].up) workload_step(sim);
        faults_inject(sim);
        if (steps == options->grow_step) operator_grow(sim);
        if (steps == options->move_step) operator_move_stores(sim);
        if (steps == options->upgrade_step) upgrade_begin(sim);
        operator_inject(sim);
        bool pause = prng_chance(&sim->prng, 1, 50);
        sim_run(sim, prng_between(&sim->prng, 0,
                                   pause ? 20 * options->gap_ms_max : options->gap_ms_max));
        /* A death after a lull, when everything is stored and the log behind the marker is empty.
         */
        if (prng_chance(&sim->prng, options->crash_per_step, 40000)) {
            sim_run(sim, 3 * options->checkpoint_age_ms + 500);
            sim_crash_all(sim);
        }
        if (options->jump_per_step > 0 && prng_chance(&sim->prng, options->jump_per_step, 10000)) {
            sim_jump(sim, prng_between(&sim->prng, 1, options->jump_ms_max));
        }
    }
    if (sim->verdict == SIM_OK) audit_end(sim);
    sim_fini(sim);
    storage_memory_files_free(sim->files);
    sim->totals.runs = 1;
    sim->totals.orders = sim->orders_count;
    *totals = sim->totals;
    snprintf(fault, fault_bytes, "%s", sim->fault);
    enum sim_exit verdict = sim->verdict;
    workload_fini(sim);
    audit_free(sim);
    free(sim);
    return verdict;
}

/* -- one seed, many seeds ---------------------------------------------------------------------- */

struct report {
    struct sim_totals totals;
    enum sim_exit verdict;
    char fault[512];
};

static void died(int signal_number) {
    static const char text[] = "sim: the process under test has died\n";
    if (write(2, text, sizeof text - 1) < 0) _exit(SIM_CRASH);
    _exit(SIM_CRASH);
}

static void run_in_child(const struct sim_options *options, struct report *report) {
    int pipe_ends[2];
    require(pipe(pipe_ends) == 0);
    fflush(NULL);
    pid_t child = fork();
    require(child >= 0);
    memset(report, 0, sizeof *report);
    if (child == 0) {
        close(pipe_ends[0]);
        report->verdict = run(options, &report->totals, report->fault, sizeof report->fault);
        ssize_t written = write(pipe_ends[1], report, sizeof *report);
        _exit(written == (ssize_t)sizeof *report ? (int)report->verdict : SIM_CRASH);
    }
    close(pipe_ends[1]);
    ssize_t got = read(pipe_ends[0], report, sizeof *report);
    close(pipe_ends[0]);
    int status = 0;
    require(waitpid(child, &status, 0) == child);
    if (got != (ssize_t)sizeof *report) {
        report->verdict = SIM_CRASH;
        snprintf(report->fault, sizeof report->fault, "the process under test has died");
    }
}

static void add_totals(struct sim_totals *to, const struct sim_totals *from) {
    uint64_t *t = (uint64_t *)(void *)to;
    const uint64_t *f = (const uint64_t *)(const void *)from;
    for (size_t i = 0; i < sizeof *to / sizeof *t; i++) t[i] += f[i];
}

static void print_totals(const struct sim_totals *t) {
    static const char *const names[] = {
#define X(name, text) text,
        SIM_TOTALS(X)
#undef X
    };
    const uint64_t *values = (const uint64_t *)(const void *)t;
    printf("%lu runs, %.1f simulated hours, %.1f hours jumped over", (unsigned long)t->runs,
           (double)t->simulated_ms / 3.6e6, (double)t->jumped_ms / 3.6e6);
    for (size_t i = 3; i < sizeof names / sizeof *names; i++) {
        if (values[i] > 0) printf(", %lu %s", (unsigned long)values[i], names[i]);
    }
    printf("\n");
}

static int run_one(const struct sim_options *options) {
    struct report report;
    sim_options_print(options);
    fflush(stdout);
    signal(SIGABRT, died);
    signal(SIGSEGV, died);
    memset(&report, 0, sizeof report);
    report.verdict = run(options, &report.totals, report.fault, sizeof report.fault);
    print_totals(&report.totals);
    if (report.verdict != SIM_OK) printf("FAULT %s\n", report.fault);
    return (int)report.verdict;
}

/* What the command line says, above all what a seed draws. */
struct given {
    struct sim_options options; /* hours, canary, verbose */
    uint32_t nodes;
    unsigned long from, to, seconds;
    bool many, seeded;
    const char *replay;
    const char *set[64];
    uint32_t set_count;
};

static bool take_given(struct sim_options *options, uint64_t seed, const struct given *given) {
    sim_options_draw(options, seed, given->nodes);
    options->canary = given->options.canary;
    options->verbose = given->options.verbose;
    options->hours = given->options.hours;
    options->gap_ms_max += (int64_t)(2 * options->hours * 3.6e6 / options->steps);
    for (uint32_t i = 0; i < given->set_count; i++) {
        if (!sim_options_set(options, given->set[i])) {
            fprintf(stderr, "sim: no such option: %s\n", given->set[i]);
            return false;
        }
    }
    return true;
}

static int run_many(const struct given *given, struct sim_totals *totals) {
    int worst = SIM_OK;
    time_t begun = time(NULL);
    for (uint64_t seed = given->from; seed <= given->to; seed++) {
        struct sim_options options;
        struct report report;
        if (given->seconds > 0 && time(NULL) - begun >= (time_t)given->seconds) break;
        if (!take_given(&options, seed, given)) return 2;
        run_in_child(&options, &report);
        add_totals(totals, &report.totals);
        if (report.verdict == SIM_OK) continue;
        if (given->options.canary != SIM_CANARY_NONE) {
            printf("canary %s caught by seed %lu (%d): %s\n",
                   canary_names[given->options.canary], (unsigned long)seed, (int)report.verdict,
                   report.fault);
            return 0;
        }
        sim_options_print(&options);
        printf("FAULT nodes %u seed %lu (%d) %s\n", given->nodes, (unsigned long)seed,
               (int)report.verdict, report.fault);
        fflush(stdout);
        worst = worst > (int)report.verdict ? worst : (int)report.verdict;
    }
    if (given->options.canary == SIM_CANARY_NONE) return worst;
    printf("canary %s was NOT caught\n", canary_names[given->options.canary]);
    return 1;
}

static int usage(void) {
    fprintf(stderr, "usage: sim [--nodes N] [--seed] N | --seeds A..B | --replay FILE\n"
                    "           [--hours H] [--seconds S] [--set NAME=VALUE]... [--canary NAME] "
                    "[--verbose]\n");
    fprintf(stderr, "canaries:");
    for (int i = 1; i < CANARIES; i++) fprintf(stderr, " %s", canary_names[i]);
    fprintf(stderr, "\n");
    return 2;
}

static bool parse_canary(struct given *given, const char *name) {
    for (int k = 1; k < CANARIES; k++) {
        if (strcmp(name, canary_names[k]) == 0) given->options.canary = (enum sim_canary)k;
    }
    return given->options.canary != SIM_CANARY_NONE;
}

static bool parse(struct given *given, int argc, char **argv) {
    *given = (struct given){.nodes = 1};
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(word, "--seed") == 0) continue;
        if (strcmp(word, "--verbose") == 0) {
            given->options.verbose = true;
            continue;
        }
        if (word[0] != '-') {
            given->seeded = sscanf(word, "%lu", &given->from) == 1;
            given->to = given->from;
            continue;
        }
        i++;
        if (strcmp(word, "--seeds") == 0)
            given->many = given->seeded = sscanf(value, "%lu..%lu", &given->from, &given->to) == 2;
        else if (strcmp(word, "--nodes") == 0) given->nodes = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(word, "--hours") == 0) given->options.hours = strtod(value, NULL);
        else if (strcmp(word, "--seconds") == 0) given->seconds = strtoul(value, NULL, 10);
        else if (strcmp(word, "--replay") == 0) given->replay = value;
        else if (strcmp(word, "--set") == 0 && given->set_count < 64)
            given->set[given->set_count++] = value;
        else if (strcmp(word, "--canary") != 0 || !parse_canary(given, value)) return false;
    }
    bool nodes = given->nodes == 1 || given->nodes == 3 || given->nodes == 5;
    return nodes && (given->seeded || given->replay != NULL);
}

enum { REPLAY_LINE_MAX = 4096, REPLAY_WORDS_MAX = 128 };

/* Each line: the arguments of one run; # begins a comment. */
static int replay(const char *path, struct sim_totals *totals) {
    FILE *file = fopen(path, "r");
    char line[REPLAY_LINE_MAX];
    int worst = SIM_OK;
    if (file == NULL) {
        fprintf(stderr, "sim: %s cannot be read\n", path);
        return 2;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        char *words[REPLAY_WORDS_MAX], *rest = NULL, *word = strtok_r(line, " \n", &rest);
        int count = 0;
        struct given given;
        for (; word != NULL && word[0] != '#' && count < REPLAY_WORDS_MAX; count++) {
            words[count] = word;
            word = strtok_r(NULL, " \n", &rest);
        }
        if (count == 0) continue;
        if (!parse(&given, count, words) || !given.seeded) {
            fprintf(stderr, "sim: a line of %s is not a run's arguments\n", path);
            fclose(file);
            return 2;
        }
        int verdict = run_many(&given, totals);
        worst = worst > verdict ? worst : verdict;
    }
    fclose(file);
    return worst;
}

int main(int argc, char **argv) {
    struct given given;
    struct sim_totals totals = {0};
    if (!parse(&given, argc - 1, argv + 1)) return usage();
    log_set_level(LOG_LEVEL_ERROR);
    if (given.options.verbose) log_set_level(LOG_LEVEL_DEBUG);
    if (given.replay != NULL || given.many) {
        if (given.many) {
            printf("commit %s, nodes %u, seeds %lu..%lu\n", sim_commit, given.nodes, given.from,
                   given.to);
        }
        fflush(stdout);
        int verdict = given.many ? run_many(&given, &totals) : replay(given.replay, &totals);
        print_totals(&totals);
        return verdict;
    }
    struct sim_options options;
    if (!take_given(&options, given.from, &given)) return 2;
    return run_one(&options);
}
