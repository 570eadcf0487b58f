/* jumun-replica: a query replica. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/log.h"
#include "engine/replica/replica.h"
#include "engine/replica/replica_config.h"

enum { MAIN_TICK_MS = 1000, MAIN_READY_LOOK_MS = 2 };

static void exit_now(int signal_number) { _exit(128 + signal_number); }

static int await_signal(const sigset_t *signals, int timeout_ms) {
    const struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    int got = sigtimedwait(signals, NULL, &timeout);
    return got > 0 ? got : 0;
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
