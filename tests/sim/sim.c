/* sim [--seed] N | --seeds A..B  [--hours H] [--canary NAME] [--verbose]
 *
 * --hours H stretches the hostile phase over about H simulated hours; the steps stay as many.
 * One seed runs in this process (for a debugger); many run each in a child, so that a crash is one
 * seed's. Exit: 0 all well, 127 crash, 128 liveness, 129 correctness; with --canary: 0 when a seed
 * catches the planted fault, 1 when none does. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
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
    node_init(sim);
    node_start(sim);
    uint32_t steps = 0;
    while (sim->verdict == SIM_OK && steps < options->steps) {
        steps++;
        sim->totals.steps++;
        if (sim->commands_count + 10000 > SIM_COMMANDS_MAX ||
            sim->orders_count + 10000 > SIM_ORDERS_MAX) {
            break;
        }
        if (sim->up) workload_step(sim);
        node_inject(sim);
        bool pause = prng_chance(&sim->prng, 1, 50);
        node_run(sim, prng_between(&sim->prng, 0,
                                   pause ? 20 * options->gap_ms_max : options->gap_ms_max));
        /* A death after a lull, when everything is stored and the log behind the marker is empty.
         */
        if (sim->up && prng_chance(&sim->prng, options->crash_per_step, 40000)) {
            node_run(sim, 3 * options->checkpoint_age_ms + 500);
            if (sim->up) node_crash(sim);
        }
        if (options->jump_per_step > 0 && prng_chance(&sim->prng, options->jump_per_step, 10000)) {
            node_jump(sim, prng_between(&sim->prng, 1, options->jump_ms_max));
        }
    }
    if (sim->verdict == SIM_OK) audit_end(sim);
    node_fini(sim);
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
    printf(
        "%lu runs, %.1f simulated hours, %lu steps: %lu commands, %lu replies (%lu acknowledged, "
        "%lu repeated, %lu refused), %lu retries, %lu unknown, %lu orders\n",
        (unsigned long)t->runs, (double)t->simulated_ms / 3.6e6, (unsigned long)t->steps,
        (unsigned long)t->commands, (unsigned long)t->replies, (unsigned long)t->acknowledged,
        (unsigned long)t->repeated, (unsigned long)t->refused, (unsigned long)t->retries,
        (unsigned long)t->unknown, (unsigned long)t->orders);
    printf("log: %lu records, %lu events, %lu by deadlines, %lu checkpoints; messages: %lu, %lu "
           "lost, %lu doubled\n",
           (unsigned long)t->records, (unsigned long)t->events, (unsigned long)t->timers,
           (unsigned long)t->checkpoints, (unsigned long)t->messages,
           (unsigned long)t->messages_lost, (unsigned long)t->messages_doubled);
    printf("faults: %lu crashes (%lu inside a storage operation), %lu more while starting, %lu "
           "restarts; writes: %lu lost, %lu survived, %lu torn; disk: %lu full, %lu slow, %lu "
           "stuck, %lu damaged; %lu without memory, %lu clock jumps, %lu replies lost\n",
           (unsigned long)t->crashes, (unsigned long)t->crashes_inside,
           (unsigned long)t->crashes_starting, (unsigned long)t->restarts,
           (unsigned long)t->lost_appends, (unsigned long)t->survived_appends,
           (unsigned long)t->torn_records, (unsigned long)t->fulls, (unsigned long)t->slows,
           (unsigned long)t->stucks, (unsigned long)t->damaged, (unsigned long)t->no_memory,
           (unsigned long)t->jumps, (unsigned long)t->reply_losses);
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

static void take_given(struct sim_options *options, const struct sim_options *given) {
    options->canary = given->canary;
    options->verbose = given->verbose;
    options->hours = given->hours;
    options->gap_ms_max += (int64_t)(2 * given->hours * 3.6e6 / options->steps);
}

static int run_many(uint64_t from, uint64_t to, const struct sim_options *given) {
    struct sim_totals totals = {0};
    int worst = SIM_OK;
    uint64_t caught = 0;
    for (uint64_t seed = from; seed <= to; seed++) {
        struct sim_options options;
        struct report report;
        sim_options_draw(&options, seed);
        take_given(&options, given);
        run_in_child(&options, &report);
        add_totals(&totals, &report.totals);
        if (report.verdict == SIM_OK) continue;
        if (given->canary != SIM_CANARY_NONE) {
            caught++;
            printf("canary %s caught by seed %lu (%d): %s\n", canary_names[given->canary],
                   (unsigned long)seed, (int)report.verdict, report.fault);
            break;
        }
        sim_options_print(&options);
        printf("FAULT seed %lu (%d) %s\n", (unsigned long)seed, (int)report.verdict, report.fault);
        worst = worst > (int)report.verdict ? worst : (int)report.verdict;
    }
    print_totals(&totals);
    if (given->canary == SIM_CANARY_NONE) return worst;
    if (caught == 0) printf("canary %s was NOT caught\n", canary_names[given->canary]);
    return caught > 0 ? 0 : 1;
}

static int usage(void) {
    fprintf(stderr,
            "usage: sim [--seed] N | --seeds A..B  [--hours H] [--canary NAME] [--verbose]\n");
    fprintf(stderr, "canaries:");
    for (int i = 1; i < CANARIES; i++) fprintf(stderr, " %s", canary_names[i]);
    fprintf(stderr, "\n");
    return 2;
}

int main(int argc, char **argv) {
    struct sim_options given = {0};
    unsigned long from = 0, to = 0;
    bool many = false, seeded = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
            many = seeded = sscanf(argv[++i], "%lu..%lu", &from, &to) == 2;
        } else if (strcmp(argv[i], "--hours") == 0 && i + 1 < argc) {
            given.hours = strtod(argv[++i], NULL);
        } else if (strcmp(argv[i], "--canary") == 0 && i + 1 < argc) {
            i++;
            for (int k = 1; k < CANARIES; k++) {
                if (strcmp(argv[i], canary_names[k]) == 0) given.canary = (enum sim_canary)k;
            }
            if (given.canary == SIM_CANARY_NONE) return usage();
        } else if (strcmp(argv[i], "--verbose") == 0) {
            given.verbose = true;
        } else if (strcmp(argv[i], "--seed") != 0) {
            seeded = sscanf(argv[i], "%lu", &from) == 1;
        }
    }
    if (!seeded) return usage();
    log_set_level(LOG_LEVEL_ERROR);
    if (given.verbose) log_set_level(LOG_LEVEL_DEBUG);
    if (many) return run_many(from, to, &given);
    struct sim_options options;
    sim_options_draw(&options, from);
    take_given(&options, &given);
    return run_one(&options);
}
