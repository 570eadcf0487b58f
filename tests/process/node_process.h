/* A real jumund as a child process: started, looked at, stopped, killed.
 *
 * Every wait is bounded; a node that does not do what is waited for within its bound ends the test
 * with a sentence and the tail of the node's log. One thread at a time may use a node_process. */
#ifndef JUMUN_TESTS_NODE_PROCESS_H
#define JUMUN_TESTS_NODE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { NODE_ARGUMENTS_MAX = 16, NODE_WAIT_SECONDS_MAX = 120 };
/* What a node takes below its endpoint by default: for other nodes and for replicas. */
enum { NODE_PORTS_BELOW = 4 };

struct node_process {
    const char *program;        /* path of jumund; borrowed */
    char data[512];             /* its data directory */
    char log[576];              /* its stderr, appended over restarts */
    char endpoint[64];          /* general endpoint; the same after each restart */
    const char *arguments[NODE_ARGUMENTS_MAX]; /* more options, NULL-terminated; borrowed */
    pid_t pid;                  /* 0 = not running */
    int out;                    /* read end of its stdout; -1 = none */
    int shards;                 /* ports that are kept free for it */
    int network;                /* descriptor of the network namespace that it runs in; 0 = ours */
};

/* Names data and log inside `directory` and picks a range of ports for it (tests/lib/ports.h). */
void node_init(struct node_process *node, const char *program, const char *directory, int shards);

/* Starts it and returns at once. */
void node_spawn(struct node_process *node);

/* Waits until it says that it serves. False when it ended before (then it has been reaped and
 * *exit_status holds the waitpid() status). */
bool node_wait_ready(struct node_process *node, int *exit_status);

/* spawn and wait_ready; ends the test when it does not come up. */
void node_start(struct node_process *node);

void node_signal(const struct node_process *node, int signal);

/* Waits for its end and reaps it; returns the waitpid() status. */
int node_wait_end(struct node_process *node);

/* SIGKILL, and reaped. */
void node_kill(struct node_process *node);

/* SIGTERM; ends the test unless the node exits with 0. */
void node_stop(struct node_process *node);

/* Whether the node's log holds `text`. */
bool node_log_has(const struct node_process *node, const char *text);

/* Prints the last lines of the node's log to stderr. */
void node_log_tail(const struct node_process *node);

/* A fresh directory below TMPDIR (default /tmp); removed by directory_remove(). Static storage. */
const char *directory_make(void);
void directory_remove(const char *directory);

/* Prints "FAILED: ..." with the log's tail, kills the node (may be NULL), exits with 1. */
_Noreturn void test_fail(struct node_process *node, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

int64_t monotonic_ms(void);
void sleep_ms(int64_t ms);

#endif
