#include "tests/process/node_process.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/ports.h"

enum { EXIT_TEST_FAILED = 1, PATH_BYTES = 512 };

int64_t monotonic_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void sleep_ms(int64_t ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) continue;
}

void test_fail(struct node_process *node, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("FAILED: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    if (node) {
        node_log_tail(node);
        if (node->pid) kill(node->pid, SIGKILL);
    }
    _exit(EXIT_TEST_FAILED);
}

void node_init(struct node_process *node, const char *program, const char *directory, int shards) {
    *node = (struct node_process){.program = program, .out = -1, .shards = shards};
    snprintf(node->data, sizeof node->data, "%s/data", directory);
    snprintf(node->log, sizeof node->log, "%s/node.log", directory);
    /* Below it are those for other nodes and for replicas. */
    int port = ports_pick(NODE_PORTS_BELOW + shards + 1) + NODE_PORTS_BELOW;
    snprintf(node->endpoint, sizeof node->endpoint, "tcp://127.0.0.1:%d", port);
}

static _Noreturn void node_child(const struct node_process *node, int out) {
    const char *argv[NODE_ARGUMENTS_MAX + 8] = {node->program, "--data", node->data, "--listen",
                                                node->endpoint};
    int n = 5;
    for (int i = 0; node->arguments[i]; i++) argv[n++] = node->arguments[i];
    int log = open(node->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int null = open("/dev/null", O_RDONLY);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that dies leaves no node behind */
    if (node->network > 0 && setns(node->network, CLONE_NEWNET) != 0) _exit(126);
    dup2(null, 0);
    dup2(out, 1);
    dup2(log, 2);
    execv(node->program, (char **)argv);
    dprintf(2, "cannot run %s: %s\n", node->program, strerror(errno));
    _exit(127);
}

void node_spawn(struct node_process *node) {
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) test_fail(NULL, "pipe: %s", strerror(errno));
    if (node->out >= 0) close(node->out);
    node->out = pipe_fds[0];
    pid_t pid = fork();
    if (pid < 0) test_fail(NULL, "fork: %s", strerror(errno));
    if (pid == 0) node_child(node, pipe_fds[1]);
    close(pipe_fds[1]);
    node->pid = pid;
}

bool node_wait_ready(struct node_process *node, int *exit_status) {
    char line[256] = "";
    size_t used = 0;
    int64_t until = monotonic_ms() + NODE_WAIT_SECONDS_MAX * 1000;
    while (!strstr(line, "jumund ready: ")) {
        struct pollfd waiting = {node->out, POLLIN, 0};
        if (monotonic_ms() > until) test_fail(node, "the node was not ready in time");
        if (poll(&waiting, 1, 1000) <= 0) continue;
        ssize_t n = read(node->out, line + used, sizeof line - 1 - used);
        if (n <= 0) { /* its stdout is closed: it has ended */
            *exit_status = node_wait_end(node);
            return false;
        }
        used += (size_t)n;
        line[used] = 0;
        if (used == sizeof line - 1) test_fail(node, "no ready line but: %s", line);
    }
    return true;
}

void node_start(struct node_process *node) {
    int status;
    node_spawn(node);
    if (!node_wait_ready(node, &status)) {
        test_fail(node, "the node did not start (status 0x%x)", (unsigned)status);
    }
}

void node_signal(const struct node_process *node, int signal) {
    if (node->pid && kill(node->pid, signal) != 0) {
        test_fail(NULL, "kill(%d): %s", signal, strerror(errno));
    }
}

int node_wait_end(struct node_process *node) {
    int status = 0;
    int64_t until = monotonic_ms() + NODE_WAIT_SECONDS_MAX * 1000;
    for (;;) {
        pid_t pid = waitpid(node->pid, &status, WNOHANG);
        if (pid == node->pid) break;
        if (pid < 0) test_fail(NULL, "waitpid: %s", strerror(errno));
        if (monotonic_ms() > until) test_fail(node, "the node did not end in time");
        sleep_ms(5);
    }
    node->pid = 0;
    return status;
}

void node_kill(struct node_process *node) {
    node_signal(node, SIGKILL);
    node_wait_end(node);
}

void node_stop(struct node_process *node) {
    node_signal(node, SIGTERM);
    int status = node_wait_end(node);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        test_fail(node, "after SIGTERM the node ended with status 0x%x", (unsigned)status);
    }
}

bool node_log_has(const struct node_process *node, const char *text) {
    FILE *file = fopen(node->log, "r");
    char line[4096];
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) found = strstr(line, text) != NULL;
    if (file) fclose(file);
    return found;
}

void node_log_tail(const struct node_process *node) {
    char tail[8192];
    FILE *file = fopen(node->log, "r");
    if (!file) return;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    fseek(file, size > (long)sizeof tail ? size - (long)sizeof tail : 0, SEEK_SET);
    size_t n = fread(tail, 1, sizeof tail, file);
    fclose(file);
    fputs("--- the node's log:\n", stderr);
    fwrite(tail, 1, n, stderr);
    fputs("---\n", stderr);
}

const char *directory_make(void) {
    static char path[PATH_BYTES];
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/jumun-process.XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(path)) test_fail(NULL, "mkdtemp %s: %s", path, strerror(errno));
    return path;
}

static int directory_remove_one(const char *path, const struct stat *status, int flag,
                                struct FTW *walk) {
    return remove(path);
}

void directory_remove(const char *directory) {
    nftw(directory, directory_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
