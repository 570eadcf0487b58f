#include "clients/cli/cli_wait.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum { WAIT_TELL_S = 1 };

static void *wait_main(void *arg) {
    struct cli_wait *w = arg;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_TELL_S;
    int rc = 0;
    pthread_mutex_lock(&w->lock);
    while (!w->over && rc == 0) rc = pthread_cond_timedwait(&w->changed, &w->lock, &until);
    if (!w->over) {
        fprintf(stderr, "jumun: waiting %s\n", w->what);
        w->told = true;
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

void cli_wait_begin(struct cli_wait *w, const struct cli *cli, const char *what, ...) {
    pthread_condattr_t attr;
    va_list list;
    w->cli = cli;
    if (cli->quiet || w->told) return;
    va_start(list, what);
    vsnprintf(w->what, sizeof w->what, what, list);
    va_end(list);
    w->over = false;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    w->started = pthread_create(&w->thread, NULL, wait_main, w) == 0;
}

void cli_wait_end(struct cli_wait *w) {
    if (!w->started) return;
    pthread_mutex_lock(&w->lock);
    w->over = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    w->started = false;
}
