/* Tells on stderr, once, that a command waits and for what: when it has taken longer than a second.
 * One at a time for a struct; the command goes on in its own thread meanwhile. */
#ifndef JUMUN_CLI_CLI_WAIT_H
#define JUMUN_CLI_CLI_WAIT_H

#include <pthread.h>

#include "clients/cli/cli.h"

struct cli_wait {
    const struct cli *cli;
    pthread_t thread;
    pthread_mutex_t lock;      /* guards `over` */
    pthread_cond_t changed;
    bool started, over;
    bool told;                 /* stays: it is told once */
    char what[600];
};

/* `what`: "for tcp://... to answer". Zero the struct before the first time. */
void cli_wait_begin(struct cli_wait *wait, const struct cli *cli, const char *what, ...)
    __attribute__((format(printf, 3, 4)));
void cli_wait_end(struct cli_wait *wait);

#endif
