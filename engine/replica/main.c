/* jumun-replica: a query replica. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/log.h"
#include "engine/replica/bootstrap.h"
#include "engine/replica/replica.h"
#include "engine/replica/replica_config.h"

enum { MAIN_TICK_MS = 1000, MAIN_READY_LOOK_MS = 2, MAIN_EARLY_LOOK_MS = 5 };

static void exit_now(int signal_number) { _exit(128 + signal_number); }

static int await_signal(const sigset_t *signals, int timeout_ms) {
    const struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    int got = sigtimedwait(signals, NULL, &timeout);
    return got > 0 ? got : 0;
}

/* Taking over another replica's views, on a thread of its own: this one waits for signals. */
struct early {
    struct replica_config *config;
    atomic_bool done, stop;
    enum bootstrap_outcome outcome;
    char error[1024];
};

static void *early_main(void *arg) {
    struct early *e = arg;
    e->outcome = bootstrap_run(e->config, &e->stop, e->error, sizeof e->error);
    atomic_store(&e->done, true);
    return NULL;
}

/* Whatever it waits for just now, a signal ends the process: nothing is open yet. */
static void take_over(struct replica_config *config, const sigset_t *signals) {
    static struct early early;
    pthread_t thread;
    early.config = config;
    if (config->from[0] == 0) return;
    if (pthread_create(&thread, NULL, early_main, &early) != 0) {
        fprintf(stderr, "jumun-replica: cannot start a thread\n");
        exit(REPLICA_EXIT_RUNTIME);
    }
    while (!atomic_load(&early.done)) {
        int got = await_signal(signals, MAIN_EARLY_LOOK_MS);
        if (got == 0) continue;
        log_info("%s: ended before it had the views of another replica", strsignal(got));
        bootstrap_give_up(config);
        _exit(REPLICA_EXIT_DONE);
    }
    pthread_join(thread, NULL);
    if (early.outcome != BOOTSTRAP_REFUSED) return;
    fprintf(stderr, "jumun-replica: %s\n", early.error);
    exit(REPLICA_EXIT_RUNTIME);
}

int main(int argc, char **argv) {
    struct replica_config config;
    char error[1024] = "";
    sigset_t signals;
    int got = 0;
    replica_config_parse(&config, argc, argv);
    log_set_level((enum log_level)config.log_level);
    signal(SIGPIPE, SIG_IGN);
    /* Blocked before any thread is made, so that only this one ever sees them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    take_over(&config, &signals);
    struct replica *replica = replica_start(&config, error, sizeof error);
    if (!replica) {
        fprintf(stderr, "jumun-replica: %s\n", error);
        return REPLICA_EXIT_RUNTIME;
    }
    log_info("answering at %s, views in %s", replica_endpoint(replica), config.data);
    while (got == 0 && !replica_is_caught_up(replica))
        got = await_signal(&signals, MAIN_READY_LOOK_MS);
    if (got == 0) {
        log_info("caught up");
        dprintf(config.ready_fd, "jumun-replica ready: %s pid=%d\n", replica_endpoint(replica),
                (int)getpid());
    }
    while (got == 0) got = await_signal(&signals, MAIN_TICK_MS);
    log_info("%s: closing; once more ends at once", strsignal(got));
    signal(SIGTERM, exit_now);
    signal(SIGINT, exit_now);
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    replica_stop(replica, true);
    log_info("stopped");
    return REPLICA_EXIT_DONE;
}
