#include "clients/sdk/pipe_list.h"

#include <string.h>

void pipe_list_init(struct pipe_list *list) {
    memset(list, 0, sizeof *list);
    pthread_mutex_init(&list->lock, NULL);
}

void pipe_list_fini(struct pipe_list *list) { pthread_mutex_destroy(&list->lock); }

/* PIPE_LIST_MAX: it is not there. */
static int list_find(const struct pipe_list *list, uint32_t pipe) {
    int i = 0;
    while (i < PIPE_LIST_MAX && list->pipes[i].pipe != pipe) i++;
    return i;
}

void pipe_list_announce(struct pipe_list *list, uint32_t pipe, uint32_t dialer) {
    pthread_mutex_lock(&list->lock);
    int i = list_find(list, 0);
    if (i == PIPE_LIST_MAX)
        for (i = 0; i < PIPE_LIST_MAX && list->pipes[i].stands; i++) {}
    if (i < PIPE_LIST_MAX) {
        list->pipes[i].pipe = pipe;
        list->pipes[i].dialer = dialer;
        list->pipes[i].stands = false;
    }
    pthread_mutex_unlock(&list->lock);
}

bool pipe_list_come(struct pipe_list *list, uint32_t pipe) {
    pthread_mutex_lock(&list->lock);
    int i = list_find(list, pipe);
    if (i < PIPE_LIST_MAX) list->pipes[i].stands = true;
    pthread_mutex_unlock(&list->lock);
    return i < PIPE_LIST_MAX;
}

bool pipe_list_go(struct pipe_list *list, uint32_t pipe) {
    pthread_mutex_lock(&list->lock);
    int i = list_find(list, pipe);
    bool stood = i < PIPE_LIST_MAX && list->pipes[i].stands;
    if (i < PIPE_LIST_MAX) {
        list->pipes[i].pipe = 0;
        list->pipes[i].stands = false;
    }
    pthread_mutex_unlock(&list->lock);
    return stood;
}

bool pipe_list_has(struct pipe_list *list, uint32_t dialer) {
    bool any = false;
    pthread_mutex_lock(&list->lock);
    for (int i = 0; i < PIPE_LIST_MAX; i++)
        any |= list->pipes[i].stands && list->pipes[i].dialer == dialer;
    pthread_mutex_unlock(&list->lock);
    return any;
}
