/* jumund: the engine node. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/priority.h"
#include "engine/node/node.h"
#include "engine/node/node_waiting.h"
#include "engine/node/recover.h"
#include "engine/wire/nng_threads.h"

enum {
    MAIN_TICK_MS = 1000,
    MAIN_READY_LOOK_MS = 2,
    MAIN_FIRST_TOLD_MS = 5000,  /* into its start it says what it lacks ... */
    MAIN_TOLD_EVERY_MS = 30000, /* ... and again */
    MAIN_STOP_PATIENCE_MS = 30000
};

static void main_exit_now(int signal_number) { _exit(128 + signal_number); }

/* Waits for one of the signals, at most timeout_ms. Returns it, or 0. */
static int main_await_signal(const sigset_t *signals, int timeout_ms) {
    const struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    int got = sigtimedwait(signals, NULL, &timeout);
    return got > 0 ? got : 0;
}

static void main_say_ready(const struct node *n) {
    dprintf(n->config.ready_fd, "jumund ready: %s shards=%u pid=%d\n", n->map.endpoint,
            n->shards_count, (int)getpid());
}

/* Until the node is ready, damaged, has to stop, or one of the signals comes. */
static enum node_state main_recover(struct node *n, const sigset_t *signals, int *got) {
    enum node_state state;
    uint32_t damaged = 0;
    int64_t tell_ms = clock_mono_ms() + MAIN_FIRST_TOLD_MS;
    while ((state = node_state(n, &damaged)) == NODE_RECOVERING && *got == 0 &&
           !atomic_load(&n->must_stop)) {
        *got = main_await_signal(signals, MAIN_READY_LOOK_MS);
        if (clock_mono_ms() < tell_ms) continue;
        node_tell_lacking(n);
        tell_ms = clock_mono_ms() + MAIN_TOLD_EVERY_MS;
    }
    if (state == NODE_DAMAGED)
        fprintf(stderr, "jumund: shard %u of %s is damaged, see the lines above\n", damaged,
                n->config.data);
    return state;
}

/* Runs until one of the signals comes. Returns the exit code. */
static int main_serve(struct node *n, const sigset_t *signals) {
    int got = 0;
    enum node_state state = main_recover(n, signals, &got);
    if (state == NODE_DAMAGED) return EXIT_DATA;
    if (state == NODE_READY) {
        log_info("serving at %s, %u shards, data in %s", n->map.endpoint, n->shards_count,
                 n->config.data);
        main_say_ready(n);
    }
    while (got == 0 && !atomic_load(&n->must_stop)) {
        got = main_await_signal(signals, MAIN_TICK_MS);
        node_tick(n);
    }
    if (atomic_load(&n->must_stop)) {
        fprintf(stderr, "jumund: %s\n", n->must_stop_because);
        return EXIT_DATA;
    }
    log_info("%s: finishing what was taken; once more ends at once", strsignal(got));
    return EXIT_DONE;
}

static bool main_is_stopped(void *signals) { return main_await_signal(signals, 0) != 0; }

/* What is to be done instead of serving, or before it. True = exit with *code. */
static bool main_prepare(struct config *config, sigset_t *signals, int *code) {
    char error[1024] = "";
    bool adopted = true;
    if (config->recover_alone) {
        *code = recover_alone(config, config->recover_dry, error, sizeof error);
    } else if ((config->cluster_wait && !node_is_adopted(config)) ||
               node_is_nearly_adopted(config)) {
        *code = node_wait(config, main_is_stopped, signals, &adopted, error, sizeof error);
    } else {
        return false;
    }
    /* Of a recovery only `jumun cluster recover` is seen. */
    if (*code != EXIT_DONE)
        fprintf(stderr, "%s: %s\n", config->recover_alone ? "jumun" : "jumund", error);
    return *code != EXIT_DONE || config->recover_alone || !adopted;
}

int main(int argc, char **argv) {
    struct config config;
    struct node *node;
    char error[1024] = "";
    sigset_t signals;
    config_parse(&config, argc, argv);
    log_set_level((enum log_level)config.log_level);
    signal(SIGPIPE, SIG_IGN);
    /* Blocked before any thread is made, so that only this one ever sees them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (config.patient) priority_patient();
    nng_threads_limit();
    int code = EXIT_DONE;
    if (main_prepare(&config, &signals, &code)) return code;
    code = node_start(&node, &config, error, sizeof error);
    if (code != EXIT_DONE) {
        fprintf(stderr, "jumund: %s\n", error);
        return code;
    }
    code = main_serve(node, &signals);
    signal(SIGTERM, main_exit_now);
    signal(SIGINT, main_exit_now);
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    node_stop(node, MAIN_STOP_PATIENCE_MS, true);
    log_info("stopped");
    return code;
}
