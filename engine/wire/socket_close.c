#include "engine/wire/socket_close.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum {
    SOCKET_CLOSE_STACK_BYTES = 256 * 1024,
    SOCKET_CLOSE_HOPELESS_MS = 100 /* so long where another close has not come to its end */
};

/* Of the closing thread and of who waits for it; freed by the last of the two. */
struct socket_closing {
    nng_socket socket;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool over, left;
};

static atomic_uint socket_close_hanging; /* closes that were given up and have not ended */

static void socket_closing_free(struct socket_closing *c) {
    pthread_cond_destroy(&c->ended);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static void *socket_closing_main(void *arg) {
    struct socket_closing *c = arg;
    nng_close(c->socket);
    pthread_mutex_lock(&c->lock);
    c->over = true;
    bool left = c->left;
    pthread_cond_signal(&c->ended);
    pthread_mutex_unlock(&c->lock);
    if (left) { /* it was only slow */
        atomic_fetch_sub(&socket_close_hanging, 1);
        socket_closing_free(c);
    }
    return NULL;
}

static struct socket_closing *socket_closing_new(nng_socket socket) {
    struct socket_closing *c = calloc(1, sizeof *c);
    pthread_condattr_t attr;
    if (!c) return NULL;
    c->socket = socket;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->ended, &attr);
    pthread_condattr_destroy(&attr);
    return c;
}

/* On a thread that takes none of the program's signals. */
static bool socket_closing_start(struct socket_closing *c) {
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, SOCKET_CLOSE_STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, &attr, socket_closing_main, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc == 0;
}

/* Whether it ended in time; else it is left alone. */
static bool socket_closing_wait(struct socket_closing *c) {
    struct timespec until;
    long patience_ms = atomic_load(&socket_close_hanging) == 0 ? SOCKET_CLOSE_PATIENCE_MS
                                                               : SOCKET_CLOSE_HOPELESS_MS;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += patience_ms / 1000;
    until.tv_nsec += patience_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_mutex_lock(&c->lock);
    int rc = 0;
    while (!c->over && rc == 0) rc = pthread_cond_timedwait(&c->ended, &c->lock, &until);
    bool over = c->over;
    c->left = !over;
    if (!over) atomic_fetch_add(&socket_close_hanging, 1);
    pthread_mutex_unlock(&c->lock);
    if (over) socket_closing_free(c);
    return over;
}

bool socket_close(nng_socket socket) {
    nng_pipe_notify(socket, NNG_PIPE_EV_ADD_PRE, NULL, NULL);
    nng_pipe_notify(socket, NNG_PIPE_EV_ADD_POST, NULL, NULL);
    nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, NULL, NULL);
    struct socket_closing *c = socket_closing_new(socket);
    if (!c || !socket_closing_start(c)) { /* as it would be without all this */
        if (c) socket_closing_free(c);
        nng_close(socket);
        return true;
    }
    return socket_closing_wait(c);
}
