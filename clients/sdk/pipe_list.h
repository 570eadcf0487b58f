/* The connections of a socket (nng's pipes): which stand, and by which dialer.
 *
 * nng tells of each up to three times: before it is used (ADD_PRE), when it stands (ADD_POST), when
 * it is gone (REM_POST). One of another protocol never stands. And as nng 1.5.2 tells the last on a
 * thread of its own, one that breaks right behind the greeting may be told gone before it is told
 * to stand: so only one that was announced and is not gone yet may stand. Any thread. */
#ifndef JUMUN_SDK_PIPE_LIST_H
#define JUMUN_SDK_PIPE_LIST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { PIPE_LIST_MAX = 64 };

struct pipe_list {
    pthread_mutex_t lock;          /* the rest; nothing else is taken while it is held */
    struct { uint32_t pipe, dialer; bool stands; } pipes[PIPE_LIST_MAX]; /* pipe 0 = a free place */
};

void pipe_list_init(struct pipe_list *list);
void pipe_list_fini(struct pipe_list *list);

/* ADD_PRE. Of one whose dialer is closed just then nothing else may be told: its place is taken
 * where there is no other. Without any place the pipe counts for nothing. */
void pipe_list_announce(struct pipe_list *list, uint32_t pipe, uint32_t dialer);
/* ADD_POST. Whether it stands from now on; false: it is gone already. */
bool pipe_list_come(struct pipe_list *list, uint32_t pipe);
/* REM_POST. Whether it stood. */
bool pipe_list_go(struct pipe_list *list, uint32_t pipe);
/* Whether one of this dialer stands. */
bool pipe_list_has(struct pipe_list *list, uint32_t dialer);

#endif
