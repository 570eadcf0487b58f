/* Closing sockets on which messages come in all the time: nng 1.5.2 alone would wait for ever. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/wire/socket_close.h"

enum { ROUNDS = 400, AFTER_GIVEN_UP = 3, REPLY_BYTES = 600, REPLIES = 20 };

static char url[64];
static atomic_uint told;       /* by the socket that is being closed */

/* Greets, and then sends replies that nobody has asked for until the other side is gone. */
static void *flood(void *arg) {
    int fd = (int)(intptr_t)arg;
    static const uint8_t greeting[8] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};
    static uint8_t replies[REPLIES][8 + REPLY_BYTES];
    uint8_t theirs[8];
    for (int i = 0; i < REPLIES; i++) { /* the same from each thread */
        replies[i][6] = REPLY_BYTES >> 8;
        replies[i][7] = REPLY_BYTES & 255;
        replies[i][8] = 0x80;
    }
    bool good = send(fd, greeting, sizeof greeting, MSG_NOSIGNAL) == sizeof greeting &&
                recv(fd, theirs, sizeof theirs, MSG_WAITALL) == sizeof theirs;
    while (good) good = send(fd, replies, sizeof replies, MSG_NOSIGNAL) == sizeof replies;
    close(fd);
    return NULL;
}

static void *serve(void *arg) {
    int listener = (int)(intptr_t)arg;
    for (;;) {
        pthread_t thread;
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) return NULL;
        if (pthread_create(&thread, NULL, flood, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
        else close(fd);
    }
}

static int start_server(void **state) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    pthread_t thread;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 64) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        return -1;
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", ntohs(address.sin_port));
    return pthread_create(&thread, NULL, serve, (void *)(intptr_t)listener);
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    atomic_fetch_add((atomic_uint *)arg, 1);
}

static nng_socket connected(void) {
    nng_socket socket;
    assert_int_equal(nng_req0_open(&socket), 0);
    assert_int_equal(nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, on_pipe, &told), 0);
    assert_int_equal(nng_dial(socket, url, NULL, 0), 0);
    return socket;
}

/* That it comes back each time is the test: else its time ends. */
static void a_close_comes_back_whatever_comes_in(void **state) {
    int given_up = 0;
    for (int i = 0; i < ROUNDS && given_up <= AFTER_GIVEN_UP; i++) {
        nng_socket socket = connected();
        if (!socket_close(socket)) given_up++;
        assert_int_not_equal(nng_dial(socket, url, NULL, 0), 0); /* it can be used no more */
    }
    print_message("%d of %d closes given up\n", given_up, ROUNDS);
    assert_int_equal(atomic_load(&told), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_close_comes_back_whatever_comes_in)};
    return cmocka_run_group_tests(tests, start_server, NULL);
}
