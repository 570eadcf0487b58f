/* Links as veth pairs between network namespaces: a full mesh of the test (place 0) and its nodes.
 *
 * Place p has the address 10.77.0.(100 + p) on its loopback device, and the device "v<p>-<q>"
 * towards place q with a fixed neighbour entry. A cut changes that entry to an address that the
 * other end does not have: it drops the frames, and the sender learns nothing. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/process/cluster_links.h"
#include "tests/process/node_process.h"

enum { PLACES_MAX = LINKS_NODES_MAX + 1, PORT_PEERS = 7300, PORT_CLIENTS = 7400 };

struct namespaces {
    struct links links;
    int networks[PLACES_MAX];   /* descriptors; of place 0 as well */
    int places;
};

/* Runs a program inside a place with a text as its input. True when it ends with 0. */
static bool namespaces_run(const struct namespaces *n, int place, const char *const *argv,
                           const char *input) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) test_fail(NULL, "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0) test_fail(NULL, "fork: %s", strerror(errno));
    if (pid == 0) {
        if (setns(n->networks[place], CLONE_NEWNET) != 0) _exit(126);
        int null = open("/dev/null", O_WRONLY);
        dup2(fds[0], 0);
        if (!input) dup2(null, 2); /* an attempt */
        execvp(argv[0], (char **)argv);
        _exit(127);
    }
    close(fds[0]);
    size_t bytes = input ? strlen(input) : 0;
    bool told = !input || write(fds[1], input, bytes) == (ssize_t)bytes;
    close(fds[1]);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return told && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool namespaces_ip(const struct namespaces *n, int place, const char *commands) {
    const char *const argv[] = {"ip", "-batch", "-", NULL};
    return namespaces_run(n, place, argv, commands);
}

/* A process that waits in a fresh namespace until it is killed: devices are moved by its number. */
static pid_t namespaces_holder(int *network) {
    int fds[2];
    char path[64], byte;
    if (pipe2(fds, O_CLOEXEC) != 0) test_fail(NULL, "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0) test_fail(NULL, "fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (unshare(CLONE_NEWNET) == 0 && write(fds[1], "", 1) == 1) pause();
        _exit(1);
    }
    close(fds[1]);
    if (read(fds[0], &byte, 1) != 1) test_fail(NULL, "no network namespace for a node");
    close(fds[0]);
    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
    *network = open(path, O_RDONLY | O_CLOEXEC);
    if (*network < 0) test_fail(NULL, "%s: %s", path, strerror(errno));
    return pid;
}

static void add(char *text, size_t bytes, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void add(char *text, size_t bytes, const char *format, ...) {
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, bytes - used, format, args);
    va_end(args);
}

/* The hardware address of `place` on the link to `other`. */
#define MAC "02:77:00:00:%02x:%02x"

static void namespaces_neighbour(char *text, size_t bytes, int from, int to, bool is_cut) {
    add(text, bytes, "neigh replace 10.77.0.%d lladdr " MAC " dev v%d-%d nud permanent\n",
        100 + to, is_cut ? 0xee : to, is_cut ? 0xee : from, from, to);
}

static bool namespaces_wire(struct namespaces *n, const pid_t *holders) {
    char text[4096] = "link set lo up\n";
    for (int a = 0; a < n->places; a++) {
        for (int b = a + 1; b < n->places; b++) {
            add(text, sizeof text,
                "link add v%d-%d address " MAC " type veth peer name v%d-%d address " MAC "\n", a,
                b, a, b, b, a, b, a);
            if (a > 0) add(text, sizeof text, "link set v%d-%d netns %d\n", a, b, (int)holders[a]);
            add(text, sizeof text, "link set v%d-%d netns %d\n", b, a, (int)holders[b]);
        }
    }
    bool is_wired = namespaces_ip(n, 0, text);
    for (int p = 0; p < n->places && is_wired; p++) {
        snprintf(text, sizeof text, "link set lo up\naddr add 10.77.0.%d/32 dev lo\n", 100 + p);
        for (int q = 0; q < n->places; q++) {
            if (q == p) continue;
            add(text, sizeof text, "link set v%d-%d up\n", p, q);
            add(text, sizeof text, "route add 10.77.0.%d/32 dev v%d-%d src 10.77.0.%d\n", 100 + q,
                p, q, 100 + p);
            namespaces_neighbour(text, sizeof text, p, q, false);
        }
        is_wired = namespaces_ip(n, p, text);
    }
    return is_wired;
}

static void namespaces_close(struct links *links) {
    struct namespaces *n = (struct namespaces *)links;
    for (int p = 0; p < n->places; p++) close(n->networks[p]);
    free(n);
}

/* Whether all of it works, found out by a process that ends: the test stays where it is if not. */
static bool namespaces_are_possible(void) {
    pid_t pid = fork();
    int status = 0;
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 2);
        if (unshare(CLONE_NEWNET) != 0) _exit(1);
        execlp("ip", "ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", NULL);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static struct links *namespaces_open(int nodes, int shards, char *reason, size_t reason_bytes) {
    pid_t holders[PLACES_MAX] = {0};
    if (!namespaces_are_possible() || unshare(CLONE_NEWNET) != 0) {
        snprintf(reason, reason_bytes, "they need the right to make them, `ip`, and veth");
        return NULL;
    }
    struct namespaces *n = calloc(1, sizeof *n);
    if (!n) test_fail(NULL, "no memory");
    n->places = nodes + 1;
    n->networks[0] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    for (int p = 1; p < n->places; p++) holders[p] = namespaces_holder(&n->networks[p]);
    bool is_wired = namespaces_wire(n, holders);
    for (int p = 1; p < n->places; p++) {
        kill(holders[p], SIGKILL);
        waitpid(holders[p], NULL, 0);
    }
    if (!is_wired) test_fail(NULL, "the namespaces cannot be wired");
    return &n->links;
}

static int namespaces_network(const struct links *links, int node) {
    return ((const struct namespaces *)links)->networks[node];
}

static void namespaces_peer_endpoint(const struct links *links, int from, int to, char *endpoint) {
    snprintf(endpoint, LINKS_ENDPOINT_BYTES, "tcp://10.77.0.%d:%d", 100 + to, PORT_PEERS);
}

static void namespaces_client_endpoint(const struct links *links, int node, char *endpoint) {
    snprintf(endpoint, LINKS_ENDPOINT_BYTES, "tcp://10.77.0.%d:%d", 100 + node, PORT_CLIENTS);
}

static void namespaces_set_cut(struct links *links, int from, int to, bool is_cut) {
    char text[256] = "";
    namespaces_neighbour(text, sizeof text, from, to, is_cut);
    if (!namespaces_ip((struct namespaces *)links, from, text)) {
        test_fail(NULL, "cannot change the link from node %d to node %d", from, to);
    }
}

static bool namespaces_set_delay(struct links *links, int64_t delay_us) {
    const struct namespaces *n = (const struct namespaces *)links;
    for (int p = 1; p < n->places; p++) {
        for (int q = 1; q < n->places; q++) {
            char device[32], delay[32];
            if (q == p) continue;
            snprintf(device, sizeof device, "v%d-%d", p, q);
            snprintf(delay, sizeof delay, "%lldus", (long long)delay_us);
            const char *const argv[] = {"tc",   "qdisc", "replace", "dev", device,
                                        "root", "netem", "delay",   delay, NULL};
            if (!namespaces_run(n, p, argv, NULL)) return delay_us == 0;
        }
    }
    return true;
}

const struct links_ways links_namespaces = {
    .name = "namespaces", .open = namespaces_open, .close = namespaces_close,
    .network = namespaces_network, .peer_endpoint = namespaces_peer_endpoint,
    .client_endpoint = namespaces_client_endpoint, .set_cut = namespaces_set_cut,
    .set_delay = namespaces_set_delay};
