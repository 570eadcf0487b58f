/* Kills a loaded node at random moments and judges what is left; see crash.h.
 *
 *   crash JUMUND [--rounds N] [--seed N] [--workers N] [--shards N] [--canary]
 *
 * Prints its seed first. Exit codes: 0 every promise was kept, 1 one was broken or the node did not
 * come up, 2 usage. --canary falsifies the notes of the test: 0 only if the judge finds it. */
#include "tests/process/crash.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STORES_SECONDS_MAX = 60, PATIENT_MS = 8000, HASTY_MS = 60 };

struct crash_options {
    const char *program;
    uint32_t rounds, workers, shards;
    uint64_t seed;
    bool canary;
};

static bool number_of(const char *text, uint64_t max, uint64_t *value) {
    char *end;
    *value = strtoull(text, &end, 0);
    return *text >= '0' && *text <= '9' && *end == 0 && *value <= max;
}

static _Noreturn void usage(void) {
    fputs("usage: crash JUMUND [--rounds N] [--seed N] [--workers N] [--shards N] [--canary]\n",
          stderr);
    exit(2);
}

static void options_read(struct crash_options *o, int argc, char **argv) {
    static const struct option known[] = {{"rounds", 1, NULL, 'r'},  {"seed", 1, NULL, 's'},
                                          {"workers", 1, NULL, 'w'}, {"shards", 1, NULL, 'n'},
                                          {"canary", 0, NULL, 'c'},  {NULL, 0, NULL, 0}};
    *o = (struct crash_options){.rounds = 10, .workers = 16, .shards = 2};
    jumun_key random = jumun_key_new();
    memcpy(&o->seed, random.bytes + 8, sizeof o->seed);
    uint64_t v = 0;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (c == 'c') o->canary = true;
        else if (c == '?' || !number_of(optarg, c == 's' ? UINT64_MAX : 1000000, &v)) usage();
        else if (c == 'r') o->rounds = (uint32_t)v;
        else if (c == 's') o->seed = v;
        else if (c == 'w') o->workers = (uint32_t)v;
        else if (c == 'n') o->shards = (uint32_t)v;
    }
    if (optind != argc - 1 || o->workers < 1 || o->workers > CRASH_WORKERS_MAX || o->shards < 1) {
        usage();
    }
    o->program = argv[optind];
}

static void workers_run(struct crash_worker *workers, uint32_t count, void *(*body)(void *)) {
    for (uint32_t i = 0; i < count; i++) {
        if (pthread_create(&workers[i].thread, NULL, body, &workers[i]) != 0) {
            test_fail(NULL, "no thread");
        }
    }
}

static void workers_join(struct crash_worker *workers, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) pthread_join(workers[i].thread, NULL);
}

/* What befalls the node in a round; the load goes on meanwhile. Returns its name. */
static const char *disturb(struct node_process *node, struct prng *prng) {
    int status;
    switch (prng_below(prng, 10)) {
    case 0:
        node_signal(node, SIGSTOP);
        sleep_ms(prng_between(prng, 50, 900));
        node_signal(node, SIGCONT);
        return "stopped for a while";
    case 1:
        node_stop(node);
        node_start(node);
        return "asked to end";
    case 2:
    case 3:
        node_kill(node);
        node_spawn(node);
        sleep_ms(prng_between(prng, 0, 60));
        node_kill(node);
        node_start(node);
        return "killed, and killed again while it recovered";
    default:
        node_kill(node);
        sleep_ms(prng_between(prng, 0, 200));
        node_spawn(node);
        if (!node_wait_ready(node, &status)) test_fail(node, "no recovery (status 0x%x)", status);
        return "killed";
    }
}

/* The stores must come to know what became of their orders: news between shards are never lost and
 * never counted twice, so the counts settle exactly. */
static void judge_stores(struct crash_world *world, struct crash_worker *workers, uint32_t count) {
    int64_t open_wanted[CRASH_STORES] = {0}, placed_wanted[CRASH_STORES] = {0};
    for (uint32_t w = 0; w < count; w++) {
        for (uint32_t i = 0; i < workers[w].orders_count; i++) {
            const struct crash_order *o = &workers[w].orders[i];
            open_wanted[o->store] += crash_is_open(o);
            placed_wanted[o->store] += crash_is_placed(o);
        }
    }
    for (uint32_t s = 0; s < CRASH_STORES; s++) {
        int64_t until = monotonic_ms() + STORES_SECONDS_MAX * 1000, open = -1, placed = -1;
        int code;
        if (placed_wanted[s] == 0) continue;
        do {
            code = answer_store(world->patient, crash_store_name(s), &open, &placed);
            if (code == JUMUN_OK && open == open_wanted[s] && placed == placed_wanted[s]) break;
            sleep_ms(20);
        } while (monotonic_ms() < until);
        if (code != JUMUN_OK || open != open_wanted[s] || placed != placed_wanted[s]) {
            fprintf(stderr, "BROKEN: %s: code %d, %lld open of %lld placed; must be %lld of %lld\n",
                    crash_store_name(s), code, (long long)open, (long long)placed,
                    (long long)open_wanted[s], (long long)placed_wanted[s]);
            atomic_fetch_add(&world->failures, 1);
        }
    }
}

static void round_run(struct crash_world *world, struct node_process *node, struct prng *prng,
                      struct crash_worker *workers, uint32_t count, uint32_t round) {
    atomic_store(&world->stop, false);
    workers_run(workers, count, crash_load);
    sleep_ms(prng_between(prng, 50, 700));
    const char *what = disturb(node, prng);
    sleep_ms(prng_between(prng, 0, 200));
    atomic_store(&world->stop, true);
    workers_join(workers, count);
    workers_run(workers, count, crash_judge);
    workers_join(workers, count);
    printf("round %u: %s; so far %lu done, %lu refused, %lu unknown (%lu of them done), %lu orders "
           "judged, %u broken promises\n", round, what, atomic_load(&world->done),
           atomic_load(&world->refused), atomic_load(&world->unknown),
           atomic_load(&world->unknown_found), atomic_load(&world->judged),
           atomic_load(&world->failures));
    fflush(stdout);
}

/* Falsifies one note of each kind; true when the judge finds each. */
static bool canary_is_found(struct crash_world *world, struct crash_worker *w) {
    uint32_t last = w->orders_count - 1;
    struct crash_order *o = &w->orders[0], kept = *o;
    uint32_t found = 0;
    for (int kind = 0; kind < 3; kind++) {
        *o = kept;
        if (kind == 0) o->sent[0].id.bytes[15] ^= 1;           /* an acknowledged command is lost */
        if (kind == 1) o->sent[0].fate = FATE_REFUSED;         /* a refused one was done */
        if (kind == 2) o->sent[0].version += 1;                /* done as another version */
        w->judge_from = 0;
        w->orders_count = 1;
        unsigned before = atomic_load(&world->failures);
        crash_judge(w);
        found += atomic_load(&world->failures) > before;
    }
    *o = kept;
    w->orders_count = last + 1;
    return found == 3;
}

static int rounds_run(const struct crash_options *options, struct node_process *node,
                      struct crash_world *world, struct crash_worker *workers) {
    struct prng prng;
    prng_seed(&prng, options->seed);
    uint32_t n = options->workers;
    for (uint32_t i = 0; i < n; i++) {
        workers[i].world = world;
        prng_seed(&workers[i].prng, options->seed + 1 + i);
        workers[i].orders = calloc(CRASH_ORDERS_MAX, sizeof *workers[i].orders);
        if (!workers[i].orders) test_fail(node, "no memory");
    }
    for (uint32_t r = 1; r <= options->rounds && atomic_load(&world->failures) == 0; r++) {
        round_run(world, node, &prng, workers, n, r);
    }
    judge_stores(world, workers, n);
    node_stop(node);
    node_start(node);
    for (uint32_t i = 0; i < n; i++) workers[i].judge_from = 0;
    workers_run(workers, n, crash_judge);
    workers_join(workers, n);
    judge_stores(world, workers, n);
    unsigned failures = atomic_load(&world->failures);
    if (atomic_load(&world->done) == 0) test_fail(node, "not one command was done");
    if (options->canary && failures == 0) failures = canary_is_found(world, &workers[0]) ? 0 : 1;
    for (uint32_t i = 0; i < n; i++) free(workers[i].orders);
    return failures > 0;
}

int main(int argc, char **argv) {
    static struct crash_world world;
    static struct crash_worker workers[CRASH_WORKERS_MAX];
    struct crash_options options;
    struct node_process node;
    char error[256], shards[16];
    options_read(&options, argc, argv);
    printf("crash: seed %llu, %u rounds, %u workers, %u shards\n",
           (unsigned long long)options.seed, options.rounds, options.workers, options.shards);
    const char *directory = directory_make();
    node_init(&node, options.program, directory, (int)options.shards);
    snprintf(shards, sizeof shards, "%u", options.shards);
    node.arguments[0] = "--shards";
    node.arguments[1] = shards;
    node.arguments[2] = "--no-pin";
    node.arguments[3] = "--checkpoint-age-ms"; /* states of all ages: stored, and only logged */
    node.arguments[4] = "300";
    node_start(&node);
    jumun_options patient = {.timeout_ms = PATIENT_MS, .attempt_timeout_ms = 500};
    jumun_options hasty = {.timeout_ms = HASTY_MS, .attempt_timeout_ms = HASTY_MS};
    world.patient = jumun_open(node.endpoint, &patient, error, sizeof error);
    world.hasty = jumun_open(node.endpoint, &hasty, error, sizeof error);
    if (!world.patient || !world.hasty) test_fail(&node, "jumun_open: %s", error);
    int broken = rounds_run(&options, &node, &world, workers);
    jumun_close(world.patient);
    jumun_close(world.hasty);
    if (broken) {
        node_log_tail(&node);
        node_kill(&node);
        printf("crash: FAILED with seed %llu; the data is kept in %s\n",
               (unsigned long long)options.seed, directory);
        return 1;
    }
    node_stop(&node);
    directory_remove(directory);
    puts("crash: every promise was kept");
    return 0;
}
